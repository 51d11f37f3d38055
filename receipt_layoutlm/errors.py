"""The root of what this package refuses or cannot do: its text says what is wrong and what to do about it."""


class UserError(Exception):
    """Shown to a person as one line, without a traceback."""
