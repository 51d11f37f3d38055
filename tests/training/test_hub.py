"""A model hub in trouble is a cause that is tried again; a hub that refuses is one that is not."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from receipt_dynamo import JobError
from receipt_layoutlm.errors import HubUnavailable
from receipt_layoutlm.jobs.wording import CAUSES
from receipt_layoutlm.training.tasks.pretrained import ModelLoadError, hub_error, load_error

NAME = "somebody/some-model"


def raised(*links: BaseException) -> OSError:
    """An error of transformers, with the errors that led to it."""
    outer = OSError("We couldn't connect to the hub to load the files")
    error: BaseException = outer
    for link in links:
        error.__cause__ = link
        error = link
    return outer


def answered(status: int) -> OSError:
    refusal = OSError(f"{status} for url")
    refusal.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    return raised(FileNotFoundError("not in the cache"), refusal)


class ReadTimeout(Exception):
    __module__ = "httpx2"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_hub_in_trouble_may_answer_later(status: int) -> None:
    error = hub_error(NAME, answered(status), is_reachable=True)
    assert isinstance(error, HubUnavailable)
    assert f"status {status}: a later try may succeed" in str(error)


@pytest.mark.parametrize("lost", [ConnectionResetError(104, "reset"), TimeoutError(), ReadTimeout("read")])
def test_a_lost_connection_may_come_back(lost: Exception) -> None:
    assert isinstance(
        hub_error(NAME, raised(FileNotFoundError("not in the cache"), lost), is_reachable=True), HubUnavailable
    )


def test_a_hub_whose_name_does_not_resolve_may_come_back() -> None:
    error = hub_error(NAME, raised(FileNotFoundError("not in the cache")), is_reachable=False)
    assert isinstance(error, HubUnavailable)
    assert "does not answer" in str(error) and "--pretrained minilm" in str(error)


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "is private: check the name, or log in"), (403, "accept the model's terms"), (404, "no such model")],
)
def test_a_hub_that_refuses_is_an_error_of_the_options(status: int, text: str) -> None:
    error = hub_error(NAME, answered(status), is_reachable=True)
    assert isinstance(error, ModelLoadError)
    assert text in str(error)


def test_a_folder_or_a_hub_that_is_switched_off_is_an_error_of_the_options(
    tmp_path: Path,
) -> None:
    assert isinstance(load_error(str(tmp_path), answered(503)), ModelLoadError)
    assert constants.HF_HUB_OFFLINE  # conftest sets it
    assert isinstance(load_error(NAME, raised()), ModelLoadError)


def test_the_cause_is_retried_and_has_words() -> None:
    assert JobError(cause="hub_unavailable", message="").is_retryable
    assert "hub_unavailable" in CAUSES
