"""Where a fleet's table and bucket come from: its storage stack, ones that exist already, or one of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from receipt_layoutlm.fleet_stack import StackState

_BOTH: Final = "table-and-bucket"  # as storage.yaml's parameter Makes has it


@dataclass(frozen=True)
class StorageChoice:
    """Existing ones by name, None for those of the storage stack; `makes` is None where it makes nothing."""

    table: str | None
    bucket: str | None
    makes: str | None

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Parameters of storage.yaml."""
        named = {} if self.bucket is None else {"BucketName": self.bucket}  # the table's tag tells it
        return {"Makes": self.makes or _BOTH, **named, **given}


@dataclass(frozen=True)
class Storage:
    """What a fleet works on."""

    table: str
    stream_arn: str
    bucket: str


def choose(
    table: str | None, bucket: str | None, storage: StackState | None, workers: StackState | None
) -> StorageChoice:
    """The named ones, else what the fleet had before, else new ones. What the storage stack has made it keeps."""
    made = {} if storage is None else storage.outputs
    before = {} if workers is None else workers.parameters
    table = _existing(table, made.get("TableName"), before.get("TableName"))
    bucket = _existing(bucket, made.get("BucketName"), before.get("BucketName"))
    makes = [
        name
        for name, existing, output in (("table", table, "TableName"), ("bucket", bucket, "BucketName"))
        if existing is None or output in made
    ]
    return StorageChoice(table, bucket, "-and-".join(makes) or None)


def _existing(named: str | None, made: str | None, before: str | None) -> str | None:
    """None where the storage stack's own is meant."""
    name = named or (before if made is None else None)
    return None if name == made else name


def planned(choice: StorageChoice, fleet: str, region: str) -> Storage:
    """Stands for what is not made yet, where only a plan is asked for."""
    table, bucket = choice.table or fleet, choice.bucket or f"{fleet}-not-made-yet"
    return Storage(table, f"arn:aws:dynamodb:{region}:{'0' * 12}:table/{table}/stream/not-made-yet", bucket)
