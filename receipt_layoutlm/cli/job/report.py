"""Quality report of `job show`: health, class weights, decoding, entity scores and word scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from receipt_dynamo import Job, JobMetric
from receipt_layoutlm.cli.tables import clean, per_label_table, score
from receipt_layoutlm.jobs.rerun import rerun_command
from receipt_layoutlm.run.class_weights import ClassWeights, weights_text
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.record import FinalScores
from receipt_layoutlm.run.word_scores import WordReport, word_report, word_report_lines

R = TypeVar("R", bound=BaseModel)

_CHECK_NAME = re.compile(r"^[a-z_]+(?=: )")
_CONFUSION: TypeAdapter[dict[str, dict[str, int]]] = TypeAdapter(dict[str, dict[str, int]])


def report_text(job: Job, metrics: Sequence[JobMetric]) -> str:
    """One line per fact, then the two tables, as far as the job stores them; empty without any."""
    results = job.results or {}
    facts = [
        ("health", _CHECK_NAME.sub(lambda name: name[0].replace("_", " "), line)) for line in health_of(job, metrics)
    ]
    if remedy := remedy_of(job, metrics):
        facts.append(("to try", f"layoutlm-cli {rerun_command(job, remedy)}"))
    if (hardware := _read(Hardware, results.get("hardware"))) is not None:
        facts.append(("hardware", hardware.text))
    if (weights := _read(ClassWeights, results.get("class_weights"))) is not None and not weights.is_plain:
        facts.append(("class weights", weights_text(weights)))
    if isinstance(ways := results.get("f1_by_decoding"), dict) and ways:
        facts.append(("F1 by decoding", ", ".join(f"{way} {score(value)}" for way, value in ways.items())))
    if (test := _read(FinalScores, results.get("test"))) is not None:
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
    try:
        confusion = _CONFUSION.validate_python(results.get("confusion"))
    except ValidationError:
        return None
    return word_report(confusion) if confusion else None


def _read(kind: type[R], document: JsonValue) -> R | None:
    """None if the job does not store it, or another version stored it differently."""
    try:
        return kind.model_validate(document)
    except ValidationError:
        return None
