"""The embedded AWS behind --local: a DynamoDB and an S3 on loopback, started on demand, kept in one folder.

Engines run in sessions of their own: they outlive the command that started them and end at `local down`.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.local.engines import EngineName, Service
from receipt_layoutlm.local.environment import client_environment, create, write_profile
from receipt_layoutlm.local.start import Machine, endpoint_of, is_alive, log_of, started, stop, this_machine
from receipt_layoutlm.local.state import RECORDS, EngineRecord, LocalAwsError, Records, load, locked, save, size_of
from receipt_layoutlm.paths import state_dir

LOCAL_TABLE = "layoutlm-local"
LOCAL_BUCKET = "layoutlm-local"


@dataclass(frozen=True, slots=True)
class LocalAws:
    """Addresses of what runs; None for what nobody has needed yet."""

    dynamodb_endpoint: str | None
    s3_endpoint: str | None


class EngineStatus(BaseModel):
    """One engine that was started at some time."""

    model_config = ConfigDict(frozen=True)

    name: EngineName
    version: str
    services: tuple[Service, ...]
    running: bool
    pid: int | None
    endpoint: str
    uptime_seconds: float | None
    log: Path


class LocalStatus(BaseModel):
    """What `local status` says."""

    model_config = ConfigDict(frozen=True)

    state_dir: Path
    state_bytes: int
    engines: tuple[EngineStatus, ...]


def start_for(environ: Mapping[str, str], service: Service, name: str) -> dict[str, str]:
    """Start what serves `service`, create the table or bucket `name` there, and return the variables leading to it."""
    folder = state_dir(environ)
    _up(folder, service, name, this_machine())
    return environment(folder, environ)


def up(folder: Path, services: Sequence[Service] = ("dynamodb", "s3"), machine: Machine | None = None) -> LocalAws:
    """Start what does not run yet and create the table and bucket; doing it again changes nothing.

    EngineUnavailable when neither an engine nor its stand-in can be had, LocalAwsError when one does not come up.
    """
    for service in services:
        name = {"dynamodb": LOCAL_TABLE, "s3": LOCAL_BUCKET}[service]
        _up(folder, service, name, machine or this_machine())
    return _addresses(load(folder))


def down(folder: Path) -> tuple[EngineName, ...]:
    """Stop what runs and return its names; the data stay. LocalAwsError when a process will not end."""
    if not (folder / RECORDS).exists():
        return ()
    with locked(folder):
        return _stop_all(folder)


def purge(folder: Path) -> None:
    """Stop the engines and delete all they stored, for good. Other files in the folder stay."""
    if not (folder / RECORDS).exists():
        return
    with locked(folder):
        _stop_all(folder)
        for name in load(folder).engines:
            shutil.rmtree(folder / name, ignore_errors=True)
            log_of(folder, name).unlink(missing_ok=True)
        (folder / RECORDS).unlink()


def status(folder: Path) -> LocalStatus:
    """Which engines run, where their state is and how many bytes it takes. Starts nothing."""
    records = load(folder)
    engines = tuple(_engine_status(folder, records, name, each) for name, each in records.engines.items())
    return LocalStatus(state_dir=folder, state_bytes=size_of(folder), engines=engines)


def environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that lead AWS clients and child processes to what runs, and to no other AWS.

    `environ` is what they come on top of: its NO_PROXY is extended. Call it after `up`.
    """
    local = _addresses(load(folder))
    served: dict[Service, str | None] = {"dynamodb": local.dynamodb_endpoint, "s3": local.s3_endpoint}
    endpoints = {service: url for service, url in served.items() if url is not None}
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return client_environment(folder, endpoints, no_proxy)


def _up(folder: Path, service: Service, name: str, machine: Machine) -> None:
    if machine.platform.startswith("win32"):
        raise LocalAwsError("--local needs Linux or macOS; on Windows use an AWS account, or WSL")
    with locked(folder):
        write_profile(folder)
        engine_name, record = started(folder, service, machine)
        thing = f"{service}:{name}"
        if thing not in record.created:
            create(service, endpoint_of(record), name)
            seen = record.model_copy(update={"created": (*record.created, thing)})
            save(folder, load(folder).with_engine(engine_name, seen))


def _stop_all(folder: Path) -> tuple[EngineName, ...]:
    records = load(folder)
    running = tuple(name for name, record in records.engines.items() if is_alive(record))
    for name, record in records.engines.items():
        stop(name, record)
        records = records.with_engine(name, record.model_copy(update={"pid": None, "created": ()}))
    save(folder, records)
    return running


def _addresses(records: Records) -> LocalAws:
    dynamodb, s3 = records.engine_of("dynamodb"), records.engine_of("s3")
    return LocalAws(
        dynamodb_endpoint=endpoint_of(dynamodb) if dynamodb and is_alive(dynamodb) else None,
        s3_endpoint=endpoint_of(s3) if s3 and is_alive(s3) else None,
    )


def _engine_status(folder: Path, records: Records, name: EngineName, record: EngineRecord) -> EngineStatus:
    alive = is_alive(record)
    return EngineStatus(
        name=name,
        version=record.version,
        services=tuple(service for service, engine in records.chosen.items() if engine == name),
        running=alive,
        pid=record.pid if alive else None,
        endpoint=endpoint_of(record),
        uptime_seconds=(datetime.now(UTC) - record.started_at).total_seconds() if alive else None,
        log=log_of(folder, name),
    )
