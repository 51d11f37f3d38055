"""layoutlm-cli mcp: a read-only MCP server over stdio, with which a coding agent answers questions about jobs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import click
from pydantic import BaseModel, ConfigDict, Field

from receipt_dynamo import Job, JobLog, JobMetric, JobQueue, JobStatus
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.jobs.compare import differing_options, f1_by_label, why_not_comparable
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of

if TYPE_CHECKING:
    from mcp.server.fastmcp import FastMCP

MOST: int = 200  # rows of one answer
INSTRUCTIONS = (
    "Training jobs of LayoutLM on one's own AWS account, read-only. A job is named by id, id prefix, name (its newest "
    "job), @last, or @best. Scores of two jobs may be compared only where `compare` finds no differences; test scores "
    "are not for choosing a model."
)

Reference = Annotated[str, Field(description="Id, id prefix or name of a job, @last or @best.")]
Limit = Annotated[int, Field(ge=1, le=MOST, description="Maximum number of rows.")]


class JobSummary(BaseModel):
    """One job, without its documents."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    name: str
    status: JobStatus
    created_at: str
    metric_name: str | None
    best_score: float | None  # on the validation set
    dataset: str | None
    tags: dict[str, str]
    error: str | None


class JobComparison(BaseModel):
    """Several jobs. `not_comparable`: by job id, why its score must not be compared with the first one's."""

    model_config = ConfigDict(frozen=True)

    jobs: list[JobSummary]
    not_comparable: dict[str, list[str]]
    differing_options: dict[str, dict[str, str]]  # option -> job id -> value
    f1_by_label: dict[str, dict[str, float]]  # label -> job id -> F1


@click.command("mcp")
@store_options
def mcp_command(connection: Connection) -> None:
    """Serve jobs to a coding agent over MCP, read-only.

    Speaks the Model Context Protocol on stdin and stdout, with the tools jobs, metrics, logs, why and compare. The
    agent's program starts it, e.g. by this entry in its list of servers:

    \b
    {"layoutlm": {"command": "layoutlm-cli", "args": ["mcp", "--dynamo-table", "TABLE"]}}
    """
    require("mcp")
    server_of(connection.queue()).run("stdio")


def server_of(queue: JobQueue) -> "FastMCP":
    """The server over one table. Errors of the product become errors of the tool, in one line."""
    from mcp.server.fastmcp import FastMCP
    from mcp.types import ToolAnnotations

    server, client = FastMCP("layoutlm", instructions=INSTRUCTIONS, log_level="WARNING"), queue.client

    def jobs(status: JobStatus | None = None, name: str | None = None, limit: Limit = 20) -> list[JobSummary]:
        """List jobs, newest first: all, those of a status, or those of a name."""
        found = client.list_jobs_by_name(name) if name else client.list_jobs_by_status(status) if status else None
        listed = client.list_jobs(limit) if found is None else found
        return [summary_of(job) for job in listed if status in (None, job.status)][:limit]

    def metrics(job: Reference, limit: Limit = MOST) -> list[JobMetric]:
        """List the newest evaluations of a job in time order, with scores of each label; repeated ones are left out."""
        return client.list_job_metrics(find_job(client, job).job_id)[-limit:]

    def logs(job: Reference, limit: Limit = 50) -> list[JobLog]:
        """List the newest events of a job in time order, run_config first and run_summary last."""
        return client.list_job_logs(find_job(client, job).job_id)[-limit:]

    def explain(job: Reference) -> str:
        """Explain the state of a job, how its last attempt ended, and what happens next."""
        return why(facts_of(queue, find_job(client, job).job_id))

    def compare(jobs: Annotated[list[Reference], Field(min_length=2, max_length=20)]) -> JobComparison:
        """Compare jobs: whether their scores may be compared, options that differ, and the F1 of each label."""
        return comparison_of([find_job(client, each) for each in jobs])

    tools: dict[str, Callable[..., object]] = {
        "jobs": jobs,
        "metrics": metrics,
        "logs": logs,
        "why": explain,
        "compare": compare,
    }
    for title, tool in tools.items():
        server.add_tool(tool, name=title, annotations=ToolAnnotations(readOnlyHint=True, openWorldHint=False))
    return server


def summary_of(job: Job) -> JobSummary:
    dataset, metric = job.job_config.get("dataset"), (job.results or {}).get("metric_name")
    return JobSummary(
        job_id=job.job_id,
        name=job.name,
        status=job.status,
        created_at=job.created_at.isoformat(timespec="seconds"),
        metric_name=metric if isinstance(metric, str) else None,
        best_score=job.score,
        dataset=dataset if isinstance(dataset, str) else None,
        tags=job.tags,
        error=f"{job.error.cause}: {job.error.message}" if job.error else None,
    )


def comparison_of(jobs: Sequence[Job]) -> JobComparison:
    """What differs between jobs; options are those of their configs."""
    by_label: dict[str, dict[str, float]] = {}
    for job in jobs:
        for label, f1 in f1_by_label(job.results or {}).items():
            by_label.setdefault(label, {})[job.job_id] = f1
    reasons = {job.job_id: list(why_not_comparable(jobs[0], job)) for job in jobs[1:]}
    options = {
        name: {job_id: repr(value) for job_id, value in values.items()}
        for name, values in differing_options(jobs).items()
    }
    return JobComparison(
        jobs=[summary_of(job) for job in jobs],
        not_comparable={job_id: each for job_id, each in reasons.items() if each},
        differing_options=options,
        f1_by_label=by_label,
    )
