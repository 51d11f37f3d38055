"""A page with its entities as one HTML file that needs no other file and no network."""

import base64
import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.reading_order import order_of_words
from receipt_layoutlm.reports.canvas import STYLES, canvas_size, on_canvas, picture, visible
from receipt_layoutlm.reports.overlay import Kind, Overlay, line_boxes

_JPEG_QUALITY: Final = 80
_GAP: Final = 240  # of the drawing's shorter side, by which a gold box is wider than its words
_TEMPLATES: Final = "templates"


@dataclass(frozen=True, slots=True)
class _Word:
    """A row of the token list, and the word's place in the drawing."""

    index: int
    text: str
    box: tuple[float, float, float, float]
    gold: str
    predicted: str
    confidence: float | None

    @property
    def differs(self) -> bool:
        return self.gold not in (self.predicted, UNSUPERVISED)


def overlay_html(overlay: Overlay, index: str | None = None) -> str:
    """The page with toggles, a confidence slider, its fields and its tokens; `index` is a file beside it to link to.

    Every text of the page is escaped, and the page's policy allows its own script and style alone.
    """
    size = canvas_size(overlay)
    return (
        _environment()
        .get_template("overlay.html.jinja")
        .render(
            asset=_asset,
            policy=policy("overlay.css", "overlay.js"),
            overlay=overlay,
            index=index,
            size=size,
            image=None if overlay.image is None else _data_uri(overlay, size),
            words=_words(overlay, size),
            kinds=[kind for kind in Kind if overlay.count(kind)],
            styles=STYLES,
            text_of=lambda mark: " ".join(overlay.page.words[word] for word in mark.words),
            boxes_of=lambda mark: [on_canvas(box, size) for box in line_boxes(overlay.page, mark)],
            gap=max(min(size) / _GAP, 2.0),
        )
    )


def policy(*assets: str) -> str:
    """A Content-Security-Policy that allows nothing but these assets inline, and pictures inside the file."""
    allowed: dict[str, str] = {"style-src": "'none'", "script-src": "'none'"}
    for name in assets:
        digest = base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
        allowed["script-src" if name.endswith(".js") else "style-src"] = f"'sha256-{digest}'"
    sources = "; ".join(f"{name} {source}" for name, source in allowed.items())
    return f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> Markup:
    """A file of this package, to stand in the page as it is."""
    return Markup(files(__package__).joinpath(_TEMPLATES, name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "label": _label}
    return environment


def _label(label: str) -> Markup:
    """A label that may break after underscores."""
    return escape(visible(label)).replace("_", Markup("_<wbr>"))


def _data_uri(overlay: Overlay, size: tuple[int, int]) -> str:
    assert overlay.image is not None
    content = io.BytesIO()
    picture(overlay.image, size).save(content, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _words(overlay: Overlay, size: tuple[int, int]) -> list[_Word]:
    """In reading order; a word of no entity has an empty label, an unlabelled one UNSUPERVISED as gold."""
    page = overlay.page
    gold = {word: mark.label for mark in overlay.gold or () for word in mark.words}
    predicted = {word: mark.label for mark in overlay.predicted for word in mark.words}
    return [
        _Word(
            index=index,
            text=page.words[index],
            box=on_canvas(page.boxes[index], size),
            gold=gold.get(index, UNSUPERVISED if page.tags[index] == UNSUPERVISED else ""),
            predicted=predicted.get(index, ""),
            confidence=overlay.confidences[index] if overlay.confidences else None,
        )
        for index in order_of_words(page)
    ]
