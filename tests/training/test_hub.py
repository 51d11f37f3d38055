"""A model hub in trouble is a cause that is tried again; a hub that refuses is one that is not."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from receipt_dynamo import JobError
from receipt_layoutlm.errors import HubUnavailable
from receipt_layoutlm.jobs.wording import CAUSES
from receipt_layoutlm.run.events import Failed
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.tasks import pretrained
from receipt_layoutlm.training.tasks.pretrained import ModelLoadError, load_error
from tests.support.runs import never, new_run

NAME = "somebody/some-model"


@pytest.fixture(autouse=True)
def _hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "_hub_answers", lambda: True)


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
    error = load_error(NAME, answered(status))
    assert isinstance(error, HubUnavailable)
    assert f"status {status}: a later try may succeed" in str(error)


@pytest.mark.parametrize("lost", [ConnectionResetError(104, "reset"), TimeoutError(), ReadTimeout("read")])
def test_a_lost_connection_may_come_back(lost: Exception) -> None:
    assert isinstance(load_error(NAME, raised(FileNotFoundError("not in the cache"), lost)), HubUnavailable)


def test_a_hub_whose_name_does_not_resolve_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_hub_answers", lambda: False)
    error = load_error(NAME, raised(FileNotFoundError("not in the cache")))
    assert isinstance(error, HubUnavailable)
    assert "does not answer" in str(error) and "--pretrained minilm" in str(error)


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "is private: check the name, or log in"), (403, "accept the model's terms"), (404, "no such model")],
)
def test_a_hub_that_refuses_is_an_error_of_the_options(status: int, text: str) -> None:
    error = load_error(NAME, answered(status))
    assert isinstance(error, ModelLoadError)
    assert text in str(error)


def test_a_folder_or_a_hub_that_is_switched_off_is_an_error_of_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load_error(str(tmp_path), answered(503)), ModelLoadError)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert isinstance(load_error(NAME, raised()), ModelLoadError)


@pytest.mark.parametrize(("status", "cause", "retried"), [(503, "hub_unavailable", True), (404, "bad_config", False)])
def test_a_run_without_its_weights_fails_with_a_cause_that_says_whether_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, cause: str, retried: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise answered(status)

    monkeypatch.setattr(pretrained.AutoTokenizer, "from_pretrained", refuse)
    end = train(new_run(tmp_path / "1", Path(NAME), epochs=1), never)
    assert isinstance(end, Failed) and end.cause == cause
    assert JobError(cause=end.cause, message=end.message).is_retryable is retried
    assert cause in CAUSES
