"""Width and height of a JPEG or PNG, read from its header without decoding it."""

from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
# the start-of-frame markers; C4, C8 and CC lie among them and mean something else (ITU-T T.81, table B.1)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as stored; None when it is neither a JPEG nor a PNG, or ends too early."""
    with path.open("rb") as file:
        head = file.read(24)
        if head.startswith(_PNG) and len(head) == 24:
            return _known(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
        if not head.startswith(b"\xff\xd8"):
            return None
        file.seek(2)
        return _jpeg_size(file)


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk from segment to segment until the frame header, which says the size."""
    while (marker := _next_marker(file)) is not None:
        if marker in _WITHOUT_LENGTH:
            continue
        length = file.read(2)
        if marker in _FRAMES:
            frame = file.read(5)
            return _known(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])) if len(frame) == 5 else None
        if len(length) < 2:
            return None
        file.seek(int.from_bytes(length) - 2, 1)
    return None


def _known(width: int, height: int) -> tuple[int, int] | None:
    """The size, unless one side is 0: a JPEG may say its height after its first lines."""
    return (width, height) if width and height else None


def _next_marker(file: BinaryIO) -> int | None:
    """The marker's second byte; any number of FF may stand before it."""
    if file.read(1) != b"\xff":
        return None
    while (byte := file.read(1)) == b"\xff":
        pass
    return byte[0] if byte else None
