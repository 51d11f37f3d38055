"""Durations, times, counts and failure causes for people."""

from datetime import datetime

from pydantic import JsonValue

from receipt_dynamo import JobError
from receipt_layoutlm.run.events import FINISH_TEXTS
from receipt_layoutlm.run.progress import LeaseProgress

LONGEST_SECONDS = 1e12  # some 30,000 years
TEXT_LENGTH = 300  # characters of a stored text inside a sentence

CAUSES = {
    "out_of_memory": "it ran out of memory",
    "non_finite_loss": "the loss was not finite",
    "bad_data": "a page cannot be used for training",
    "bad_config": "the options cannot be used",
    "hub_unavailable": "the model hub did not answer",
    "max_runtime": "it reached its time limit",
    "cost_limit": "it reached its cost limit",
    "killed": "the trainer was killed or crashed",
    "device_error": "the device (a GPU, for example) reported an error",
    "hang": "the trainer stopped making progress",
    "storage": "the bucket, the table or the disk failed",
    "permission": "access was denied",
    "missing_bucket": "the bucket does not exist",
    "interruptions": "it was interrupted too often",
    "unknown": "the cause is unknown",
}

PHASES = {"encode": "encoding pages", "train": "training", "evaluate": "evaluating"}

OUTCOMES = {
    None: "running",
    "lease expired": "lost: its lease expired",
    "cancelled: lease expired": "cancelled, after its lease had expired",
    "interrupted: asked to stop": "interrupted: its worker was asked to stop",
}


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 05 s, 41 s, 0.4 s."""
    seconds = min(seconds, LONGEST_SECONDS)  # stored times and sums may be anything
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def share_done(progress: LeaseProgress | None) -> str:
    """41 %, 12 min 05 s left; empty while nothing is known."""
    if progress is None or progress.percent is None:
        return ""
    left = "" if progress.left_seconds is None else f", {duration(progress.left_seconds)} left"
    return f"{progress.percent} %{left}"


def position_text(progress: LeaseProgress) -> str:
    """training, step 164 of 400, epoch 1.64, 41 %, 12 min 05 s left."""
    phase = PHASES.get(progress.phase) or cut(progress.phase)
    done = share_done(progress)
    position = f"step {progress.step} of {progress.total}, epoch {progress.epoch:g}"
    return f"{phase}, {position}" + (done and f", {done}")


def clock(time: datetime, now: datetime) -> str:
    """Local time with its zone; with the date unless it is today's."""
    local = time.astimezone()
    return local_time(time) if local.date() != now.astimezone().date() else f"{local:%H:%M:%S} {zone(local)}"


def local_time(time: datetime) -> str:
    """Local date and time to the second, with its zone."""
    local = time.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {zone(local)}"


def zone(local: datetime) -> str:
    """UTC or UTC+05:45: names repeat (CST), and TZ may give any name to any offset."""
    offset = f"{local:%z}"
    return f"UTC{offset[:3]}:{offset[3:5]}" if local.utcoffset() else "UTC"


def ago(time: datetime, now: datetime) -> str:
    """14:03:20 UTC (41 s ago)."""
    return f"{clock(time, now)} ({duration((now - time).total_seconds())} ago)"


def count(number: int, noun: str) -> str:
    """1 step, 2 steps."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def cut(text: str) -> str:
    """A stored text as one line without its full stop, cut to TEXT_LENGTH."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= TEXT_LENGTH else line[:TEXT_LENGTH] + "…"


def cause(error: JobError | None) -> str:
    """The cause of a failure in words, with its message."""
    if error is None:
        return "no cause is stored"
    return f"{cause_words(error.cause)}: {cut(error.message)}"


def cause_words(name: str) -> str:
    """A stored cause in words; one of another version as it is."""
    return CAUSES.get(name) or f"an error ({cut(name)})"


def outcome(stored: str | None) -> str:
    """The end of an attempt in words, from its stored form; None is that of a running one."""
    if stored in OUTCOMES:
        return OUTCOMES[stored]
    kind, _, detail = str(stored).partition(": ")
    return f"failed: {cause_words(detail)}" if kind == "failed" and detail else cut(str(stored))


def stop_reason(stored: JsonValue) -> str:
    """The reason why a trainer finished, in words."""
    return FINISH_TEXTS.get(str(stored)) or cut(str(stored))
