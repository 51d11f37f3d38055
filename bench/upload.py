"""Upload of a checkpoint folder to the local S3 engine: the product's upload beside boto3's bare upload_file.

    python bench/upload.py --rounds 5
    python bench/upload.py --sizes 20 40 --rounds 2

product: Bucket.folder_upload, as a worker sends a checkpoint: each file is compared with its SHA-256 in the manifest
while boto3's transfer reads it, manifest.json goes last. boto3: upload_file of the same files with ChecksumAlgorithm
SHA256, the same part size and as many parts at a time. Both run in this process, by turns, to one engine; ratios are
of the same round, all figures are medians. The files hold random bytes; manifest.json is made before, as the trainer
makes it. CPU seconds are those of this process, without the engine. Requests, and the bytes in their bodies, are
counted at botocore's before-send event, repetitions included.

Then an outage: the connection is cut once half of the largest file has been sent, and the upload is started again when
it is back. The table shows how much the second try sends.
"""

import argparse
import contextlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, EndpointConnectionError

from receipt_layoutlm.local import aws
from receipt_layoutlm.local.aws import LOCAL_BUCKET
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import PART_SIZE, Bucket
from receipt_layoutlm.storage.errors import StorageUnavailable
from receipt_layoutlm.storage.upload import PARTS_AT_ONCE

MB, GB = 1e6, 1e9
SMALL_FILES = {"config.json": 1_000, "label_map.json": 1_000, "rng.safetensors": 6_000, "tokenizer.json": 700_000}
LARGE_FILES = ("model.safetensors", "optimizer.safetensors")
CHECKSUM = {"ChecksumAlgorithm": "SHA256"}


@dataclass
class Line:
    """The connections of some clients; they can be cut after a number of bytes."""

    requests: int = 0
    bytes: int = 0
    cut_after: float = float("inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, client: Any) -> None:
        client.meta.events.register("before-send.s3", self._before_send)

    def _before_send(self, request: Any, **_: object) -> None:
        with self._lock:
            if self.bytes >= self.cut_after:
                raise EndpointConnectionError(endpoint_url=request.url)
            self.requests += 1
            self.bytes += body_size(request.headers)


def body_size(headers: Any) -> int:
    """Of the payload, also where it travels in chunks with a trailing checksum."""
    size = headers.get("X-Amz-Decoded-Content-Length") or headers.get("Content-Length") or 0
    return int(size)


@dataclass(frozen=True)
class Round:
    """One upload of the folder."""

    seconds: float
    cpu_seconds: float
    requests: int
    bytes: int


def make_checkpoint(folder: Path, sizes: list[int]) -> int:
    """A checkpoint folder of random bytes with its manifest; returns its size."""
    folder.mkdir()
    draw = random.Random(0)
    for name, size in {**SMALL_FILES, **dict(zip(LARGE_FILES, sizes, strict=True))}.items():
        with (folder / name).open("wb") as file:
            while size > 0:
                size -= file.write(draw.randbytes(min(size, 1 << 20)))
    write_manifest(folder, 1)
    return sum(path.stat().st_size for path in folder.iterdir())


class Product:
    """The upload of a worker."""

    def __init__(self, endpoint: str) -> None:
        self.line = Line()
        self.bucket = Bucket(LOCAL_BUCKET, endpoint_url=endpoint, wait=lambda _seconds: None)
        self.line.watch(self.bucket.raw)

    def put_folder(self, folder: Path, prefix: str) -> None:
        self.bucket.put_folder(folder, prefix)

    def folder_upload(self, folder: Path, prefix: str) -> Callable[[], object]:
        """One upload; calling it again after a failure continues it."""
        return self.bucket.folder_upload(folder, prefix).run


class Plain:
    """boto3's upload_file, one file after another."""

    def __init__(self, endpoint: str) -> None:
        self.line = Line()
        patience = Config(connect_timeout=3, read_timeout=60, retries={"total_max_attempts": 5, "mode": "standard"})
        self.client = boto3.client("s3", endpoint_url=endpoint, config=patience)
        self.line.watch(self.client)
        self._transfer = TransferConfig(
            multipart_threshold=PART_SIZE + 1, multipart_chunksize=PART_SIZE, max_concurrency=PARTS_AT_ONCE
        )

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.iterdir()):
            self.client.upload_file(
                str(path), LOCAL_BUCKET, prefix + path.name, ExtraArgs=CHECKSUM, Config=self._transfer
            )

    def folder_upload(self, folder: Path, prefix: str) -> Callable[[], object]:
        return lambda: self.put_folder(folder, prefix)


Transfer = Product | Plain


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """The local S3 engine on a state folder of its own, and the environment that leads to it."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = aws.up(Path(folder), services=("s3",)).s3_endpoint
        assert endpoint is not None
        os.environ.update(aws.environment(Path(folder), os.environ))
        try:
            yield endpoint
        finally:
            aws.purge(Path(folder))


def measured(transfer: Transfer, folder: Path, prefix: str) -> Round:
    line = transfer.line
    requests, size = line.requests, line.bytes
    wall, cpu = time.perf_counter(), time.process_time()
    transfer.put_folder(folder, prefix)
    return Round(
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        requests=line.requests - requests,
        bytes=line.bytes - size,
    )


def rounds_of(
    transfers: dict[str, Transfer], folder: Path, rounds: int, forget: Callable[[str], object]
) -> dict[str, list[Round]]:
    """Uploads by turns, in alternating order; each stored copy is removed at once."""
    measured_rounds: dict[str, list[Round]] = {name: [] for name in transfers}
    names = list(transfers)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            prefix = f"{name}-{number}/"
            measured_rounds[name].append(measured(transfers[name], folder, prefix))
            forget(prefix)
    return measured_rounds


def row_of(rounds: list[Round], others: list[Round], size: int) -> dict[str, float]:
    pairs = list(zip(rounds, others, strict=True))
    return {
        "mb_per_second": median(size / MB / each.seconds for each in rounds),
        "cpu_seconds_per_gb": median(each.cpu_seconds / (size / GB) for each in rounds),
        "speed_ratio": median(other.seconds / each.seconds for each, other in pairs),
        "cpu_ratio": median(each.cpu_seconds / other.cpu_seconds for each, other in pairs),
        "requests": median(each.requests for each in rounds),
        "bytes": median(each.bytes for each in rounds),
    }


def resumption(transfer: Transfer, folder: Path, prefix: str) -> dict[str, float]:
    """Megabytes sent before the cut, and by the second try. The largest file is the last but the small ones."""
    upload, line, begun = transfer.folder_upload(folder, prefix), transfer.line, transfer.line.bytes
    small_first = sum((folder / name).stat().st_size for name in ("config.json", "label_map.json", LARGE_FILES[0]))
    line.cut_after = begun + small_first + (folder / LARGE_FILES[1]).stat().st_size / 2
    with contextlib.suppress(StorageUnavailable, Boto3Error, BotoCoreError):
        upload()
        raise SystemExit("the upload was not broken off")
    cut, line.cut_after = line.bytes, float("inf")
    began = time.perf_counter()
    upload()
    seconds = time.perf_counter() - began
    return {
        "first_mb": (cut - begun) / MB,
        "second_mb": (line.bytes - cut) / MB,
        "second_seconds": seconds,
    }


def show(rows: dict[str, dict[str, float]], resumed: dict[str, dict[str, float]], size: int) -> None:
    print(f"{size / MB:.0f} MB in a folder, parts of {PART_SIZE >> 20} MiB, {PARTS_AT_ONCE} at a time")
    print("| | MB/s | CPU s/GB | speed, times boto3's | CPU, times boto3's | requests | MB sent |\n" + "|---" * 7 + "|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['mb_per_second']:.1f} | {row['cpu_seconds_per_gb']:.2f} | {row['speed_ratio']:.2f} "
            f"| {row['cpu_ratio']:.2f} | {row['requests']:.0f} | {row['bytes'] / MB:.1f} |"
        )
    print("\n| broken off in the middle | MB before | MB of the second try | seconds of it |\n" + "|---" * 4 + "|")
    for name, row in resumed.items():
        print(f"| {name} | {row['first_mb']:.0f} | {row['second_mb']:.0f} | {row['second_seconds']:.2f} |")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument(
        "--sizes", nargs=2, type=int, default=[200, 400], metavar="MB", help="of the two large files (default 200 400)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    with engine() as endpoint, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint-1"
        size = make_checkpoint(folder, [round(each * MB) for each in arguments.sizes])
        transfers: dict[str, Transfer] = {"product": Product(endpoint), "boto3": Plain(endpoint)}
        forget = Bucket(LOCAL_BUCKET, endpoint_url=endpoint).delete_prefix
        measured_rounds = rounds_of(transfers, folder, arguments.rounds, forget)
        rows = {name: row_of(rounds, measured_rounds["boto3"], size) for name, rounds in measured_rounds.items()}
        resumed = {name: resumption(transfer, folder, f"resumed-{name}/") for name, transfer in transfers.items()}
    show(rows, resumed, size)
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": size, "upload": rows, "resumption": resumed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
