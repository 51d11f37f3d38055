"""Starts and stops one engine of the embedded AWS."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from receipt_layoutlm.local import door, keys
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import (
    DURABLE,
    DYNOXIDE,
    ENGINES,
    MINISTACK,
    SEAWEEDFS,
    Engine,
    EngineName,
    EngineUnavailable,
    Program,
    Service,
    platform_key,
    programs_dir,
)
from receipt_layoutlm.local.state import EngineRecord, LocalAwsError, Records, load_records, save_records
from receipt_layoutlm.paths import STATE_ADVICE, make_own_folder

START_SECONDS = 30.0  # SeaweedFS takes 1 to 3 s on a quiet machine


@dataclass(frozen=True, slots=True)
class LocalPlatform:
    """Properties of the machine that determine the available engines. `warn` prints the drawbacks of a stand-in."""

    platform: str  # as npm spells it
    programs: Path  # folder of downloaded programs
    warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr)


def this_platform() -> LocalPlatform:
    return LocalPlatform(platform_key(), programs_dir())


def ensure_engine(folder: Path, service: Service, machine: LocalPlatform) -> tuple[EngineName, EngineRecord]:
    """Return the engine that serves `service`, started if necessary and answering."""
    records = load_records(folder)
    name, record = records.chosen.get(service), records.engine_of(service)
    if name is not None and record is not None and _comes_up(ENGINES[name], record):
        return name, record
    choice = _choose(records, service, machine)
    records = records.with_choice(service, choice.engine.name)
    known = records.engines.get(choice.engine.name)
    if known is not None and _comes_up(choice.engine, known):
        save_records(folder, records)  # it is running for the other service
        return choice.engine.name, known
    if choice.loss:
        machine.warn(choice.loss)
    if choice.engine is DYNOXIDE and (problem := door.isolation_problem()) is not None:
        machine.warn(f"other users of this machine can reach the local table: it has no network of its own ({problem})")
    return choice.engine.name, _start(folder, records, choice)


@dataclass(frozen=True, slots=True)
class _Choice:
    engine: Engine
    program: Program
    version: str
    loss: str = ""  # of a stand-in, in one line


def _choose(records: Records, service: Service, machine: LocalPlatform) -> _Choice:
    """Choose the engine that holds the data already, else the durable one, else its stand-in."""
    loss = (
        "ministack is used instead and saves its state only at `layoutlm-cli local down`: "
        "kill -9 or a crash of the machine loses everything since"
    )
    chosen = records.chosen.get(service)
    engine = ENGINES[chosen] if chosen else DURABLE[service]
    try:
        return _Choice(engine, *engine.find(machine.platform, machine.programs), loss if engine is MINISTACK else "")
    except EngineUnavailable as reason:
        if chosen:
            raise LocalAwsError(
                f"the local state was written by {chosen}, which is not available: {reason}"
            ) from reason
        try:
            return _Choice(MINISTACK, *MINISTACK.find(machine.platform, machine.programs), f"{reason}; {loss}")
        except EngineUnavailable as neither:
            raise EngineUnavailable(f"{reason}; {neither}") from neither


def _start(folder: Path, records: Records, choice: _Choice) -> EngineRecord:
    engine, data_dir, log = choice.engine, folder / choice.engine.name, log_of(folder, choice.engine.name)
    make_own_folder(data_dir, STATE_ADVICE)
    known = records.engines.get(engine.name)
    stop_engine(engine.name, known)
    ports = (
        known.ports if known and local_process.are_free(known.ports) else local_process.free_ports(engine.port_count)
    )
    command = (*choice.program, *engine.arguments(ports, data_dir))
    if engine is DYNOXIDE:
        command = door.command(
            ports[0], folder / keys.KEYS, (*choice.program, *engine.arguments((door.PLACE,), data_dir))
        )
    if engine is SEAWEEDFS:
        keys.write_security(data_dir)
    pair = keys.load_keys(folder)
    environment = {**engine.environment(ports, data_dir), **(pair.environment if pair else {})}
    try:
        pid = local_process.start_process(command, environment, data_dir, log)
    except OSError as error:
        raise LocalAwsError(f"{engine.name} {choice.version} cannot be executed here: {error}") from error
    record = EngineRecord(version=choice.version, ports=ports, command=command, started_at=datetime.now(UTC), pid=pid)
    save_records(folder, records.with_engine(engine.name, record))  # before waiting: Ctrl-C must not leave a stray
    if not _comes_up(engine, record):
        failure = f"did not answer within {START_SECONDS:.0f} s" if is_alive(record) else "ended at once"
        stop_engine(engine.name, record)
        raise LocalAwsError(f"{engine.name} {choice.version} {failure}; {log} ends:{local_process.last_lines(log)}")
    return record


def _comes_up(engine: Engine, record: EngineRecord) -> bool:
    """Whether it answers; a live process has START_SECONDS to begin to."""

    def answers() -> bool:
        return local_process.answers(record.ports[0], engine.health_path, engine.signature)

    return local_process.wait_until(lambda: not is_alive(record) or answers(), START_SECONDS) and is_alive(record)


def is_alive(record: EngineRecord) -> bool:
    """Whether the recorded process is still running."""
    return record.pid is not None and local_process.is_running(record.pid, record.command)


def stop_engine(name: EngineName, record: EngineRecord | None) -> None:
    """Stop the recorded process if it is running. Raises LocalAwsError when it does not end."""
    if record is None or record.pid is None:
        return
    local_process.stop_process(record.pid, record.command)
    if is_alive(record):
        raise LocalAwsError(f"{name} (pid {record.pid}) does not end")


def log_of(folder: Path, name: EngineName) -> Path:
    """File with the output of an engine."""
    return folder / f"{name}.log"


def endpoint_of(record: EngineRecord) -> str:
    """URL at which clients reach the engine."""
    return f"http://{local_process.LOOPBACK}:{record.ports[0]}"
