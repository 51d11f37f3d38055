"""What a job would do, before it costs anything: labels, steps, time and money. Reads the store, never writes."""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Attempt, Dataset, DynamoClient, Job
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.labels import LabelMap, build_label_map, check_named, missing_labels

SHAPE = (
    "task",
    "pretrained",
    "layers",
    "batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "device",
    "processes",
)
"""Two jobs with equal values here take about the same time per step."""


class Plan(BaseModel):
    """Counts are entities of the whole dataset; steps are a lower bound (a page over one window adds some)."""

    model_config = ConfigDict(frozen=True)

    label_counts: dict[str, int]
    warnings: list[str]
    steps: int
    minutes: float | None = None  # from earlier jobs of the same shape
    dollars: float | None = None


def make_plan(
    config: TrainConfig, dataset: Dataset, evaluation: Dataset | None, report: CheckReport | None = None
) -> Plan:
    """Without a report on the pages, their number is reckoned from the shares, and less can be warned of.

    Raises LabelError when the labels, merges and data contradict each other, or options name what is not learned.
    """
    counts, warnings = {}, []
    if isinstance(config, WordLabelsConfig):
        label_map = build_label_map(config, dataset.labels)
        check_named(config, label_map.labels if report is None else report.kept)  # the report knows the training set
        counts = kept_counts(label_map, dataset.labels)
        missing = missing_labels(label_map, dataset.labels)
        warnings = [f"label {label} has no example in {dataset.name}" for label in missing]
    pages = dataset.counts.get("pages", 0)
    training = pages if evaluation is not None else round(pages * config.train_ratio)
    training = min(training, config.sample_size or training)
    if report is not None:
        training = report.pages.get("train", training)
        warnings = [finding.message for finding in report.warnings]
    per_step = config.batch_size * config.gradient_accumulation_steps
    epochs = config.epochs + config.pretraining_epochs(training)
    return Plan(label_counts=counts, warnings=warnings, steps=epochs * math.ceil(training / per_step))


def kept_counts(label_map: LabelMap, counts: Mapping[str, int]) -> dict[str, int]:
    """Entities by label after merges and whitelist; a kept label without any counts 0."""
    kept = dict.fromkeys(label_map.labels, 0)
    for label, count in counts.items():
        if (merged := label_map.merged(label)) in kept:
            kept[merged] += count
    return kept


def with_estimate(plan: Plan, client: DynamoClient, config: TrainConfig) -> Plan:
    """Minutes and dollars by the rate of the newest succeeded jobs of the same shape; None where there is none."""
    shape = config.model_dump(mode="json", include=set(SHAPE))
    alike = [job for job in client.list_jobs_by_status("succeeded", limit=50) if _is_alike(job, shape)]
    attempts = [attempt for job in alike[:5] for attempt in client.list_attempts(job.job_id)]
    seconds, steps = _seconds(attempts), sum(_steps(attempt) for attempt in attempts)
    if not steps:
        return plan
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    dollars = sum(costs) / steps * plan.steps if costs else None
    return plan.model_copy(update={"minutes": seconds / steps * plan.steps / 60, "dollars": dollars})


def _is_alike(job: Job, shape: Mapping[str, object]) -> bool:
    return all(job.job_config.get(key) == value for key, value in shape.items())


def _seconds(attempts: Sequence[Attempt]) -> float:
    ended = ((attempt.ended_at, attempt.started_at) for attempt in attempts)
    return sum((end - start).total_seconds() for end, start in ended if end is not None)


def _steps(attempt: Attempt) -> int:
    return max(0, (attempt.last_step or 0) - attempt.resume_step)
