"""Plan of a job: label counts, steps, and estimates of time and cost. Reads the store only."""

import math
from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Dataset, DynamoClient
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import CheckReport
from receipt_layoutlm.data.labels import LabelMap, build_label_map, check_named, missing_labels
from receipt_layoutlm.jobs.option_checks import doubtful

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
"""Options that decide the time per step."""


class TrainingPlan(BaseModel):
    """Counts are entities of the whole dataset; steps are a lower bound (pages longer than one window add some)."""

    model_config = ConfigDict(frozen=True)

    label_counts: dict[str, int]
    warnings: list[str]
    steps: int
    minutes: float | None = None  # estimated from earlier jobs of the same shape
    dollars: float | None = None


def make_plan(
    config: TrainConfig, dataset: Dataset, evaluation: Dataset | None, report: CheckReport | None = None
) -> TrainingPlan:
    """Without a report, the number of training pages is computed from the split ratios, with fewer warnings.

    Raises LabelError when labels, merges and data contradict each other, or an option names a label not learned.
    """
    counts, warnings = {}, []
    if isinstance(config, WordLabelsConfig):
        label_map = build_label_map(config, dataset.labels)
        check_named(config, learned_labels(config, dataset, report))
        counts = kept_counts(label_map, dataset.labels)
        missing = missing_labels(label_map, dataset.labels)
        warnings = [f"label {label} has no example in {dataset.name}" for label in missing]
    pages = dataset.counts.get("pages", 0)
    training = pages if evaluation is not None else round(pages * config.train_ratio)
    training = min(training, config.sample_size or training)
    if report is not None:
        training = report.pages.get("train", training)
        warnings = [finding.message for finding in report.warnings]
    warnings = [*warnings, *doubtful(config, training)]
    per_step = config.batch_size * config.gradient_accumulation_steps
    epochs = config.epochs + config.pretraining_epochs(training)
    return TrainingPlan(label_counts=counts, warnings=warnings, steps=epochs * math.ceil(training / per_step))


def learned_labels(config: TrainConfig, dataset: Dataset | None, report: CheckReport | None) -> Collection[str]:
    """The labels of a run, as far as they are known: of the report on its training set, else of the whole dataset,
    else those of the whitelist.

    Raises LabelError when labels, merges and data contradict each other.
    """
    if report is not None:
        return report.kept
    if not isinstance(config, WordLabelsConfig):
        return ()
    return config.allowed_labels if dataset is None else build_label_map(config, dataset.labels).labels


def kept_counts(label_map: LabelMap, counts: Mapping[str, int]) -> dict[str, int]:
    """Entities by label after merges and whitelist; 0 for a kept label without entities."""
    kept = dict.fromkeys(label_map.labels, 0)
    for label, count in counts.items():
        if (merged := label_map.merged(label)) in kept:
            kept[merged] += count
    return kept


def with_estimate(plan: TrainingPlan, client: DynamoClient, config: TrainConfig) -> TrainingPlan:
    """Adds time and cost at the rate of the newest succeeded jobs of the same shape; None without such a job."""
    shape = config.model_dump(mode="json", include=set(SHAPE))
    succeeded = client.list_jobs_by_status("succeeded", limit=50)
    alike = [job for job in succeeded if all(job.job_config.get(key) == value for key, value in shape.items())]
    attempts = [attempt for job in alike[:5] for attempt in client.list_attempts(job.job_id)]
    steps = sum(max(0, (attempt.last_step or 0) - attempt.resume_step) for attempt in attempts)
    if not steps:
        return plan
    seconds = sum((each.ended_at - each.started_at).total_seconds() for each in attempts if each.ended_at is not None)
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    dollars = sum(costs) / steps * plan.steps if costs else None
    return plan.model_copy(update={"minutes": seconds / steps * plan.steps / 60, "dollars": dollars})
