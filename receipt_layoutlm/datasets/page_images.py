"""Pictures of pages in the bucket, by their SHA-256: sent once, and downloaded once a machine."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import image_key

_THREADS: Final = 8
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class DamagedImage(UserError):
    """A stored picture is not the one that its name says."""


def image_digests(pages: Iterable[Page]) -> list[str]:
    """The SHA-256 of each picture that pages name by it, once, in the order of the pages."""
    return list(dict.fromkeys(page.image for page in pages if page.image and _SHA256.fullmatch(page.image)))


def put_images(bucket: Bucket, files: Mapping[str, Path], on_image: Callable[[], None]) -> int:
    """Store files by their SHA-256 unless they are stored already; the number of those that were sent.

    Raises DataError for a file that has another content by now, StorageError.
    """

    def put(digest: str, path: Path) -> bool:
        is_new = not bucket.exists(image_key(digest))
        if is_new:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise DataError("has changed since it was read: run the command again", file=str(path))
            bucket.put_bytes(content, image_key(digest))
        on_image()
        return is_new

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(put, files.keys(), files.values()))


def fetch_images(
    bucket: Bucket, pages: Iterable[Page], folder: Path, on_image: Callable[[], None], prefix: str = ""
) -> dict[str, Path]:
    """The pictures of pages, by SHA-256; those in the folder are not downloaded again, those not stored are left out.

    Raises DamagedImage, StorageError.
    """

    def fetch(digest: str) -> Path | None:
        try:
            return fetch_image(bucket, digest, folder, prefix)
        except NotStored:
            return None
        finally:
            on_image()

    digests = image_digests(pages)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = zip(digests, pool.map(fetch, digests), strict=True)
        return {digest: path for digest, path in found if path is not None}


def fetch_image(bucket: Bucket, digest: str, folder: Path, prefix: str = "") -> Path:
    """The picture with this SHA-256 in the folder. Raises NotStored, DamagedImage, StorageError."""
    path = folder / digest
    if not path.exists():
        content = bucket.get_bytes(key := image_key(digest, prefix))
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedImage(f"s3://{bucket.name}/{key} is another picture: delete it, and import the scans again")
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{digest}.{os.getpid()}.partial"
        partial.write_bytes(content)
        partial.replace(path)
    return path
