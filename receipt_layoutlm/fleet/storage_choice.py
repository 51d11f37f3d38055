"""The table and the bucket of a fleet: existing ones, or those of its storage stack."""

from dataclasses import dataclass

from receipt_layoutlm.fleet.stack import StackState


@dataclass(frozen=True)
class StorageChoice:
    """Names of an existing table and bucket, None for those of the storage stack.

    `makes` is the stack's parameter Makes, None when the fleet has no storage stack.
    """

    table: str | None
    bucket: str | None
    makes: str | None


@dataclass(frozen=True)
class FleetStorage:
    """The table and the bucket of a fleet."""

    table: str
    stream_arn: str
    bucket: str


def choose_storage(
    table: str | None, bucket: str | None, storage: StackState | None, workers: StackState | None
) -> StorageChoice:
    """Choose the given ones, else those of the deployed fleet, else new ones. The storage stack keeps its resources."""
    made = {} if storage is None else storage.outputs
    before = {} if workers is None else workers.parameters
    existing: dict[str, str | None] = {}
    for key, given in (("TableName", table), ("BucketName", bucket)):
        name = given or (None if key in made else before.get(key))
        existing[key] = None if name == made.get(key) else name  # None: the storage stack's own
    makes = [
        kind for kind, key in (("table", "TableName"), ("bucket", "BucketName")) if existing[key] is None or key in made
    ]
    return StorageChoice(existing["TableName"], existing["BucketName"], "-and-".join(makes) or None)


def storage_of(choice: StorageChoice, storage: StackState | None, stream_arn: str | None) -> FleetStorage | None:
    """Table and bucket with their names; None where one of them is not created yet."""
    made = {} if storage is None else storage.outputs
    table, bucket = choice.table or made.get("TableName"), choice.bucket or made.get("BucketName")
    stream_arn = stream_arn or made.get("TableStreamArn")
    if table is None or bucket is None or stream_arn is None:
        return None
    return FleetStorage(table, stream_arn, bucket)
