"""What can be learned: the name of each task and the module of plain functions that does it."""

from importlib import import_module
from types import ModuleType

TASKS: dict[str, str] = {"layoutlm": "receipt_layoutlm.training.tasks.word_labels"}


def load_task(name: str) -> ModuleType:
    """The module of a task; KeyError when there is none of that name. See tasks/word_labels for its functions."""
    return import_module(TASKS[name])
