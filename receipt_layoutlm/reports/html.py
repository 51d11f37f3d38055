"""Pages of HTML that need no other file and no network, from the templates of this package.

Every text is escaped, and the policy of a page allows its own style and script alone.
"""

import base64
import hashlib
import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from receipt_layoutlm.reports.canvas import STYLES, spelled_out
from receipt_layoutlm.reports.charts import figure

NOTHING: Final = "'none'"
"""The source of a policy that allows nothing."""

_TEMPLATES: Final = "templates"
_LONGEST_SECONDS: Final = 1e12  # stored times may be anything


def html_document(template: str, assets: tuple[str, ...], **values: object) -> str:
    """A template with its values; `assets` are the styles and scripts that it contains."""
    return _environment().get_template(template).render(policy=_policy(assets), **values)


def _policy(assets: tuple[str, ...]) -> str:
    """A Content-Security-Policy that allows these assets inline, and pictures inside the file."""
    allowed: dict[str, list[str]] = {"style-src": [], "script-src": []}
    for name in assets:
        digest = base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
        allowed["script-src" if name.endswith(".js") else "style-src"].append(f"'sha256-{digest}'")
    sources = "; ".join(f"{name} {' '.join(digests) or NOTHING}" for name, digests in allowed.items())
    return f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> Markup:
    """A file of this package, to stand in a page as it is."""
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
    environment.filters |= {
        "spelled_out": spelled_out,
        "label": _label,
        "decimal": "{:.1f}".format,
        "confidence": _confidence,
        "figure": figure,
        "score": "{:.4f}".format,
        "clock": _clock,
        "when": _when,
        "inline_json": inline_json,
    }
    environment.globals |= {"asset": _asset, "styles": STYLES}
    return environment


def _label(label: str) -> Markup:
    """A label that may break after underscores."""
    return escape(spelled_out(label)).replace("_", Markup("_<wbr>"))


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(min(seconds, _LONGEST_SECONDS)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _when(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def inline_json(value: object) -> str:
    """A value of an option; a text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _confidence(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
