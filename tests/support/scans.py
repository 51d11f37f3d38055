"""Pictures and PDF files of receipts, made by code."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

RECEIPT = ("ACME STORES SDN BHD", "Date: 12/05/2018", "Bread 4.50", "Butter 6.20", "Rounding 0.00", "TOTAL RM 10.70")


def receipt_picture(lines: Iterable[str] = RECEIPT, size: tuple[int, int] = (420, 420)) -> Image.Image:
    """Dark letters on white, a line every 60 pixels."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((20, 20 + 60 * number), line, fill="black", font=ImageFont.load_default(26))
    return picture


def text_of(line: str, x: int, y: int, *, mode: int = 0, matrix: str = "1 0 0 1") -> str:
    """PDF operators that print a line at x, y from the bottom left, in a text rendering mode."""
    return f"BT /F1 14 Tf {mode} Tr {matrix} {x} {y} Tm ({line}) Tj ET\n"


def write_pdf(
    path: Path,
    pages: Sequence[str],
    *,
    size: tuple[int, int] = (300, 400),
    rotation: int = 0,
    picture: Path | None = None,
    is_encrypted: bool = False,
) -> Path:
    """A PDF with a content stream for each page in points, which may draw a JPEG: `300 0 0 400 0 0 cm /I1 Do`."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>", b"null"]
    if picture is not None:
        data = picture.read_bytes()
        width, height = Image.open(picture).size
        head = f"<</Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8"
        objects[3] = _stream(f"{head}/Filter/DCTDecode", data)
    kids = []
    for content in pages:
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]/Rotate {rotation}"
            f"/Contents {len(objects) + 2} 0 R"
            "/Resources<</Font<</F1 3 0 R>>/XObject<</I1 4 0 R>>>>>>".encode()
        )
        objects.append(_stream("<<", content.encode("latin-1")))
    objects[1] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>".encode()
    keys = "00" * 32  # no password fits
    locked = f"/Encrypt<</Filter/Standard/V 1/R 2/O<{keys}>/U<{keys}>/P -4>>/ID[<00><00>]" if is_encrypted else ""
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(places) + 1}/Root 1 0 R{locked}>>"
    )
    path.write_bytes(body + f"{end}\nstartxref\n{len(body)}\n%%EOF".encode())
    return path


def _stream(head: str, data: bytes) -> bytes:
    return f"{head}/Length {len(data)}>>stream\n".encode() + data + b"\nendstream"
