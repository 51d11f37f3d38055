"""How long a snapshot of labelled receipts takes beside a bare read of the same items, and what 50,000 would cost.

    python bench/snapshot.py

An embedded DynamoDB in memory holds receipts of 200 words with 200 labels each. Each reading runs in a process of its
own, in turn: the bare read asks plain botocore for every page of every receipt's partition, one after the other and
with as many threads as the snapshot has; the snapshot makes pages of them, and once more when nothing has changed.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from receipt_dynamo import DynamoClient, ReceiptClient, utcnow
from receipt_layoutlm import infra
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_load import load_pages
from receipt_layoutlm.datasets.receipt_pages import image_id_of
from receipt_layoutlm.datasets.receipt_snapshot import THREADS, KnownReceipt, read_labelled_receipts
from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import DYNOXIDE, platform_key, programs_dir

SIZES = (250, 500)
WANTED = 50_000
TURNS = 3
WORDS_PER_LINE, LINES = 4, 50
ITEMS_OF_A_RECEIPT = 1 + 2 * WORDS_PER_LINE * LINES
TABLE = "bench-table"
LABELS = ("PRODUCT_NAME", "QUANTITY", "UNIT_PRICE", "LINE_TOTAL")
DOLLARS_PER_MILLION_READS, DOLLARS_PER_MILLION_WRITES = 0.125, 0.625  # on demand, us-east-1


def page(number: int) -> Page:
    places = [(line, column) for line in range(LINES) for column in range(WORDS_PER_LINE)]
    return Page(
        page_id=f"page-{number:06}",
        group=f"shop-{number % 97}",
        words=tuple(f"w{number}-{line}.{column}" for line, column in places),
        boxes=tuple((20 + 240 * column, 10 + 19 * line, 230 + 240 * column, 24 + 19 * line) for line, column in places),
        tags=tuple(f"B-{LABELS[column]}" for _, column in places),
        width=600,
        height=1800,
    )


def bare(client: DynamoClient, count: int, threads: int) -> float:
    """Seconds to read every item of the receipts, with nothing done to it."""
    paginator = client.raw.get_paginator("query")

    def read(number: int) -> int:
        key = f"IMAGE#{image_id_of(page(number).page_id)}"
        replies = paginator.paginate(
            TableName=TABLE,
            KeyConditionExpression="PK = :p",
            ExpressionAttributeValues={":p": {"S": key}},
        )
        return sum(len(reply["Items"]) for reply in replies)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        found = sum(pool.map(read, range(count)))
    assert found == count * ITEMS_OF_A_RECEIPT, found
    return time.perf_counter() - began


def snapshot(client: DynamoClient, count: int) -> dict[str, float]:
    first = read_labelled_receipts(ReceiptClient(client), {}, lambda progress: None)
    assert len(first.pages) == count
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB; ru_maxrss is in KiB on Linux
    seen = {mark.page_id: KnownReceipt(page, mark) for page, mark in zip(first.pages, first.marks, strict=True)}
    again = read_labelled_receipts(ReceiptClient(client), seen, lambda progress: None)
    assert again.report.read == 0
    return {
        "snapshot_seconds": first.report.seconds,
        "snapshot_units": first.report.read_units,
        "snapshot_requests": first.report.requests,
        "unchanged_seconds": again.report.seconds,
        "unchanged_units": again.report.read_units,
        "peak_mb": memory,
    }


def child(endpoint: str, what: str, count: int) -> None:
    client = DynamoClient(TABLE, endpoint_url=endpoint)
    if what == "snapshot":
        print(json.dumps(snapshot(client, count)))
    else:
        print(json.dumps({f"{what}_seconds": bare(client, count, 1 if what == "bare" else THREADS)}))


def measured(endpoint: str, count: int) -> dict[str, float]:
    """The best of the turns for each time."""
    best: dict[str, float] = {}
    for _ in range(TURNS):
        for what in ("bare", "threads", "snapshot"):
            command = [sys.executable, __file__, endpoint, what, str(count)]
            told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            for name, value in told.items():
                best[name] = max(best.get(name, 0), value) if name == "peak_mb" else min(best.get(name, value), value)
    return best


def line(per_size: dict[int, dict[str, float]], name: str) -> float:
    """What WANTED receipts would take, by the straight line through the two sizes."""
    (small, large), (low, high) = SIZES, (per_size[size][name] for size in SIZES)
    return high + (high - low) / (large - small) * (WANTED - large)


def measure_all(endpoint: str) -> dict[int, dict[str, float]]:
    client = DynamoClient(TABLE, endpoint_url=endpoint)
    infra.create_table(client.raw, TABLE)
    found: dict[int, dict[str, float]] = {}
    for size in SIZES:
        report = load_pages(
            ReceiptClient(client), [page(number) for number in range(size)], utcnow(), "keep", lambda: None
        )
        assert not report.unwritten
        print(f"loaded {report.loaded} in {report.seconds:.0f} s, {report.write_units:.0f} units", file=sys.stderr)
        found[size] = {**measured(endpoint, size), "load_units": report.write_units / report.loaded * size}
    return found


def main() -> None:
    os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_DEFAULT_REGION="us-east-1")
    (port,) = local_process.free_ports(1)
    command = [*DYNOXIDE.find(platform_key(), programs_dir())[0], "serve", "-p", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        pid = local_process.start_process(command, {}, Path(folder), Path(folder) / "engine.log")
        try:
            assert local_process.wait_until(
                lambda: local_process.answers(port, DYNOXIDE.health_path, DYNOXIDE.signature), 30
            )
            found = measure_all(f"http://{local_process.LOOPBACK}:{port}")
        finally:
            local_process.stop_process(pid, command)
    tell(found)


def tell(found: dict[int, dict[str, float]]) -> None:
    names = list(found[SIZES[0]])
    print(f"{'':20}" + "".join(f"{size:>12,}" for size in SIZES) + f"{WANTED:>12,} (by the line)")
    for name in names:
        cells = [found[size][name] for size in SIZES] + [line(found, name)]
        print(f"{name:20}" + "".join(f"{cell:>12,.1f}" for cell in cells))
    large = found[SIZES[-1]]
    fastest = min(large["bare_seconds"], large["threads_seconds"])
    print(f"snapshot / bare read (the faster one): {large['snapshot_seconds'] / fastest:.2f}")
    reads = line(found, "snapshot_units") / 1e6 * DOLLARS_PER_MILLION_READS
    writes = line(found, "load_units") / 1e6 * DOLLARS_PER_MILLION_WRITES
    print(f"{WANTED:,} receipts: {reads:.2f} USD to read, {writes:.2f} USD to load, on demand")
    print(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
