"""The history of a job for its report: rows of the table and files of the bucket as plain records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from receipt_dynamo import Attempt, Job, JobMetric
from receipt_dynamo.metrics_view import visible
from receipt_layoutlm.cli.job.report import HALVED_TEXT, health_of, remedy_of, stored_record
from receipt_layoutlm.config import DEFAULT_TASK, ConfigError, config_class
from receipt_layoutlm.config_documents import BESIDE
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.run_files import RunFiles
from receipt_layoutlm.jobs.timeline import Timeline
from receipt_layoutlm.jobs.wording import cause, outcome, stop_reason
from receipt_layoutlm.reports.history import Findings, JudgedPredictions, RunEvaluation, RunHistory
from receipt_layoutlm.reports.report import (
    Artifact,
    AttemptEnding,
    Comparability,
    DataFacts,
    EvaluationPoint,
    HeldOutScores,
    JobFacts,
    MachineFacts,
    OptionRow,
    ReportedAttempt,
    RunTotals,
)
from receipt_layoutlm.run.comparability import TITLES, stamp_of
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.record import FinalScores
from receipt_layoutlm.run.scores import LabelScore, as_number

V = TypeVar("V")

_NOT_OPTIONS = BESIDE | {"config_version", "task", "dataset", "eval_dataset", "continues"}
_LABELS: TypeAdapter[dict[str, LabelScore]] = TypeAdapter(dict[str, LabelScore])
_CONFUSION: TypeAdapter[dict[str, dict[str, int]]] = TypeAdapter(dict[str, dict[str, int]])
_KINDS = {True: "spot", False: "on demand", None: None}


def run_history(
    job: Job,
    state: str,
    attempts: Sequence[Attempt],
    times: Timeline,
    metrics: Sequence[JobMetric],
    files: RunFiles,
) -> RunHistory:
    """The history of a job in any state. state: its status in words; metrics: those of all attempts."""
    record, results = files.record, job.results or {}
    test = record.test if record else stored_record(FinalScores, results.get("test"))
    hardware = record.hardware if record else stored_record(Hardware, results.get("hardware"))
    return RunHistory(
        job=job_facts(job, state),
        data=_data(job, files),
        machine=MachineFacts(
            hardware=hardware.text if hardware else None,
            versions=record.versions if record else {},
            git_sha=record.git_sha if record else None,
        ),
        comparability=comparability_of(job, files),
        attempts=attempt_rows(times),
        totals=RunTotals.model_validate(times.totals.model_dump(exclude={"is_at_least"})),
        evaluations=list(evaluations_of(job, attempts, metrics, files)),
        test=None
        if test is None
        else HeldOutScores(
            metric_name=test.metric_name, metric_value=test.metric_value, pages=test.pages, scores=test.scores
        ),
        findings=Findings(health_of(job, metrics), remedy_of(job, metrics)),
        predictions=None
        if files.step is None
        else JudgedPredictions(files.step, files.predicted, files.pages, files.trained_on),
        options=list(report_options(job.job_config)),
        artifacts=[Artifact(**asdict(each)) for each in files.stored],
        notes=files.notes,
    )


def job_facts(job: Job, state: str) -> JobFacts:
    reason = (job.results or {}).get("stop_reason")
    return JobFacts(
        **job.model_dump(
            include={"job_id", "name", "description", "created_at", "created_by", "started_at", "ended_at", "tags"}
        ),
        status=job.status.value,
        status_text=state,
        task=str(job.job_config.get("task") or DEFAULT_TASK),
        pretrained=_text(job.job_config.get("pretrained")),
        stop_reason=stop_reason(reason) if reason else None,
        error=cause(job.error) if job.error else None,
    )


def _text(value: JsonValue) -> str | None:
    return None if value is None else str(value)


def _data(job: Job, files: RunFiles) -> DataFacts:
    config, record = job.job_config, files.record.dataset if files.record else None
    dataset = _text(config.get("dataset"))
    return DataFacts(
        dataset=dataset,
        fingerprint=record.fingerprint if record else (dataset or "").partition("@")[2] or None,
        eval_dataset=_text(config.get("eval_dataset")),
        split=_text(config.get("split")),
        pages={}
        if record is None
        else {"training": record.train_pages, "validation": record.eval_pages, "test": record.test_pages},
        entities={}
        if record is None
        else {
            "training": record.train_label_counts,
            "validation": record.eval_label_counts,
            "test": record.test_label_counts,
        },
    )


def comparability_of(job: Job, files: RunFiles) -> Comparability:
    """The stamp of the run, and in words what it allows."""
    stamp = stamp_of(job.results) or (files.record.comparability if files.record else None)
    if stamp is None:
        text = "unknown: the run has stored no comparability stamp" if job.attempt else "not yet: nothing has run"
        return Comparability(text=text, sha256=None, fields={})
    text = f"with runs of the stamp {stamp.sha256[:12]}: the same pages, truth and scorer"
    if job.score is None:
        text = f"not yet, since the job has no final score; then {text}"
    if (job.results or {}).get("bit_exact") is False:
        text = f"{text}; {HALVED_TEXT}"
    fields = {title: str(getattr(stamp, name)) or "none" for name, title in TITLES.items()}
    return Comparability(text=text, sha256=stamp.sha256, fields=fields)


def attempt_rows(times: Timeline) -> list[ReportedAttempt]:
    return [
        ReportedAttempt(
            **row.model_dump(exclude={"instance_type", "spot", "first_step_seconds", "outcome"}),
            machine=" ".join(filter(None, (row.instance_type, _KINDS[row.spot]))),
            ending=ending_of(row.outcome),
            outcome=outcome(row.outcome),
        )
        for row in times.rows
    ]


def ending_of(stored: str | None) -> AttemptEnding:
    """The kind of end; a lost lease interrupts the run like a request to stop."""
    if stored is None:
        return "running"
    for kind in ("succeeded", "failed", "cancelled"):
        if stored.startswith(kind):
            return kind
    return "interrupted"


def evaluations_of(
    job: Job, attempts: Sequence[Attempt], metrics: Sequence[JobMetric], files: RunFiles
) -> Iterator[RunEvaluation]:
    """In time order. Rows of the table say which attempt each is of, the record of the run has more of its tables."""
    recorded = {each.global_step: each for each in files.record.evaluations} if files.record else {}
    shown = {(metric.timestamp, metric.seq) for metric in visible(metrics, attempts)}
    stored_steps = {metric.global_step for metric in metrics}
    for each in recorded.values():
        if each.global_step not in stored_steps:  # of the job that this one continues, or not stored yet
            yield _recorded(each, None)
    best = (job.results or {}).get("best_global_step")
    for number, metric in enumerate(metrics, start=1):
        step = metric.global_step
        is_visible = (metric.timestamp, metric.seq) in shown
        if is_visible and step in recorded:
            yield _recorded(recorded[step], metric.attempt)
            continue
        stored = _stored(metric, number if step is None else step, is_visible)
        is_best = is_visible and step is not None and step == best
        confusion = _table(_CONFUSION, (job.results or {}).get("confusion")) if is_best else {}
        yield replace(stored, confusion=confusion)


def _recorded(evaluation: Evaluation, attempt: int | None) -> RunEvaluation:
    kept = {"global_step", "epoch", "metric_name", "metric_value", "train_loss", "eval_loss", "lr", "is_best"}
    return RunEvaluation(
        point=EvaluationPoint(
            **{name: getattr(evaluation, name) for name in kept},
            attempt=attempt,
            is_visible=True,
            scores=evaluation.scores,
        ),
        per_label=evaluation.per_label,
        breakdowns=evaluation.breakdowns,
        confusion=evaluation.confusion,
        predicted_labels=evaluation.predicted_labels,
        reliability=evaluation.reliability,
    )


def _stored(metric: JobMetric, step: int, is_visible: bool) -> RunEvaluation:
    measured = {name: getattr(metric, name) for name in ("precision", "recall", "o_entity_ratio")}
    stored = {name: table for name, table in metric.extras.items() if isinstance(table, dict) and name != "remedy"}
    tables = {name: _numbers(table) for name, table in stored.items()}
    kept = {"epoch", "metric_name", "metric_value", "train_loss", "eval_loss", "lr", "is_best", "attempt"}
    return RunEvaluation(
        point=EvaluationPoint(
            **{name: getattr(metric, name) for name in kept},
            global_step=step,
            is_visible=is_visible,
            scores=_numbers({**metric.extras, **measured}),
        ),
        per_label=_table(_LABELS, metric.per_label),
        breakdowns={name: table for name, table in tables.items() if table and len(table) == len(stored[name])},
    )


def _numbers(document: Mapping[str, JsonValue]) -> dict[str, float]:
    """The values that are numbers."""
    return {name: value for name, each in document.items() if (value := as_number(each)) is not None}


def _table(kind: TypeAdapter[dict[str, V]], stored: object) -> dict[str, V]:
    """Empty if an earlier version stored it differently."""
    try:
        return kind.validate_python(stored)
    except ValidationError:
        return {}


def report_options(document: Mapping[str, JsonValue]) -> Iterator[OptionRow]:
    """Options whose value is not the default of the task, in alphabetical order; all of a task that is unknown here."""
    defaults: dict[str, JsonValue] = {}
    try:
        config = config_class(document.get("task") or DEFAULT_TASK)
        defaults = config.model_construct().model_dump(mode="json")
    except ConfigError:
        pass
    given = document.get("given")
    sources = given if isinstance(given, dict) else {}
    for name in sorted(document.keys() - _NOT_OPTIONS):
        value, default = document[name], defaults.get(name)
        if value is not None and value != default:
            source = str(sources.get(name) or ("follows from others" if name in defaults else "stored"))
            yield OptionRow(option=flag_of(name), value=value, default=default, source=source)
