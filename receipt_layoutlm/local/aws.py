"""The embedded AWS behind --local: a DynamoDB and an S3 on loopback, started on demand, kept in one folder.

Engines outlive the command that started them and end at `local down`.
"""

import http.client
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.local import door
from receipt_layoutlm.local.engines import ACCESS_KEY, MASTER, SEAWEEDFS, SECRET_KEY, EngineName, Service
from receipt_layoutlm.local.environment import client_environment, create, write_profile
from receipt_layoutlm.local.keys import LocalKeys, door_context, load_keys, make_keys
from receipt_layoutlm.local.process import LOOPBACK
from receipt_layoutlm.local.start import (
    LocalPlatform,
    endpoint_of,
    ensure_engine,
    is_alive,
    log_of,
    stop_engine,
    this_platform,
)
from receipt_layoutlm.local.state import RECORDS, LocalAwsError, Records, load_records, locked, save_records
from receipt_layoutlm.paths import WORK, check_state_dir, disk_bytes, state_dir

LOCAL_TABLE = "layoutlm-local"
LOCAL_BUCKET = "layoutlm-local"
DELETION_SECONDS = 3.0  # SeaweedFS works off its queue of deletions every 1.1 s (weed/filer/filer_deletion.go)
RECLAIM_SECONDS = 600.0  # every volume, of at most 1 GiB each, is copied


@dataclass(frozen=True, slots=True)
class LocalAws:
    """Endpoints of the running engines; None for a service that was not needed yet."""

    dynamodb_endpoint: str | None
    s3_endpoint: str | None


class EngineStatus(BaseModel):
    """One engine that has ever been started."""

    model_config = ConfigDict(frozen=True)

    name: EngineName
    version: str
    services: tuple[Service, ...]
    running: bool
    locked: bool  # refuses who lacks the keys of the folder; otherwise any user of this machine reaches its data
    pid: int | None
    endpoint: str
    uptime_seconds: float | None
    log: Path


class LocalStatus(BaseModel):
    """Output of `local status`."""

    model_config = ConfigDict(frozen=True)

    state_dir: Path
    state_bytes: int  # on the disk, as all sizes
    sizes: dict[str, int]  # of table, bucket, work folder, caches
    engines: tuple[EngineStatus, ...]


def start_for(environ: Mapping[str, str], service: Service, name: str) -> dict[str, str]:
    """Start a service with the table or bucket `name`, and return the environment variables for its clients."""
    folder = state_dir(environ)
    _up(folder, service, name, this_platform())
    return environment(folder, environ)


def start_engines(
    folder: Path, services: Sequence[Service] = ("dynamodb", "s3"), machine: LocalPlatform | None = None
) -> LocalAws:
    """Start the services with their table and bucket. Idempotent.

    Raises EngineUnavailable when neither an engine nor its stand-in is available, LocalAwsError when one fails.
    """
    for service in services:
        name = {"dynamodb": LOCAL_TABLE, "s3": LOCAL_BUCKET}[service]
        _up(folder, service, name, machine or this_platform())
    return _addresses(load_records(folder))


def stop_engines(folder: Path) -> tuple[EngineName, ...]:
    """Stop the running engines, keeping their data; returns their names. Raises LocalAwsError when one does not end."""
    check_state_dir(folder)
    if not (folder / RECORDS).exists():
        return ()
    with locked(folder):
        return _stop_all(folder)


def purge(folder: Path) -> None:
    """Stop the engines, and delete their data and the run directories; other files in the folder stay."""
    check_state_dir(folder)
    if not (folder / RECORDS).exists():
        return
    with locked(folder):
        _stop_all(folder)
        shutil.rmtree(folder / WORK, ignore_errors=True)
        for name in load_records(folder).engines:
            shutil.rmtree(folder / name, ignore_errors=True)
            log_of(folder, name).unlink(missing_ok=True)
        (folder / RECORDS).unlink()


def local_status(folder: Path, places: Mapping[str, Sequence[Path]] = MappingProxyType({})) -> LocalStatus:
    """State of the engines, and the sizes of their data and of other `places`. Starts nothing."""
    check_state_dir(folder)
    records, engines = load_records(folder), []
    for name, record in records.engines.items():
        alive = is_alive(record)
        engines.append(
            EngineStatus(
                name=name,
                version=record.version,
                services=tuple(service for service, engine in records.chosen.items() if engine == name),
                running=alive,
                locked=name == SEAWEEDFS.name or (alive and record.pid is not None and door.is_isolated(record.pid)),
                pid=record.pid if alive else None,
                endpoint=endpoint_of(record),
                uptime_seconds=(datetime.now(UTC) - record.started_at).total_seconds() if alive else None,
                log=log_of(folder, name),
            )
        )
    titles: dict[Service, str] = {"dynamodb": "table", "s3": "bucket"}
    data = {" and ".join(titles[service] for service in engine.services): [folder / engine.name] for engine in engines}
    sizes = {title: sum(map(disk_bytes, paths)) for title, paths in {**data, **places}.items()}
    return LocalStatus(state_dir=folder, state_bytes=disk_bytes(folder), sizes=sizes, engines=tuple(engines))


def reclaim(folder: Path) -> None:
    """Give the space of deleted objects back to the disk. SeaweedFS keeps it in its volumes until they are compacted.

    Raises LocalAwsError.
    """
    record = load_records(folder).engines.get(SEAWEEDFS.name)
    if record is None or not is_alive(record):
        return
    time.sleep(DELETION_SECONDS)
    context = door_context(folder / SEAWEEDFS.name)
    connection = http.client.HTTPSConnection(LOOPBACK, record.ports[MASTER], timeout=RECLAIM_SECONDS, context=context)
    try:
        connection.request("GET", "/vol/vacuum?garbageThreshold=0.01")
        if (status := connection.getresponse().status) >= 400:
            raise LocalAwsError(f"SeaweedFS does not compact its volumes: status {status}")
    except (OSError, http.client.HTTPException) as error:
        raise LocalAwsError(f"SeaweedFS does not compact its volumes: {error}") from error
    finally:
        connection.close()


def environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that point AWS clients and child processes to the running engines, and to no other AWS.

    They extend the NO_PROXY of `environ`. Call it after `up`.
    """
    local = _addresses(load_records(folder))
    served: dict[Service, str | None] = {"dynamodb": local.dynamodb_endpoint, "s3": local.s3_endpoint}
    endpoints = {service: url for service, url in served.items() if url is not None}
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    keys = load_keys(folder) or LocalKeys(access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    return client_environment(folder, endpoints, no_proxy, keys)


def _up(folder: Path, service: Service, name: str, machine: LocalPlatform) -> None:
    if machine.platform.startswith("win32"):
        raise LocalAwsError("--local needs Linux or macOS: on Windows use WSL or an AWS account")
    with locked(folder):
        write_profile(folder)
        keys = load_keys(folder) or _first_keys(folder)
        engine_name, record = ensure_engine(folder, service, machine)
        resource = f"{service}:{name}"
        if resource not in record.created:
            create(service, endpoint_of(record), name, keys)
            updated = record.model_copy(update={"created": (*record.created, resource)})
            save_records(folder, load_records(folder).with_engine(engine_name, updated))


def _first_keys(folder: Path) -> LocalKeys:
    _stop_all(folder)  # an earlier version's engines take keys that everybody knows
    return make_keys(folder)


def _stop_all(folder: Path) -> tuple[EngineName, ...]:
    records = load_records(folder)
    running = tuple(name for name, record in records.engines.items() if is_alive(record))
    for name, record in records.engines.items():
        stop_engine(name, record)
        records = records.with_engine(name, record.model_copy(update={"pid": None, "created": ()}))
    save_records(folder, records)
    return running


def _addresses(records: Records) -> LocalAws:
    dynamodb, s3 = records.engine_of("dynamodb"), records.engine_of("s3")
    return LocalAws(
        dynamodb_endpoint=endpoint_of(dynamodb) if dynamodb and is_alive(dynamodb) else None,
        s3_endpoint=endpoint_of(s3) if s3 and is_alive(s3) else None,
    )
