"""State folder of the embedded AWS.

engines.json   the engine of each service, with its ports, its process, and the tables and buckets created on it
engines.lock   held while engines.json changes, so that two terminals share one engine
keys.json      the keys of clients, as keys.py describes
aws-config     an AWS profile with nothing but a region, in place of the user's
{engine}/      an engine's data
{engine}.log   an engine's output
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.local.engines import EngineName, Service
from receipt_layoutlm.paths import prepare_state_dir, private

RECORDS = "engines.json"


class LocalAwsError(UserError):
    """The embedded AWS cannot be started or stopped."""


class EngineRecord(BaseModel):
    """An engine as last started. Its next start uses the same ports; without a pid it was stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    ports: tuple[int, ...]
    command: tuple[str, ...]
    started_at: AwareDatetime
    pid: int | None = None
    created: tuple[str, ...] = ()  # tables and buckets that exist since this start


class Records(BaseModel):
    """engines.json. A service keeps its engine, which holds the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: dict[Service, EngineName] = {}
    engines: dict[EngineName, EngineRecord] = {}

    def engine_of(self, service: Service) -> EngineRecord | None:
        """Record of the engine of a service, if one was ever started."""
        name = self.chosen.get(service)
        return None if name is None else self.engines.get(name)

    def with_engine(self, name: EngineName, record: EngineRecord) -> "Records":
        return self.model_copy(update={"engines": {**self.engines, name: record}})

    def with_choice(self, service: Service, name: EngineName) -> "Records":
        return self.model_copy(update={"chosen": {**self.chosen, service: name}})


def load_records(folder: Path) -> Records:
    """Read engines.json; empty records in a new folder. Raises LocalAwsError when it is damaged."""
    try:
        return Records.model_validate_json((folder / RECORDS).read_bytes())
    except FileNotFoundError:
        return Records()
    except ValueError as error:
        raise LocalAwsError(
            f"{folder / RECORDS} is damaged: move {folder} away to start from scratch: {error}"
        ) from error


def save_records(folder: Path, records: Records) -> None:
    """Replace engines.json in one step."""
    scratch = folder / f"{RECORDS}.new"
    with open(scratch, "w", opener=private) as file:
        file.write(records.model_dump_json(indent=1))
    scratch.replace(folder / RECORDS)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it however the process ends. Raises FolderRefused."""
    import fcntl  # does not exist on Windows, which is refused earlier

    prepare_state_dir(folder)
    with open(folder / "engines.lock", "w", opener=private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
