"""Sources of pretrained weights and tokenizers: hub, folder, bucket. Safetensors only, no remote code."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from http.client import IncompleteRead
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.errors import HubUnavailable, UserError
from receipt_layoutlm.minilm import find_minilm
from receipt_layoutlm.references import is_in_bucket
from receipt_layoutlm.run.directory import RunDir

C = TypeVar("C", bound=TrainConfig)
MOST_CHARACTERS = 300  # of a library's message

HUB_SECONDS = (
    3.0  # timeout after which the hub counts as unreachable; transformers itself would retry for 23 s per file
)


LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses of a hub in trouble, or of one that throttles
REFUSALS = {
    401: "it does not exist or is private: check the name, or log in with 'hf auth login'",
    403: "access is refused: accept the model's terms on its page, and log in with 'hf auth login'",
    404: "the hub has no such model: check the name, OWNER/NAME",
}
HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
ADVICE = "without network access use --pretrained minilm"


class ModelLoadError(UserError):
    """Weights or a tokenizer that cannot be loaded; the message names an alternative."""


def load_fast_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the pretrained weights.

    Raises ModelLoadError, HubUnavailable, or WeightsError for `minilm`.
    """
    source = weights_source(config.pretrained)
    with Loading(source):
        tokenizer = AutoTokenizer.from_pretrained(
            source, use_fast=True, local_files_only=is_offline(source), trust_remote_code=False
        )
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelLoadError(f"{source} has no fast tokenizer, which tokenizer.json holds: use other weights")
        special = {"[CLS]": tokenizer.cls_token_id, "[SEP]": tokenizer.sep_token_id, "[UNK]": tokenizer.unk_token_id}
        missing = [name for name, number in special.items() if number is None]
        if missing or tokenizer.get_vocab().keys() <= {*tokenizer.all_special_tokens}:
            lacks = ", ".join(missing) or "words"
            raise ModelLoadError(f"the tokenizer of {source} is missing, or has no {lacks}: add tokenizer.json")
        tokenizer.backend_tokenizer.encode(TRIAL_TEXT, add_special_tokens=False)
    return tokenizer


def weights_source(pretrained: str) -> str:
    """Folder or hub name of the weights."""
    if is_in_bucket(pretrained):
        raise ModelLoadError(f"{pretrained} was not downloaded: only a worker downloads weights; pass a local folder")
    return str(find_minilm()) if pretrained == "minilm" else pretrained


def is_offline(source: str) -> bool:
    """Whether to read local files only: the source is a folder, or the hub is unreachable."""
    return Path(source).is_dir() or constants.HF_HUB_OFFLINE or not _hub_answers()


@cache
def _hub_answers() -> bool:
    """Cached per process: on a network that drops packets, every request takes the whole timeout."""
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # a proxy's certificate that only transformers trusts
    except TimeoutError:
        return False


TRIAL_TEXT = "total 7.50 \u00e9"
"""Encoded once: some vocabularies can be read, but encode nothing."""


class Loading(AbstractContextManager[None]):
    """Turns what the libraries raise for the files of `source` into ModelLoadError or HubUnavailable.

    Weights of somebody else are hostile input, and tokenizers raises bare Exceptions, so no list of types would do.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise load_error(self._source, error) from error


def load_error(source: str, error: Exception) -> ModelLoadError | HubUnavailable:
    """The error of weights that could not be loaded; HubUnavailable when a later try may succeed."""
    first_line = _first_line(error)
    if Path(source).exists():
        return ModelLoadError(f"cannot load {source}: {first_line}")
    if constants.HF_HUB_OFFLINE:
        return ModelLoadError(
            f"cannot load {source}: it is not in the local cache, and HF_HUB_OFFLINE is set: {ADVICE}"
        )
    return hub_error(source, error, is_reachable=not is_offline(source))


def _first_line(error: Exception) -> str:
    """The first two lines of its text as one, where the first ends in a colon, behind the type of a terse error."""
    lines = [line.strip() for line in str(error).strip().split("\n")[:2]]
    text = " ".join(lines if lines[0].endswith(":") else lines[:1])[:MOST_CHARACTERS]
    return text if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {text}"


def hub_error(source: str, error: Exception, *, is_reachable: bool) -> ModelLoadError | HubUnavailable:
    """The error of a name on the hub, by the hub's status or the lost connection behind it."""
    first_line = _first_line(error)
    status = _status(error)
    if status in LATER or (status is None and (not is_reachable or _has_lost_connection(error))):
        answer = "does not answer" if status is None else f"answers with status {status}"
        return HubUnavailable(
            f"cannot load {source}: it is neither a folder nor in the local cache and the model hub "
            f"({constants.ENDPOINT}) {answer}: a later try may succeed; {ADVICE}"
        )
    reason = REFUSALS.get(status or 0)
    return ModelLoadError(f"cannot load {source}: {first_line if reason is None else f'{reason} (status {status})'}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The hub's HTTP status behind an error of transformers, if it answered."""
    statuses = (getattr(getattr(link, "response", None), "status_code", None) for link in _chain(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def _has_lost_connection(error: BaseException) -> bool:
    """Whether a connection failed: also under the HTTP library's own names, which change with its versions."""
    lost = (ConnectionError, TimeoutError, socket.gaierror, IncompleteRead)
    return any(
        isinstance(link, lost) or type(link).__module__.partition(".")[0] in HTTP_LIBRARIES for link in _chain(error)
    )


def with_local_weights(config: C, run_dir: RunDir) -> C:
    """Point `pretrained` at the run directory, into which a worker downloads the weights of a bucket.

    For loading only. The record and the config hash keep the s3:// URI, which is the same in every attempt.
    """
    if not is_in_bucket(config.pretrained):
        return config
    return config.model_copy(update={"pretrained": str(run_dir.pretrained)})
