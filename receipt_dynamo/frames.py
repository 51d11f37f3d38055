"""Jobs and evaluations as frames of pandas, where it is installed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from receipt_dynamo.entities import Job, JobMetric
from receipt_dynamo.errors import StoreError

if TYPE_CHECKING:
    import pandas


class NoPandas(StoreError):
    """Frames need pandas."""


def jobs_frame(jobs: Iterable[Job]) -> "pandas.DataFrame":
    """A row a job, by its id: facts, then options as params.NAME, numbers of its results as metrics.NAME, and tags.KEY.

    Times are aware UTC. Raises NoPandas.
    """
    rows = []
    for job in jobs:
        results, error = job.results or {}, job.error
        per_label = results.get("per_label")
        scores = {name: value for name, value in results.items() if _is_number(value)}
        for label, row in (per_label if isinstance(per_label, dict) else {}).items():
            scores |= {f"f1_{label}": row["f1"]} if isinstance(row, dict) and _is_number(row.get("f1")) else {}
        rows.append(
            {
                **job.model_dump(include=_FACTS),
                "status": job.status.value,
                "score": job.score,
                "error": error.cause if error else None,
                **{
                    f"params.{name}": value
                    for name, value in job.job_config.items()
                    if name not in ("given", "warnings")
                },
                **{f"metrics.{name}": value for name, value in scores.items()},
                **{f"tags.{key}": value for key, value in job.tags.items()},
            }
        )
    return _frame(rows, "job_id")


_FACTS = {"job_id", "name", "created_at", "created_by", "started_at", "ended_at", "queue", "attempt", "description"}


def metrics_frame(evaluations: Iterable[JobMetric]) -> "pandas.DataFrame":
    """A row an evaluation, by global step: its headline, losses, scores, and the F1 of each label as f1_LABEL.

    Raises NoPandas.
    """
    rows = []
    for each in evaluations:
        fixed = each.model_dump(exclude={"job_id", "per_label", "extras", "seq"})
        scores = {name: value for name, value in each.extras.items() if _is_number(value)}
        labels = {f"f1_{label}": row["f1"] for label, row in each.per_label.items() if "f1" in row}
        rows.append({**fixed, each.metric_name.removeprefix("eval_"): each.metric_value} | scores | labels)
    return _frame(rows, "global_step")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _frame(rows: Sequence[Mapping[str, Any]], index: str) -> "pandas.DataFrame":
    try:
        import pandas
    except ImportError:
        raise NoPandas("frames need pandas: pip install pandas") from None
    return pandas.DataFrame(rows, columns=None if rows else [index]).set_index(index)
