"""Names of a fleet: its stacks, its tag, and the ids of its workers."""

import re
import uuid

DEFAULT_FLEET = "layoutlm"
FLEET_TAG = "layoutlm:fleet"  # on everything that a fleet's templates create, and on its machines

_WORKER_ID = re.compile(r"(i-[0-9a-f]{8,17})-\d+-[0-9a-f]{6}")


def storage_stack(fleet: str) -> str:
    """The stack of the table and the bucket."""
    return f"{fleet}-storage"


def network_stack(fleet: str) -> str:
    """The stack of the subnets, for a fleet that is given none."""
    return f"{fleet}-network"


def workers_stack(fleet: str) -> str:
    """The stack of everything else, which can be deleted and deployed again."""
    return f"{fleet}-workers"


def worker_id(instance_id: str, slot: int) -> str:
    """Instance, slot (from 0) and a random suffix: unique across restarts."""
    return f"{instance_id}-{slot}-{uuid.uuid4().hex[:6]}"


def instance_of(worker_id: str | None) -> str | None:
    """The EC2 instance of a worker; None without a worker, and for workers outside of a fleet."""
    match = _WORKER_ID.fullmatch(worker_id or "")
    return None if match is None else match[1]
