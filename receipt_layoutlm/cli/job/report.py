"""Facts and quality report of `job show`: options, result, health, class weights, decoding, entity and word scores."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from receipt_dynamo import Job, JobMetric
from receipt_layoutlm.cli.tables import BY_WORKER, clean, per_label_table, reached_text, score, when
from receipt_layoutlm.jobs.rerun import rerun_command
from receipt_layoutlm.jobs.wording import cause, count, stop_reason
from receipt_layoutlm.run.class_weights import ClassWeights, weights_text
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.record import TEST_TITLES, FinalScores
from receipt_layoutlm.run.word_scores import WordReport, word_report, word_report_lines

R = TypeVar("R", bound=BaseModel)

EXACT_TEXT = "bit by bit: interruptions did not change the weights"
HALVED_TEXT = "not bit by bit: an attempt ran out of memory, so micro-batches were halved"
SCORE_TITLES = {**TEST_TITLES, "f1": "F1", "train_f1": "train F1", "o_entity_ratio": "O words per entity word"}
_OWN_LINE = frozenset(  # results that have a line or a table of their own
    "per_label test comparability health remedy f1_by_decoding seen confusion class_weights hardware stop_reason "
    "metric_name metric_value best_epoch best_global_step global_step evaluations new_best_steps best_uri "
    "checkpoint_uri bit_exact".split()
)
_CHECK_NAME = re.compile(r"^[a-z_]+(?=: )")
_CONFUSION: TypeAdapter[dict[str, dict[str, int]]] = TypeAdapter(dict[str, dict[str, int]])


def facts_text(job: Job, state: str, report_uri: str | None = None) -> str:
    """A job with its state, the config values that were given, its result and its report, one line each."""
    config = job.job_config
    given, warnings = config.get("given"), config.get("warnings")
    names = given if isinstance(given, dict) else config
    dataset, at, digest = str(config.get("dataset") or "").partition("@")
    facts: list[tuple[str, object]] = [
        ("name", job.name),
        ("id", job.job_id),
        ("status", state),
        ("description", job.description),
        ("created", f"{when(job.created_at)} by {job.created_by}"),
        ("started", when(job.started_at)),
        ("ended", when(job.ended_at)),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("tags", ", ".join(f"{key}={value}" for key, value in job.tags.items())),
        ("dataset", f"{dataset}{at}{digest[:12]}" or (BY_WORKER if config.get("snapshot_on_worker") else "")),
        ("recipe", config.get("recipe")),
        ("config", ", ".join(f"{name}={json.dumps(config.get(name))}" for name in names if name != "dataset")),
        *(("warning", text) for text in (warnings if isinstance(warnings, list) else ())),
        ("error", "" if job.error is None else cause(job.error)),
        *result_facts(job.results or {}),
        ("report", report_uri),
    ]
    lines = [f"{name:16}  {clean(value)}" for name, value in facts if value not in ("", None)]
    return "\n".join(lines)


def result_facts(results: Mapping[str, JsonValue]) -> Iterator[tuple[str, object]]:
    """Names and texts of what a run reached; values of other versions as they are stored."""
    if "metric_name" in results:
        yield "result", reached_text(results)
    elif results.get("stop_reason"):
        yield "result", stop_reason(results["stop_reason"])
    steps, evaluations, bests = (results.get(name) for name in ("global_step", "evaluations", "new_best_steps"))
    if isinstance(steps, int) and isinstance(evaluations, int):
        at = ", ".join(map(str, bests)) if isinstance(bests, list) else ""
        better = f", a new best at step {at}" if at else ""
        yield "trained", f"{count(steps, 'step')}, {count(evaluations, 'evaluation')}{better}"
    scores = {name: value for name, value in results.items() if name not in _OWN_LINE and isinstance(value, float)}
    titles = ((SCORE_TITLES.get(name) or name.replace("_", " "), value) for name, value in scores.items())
    yield "scores", ", ".join(f"{title} {score(value)}" for title, value in titles)
    yield "model", results.get("best_uri")
    yield "last checkpoint", results.get("checkpoint_uri")
    if (is_exact := results.get("bit_exact")) is not None:
        yield "reproducible", EXACT_TEXT if is_exact else HALVED_TEXT
    for name, value in results.items():
        if name not in _OWN_LINE and name not in scores:
            yield name.replace("_", " "), value


def report_text(job: Job, metrics: Sequence[JobMetric]) -> str:
    """One line per fact, then the two tables, as far as the job stores them; empty without any."""
    results = job.results or {}
    facts = [
        ("health", _CHECK_NAME.sub(lambda name: name[0].replace("_", " "), line)) for line in health_of(job, metrics)
    ]
    if remedy := remedy_of(job, metrics):
        facts.append(("to try", f"layoutlm-cli {rerun_command(job, remedy)}"))
    if (hardware := stored_record(Hardware, results.get("hardware"))) is not None:
        facts.append(("hardware", hardware.text))
    if (weights := stored_record(ClassWeights, results.get("class_weights"))) is not None and not weights.is_plain:
        facts.append(("class weights", weights_text(weights)))
    if isinstance(ways := results.get("f1_by_decoding"), dict) and ways:
        facts.append(("F1 by decoding", ", ".join(f"{way} {score(value)}" for way, value in ways.items())))
    if (test := stored_record(FinalScores, results.get("test"))) is not None:
        facts.append(("test set", test.text))
    parts = ["\n".join(f"{name:16}  {clean(text)}" for name, text in facts)]
    if results.get("per_label"):
        parts.append("entity level\n" + per_label_table(results["per_label"], results.get("seen")))
    if (words := words_of(results)) is not None:
        parts.append("\n".join(clean(line) for line in word_report_lines(words)))
    return "\n\n".join(part for part in parts if part)


def report_document(job: Job, metrics: Sequence[JobMetric]) -> dict[str, object]:
    """Additions to the document of a job: health, also while it runs, and the word-level report."""
    words = words_of(job.results or {})
    remedy = remedy_of(job, metrics)
    to_try = rerun_command(job, remedy) if remedy else None
    return {"health": health_of(job, metrics), "to_try": to_try, "word_report": words and asdict(words)}


def health_of(job: Job, metrics: Sequence[JobMetric]) -> list[str]:
    """One line per problem: of the whole run if it succeeded, otherwise at its last evaluation."""
    findings = (job.results or {}).get("health")
    if findings is None and metrics:
        findings = metrics[-1].extras.get("health")
    return [str(line) for line in findings] if isinstance(findings, list) else []


def remedy_of(job: Job, metrics: Sequence[JobMetric]) -> dict[str, JsonValue]:
    """The options to try first, and their values; none if the job is healthy, or an earlier version ran it."""
    remedy = (job.results or {}).get("remedy")
    if job.results is None and metrics:
        remedy = metrics[-1].extras.get("remedy")
    return remedy if isinstance(remedy, dict) else {}


def words_of(results: Mapping[str, JsonValue]) -> WordReport | None:
    """Word scores at the best evaluation; None if the job stores no confusion matrix."""
    confusion = confusion_of(results)
    return word_report(confusion) if confusion else None


def confusion_of(results: Mapping[str, JsonValue]) -> dict[str, dict[str, int]]:
    """True label -> predicted label -> words at the best evaluation; empty if the job stores none."""
    try:
        return _CONFUSION.validate_python(results.get("confusion"))
    except ValidationError:
        return {}


def stored_record(kind: type[R], document: JsonValue) -> R | None:
    """None if the job does not store it, or another version stored it differently."""
    try:
        return kind.model_validate(document)
    except ValidationError:
        return None
