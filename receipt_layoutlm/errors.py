"""Root of the product's exceptions: the text states the problem and the fix."""


class UserError(Exception):
    """Shown to a person as one line, without a traceback."""


class HubUnavailable(UserError):
    """The model hub does not answer, or asks to come later: another try may succeed."""
