"""Brings one engine of the embedded AWS up, and recognises whether the one written down is still alive."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import (
    DURABLE,
    ENGINES,
    MINISTACK,
    Engine,
    EngineName,
    EngineUnavailable,
    Program,
    Service,
    platform_key,
    programs_dir,
)
from receipt_layoutlm.local.state import EngineRecord, LocalAwsError, Records, load, save

START_SECONDS = 30.0  # SeaweedFS takes 1 to 3 s on a quiet machine


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides which engines can be had here, and where to say what a stand-in loses."""

    platform: str  # as npm spells it
    programs: Path  # downloaded programs
    notice: Callable[[str], None] = _to_stderr


def this_machine() -> Machine:
    """The machine as it is."""
    return Machine(platform_key(), programs_dir())


def started(folder: Path, service: Service, machine: Machine) -> tuple[EngineName, EngineRecord]:
    """The engine that serves `service`, up and answering."""
    records = load(folder)
    name, record = records.chosen.get(service), records.engine_of(service)
    if name is not None and record is not None and _comes_up(ENGINES[name], record):
        return name, record
    choice = _choose(records, service, machine)
    records = records.with_choice(service, choice.engine.name)
    known = records.engines.get(choice.engine.name)
    if known is not None and _comes_up(choice.engine, known):
        save(folder, records)  # it runs already, for the other service
        return choice.engine.name, known
    if choice.loss:
        machine.notice(choice.loss)
    return choice.engine.name, _start(folder, records, choice)


@dataclass(frozen=True, slots=True)
class _Choice:
    engine: Engine
    program: Program
    version: str
    loss: str = ""  # what a stand-in does not do, in one line


def _choose(records: Records, service: Service, machine: Machine) -> _Choice:
    """The engine that holds the data already, else the durable one, else its stand-in."""
    loss = (
        "ministack stands in and writes its state down only at `layoutlm-cli local down`: "
        "kill -9, or a crash of the machine, loses what came since"
    )
    chosen = records.chosen.get(service)
    engine = ENGINES[chosen] if chosen else DURABLE[service]
    try:
        return _Choice(engine, *engine.find(machine.platform, machine.programs), loss if engine is MINISTACK else "")
    except EngineUnavailable as reason:
        if chosen:
            raise LocalAwsError(
                f"the local state was written by {chosen}, which is not to be had: {reason}"
            ) from reason
        try:
            return _Choice(MINISTACK, *MINISTACK.find(machine.platform, machine.programs), f"{reason}; {loss}")
        except EngineUnavailable as none_left:
            raise EngineUnavailable(f"{reason}; {none_left}") from none_left


def _start(folder: Path, records: Records, choice: _Choice) -> EngineRecord:
    engine, data_dir, log = choice.engine, folder / choice.engine.name, log_of(folder, choice.engine.name)
    data_dir.mkdir(exist_ok=True)
    known = records.engines.get(engine.name)
    stop(engine.name, known)
    ports = (
        known.ports if known and local_process.are_free(known.ports) else local_process.free_ports(engine.port_count)
    )
    command = (*choice.program, *engine.arguments(ports, data_dir))
    try:
        pid = local_process.start(command, engine.environment(ports, data_dir), data_dir, log)
    except OSError as error:
        raise LocalAwsError(f"{engine.name} {choice.version} cannot be run here: {error}") from error
    record = EngineRecord(version=choice.version, ports=ports, command=command, started_at=datetime.now(UTC), pid=pid)
    save(folder, records.with_engine(engine.name, record))  # before waiting: a Ctrl-C now leaves no unknown process
    if not _comes_up(engine, record):
        went = f"did not answer within {START_SECONDS:.0f} s" if is_alive(record) else "ended at once"
        stop(engine.name, record)
        raise LocalAwsError(f"{engine.name} {choice.version} {went}; {log} ends:{local_process.last_lines(log)}")
    return record


def _comes_up(engine: Engine, record: EngineRecord) -> bool:
    """Whether it answers; a process that is there and does not answer yet gets START_SECONDS."""

    def answers() -> bool:
        return local_process.answers(record.ports[0], engine.health_path, engine.signature)

    return local_process.wait_until(lambda: not is_alive(record) or answers(), START_SECONDS) and is_alive(record)


def is_alive(record: EngineRecord) -> bool:
    """Whether the process written down still runs."""
    return record.pid is not None and local_process.is_running(record.pid, record.command)


def stop(name: EngineName, record: EngineRecord | None) -> None:
    """End the process written down, if it runs. LocalAwsError when it will not end."""
    if record is None or record.pid is None:
        return
    local_process.stop(record.pid, record.command)
    if is_alive(record):
        raise LocalAwsError(f"{name} (pid {record.pid}) does not end")


def log_of(folder: Path, name: EngineName) -> Path:
    """Where an engine's output goes."""
    return folder / f"{name}.log"


def endpoint_of(record: EngineRecord) -> str:
    """The address at which clients reach the engine."""
    return f"http://{local_process.LOOPBACK}:{record.ports[0]}"
