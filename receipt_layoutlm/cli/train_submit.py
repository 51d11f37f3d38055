"""What `train` submits: the dataset chosen or imported, checked and pinned, and the job; or the job alone."""

from pathlib import Path

from receipt_dynamo import Dataset, DynamoClient, Job, JobQueue, JsonObject, Storage, utcnow
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.dataset.check import report_text
from receipt_layoutlm.cli.dataset.forget import kept_pages, tell_forgotten
from receipt_layoutlm.cli.progress import snapshot_bar
from receipt_layoutlm.config import TrainConfig, to_document
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.datasets.checks import checked, pin_split, put_split, put_summary
from receipt_layoutlm.datasets.choice import check_worker_can_snapshot, dataset_to_train_on
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, ensure_snapshot_at, find_dataset, pinned
from receipt_layoutlm.jobs.plan import Plan, make_plan
from receipt_layoutlm.jobs.request import JobRequest, Resolved
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import parse_s3_uri
from receipt_layoutlm.storage.weights import mirrored


def submit(
    connection: Connection, resolved: Resolved, data: Path | None, unique_key: str | None
) -> tuple[Job, Plan | None]:
    """The job, and the plan where the pages are known before a worker takes them."""
    client = connection.client()
    home = connection.open_bucket(connection.default_bucket())
    config = mirrored(home, resolved.config)
    storage = told_storage(resolved, home.name)
    if config.snapshot_on_worker:
        return _submit_unsnapshotted(connection, client, resolved, config, home, storage, unique_key), None
    dataset = _imported(client, home, data) if data else _chosen_now(client, home, config)
    evaluation = find_dataset(client, config.eval_dataset) if config.eval_dataset else None
    target = home if storage.bucket == home.name else connection.open_bucket(storage.bucket)
    config, frozen = pin_split(config, target, storage.prefix)
    report = checked(home, dataset, evaluation, config, frozen)
    plan = make_plan(config, dataset, evaluation, report)
    for each in filter(None, (dataset, evaluation)):
        ensure_snapshot_at(home, target, storage.prefix, each)
    if frozen is not None:
        put_split(target, storage.prefix, frozen)
    put_summary(home, dataset, report_text(report))
    pins = {"dataset": pinned(dataset), **({"eval_dataset": pinned(evaluation)} if evaluation else {})}
    document = to_document(config.model_copy(update=pins), resolved.given, plan.warnings)
    return _queued(connection, client, resolved.request, document, storage, unique_key), plan


def told_storage(resolved: Resolved, training_bucket: str) -> Storage:
    """Where the job keeps its files: at the top of the training bucket unless told otherwise."""
    told = resolved.request.output_s3_path
    return parse_s3_uri(told) if told else Storage(bucket=training_bucket)


def _submit_unsnapshotted(
    connection: Connection,
    client: DynamoClient,
    resolved: Resolved,
    config: TrainConfig,
    home: Bucket,
    storage: Storage,
    unique_key: str | None,
) -> Job:
    """A job whose worker takes the pages: what names a file or another dataset is pinned here all the same."""
    check_worker_can_snapshot(client, home.name, storage)
    config, frozen = pin_split(config, home, "")
    if config.eval_dataset:
        config = config.model_copy(update={"eval_dataset": pinned(find_dataset(client, config.eval_dataset))})
    if frozen is not None:
        put_split(home, "", frozen)
    document = to_document(config, resolved.given)
    return _queued(connection, client, resolved.request, document, storage, unique_key)


def _queued(
    connection: Connection,
    client: DynamoClient,
    request: JobRequest,
    document: JsonObject,
    storage: Storage,
    unique_key: str | None,
) -> Job:
    return JobQueue(client).submit(
        name=request.job_name,
        config=document,
        created_by=connection.caller(),
        queue=request.queue,
        priority=request.priority,
        unique_key=unique_key,
        description=request.description,
        tags=request.all_tags(),
        storage=storage,
    )


def _chosen_now(client: DynamoClient, bucket: Bucket, config: TrainConfig) -> Dataset:
    with snapshot_bar() as on_progress:
        chosen = dataset_to_train_on(client, bucket, config, utcnow(), on_progress)
    if not config.dataset:
        tell_forgotten(chosen.counts.get("forgotten", 0))
    return chosen


def _imported(client: DynamoClient, bucket: Bucket, path: Path) -> Dataset:
    dataset, pages = described(client, path)
    return add_snapshot(client, bucket, dataset, pages)


def described(client: DynamoClient | None, path: Path) -> tuple[Dataset, list[Page]]:
    """Without forgotten pages, as far as there is a table that knows of some."""
    pages, forgotten = read_jsonl(path), 0
    if client is not None:
        pages, left_out = kept_pages(client, pages)
        forgotten = len(left_out)
    return describe_dataset(path.stem, pages, f"jsonl {path.name}", utcnow(), forgotten), pages
