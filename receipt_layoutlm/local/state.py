"""The state folder of the embedded AWS, and what is written down there about its engines.

engines.json   which engine serves what, its ports, its process, what was created on it
engines.lock   held while any of that changes, so that two terminals share one engine
aws-config     an AWS profile without anything in it, in place of the user's
{engine}/      an engine's data           {engine}.log   its output
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.local.engines import EngineName, Service

RECORDS = "engines.json"


class LocalAwsError(UserError):
    """The embedded AWS cannot be started or stopped; the text says why."""


class EngineRecord(BaseModel):
    """An engine as it was last started. The ports are kept for the next start; no pid means it was stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    ports: tuple[int, ...]
    command: tuple[str, ...]
    started_at: AwareDatetime
    pid: int | None = None
    created: tuple[str, ...] = ()  # tables and buckets known to be there since this start


class Records(BaseModel):
    """engines.json. The engine chosen for a service stays so, because it holds the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: dict[Service, EngineName] = {}
    engines: dict[EngineName, EngineRecord] = {}

    def engine_of(self, service: Service) -> EngineRecord | None:
        """The record of what serves `service`, if anything ever did."""
        name = self.chosen.get(service)
        return None if name is None else self.engines.get(name)

    def with_engine(self, name: EngineName, record: EngineRecord) -> "Records":
        return self.model_copy(update={"engines": {**self.engines, name: record}})

    def with_choice(self, service: Service, name: EngineName) -> "Records":
        return self.model_copy(update={"chosen": {**self.chosen, service: name}})


def load(folder: Path) -> Records:
    """What is written down; nothing when the folder is new. LocalAwsError when it cannot be read."""
    try:
        return Records.model_validate_json((folder / RECORDS).read_bytes())
    except FileNotFoundError:
        return Records()
    except ValueError as error:
        raise LocalAwsError(f"{folder / RECORDS} is damaged; move {folder} away to start anew: {error}") from error


def save(folder: Path, records: Records) -> None:
    """Replace engines.json in one step."""
    scratch = folder / f"{RECORDS}.new"
    scratch.write_text(records.model_dump_json(indent=1))
    scratch.replace(folder / RECORDS)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for oneself; the kernel lets go when the process ends, however it ends."""
    import fcntl  # not on Windows, where this is never reached

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "engines.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def size_of(folder: Path) -> int:
    """Bytes of all files below; engines may remove one while it is counted."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
