"""The exceptions of the run store. Each text says what to do."""


class StoreError(Exception):
    """Anything the run store refuses or cannot do."""


class InvalidInput(StoreError, ValueError):
    """An argument is malformed: an unknown status, a limit of 0, an id that is no UUID."""


class NotFound(StoreError, LookupError):
    """The job, lease or dataset does not exist."""


class TableNotFound(StoreError):
    """The table does not exist in this region: create it from infra/storage.yaml or name another."""


class AlreadyExists(StoreError):
    """A create-only write met an item of that key."""


class StateConflict(StoreError):
    """The job is in a state in which this cannot be done, such as cancelling a succeeded job."""


class LeaseLost(StoreError):
    """Another attempt owns the job, or it has ended: stop, and write nothing more."""


class StoreUnavailable(StoreError):
    """The table does not answer, or is overloaded, which passes by itself: try again."""


class WriteTimeout(StoreUnavailable):
    """A write met conflicts, throttles or a dead connection until its deadline."""
