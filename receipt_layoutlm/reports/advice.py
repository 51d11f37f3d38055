"""What to try next: rules over the figures of a report, each with the evidence that it rests on. Pure functions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.reports.history import Findings
from receipt_layoutlm.reports.report import Advice, ConfusionCell, LabelHistory, Report

POOR_F1: Final = 0.6
FEW_ENTITIES: Final = 100
"""Of a label in the training set, below which more of them are the likeliest remedy of a poor score."""

MIXED_WORDS: Final = 5
MIXED_SHARE: Final = 0.1
"""Words of a label, and their share of it, that are taken for another label, from which on two labels are mixed up."""

HIGH_ECE: Final = 0.05
MERCHANT_GAP: Final = 0.1
"""Of F1 between merchants of the training set and new ones."""

TEST_GAP: Final = 0.05
LOST_SHARE: Final = 0.1
"""Of the steps that were done twice because of interruptions."""

FEW_PAGES: Final = 50
"""Of a validation set, below which a difference of some points is noise."""

_SHOWN: Final = 3  # labels or pairs of one rule

Rerun = Callable[[Mapping[str, JsonValue]], str]
"""The command, without the program's name, that repeats the run with other options."""


def advise(report: Report, findings: Findings, rerun: Rerun) -> Iterator[Advice]:
    """The most pressing first. Commands lack the program's name; the run's own findings come before these rules."""
    yield from _of_failure(report)
    if findings.lines:
        remedy = rerun(findings.remedy) if findings.remedy else None
        rule, _, text = findings.lines[0].partition(": ")
        evidence, _, advice = text.rpartition(": ")
        yield Advice(rule=rule, advice=advice, evidence=(evidence or text, *findings.lines[1:]), command=remedy)
    yield from _of_labels(report)
    yield from _of_mixed_labels(report)
    yield from _of_merchants(report, rerun)
    yield from _of_test_set(report)
    yield from _of_calibration(report)
    yield from _of_few_pages(report)
    yield from _of_lost_steps(report, rerun)


def _of_failure(report: Report) -> Iterator[Advice]:
    if report.job.status != "failed":
        return
    last = report.attempts[-1:]
    evidence = [report.job.error] if report.job.error else []
    evidence += [f"attempt {row.attempt} ended at step {row.last_step or 0}: {row.outcome}" for row in last]
    yield Advice(
        rule="failed",
        advice="remove the cause, then retry the job or submit it anew",
        evidence=tuple(evidence),
        command=f"job why {report.job.job_id}",
    )


def _of_labels(report: Report) -> Iterator[Advice]:
    def is_starved(row: LabelHistory) -> bool:
        return row.f1 < POOR_F1 and 0 < (row.train_entities or 0) < FEW_ENTITIES and row.support > 0

    poor = [row for row in report.labels if is_starved(row)][:_SHOWN]
    if poor:
        yield Advice(
            rule="few_entities",
            advice=f"label more pages with {', '.join(row.label for row in poor)}",
            evidence=tuple(
                f"{row.label}: F1 {row.f1:.3f} on {row.support} entities, {row.train_entities} in the training set"
                for row in poor
            ),
            command=_next_pages(report),
        )


def _next_pages(report: Report) -> str | None:
    dataset = (report.data.dataset or "").partition("@")[0]
    return f"dataset next {dataset} --job {report.job.job_id}" if dataset and report.job.status == "succeeded" else None


def _of_mixed_labels(report: Report) -> Iterator[Advice]:
    if report.confusion is None:
        return
    totals = report.confusion.totals

    def is_mixed(cell: ConfusionCell) -> bool:
        is_pair = cell.true != cell.predicted and OUTSIDE not in (cell.true, cell.predicted)
        return is_pair and cell.count >= max(MIXED_WORDS, MIXED_SHARE * totals[cell.true])

    mixed = sorted(filter(is_mixed, report.confusion.cells), key=lambda cell: -cell.count)[:_SHOWN]
    if mixed:
        yield Advice(
            rule="mixed_labels",
            advice="check whether these labels are used in one way on all pages, or merge them",
            evidence=tuple(
                f"{cell.count} of {totals[cell.true]} {report.confusion.unit} of {cell.true} are taken for "
                f"{cell.predicted}" + (f", on {cell.page_count} pages" if cell.page_count else "")
                for cell in mixed
            ),
            command=f"dataset suspects {report.job.job_id}" if report.judged_pages else None,
        )


def _of_merchants(report: Report, rerun: Rerun) -> Iterator[Advice]:
    rows = {row.name: row for row in report.slices.get("merchant", ())}
    seen, new = rows.get("seen in training"), rows.get("new")
    if seen is None or new is None or seen.f1 - new.f1 < MERCHANT_GAP:
        return
    is_augmented = any(row.option == "--augment" for row in report.options)
    command = None if is_augmented else rerun({"augment": ["entities", "drop", "ocr", "boxes"]})
    yield Advice(
        rule="new_merchants",
        advice="add pages of other merchants" + ("" if is_augmented else ", or augment the training pages"),
        evidence=(
            f"F1 is {seen.f1:.3f} on {seen.pages} pages of merchants in the training set and {new.f1:.3f} on "
            f"{new.pages} pages of new ones",
        ),
        command=command,
    )


def _of_test_set(report: Report) -> Iterator[Advice]:
    best, test = report.best, report.test
    if best is None or test is None or not best.metric_name.endswith("_f1") or not test.metric_name.endswith("_f1"):
        return
    name = best.metric_name.removeprefix("eval_")
    value = test.metric_value if name == "f1" else test.scores.get(name)
    if value is not None and best.metric_value - value >= TEST_GAP:
        yield Advice(
            rule="test_below_validation",
            advice="trust the score of the test set; the validation set selected the weights",
            evidence=(f"{name} is {best.metric_value:.3f} on the validation set and {value:.3f} on the test set",),
            command=None,
        )


def _of_calibration(report: Report) -> Iterator[Advice]:
    found = report.reliability
    if found is None or found.ece < HIGH_ECE:
        return
    scaled = "" if found.ece_calibrated is None else f", {found.ece_calibrated:.3f} at the model's temperature"
    can_calibrate = report.test is not None and report.job.status == "succeeded"
    yield Advice(
        rule="confidences",
        advice="do not read the confidences as probabilities before they are calibrated"
        + ("" if can_calibrate else "; a run with a test set can be"),
        evidence=(f"ECE is {found.ece:.3f}{scaled}",),
        command=f"calibrate {report.job.job_id}" if can_calibrate else None,
    )


def _of_few_pages(report: Report) -> Iterator[Advice]:
    pages = report.data.pages.get("validation", 0)
    if report.best is not None and 0 < pages < FEW_PAGES:
        yield Advice(
            rule="few_pages",
            advice="hold out more pages, or train all folds, before a difference of some points decides",
            evidence=(f"the validation set has {pages} pages",),
            command=None,
        )


def _of_lost_steps(report: Report, rerun: Rerun) -> Iterator[Advice]:
    steps = max((row.last_step or 0 for row in report.attempts), default=0)
    lost = report.totals.lost_steps
    if lost < max(LOST_SHARE * steps, 1):
        return
    cut = sum(bool(row.lost_steps) for row in report.attempts)
    yield Advice(
        rule="lost_steps",
        advice="write checkpoints more often",
        evidence=(f"{lost} steps were lost by {cut} attempts that broke off; the run came to step {steps}",),
        command=rerun({"checkpoint_every": 120}),
    )
