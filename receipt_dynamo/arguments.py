"""Checks of the arguments of public methods against their annotations."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from receipt_dynamo.errors import InvalidInput

P = ParamSpec("P")
R = TypeVar("R")

SHOWN_CHARACTERS = 40  # of a wrong argument


def checked(method: Callable[P, R]) -> Callable[P, R]:
    """The method, which raises InvalidInput for an argument of another type, before it does anything.

    Strict: a number in a text is no number, and True is no 1.
    """
    signature = inspect.signature(method)
    names = list(signature.parameters)
    validated: Callable[P, R] = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))(method)

    @wraps(method)
    def call(*args: P.args, **values: P.kwargs) -> R:
        try:
            return validated(*args, **values)
        except ValidationError as error:
            try:
                signature.bind(*args, **values)
            except TypeError as wrong:  # a missing or unknown argument, as Python words it
                raise TypeError(f"{method.__name__}() {wrong}") from None
            first = error.errors(include_url=False)[0]
            place = first["loc"][0] if first["loc"] else ""
            if error.title != method.__qualname__:
                raise  # of a record that the method makes
            name = names[place] if isinstance(place, int) else place
            given = repr(first["input"])
            given = given if len(given) <= SHOWN_CHARACTERS else given[: SHOWN_CHARACTERS - 1] + "…"
            raise InvalidInput(f"{method.__name__}: {name} is {given}: {first['msg'].lower()}") from None

    return call
