"""MLflow's tracking store over the jobs of a table, and the registry beside it; read-only."""

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Final

from mlflow.entities import DatasetInput, Experiment, Metric, Run, RunData, ViewType
from mlflow.entities.dataset_summary import _DatasetSummary
from mlflow.entities.metric import MetricWithRunId
from mlflow.entities.trace_info import TraceInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore as RegistryStore
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils

from receipt_dynamo import Job, JobMetric
from receipt_layoutlm.mlflow_store.address import SCHEME, TableAddress, parse_address, with_mlflow_errors
from receipt_layoutlm.mlflow_store.records import TableRecords
from receipt_layoutlm.mlflow_store.refusals import read_only
from receipt_layoutlm.mlflow_store.runs import (
    Place,
    evaluation_in_results,
    experiment_name,
    experiments_of,
    info_of,
    points_of,
    result_points,
    run_of,
)

# mlflow.server.constants has them too, but importing it creates the server's app
ARTIFACTS_DESTINATION: Final = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
SERVE_ARTIFACTS: Final = "_MLFLOW_SERVER_SERVE_ARTIFACTS"
PROXIED: Final = "mlflow-artifacts:"

_INHERITED: Final = frozenset(
    {
        "search_runs",
        "get_metric_history_bulk_interval",
        "get_metric_history_bulk_interval_from_steps",
        "filter_active_experiment_ids",
        "resolve_trace_archival_config",
        "flush_async_logging",
        "end_async_logging",
        "shut_down_async_logging",
    }
)


@read_only(kept=_INHERITED)
class TableStore(AbstractStore):  # type: ignore[misc]  # mlflow is not read by mypy
    """Experiments and runs of one table. Its methods are called by the threads of a server."""

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        """`artifact_uri`, the server's root for new experiments, is not used: a job's files have their place."""
        super().__init__()
        address = parse_address(store_uri)
        with with_mlflow_errors():
            self.records = TableRecords(address.client())
        self._place = artifact_place(address, os.environ)
        self._runs: dict[str, tuple[Job, JobMetric | None, Run]] = {}

    # experiments

    def search_experiments(
        self,
        view_type: str | None = ViewType.ACTIVE_ONLY,
        max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        _check_page(max_results)
        with with_mlflow_errors(), _understood(filter_string, order_by):
            found = [] if view_type == ViewType.DELETED_ONLY else self._experiments()
            found = SearchExperimentsUtils.filter(found, filter_string)
            found = SearchExperimentsUtils.sort(found, order_by or ["last_update_time DESC", "experiment_id ASC"])
            return PagedList(*SearchUtils.paginate(found, page_token, max_results))

    def get_experiment(self, experiment_id: str) -> Experiment:
        with with_mlflow_errors():
            for experiment in self._experiments():
                if experiment.experiment_id == experiment_id:
                    return experiment
        raise MlflowException(f"no job belongs to experiment {experiment_id}", RESOURCE_DOES_NOT_EXIST)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        with with_mlflow_errors():
            return next((each for each in self._experiments() if each.name == experiment_name), None)

    def _experiments(self) -> list[Experiment]:
        return experiments_of(self.records.jobs().values(), self._place)

    # runs

    def get_run(self, run_id: str) -> Run:
        with with_mlflow_errors():
            job = self.records.client.get_job(run_id)
            return self._run(job, self.records.latest([job]))

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: str,
        max_results: int,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        _check_page(max_results)
        with with_mlflow_errors(), _understood(filter_string, order_by):
            jobs = {job.job_id: job for job in self._jobs_in(experiment_ids, run_view_type)}
            named = _named_in(filter_string, order_by)
            if all(kind == "attribute" for kind, _ in named):  # a list: whole runs are made of the page alone
                runs = [Run(info_of(job, self._place), RunData()) for job in jobs.values()]
            else:
                latest = self._latest_for(list(jobs.values()), {key for kind, key in named if kind == "metric"})
                runs = [self._run(job, latest) for job in jobs.values()]
            found = SearchUtils.sort(SearchUtils.filter(runs, filter_string), order_by)
            page, token = SearchUtils.paginate(found, page_token, max_results)
            shown = [jobs[run.info.run_id] for run in page]
            latest = self.records.latest(shown)
            return [self._run(job, latest) for job in shown], token

    def _latest_for(self, jobs: Sequence[Job], names: Set[str]) -> dict[str, JobMetric | None]:
        """The last evaluation of each job, read only where its results lack one of the named metrics."""
        known = self.records.known_latest(jobs)
        in_results = {
            job.job_id: evaluation
            for job in jobs
            if known[job.job_id] is None and (evaluation := self._in_results(job)) is not None
        }
        if names:
            known |= self.records.latest([job for job in jobs if not names <= _keys(job, in_results.get(job.job_id))])
        return {**in_results, **{job_id: each for job_id, each in known.items() if each is not None}}

    def _in_results(self, job: Job) -> JobMetric | None:
        kept = self._runs.get(job.job_id)
        return kept[1] if kept is not None and kept[0] is job and kept[1] else evaluation_in_results(job)

    def _jobs_in(self, experiment_ids: Sequence[str], view_type: str) -> list[Job]:
        if view_type == ViewType.DELETED_ONLY:
            return []
        names = {each.name for each in self._experiments() if each.experiment_id in set(experiment_ids)}
        return [job for job in self.records.jobs().values() if experiment_name(job) in names]

    def _run(self, job: Job, latest: Mapping[str, JobMetric | None]) -> Run:
        """The run of a job; the one that was made before, while neither the job nor its evaluation has changed."""
        evaluation = latest.get(job.job_id)
        kept = self._runs.get(job.job_id)
        if kept is None or kept[0] is not job or kept[1] is not evaluation:
            kept = self._runs[job.job_id] = job, evaluation, run_of(job, evaluation, self._place)
        return kept[2]

    # metrics

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:
        with with_mlflow_errors():
            job = self.records.jobs().get(run_id) or self.records.client.get_job(run_id)
            points = [
                *(point for each in self.records.evaluations(job) for point in points_of(each)),
                *result_points(job),
            ]
        found = [point for point in points if point.key == metric_key]
        if max_results is None:
            return PagedList(found, None)
        return PagedList(*SearchUtils.paginate(found, page_token, max_results))

    def get_metric_history_bulk(
        self, run_ids: Sequence[str], metric_key: str, max_results: int
    ) -> list[MetricWithRunId]:
        found = [
            MetricWithRunId(point, run_id)
            for run_id in sorted(run_ids)
            for point in self.get_metric_history(run_id, metric_key)
        ]
        return found[:max_results]

    # data beside runs

    def _search_datasets(self, experiment_ids: Sequence[str]) -> list[_DatasetSummary]:
        with with_mlflow_errors():
            jobs = self._jobs_in(experiment_ids, ViewType.ACTIVE_ONLY)
            runs = [self._run(job, {}) for job in jobs]
        found = {
            (run.info.experiment_id, each.dataset.name, each.dataset.digest, _context(each))
            for run in runs
            for each in run.inputs.dataset_inputs
        }
        return [_DatasetSummary(*summary) for summary in sorted(found)]

    def search_traces(self, *_arguments: object, **_options: object) -> tuple[list[TraceInfo], str | None]:
        """None: a training job has no traces."""
        return [], None


@read_only(kept=())
class TableRegistry(RegistryStore):  # type: ignore[misc]
    """The model registry that MLflow's server wants too: without models, which are those of the jobs."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        parse_address(store_uri)


def artifact_place(address: TableAddress, environ: Mapping[str, str]) -> Place:
    """Where clients find artifacts: behind the server, if it serves those of a table, else by the table's address."""
    is_served = environ.get(SERVE_ARTIFACTS) == "true" and environ.get(ARTIFACTS_DESTINATION, "").startswith(SCHEME)
    return (lambda path: f"{PROXIED}/{path}") if is_served else lambda path: address._replace(path=path).uri


def _context(dataset: DatasetInput) -> str:
    return str(dataset.tags[0].value)


def _keys(job: Job, evaluation: JobMetric | None) -> set[str]:
    points = [*(points_of(evaluation) if evaluation else ()), *result_points(job)]
    return {point.key for point in points}


def _named_in(filter_string: str | None, order_by: Sequence[str] | None) -> set[tuple[str, str]]:
    """Kind and name of all that a search mentions."""
    clauses = [(each["type"], each["key"]) for each in SearchUtils.parse_search_filter(filter_string)]
    orders = [SearchUtils.parse_order_by_for_search_runs(each)[:2] for each in order_by or ()]
    return {*clauses, *orders}


def _check_page(max_results: int) -> None:
    if not 1 <= max_results <= SEARCH_MAX_RESULTS_THRESHOLD:
        raise MlflowException(
            f"max_results is {max_results}: give 1 to {SEARCH_MAX_RESULTS_THRESHOLD}", INVALID_PARAMETER_VALUE
        )


@contextmanager
def _understood(filter_string: str | None, order_by: Sequence[str] | None) -> Iterator[None]:
    """A search that MLflow's own grammar fails on with another error than its own is a wrong search."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise MlflowException(
            f"the search cannot be understood: filter {filter_string!r}, order {list(order_by or ())}: {error}",
            INVALID_PARAMETER_VALUE,
        ) from error
