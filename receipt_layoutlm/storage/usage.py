"""Storage usage of the bucket, by kind and by job."""

import re
from collections import defaultdict
from dataclasses import dataclass

from receipt_layoutlm.storage.bucket import Bucket

RUN_FILE = re.compile(r"(?:^|/)runs/(?P<job>[^/]+)/attempt-\d+/(?P<kind>checkpoint|best|logs|predictions)?")
OLD_VERSIONS = "old versions"  # the kind of replaced and removed objects that the bucket still keeps, and bills
OTHER_KINDS = ("datasets", "images", "splits", "encoded", "weights", "wheels")


@dataclass
class Amount:
    """Number and size in bytes of some objects."""

    objects: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.size += size


@dataclass(frozen=True)
class Usage:
    """Amounts by kind (checkpoint, best, logs, …, datasets, wheels, other, old versions) and by job id."""

    kinds: dict[str, Amount]
    jobs: dict[str, Amount]

    @property
    def total(self) -> Amount:
        amounts = self.kinds.values()
        return Amount(sum(amount.objects for amount in amounts), sum(amount.size for amount in amounts))


def usage_of(bucket: Bucket, prefix: str = "") -> Usage:
    """Usage of everything below a prefix. Lists all keys and versions."""
    kinds: defaultdict[str, Amount] = defaultdict(Amount)
    jobs: defaultdict[str, Amount] = defaultdict(Amount)
    for key, size in bucket.sizes(prefix):
        of_run = RUN_FILE.search(key)
        if of_run is not None:
            jobs[of_run["job"]].add(size)
            kinds[of_run["kind"] or "run records"].add(size)
        else:
            folders = key.partition("/")[0], key.rpartition("/")[0].rpartition("/")[2]
            kinds[next((kind for kind in OTHER_KINDS if kind in folders), "other")].add(size)
    for size in bucket.old_sizes(prefix):
        kinds[OLD_VERSIONS].add(size)
    return Usage(dict(kinds), dict(jobs))
