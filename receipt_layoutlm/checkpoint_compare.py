"""Two checkpoints of one step, compared bit by bit: every tensor, and what state.json says of the evaluations."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open

from receipt_layoutlm.events import Evaluation
from receipt_layoutlm.train_state import TrainState

TENSOR_FILES = {
    "model.safetensors": "weights",
    "optimizer.safetensors": "moments",
    "rng.safetensors": "random states",
}
STATE = "state.json"
_OF_AN_EVALUATION = {"evaluation_due", "best_step", "best_metric_value", "evaluations_without_best"}
_SINCE_AN_EVALUATION = {"loss_sum", "loss_count"}


class TensorCount(BaseModel):
    """Of one kind: how many there are in both checkpoints together, how many of them differ, and by how much."""

    model_config = ConfigDict(frozen=True)

    tensors: int
    differing: int
    largest_difference: float  # absolute; of numbers, and of those that both have in the same shape


class Comparison(BaseModel):
    """What differs between a stored checkpoint and its replay."""

    model_config = ConfigDict(frozen=True)

    tensors: dict[str, TensorCount]  # by kind
    evaluations: tuple[int, ...]  # global steps of those that differ, or that only one has
    state: tuple[str, ...]  # names of the other parts of the state that differ
    left_out: int | None  # step of the evaluation that the stored checkpoint did not have yet

    @property
    def is_identical(self) -> bool:
        differing = sum(count.differing for count in self.tensors.values())
        return not (differing or self.evaluations or self.state)


def compare(stored: Path, replayed: Path) -> Comparison:
    """Two folders that were verified."""
    old, new = (TrainState.model_validate_json((folder / STATE).read_bytes()) for folder in (stored, replayed))
    is_due = old.evaluation_due and not new.evaluation_due
    made = [each for each in new.evaluations if not (is_due and each.global_step == old.global_step)]
    ignored = {"evaluations", *(_OF_AN_EVALUATION | _SINCE_AN_EVALUATION if is_due else ())}
    return Comparison(
        tensors={kind: _compare_tensors(stored / name, replayed / name) for name, kind in TENSOR_FILES.items()},
        evaluations=_differing(old.evaluations, made),
        state=tuple(
            name for name in TrainState.model_fields if name not in ignored and getattr(old, name) != getattr(new, name)
        ),
        left_out=old.global_step if is_due else None,
    )


def _compare_tensors(first: Path, second: Path) -> TensorCount:
    """One tensor at a time, so that memory does not hold two checkpoints."""
    differing, largest = 0, 0.0
    with safe_open(first, "numpy") as old, safe_open(second, "numpy") as new:
        there = set(old.keys()), set(new.keys())
        for name in there[0] & there[1]:
            one, other = old.get_tensor(name), new.get_tensor(name)
            if one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes():
                continue
            differing += 1
            if one.shape == other.shape and one.dtype.kind == "f" and one.size:
                largest = max(largest, float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)))))
    return TensorCount(
        tensors=len(there[0] | there[1]), differing=differing + len(there[0] ^ there[1]), largest_difference=largest
    )


def _differing(old: list[Evaluation], new: list[Evaluation]) -> tuple[int, ...]:
    one, other = ({each.global_step: _untimed(each) for each in each_list} for each_list in (old, new))
    return tuple(step for step in sorted(one.keys() | other.keys()) if one.get(step) != other.get(step))


def _untimed(evaluation: Evaluation) -> dict[str, object]:
    return evaluation.model_dump(exclude={"seq", "time"})
