"""The methods of MLflow's stores that a table of jobs does not serve: lists are empty, changes are refused."""

from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any, Final, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList

S = TypeVar("S", bound=type)

_LISTS: Final = ("search_", "list_", "find_", "query_", "filter_")
_READS: Final = ("get_", "batch_get_", "calculate_")


# the server calls these too, on stores that have them
_UNDECLARED: Final = ("delete_tag", "log_logged_model_params", "deprecated_start_trace_v2", "deprecated_end_trace_v2")


def read_only(kept: Collection[str]) -> Callable[[S], S]:
    """A class decorator: answer every public method that the class only inherits, except those `kept`.

    So a method that a later MLflow adds is refused as well, with a status below 500 and a text that says why.
    """

    def decorate(store: S) -> S:
        for name in dir(store):
            is_inherited = name not in vars(store) and isinstance(getattr(store, name), FunctionType)
            if is_inherited and not name.startswith("_") and name not in kept:
                setattr(store, name, _answer(name))
        for name in _UNDECLARED:
            setattr(store, name, _answer(name))
        return store

    return decorate


def _answer(name: str) -> Callable[..., Any]:
    def empty(*_arguments: object, **_options: object) -> PagedList[Any]:
        return PagedList([], None)

    def missing(*_arguments: object, **_options: object) -> None:
        raise MlflowException(f"a table of training jobs stores nothing for {name}", RESOURCE_DOES_NOT_EXIST)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise read_only_error(name)

    if name.startswith(_LISTS):
        return empty
    return missing if name.startswith(_READS) else refuse


def read_only_error(action: str) -> MlflowException:
    """The refusal of a change."""
    return MlflowException(
        f"{action} is refused: this MLflow shows the jobs of a table and changes nothing. Submit, cancel and delete "
        "jobs with layoutlm-cli; `layoutlm-cli job export --to mlflow URI JOB` copies a run to an MLflow that takes "
        "changes",
        PERMISSION_DENIED,
    )
