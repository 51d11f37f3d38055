"""Promotion of a job's model into use, behind gates that compare it with the model in use."""

import getpass
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from receipt_dynamo import Job, JobQueue, Promotion
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.datasets.predictions import EvaluatedJobs, NoPredictions
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.compare import why_not_comparable
from receipt_layoutlm.jobs.find import none_in_use
from receipt_layoutlm.jobs.models import best_uri
from receipt_layoutlm.run.manifest import MANIFEST
from receipt_layoutlm.run.paired import Difference, Run, compare_runs
from receipt_layoutlm.run.scores import stored_score
from receipt_layoutlm.run.slices import LENGTHS, slice_name
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import parse_s3_uri

PRODUCTION: Final = "production"

OpenBucket = Callable[[str], Bucket]


class NotPromoted(UserError):
    """A model that stays out of use; the text says which gate refused it, with its figure."""


class Gates(BaseModel):
    """Conditions of a promotion; None: the gate is off. Losses are against the model in use, on its own pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_score: float | None = Field(None, description="Least headline score.")
    max_loss: float | None = Field(0.0, ge=0, description="Most F1 that may be lost against the model in use.")
    max_label_loss: float | None = Field(
        0.02, ge=0, description="Most F1 that a label may lose, where a difference is shown."
    )
    max_slice_loss: float | None = Field(
        0.02, ge=0, description="Most F1 that pages of a length may lose, where a difference is shown."
    )
    max_ece: float | None = Field(0.1, ge=0, description="Greatest expected calibration error, calibrated where it is.")
    min_balanced_accuracy: float | None = Field(None, description="Least balanced accuracy.")
    max_false_reject_rate: float | None = Field(None, description="Greatest share of good documents that are rejected.")


class GateResult(BaseModel):
    """A gate that was asked: its figure against its bound."""

    model_config = ConfigDict(frozen=True)

    gate: str
    figure: float | None
    bound: float
    is_met: bool
    text: str


@dataclass(frozen=True)
class Candidate:
    """A job beside the model in use, with the gates that were asked."""

    job: Job
    in_use: Promotion | None
    gates: tuple[GateResult, ...]

    @property
    def refusals(self) -> list[str]:
        return [each.text for each in self.gates if not each.is_met]


def examine(queue: JobQueue, open_bucket: OpenBucket, job: Job, stage: str, gates: Gates) -> Candidate:
    """Ask the gates for a job. Raises NotPromoted if its scores cannot be compared with those of the model in use."""
    in_use = next(iter(queue.client.list_promotions(stage, limit=1)), None)
    asked = list(_own_gates(job.results or {}, gates))
    if in_use is not None and in_use.job_id != job.job_id:
        before = queue.client.get_job(in_use.job_id)
        if reasons := why_not_comparable(before, job):
            raise NotPromoted(
                f"{job.name} cannot be compared with the model in use, {before.name}: {'; '.join(reasons)}. Evaluate "
                "both on the same pages with `layoutlm-cli evaluate`, and give --force with the reason"
            )
        asked += _gates_against(before, job, open_bucket, gates)
    return Candidate(job, in_use, tuple(asked))


def promote(
    queue: JobQueue, open_bucket: OpenBucket, candidate: Candidate, stage: str, reason: str
) -> Promotion | None:
    """Bring the candidate into use; None if another model came into use since it was examined."""
    uri = best_uri(open_bucket, candidate.job)
    place = parse_s3_uri(uri)
    manifest = open_bucket(place.bucket).get_bytes(place.prefix + MANIFEST)
    promotion = Promotion(
        stage=stage,
        version=_next(candidate.in_use),
        action="promote",
        job_id=candidate.job.job_id,
        job_name=candidate.job.name,
        model_uri=uri,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        promoted_at=queue.now(),
        promoted_by=getpass.getuser(),
        reason=reason,
        evidence={each.gate: each.model_dump(mode="json", exclude={"gate"}) for each in candidate.gates},
    )
    return promotion if queue.promote(promotion) else None


def rollback(queue: JobQueue, stage: str, to: int | None, reason: str) -> Promotion:
    """Bring an earlier version into use again: `to`, or the model before the present one. Raises NotPromoted."""
    while True:
        history = queue.client.list_promotions(stage)
        if not history:
            raise NotPromoted(none_in_use(stage))
        newest = history[0]
        earlier = [each for each in history if each.job_id != newest.job_id]
        chosen = next((each for each in earlier if to in (None, each.version)), None)
        if chosen is None:
            versions = ", ".join(f"{each.version} ({each.job_name})" for each in earlier) or "none"
            raise NotPromoted(f"there is no earlier model {to or ''} of {stage} to go back to; there are: {versions}")
        again = chosen.model_copy(
            update={
                "version": newest.version + 1,
                "action": "rollback",
                "promoted_at": queue.now(),
                "promoted_by": getpass.getuser(),
                "reason": reason,
                "evidence": {"rolled_back": newest.version, "to": chosen.version},
            }
        )
        if queue.promote(again):
            return again


def _next(in_use: Promotion | None) -> int:
    return 1 if in_use is None else in_use.version + 1


def _own_gates(results: Mapping[str, JsonValue], gates: Gates) -> Iterator[GateResult]:
    """Gates that need no other model; a score that the job does not have meets no gate."""
    headline = str(results.get("metric_name", "score"))
    eces = (stored_score(results, name) for name in ("ece_calibrated", "ece"))
    ece = next((value for value in eces if value is not None), None)
    names = ("balanced_accuracy", "false_reject_rate")
    balanced, rejected = (stored_score(results, name) for name in names)
    asked = (
        ("score", headline, stored_score(results, headline), gates.min_score, 1),
        ("ece", "calibration error", ece, None if ece is None else gates.max_ece, -1),  # not every task has confidences
        ("balanced_accuracy", "balanced accuracy", balanced, gates.min_balanced_accuracy, 1),
        ("false_reject_rate", "false-reject rate", rejected, gates.max_false_reject_rate, -1),
    )
    for gate, title, figure, bound, sign in asked:
        if bound is not None:
            is_met = figure is not None and sign * figure >= sign * bound
            shown = "unknown" if figure is None else f"{figure:.4f}"
            text = f"{title} is {shown}, asked is {'at least' if sign > 0 else 'at most'} {bound:g}"
            yield GateResult(gate=gate, figure=figure, bound=bound, is_met=is_met, text=text)


def _gates_against(before: Job, job: Job, open_bucket: OpenBucket, gates: Gates) -> Iterator[GateResult]:
    """Gates by the pages that both models predicted. Raises NotPromoted where their predictions are gone."""
    evaluated = EvaluatedJobs(open_bucket)
    try:
        one, other, group_of = evaluated.predicted(before), evaluated.predicted(job), evaluated.groups(job)
    except (NoPredictions, StorageError, DataError) as error:
        raise NotPromoted(f"{job.name} cannot be compared with the model in use, {before.name}: {error}") from error
    scores = compare_runs([one], [other], group_of)
    if gates.max_loss is not None:
        yield _loss_gate("f1", "F1", scores.f1, gates.max_loss, is_met=-scores.f1.difference <= gates.max_loss)
    if gates.max_label_loss is not None:
        for label, f1 in scores.per_label.items():
            is_met = not f1.is_shown or -f1.difference <= gates.max_label_loss
            yield _loss_gate(f"f1_{label}", f"F1 of {label}", f1, gates.max_label_loss, is_met)
    if gates.max_slice_loss is not None:
        lengths = {slice_name(len(page.words), LENGTHS) for page in one.values()}
        for name in sorted(lengths):
            f1 = compare_runs([_of_length(one, name)], [_of_length(other, name)], group_of).f1
            is_met = not f1.is_shown or -f1.difference <= gates.max_slice_loss
            yield _loss_gate(f"words {name}", f"F1 of pages with {name} words", f1, gates.max_slice_loss, is_met)


def _of_length(run: Run, name: str) -> Run:
    return {page_id: page for page_id, page in run.items() if slice_name(len(page.words), LENGTHS) == name}


def _loss_gate(gate: str, title: str, f1: Difference, bound: float, is_met: bool) -> GateResult:
    text = f"{title} goes from {f1.first:.4f} to {f1.other:.4f}, it may lose {bound:g}"
    return GateResult(gate=gate, figure=f1.difference, bound=bound, is_met=is_met, text=text)
