"""Copies jobs that have ended into an MLflow server of one's own, as runs. Repeating it changes nothing."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.mlflow_store.artifacts import stored_files
from receipt_layoutlm.mlflow_store.runs import experiment_name, points_of, result_points, run_of
from receipt_layoutlm.storage.bucket import Bucket

JOB_TAG: Final = "job.id"
STATE_TAG: Final = "job.exported"  # attempt and end of the job when it was copied whole
LEFT_OUT: Final = "best/"  # the weights: hundreds of megabytes, whose place the tag job.model names
BATCH: Final = 900  # of metrics in one request; a server takes 1,000

Outcome = Literal["exported", "updated", "unchanged"]


class NotExported(UserError):
    """The server refused, cannot be reached, or the job has not ended."""


def connected(uri: str) -> MlflowClient:
    """The client of a server. Raises NotExported when it does not answer."""
    try:
        server = MlflowClient(tracking_uri=uri)
        server.search_experiments(max_results=1)
    except MlflowException as error:
        raise NotExported(f"{uri} is no MLflow that can be used: {error.message}") from error
    return server


def export_job(server: MlflowClient, client: DynamoClient, open_bucket: Callable[[str], Bucket], job: Job) -> Outcome:
    """Copy options, tags, visible evaluations and small files of a job. Raises NotExported.

    The tag job.id says which run is the job's. A run is complete once it has the tag job.exported, which is written
    last, so that an export that broke off is completed by the next one.
    """
    if not job.status.is_final:
        raise NotExported(f"{job.name} is {job.status}: only jobs that have ended are exported")
    state = f"attempt {job.attempt}, {job.status} at {job.ended_at}"
    try:
        experiment, run = _found(server, job)
        if run is not None and run.data.tags.get(STATE_TAG) == state:
            return "unchanged"
        source = run_of(job, None, lambda path: path)
        target = run or server.create_run(
            experiment, source.info.start_time, {JOB_TAG: job.job_id}, run_name=source.info.run_name
        )
        evaluations = client.list_job_metrics(job.job_id)
        points = [*(point for each in evaluations for point in points_of(each)), *result_points(job)]
        _add_points(server, target, points)
        params = [Param(*each) for each in source.data.params.items() if each[0] not in target.data.params]
        tags = [RunTag(*each) for each in source.data.tags.items()]
        server.log_batch(target.info.run_id, params=params, tags=tags)
        _add_files(server, target.info.run_id, open_bucket, job)
        server.set_terminated(target.info.run_id, source.info.status, source.info.end_time)
        server.set_tag(target.info.run_id, STATE_TAG, state)
    except MlflowException as error:
        raise NotExported(f"{server.tracking_uri} does not take {job.name}: {error.message}") from error
    return "exported" if run is None else "updated"


def _found(server: MlflowClient, job: Job) -> tuple[str, Run | None]:
    """The experiment of a job on the server, made if there is none, and its run there."""
    name = experiment_name(job)
    experiment = server.get_experiment_by_name(name)
    if experiment is None:
        return server.create_experiment(name), None
    runs = server.search_runs([experiment.experiment_id], f"tags.`{JOB_TAG}` = '{job.job_id}'", max_results=1)
    return experiment.experiment_id, runs[0] if runs else None


def _add_points(server: MlflowClient, run: Run, points: Sequence[Metric]) -> None:
    """Log the points that the run does not have: some servers would keep a repeated one twice."""
    known = {
        (name, point.step, point.value)
        for name in run.data.metrics
        for point in server.get_metric_history(run.info.run_id, name)
    }
    new = [point for point in points if (point.key, point.step, point.value) not in known]
    for start in range(0, len(new), BATCH):
        server.log_batch(run.info.run_id, metrics=new[start : start + BATCH])


def _add_files(server: MlflowClient, run_id: str, open_bucket: Callable[[str], Bucket], job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, file in stored_files(open_bucket, job).items():
            if path.startswith(LEFT_OUT):
                continue
            local = Path(folder, path)
            local.parent.mkdir(parents=True, exist_ok=True)
            bucket, key = file.key.split("/", 1)
            open_bucket(bucket).get_file(key, local)
        server.log_artifacts(run_id, folder)
