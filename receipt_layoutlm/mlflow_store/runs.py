"""Jobs as MLflow's experiments and runs: names, parameters, metrics, tags, datasets. Pure functions."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
)
from mlflow.entities.experiment_tag import ExperimentTag
from mlflow.utils import mlflow_tags
from pydantic import JsonValue, ValidationError

from receipt_dynamo import Job, JobMetric, JobStatus, JsonObject
from receipt_layoutlm.redact import printable
from receipt_layoutlm.run.comparability import stamp_of
from receipt_layoutlm.run.scores import as_number

Place = Callable[[str], str]
"""The URI of a path among the artifacts of a table."""

EXPERIMENT_TAG: Final = "experiment"  # of a job, by train --experiment
NO_DATASET: Final = "without dataset"
VALUE_CHARACTERS: Final = 6000  # of a parameter or a tag, MLflow's own limit
DIGEST_CHARACTERS: Final = 16  # of a dataset's fingerprint; MLflow takes 36

_STATUS: Final = {
    JobStatus.PENDING: RunStatus.SCHEDULED,
    JobStatus.INTERRUPTED: RunStatus.SCHEDULED,  # it waits to be claimed again
    JobStatus.RUNNING: RunStatus.RUNNING,
    JobStatus.SUCCEEDED: RunStatus.FINISHED,
    JobStatus.FAILED: RunStatus.FAILED,
    JobStatus.CANCELLED: RunStatus.KILLED,
}
_NOT_OPTIONS: Final = frozenset({"given", "warnings", "config_version"})
_MEASURED: Final = ("precision", "recall", "o_entity_ratio", "train_loss", "eval_loss", "lr", "epoch")
_KIND: Final = ExperimentTag("mlflow.experimentKind", "custom_model_development")  # else the page asks, and stores it


def experiment_name(job: Job) -> str:
    """The tag `experiment` of a job, or else the name of its dataset."""
    reference = job.job_config.get("dataset")
    dataset = reference.partition("@")[0] if isinstance(reference, str) else ""
    return _shown(job.tags.get(EXPERIMENT_TAG) or dataset or NO_DATASET)


def experiment_id(name: str) -> str:
    """A fixed number for a name, as MLflow's own ids are."""
    return str(int(hashlib.sha256(name.encode()).hexdigest()[:14], 16))


def experiments_of(jobs: Iterable[Job], place: Place) -> list[Experiment]:
    grouped: dict[str, list[Job]] = {}
    for job in jobs:
        grouped.setdefault(experiment_name(job), []).append(job)
    return [
        Experiment(
            experiment_id(name),
            name,
            place(experiment_id(name)),
            LifecycleStage.ACTIVE,
            tags=[_KIND],
            creation_time=_milliseconds(min(job.created_at for job in members)),
            last_update_time=_milliseconds(max(job.ended_at or job.started_at or job.created_at for job in members)),
        )
        for name, members in grouped.items()
    ]


def run_of(job: Job, latest: JobMetric | None, place: Place) -> Run:
    """A job as a run; its metrics are those of its last visible evaluation, and the scores of its results."""
    metrics = [*([] if latest is None else points_of(latest)), *result_points(job)]
    params = [Param(_shown(name), _shown(value)) for name, value in params_of(job.job_config).items()]
    tags = [RunTag(_shown(name), _shown(value)) for name, value in tags_of(job).items() if value]
    return Run(info_of(job, place), RunData(metrics, params, tags), RunInputs(datasets_of(job.job_config)))


def info_of(job: Job, place: Place) -> RunInfo:
    """The attributes of a job's run, which take no evaluation."""
    experiment = experiment_id(experiment_name(job))
    return RunInfo(
        job.job_id,
        experiment,
        job.created_by,
        RunStatus.to_string(_STATUS[job.status]),
        _milliseconds(job.started_at or job.created_at),
        None if job.ended_at is None else _milliseconds(job.ended_at),
        LifecycleStage.ACTIVE,
        place(f"{experiment}/{job.job_id}/artifacts"),
        _shown(job.name),
    )


def points_of(evaluation: JobMetric) -> list[Metric]:
    """Every number of an evaluation as a point: its headline, losses, scores, and the F1 of each label as f1_LABEL."""
    values: dict[str, JsonValue] = {**evaluation.extras}
    values |= {name: getattr(evaluation, name) for name in _MEASURED}
    values |= {f"f1_{label}": scores.get("f1") for label, scores in evaluation.per_label.items()}
    values[evaluation.metric_name.removeprefix("eval_")] = evaluation.metric_value
    step = evaluation.global_step if evaluation.global_step is not None else int(evaluation.epoch or 0)
    return _points(values, _milliseconds(evaluation.timestamp), step)


def evaluation_in_results(job: Job) -> JobMetric | None:
    """The last evaluation of a job as far as its results have it, without losses: only where it was the best one."""
    results = dict(job.results or {})
    if job.ended_at is None or results.get("best_global_step") is None:
        return None
    if results["best_global_step"] != results.get("global_step"):
        return None
    fields = ("metric_name", "metric_value", "precision", "recall", "o_entity_ratio", "global_step", "per_label")
    values = {name: results[name] for name in fields if name in results}
    others = {name: value for name, value in results.items() if name not in fields}
    try:
        return JobMetric.model_validate({"job_id": job.job_id, "timestamp": job.ended_at, "extras": others, **values})
    except ValidationError:  # results are an open document
        return None


def result_points(job: Job) -> list[Metric]:
    """best_{headline} of a job that has ended, and test_{headline}: one point each, at the best step."""
    results = job.results or {}
    test, name, step = results.get("test"), results.get("metric_name"), results.get("best_global_step")
    if not isinstance(name, str) or job.ended_at is None:
        return []
    headline = name.removeprefix("eval_")
    values = {f"best_{headline}": results.get("metric_value")}
    if isinstance(test, dict):
        values[f"test_{headline}"] = test.get("metric_value")
    return _points(values, _milliseconds(job.ended_at), step if isinstance(step, int) else 0)


def _points(values: Mapping[str, JsonValue], timestamp: int, step: int) -> list[Metric]:
    numbers = {name: as_number(value) for name, value in values.items()}
    return [Metric(_shown(name), value, timestamp, step) for name, value in numbers.items() if value is not None]


def params_of(config: JsonObject) -> dict[str, str]:
    """The resolved options of a job, without those that are off; lists and tables as JSON."""
    return {
        name: value if isinstance(value, str) else str(value) if isinstance(value, int | float) else json.dumps(value)
        for name, value in config.items()
        if name not in _NOT_OPTIONS and value not in (None, "", [], {})
    }


def tags_of(job: Job) -> dict[str, str]:
    """The tags of a job, its state, and MLflow's own tags."""
    results, error = job.results or {}, job.error
    stamp = stamp_of(results)
    notes = [job.description, f"{error.cause}: {error.message}" if error else ""]
    return {
        **job.tags,
        "job.status": job.status,
        "job.queue": job.queue,
        "job.priority": job.priority,
        "job.attempts": str(job.attempt),
        "job.stop_reason": str(results.get("stop_reason") or ""),
        "job.error": error.cause if error else "",
        # runs with one stamp were scored on the same pages by the same rules
        "job.comparability": stamp.sha256[:12] if stamp else "",
        "job.model": str(results.get("best_uri") or ""),
        mlflow_tags.MLFLOW_RUN_NAME: job.name,
        mlflow_tags.MLFLOW_USER: job.created_by,
        mlflow_tags.MLFLOW_RUN_NOTE: "\n\n".join(filter(None, notes)),
        mlflow_tags.MLFLOW_SOURCE_NAME: "layoutlm-cli train",
        mlflow_tags.MLFLOW_SOURCE_TYPE: "JOB",
    }


def datasets_of(config: JsonObject) -> list[DatasetInput]:
    """The pinned snapshots of a job."""
    return [
        DatasetInput(
            Dataset(
                _shown(name),
                digest[:DIGEST_CHARACTERS] or "not pinned",
                "layoutlm",
                json.dumps({"uri": reference}),
            ),
            [InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context)],
        )
        for option, context in (("dataset", "training"), ("eval_dataset", "validation"))
        if isinstance(reference := config.get(option), str) and reference
        for name, _, digest in [reference.partition("@")]
    ]


def _shown(text: str) -> str:
    return printable(text)[:VALUE_CHARACTERS]


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
