"""Durations, times, counts and causes of failure as a person says them."""

from datetime import datetime

from receipt_dynamo import JobError

LONGEST_TEXT = 300  # characters of a stored text inside a sentence

CAUSES = {
    "out_of_memory": "memory ran out",
    "non_finite_loss": "the loss was no finite number any more",
    "bad_data": "a page cannot be trained on",
    "bad_config": "the settings cannot be used",
    "max_runtime": "its time limit was used up",
    "killed": "its trainer was killed or crashed",
    "device_error": "its device (a GPU, say) reported an error",
    "hang": "its trainer did not move any more",
    "storage": "the bucket or the table did not do what was asked",
    "interruptions": "it was interrupted too often",
    "unknown": "nothing said why",
}


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 05 s, 41 s, 0.4 s."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def clock(time: datetime, now: datetime) -> str:
    """Local time; with the date when it is not today's."""
    local = time.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone().date() else f"{local:%Y-%m-%d %H:%M:%S}"


def ago(time: datetime, now: datetime) -> str:
    """14:03:20 (41 s ago)."""
    return f"{clock(time, now)} ({duration((now - time).total_seconds())} ago)"


def count(number: int, thing: str) -> str:
    """1 step, 2 steps."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def cut(text: str) -> str:
    """One line of a stored text, without its full stop, cut where it gets too long for a sentence."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= LONGEST_TEXT else line[:LONGEST_TEXT] + "…"


def cause(error: JobError | None) -> str:
    """What went wrong, with the name and the message that are stored."""
    if error is None:
        return "no cause is stored"
    return f"{CAUSES.get(error.cause, 'an error')} ({cut(error.cause)}: {cut(error.message)})"
