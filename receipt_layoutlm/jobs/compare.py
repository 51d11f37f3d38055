"""RunComparison of jobs: comparability of their scores, options that differ, and differences with their intervals."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.config_documents import BESIDE
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.datasets.predictions import EvaluatedJobs, NoPredictions
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.find import metric_value
from receipt_layoutlm.jobs.timeline import known_sum
from receipt_layoutlm.run.comparability import differences, stamp_of
from receipt_layoutlm.run.paired import PairedScores, Run, compare_runs
from receipt_layoutlm.run.scores import as_number, shared_headline, stored_score
from receipt_layoutlm.storage.errors import StorageError

RECIPE: Final = "recipe"
"""Groups jobs whose options are equal but for the seed; every other key of a group is that of a tag."""

_NO_OPTIONS: Final = BESIDE | {"config_version", "work_dir", "continues"}
_PER_RUN: Final = frozenset({"seed", "threads", "processes", "device", "precision", "hang_timeout", "max_runtime"})


class NotComparable(UserError):
    """The scores of the runs are not comparable; the text names the differences."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ComparedRun(_Record):
    """One run. not_comparable: why its scores are not comparable with those of the first job."""

    rank: int | None  # None: not ranked
    job_id: str
    name: str
    metric_name: str | None  # by which it was selected
    metric_value: float | None  # of the comparison's metric
    macro_f1: float | None
    field_f1: float | None
    test_value: float | None  # on the test set; not for model selection
    per_label: dict[str, float]  # label -> F1
    global_step: int | None
    cost: float | None  # US dollars, all attempts
    wall_seconds: float | None  # from first claim to end
    stamp: str | None
    not_comparable: tuple[str, ...] = ()


class RunGroup(_Record):
    """Runs of one recipe. deviation: of a run (sample standard deviation), None for a single one."""

    rank: int
    name: str
    job_ids: tuple[str, ...]
    mean: float
    deviation: float | None


class PairedDifference(_Record):
    """A run or group against the first one, on their validation pages. `missing`: why there is none."""

    first: str
    other: str
    scores: PairedScores | None = None
    missing: str | None = None


class RunComparison(_Record):
    """metric: by which the runs are ranked, greater is better. options: those that differ, each by job id."""

    schema_version: Literal[1] = 1
    metric: str | None
    runs: tuple[ComparedRun, ...]
    groups: tuple[RunGroup, ...] = ()
    options: dict[str, dict[str, JsonValue]]
    against_first: tuple[PairedDifference, ...]


def compare_jobs(
    client: DynamoClient,
    jobs: Sequence[Job],
    evaluated: EvaluatedJobs,
    group_by: str | None,
    on_job: Callable[[], None],
) -> RunComparison:
    """Compare jobs with the first one; those that are not comparable are marked. `on_job` is called after each job.

    With `group_by` the jobs of each value of this tag, or of each RECIPE, are compared as one. Raises StorageError.
    """
    reasons = {job.job_id: why_not_comparable(jobs[0], job) for job in jobs}
    comparable = [job for job in jobs if not reasons[job.job_id]]
    metric = shared_headline([job.results or {} for job in comparable]) if comparable else None
    unranked = [_row(client, job, metric, reasons[job.job_id]) for job in jobs]
    ranked = sorted((row for row in unranked if not row.not_comparable), key=lambda row: -(row.metric_value or 0.0))
    rows = [row.model_copy(update={"rank": rank}) for rank, row in enumerate(ranked, start=1)]
    groups = _grouped(comparable, group_by)
    return RunComparison(
        metric=metric,
        runs=(*rows, *(row for row in unranked if row.not_comparable)),
        groups=() if group_by is None else _ranked(groups, {row.job_id: row.metric_value or 0.0 for row in rows}),
        options=differing_options(jobs),
        against_first=tuple(_against_first(groups, evaluated, on_job)),
    )


def why_not_comparable(first: Job, other: Job) -> tuple[str, ...]:
    """Reasons why the scores of two jobs are not comparable; empty if they are."""
    for job in (first, other):
        if metric_value(job) is None:
            return (f"{job.name} is {job.status} and has no score",)
    stamps = stamp_of(first.results), stamp_of(other.results)
    for job, stamp in zip((first, other), stamps, strict=True):
        if stamp is None:
            return (f"{job.name} has no comparability stamp: it was trained by an earlier version",)
    one, second = stamps
    return tuple(differences(one, second)) if one and second else ()


def f1_by_label(results: Mapping[str, JsonValue]) -> dict[str, float]:
    """F1 of each label at the best evaluation of a job."""
    per_label = results.get("per_label")
    rows = per_label.items() if isinstance(per_label, dict) else ()
    found = {label: as_number(scores.get("f1")) for label, scores in rows if isinstance(scores, dict)}
    return {label: f1 for label, f1 in found.items() if f1 is not None}


def differing_options(jobs: Sequence[Job]) -> dict[str, dict[str, JsonValue]]:
    """Options whose values are not equal in all jobs, by option and job id."""
    configs = {job.job_id: _options(job) for job in jobs}
    names = sorted(set().union(*configs.values()))
    values = {name: {job_id: config.get(name) for job_id, config in configs.items()} for name in names}
    return {name: each for name, each in values.items() if len({json.dumps(value) for value in each.values()}) > 1}


def _options(job: Job) -> dict[str, JsonValue]:
    return {name: value for name, value in job.job_config.items() if name not in _NO_OPTIONS}


@dataclass(frozen=True)
class _Group:
    title: str
    jobs: list[Job]


def _grouped(jobs: Sequence[Job], group_by: str | None) -> list[_Group]:
    """Groups in the order of their first jobs; without `group_by` each job is one."""
    groups: dict[str, _Group] = {}
    for job in jobs:
        is_known = any(group.title == job.name for group in groups.values())
        key, title = job.job_id, f"{job.name} ({job.job_id[:8]})" if is_known else job.name
        if group_by == RECIPE:
            recipe = {name: value for name, value in _options(job).items() if name not in _PER_RUN}
            key = json.dumps(recipe, sort_keys=True)
        elif group_by is not None:
            key = title = job.tags.get(group_by, f"without {group_by}")
        groups.setdefault(key, _Group(title, [])).jobs.append(job)
    return list(groups.values())


def _ranked(groups: Sequence[_Group], values: Mapping[str, float]) -> tuple[RunGroup, ...]:
    scores = {group.title: [values[job.job_id] for job in group.jobs] for group in groups}
    ordered = sorted(groups, key=lambda group: -fmean(scores[group.title]))
    return tuple(
        RunGroup(
            rank=rank,
            name=group.title,
            job_ids=tuple(job.job_id for job in group.jobs),
            mean=fmean(scores[group.title]),
            deviation=stdev(scores[group.title]) if len(group.jobs) > 1 else None,
        )
        for rank, group in enumerate(ordered, start=1)
    )


def _against_first(
    groups: Sequence[_Group], evaluated: EvaluatedJobs, on_job: Callable[[], None]
) -> Iterator[PairedDifference]:
    """Each group against the first. Predictions that cannot be read are the reason why a difference is missing."""
    runs: dict[str, list[Run]] = {}
    missing: dict[str, str] = {}
    group_of: dict[str, str] = {}
    for group in groups if len(groups) > 1 else ():
        try:
            for job in group.jobs:
                runs.setdefault(group.title, []).append(evaluated.predicted(job))
                on_job()
            group_of = group_of or evaluated.groups(group.jobs[0])
        except (NoPredictions, StorageError, DataError) as error:
            missing[group.title] = str(error)
    for group in groups[1:]:
        first, other = groups[0].title, group.title
        reason = missing.get(first) or missing.get(other)
        scores = None if reason else compare_runs(runs[first], runs[other], group_of)
        yield PairedDifference(first=first, other=other, scores=scores, missing=reason)


def _row(client: DynamoClient, job: Job, metric: str | None, reasons: tuple[str, ...]) -> ComparedRun:
    results = job.results or {}
    attempts = client.list_attempts(job.job_id)
    started = min((attempt.started_at for attempt in attempts), default=None)
    stamp, test, step = stamp_of(results), results.get("test"), results.get("global_step")
    name = results.get("metric_name")
    return ComparedRun(
        rank=None,
        job_id=job.job_id,
        name=job.name,
        metric_name=name if isinstance(name, str) else None,
        metric_value=metric_value(job) if metric is None or reasons else stored_score(results, metric),
        macro_f1=stored_score(results, "eval_macro_f1"),
        field_f1=stored_score(results, "eval_field_f1"),
        test_value=as_number(test.get("metric_value")) if isinstance(test, dict) else None,
        per_label=f1_by_label(results),
        global_step=int(step) if isinstance(step, int | float) else None,
        cost=known_sum(attempt.cost for attempt in attempts),
        wall_seconds=(job.ended_at - started).total_seconds() if job.ended_at and started else None,
        stamp=None if stamp is None else stamp.sha256,
        not_comparable=reasons,
    )
