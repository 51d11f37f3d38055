"""The HTML of a page: what it shows, that only its own script runs, and how it reacts to a person."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from receipt_layoutlm.reports.overlay import Overlay
from receipt_layoutlm.reports.overlay_html import overlay_html
from receipt_layoutlm.reports.overlay_index import DrawnPage, index_html
from tests.support.browser import PROGRAM, tried_in_frame
from tests.support.overlays import PREDICTED, WORDS, overlay_with, page_with

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"onmouseover="alert(1)',
    "'--><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202eb\u0000c\x1b[31md\u2028e",
    "&lt;b&gt;",
    "javascript:alert(1)",
)


class Parsed(HTMLParser):
    """Elements by name, attributes of all elements, and the texts outside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.inside: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self._open = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.inside[self._open] = data
        else:
            self.texts.append(data.strip())


def test_fields_and_tokens_are_listed_with_what_is_wrong() -> None:
    texts = " ".join(filter(None, Parsed(overlay_html(overlay_with(), "index.html")).texts))
    for shown in (
        "↔ wrong words SHOP ACME gold ACME STORES 0.50",
        "≠ wrong label TIME gold DATE 12/05/2018 2018-05-12 0.60",
        "✓ right TOTAL 10.70 0.90",
        "+ spurious SHOP Thanks 0.70",
        "not judged TAX Tax 0.80",
        "− missed TAX 0.60",
        "receipts.jsonl , page 3",
        "2 STORES I-SHOP ≠ 0.95",
        "5 10.70 B-TOTAL B-TOTAL 0.95",
        "7 Tax unlabelled B-TAX 0.95",
    ):
        assert shown in texts


def test_words_ids_labels_and_notes_of_a_page_are_shown_as_text_and_as_nothing_else() -> None:
    plain, hostile = overlay_with(), overlay_with(HOSTILE, HOSTILE[0])
    hostile = replace(hostile, source=HOSTILE[1], notes=(HOSTILE[3],))
    hostile = replace(hostile, predicted=(*PREDICTED[:1], replace(PREDICTED[1], note=HOSTILE[2]), *PREDICTED[2:]))
    expected, found = Parsed(overlay_html(plain, "i.html")), Parsed(overlay_html(hostile, "i.html"))
    note = Counter({"p": 1})
    assert found.elements == expected.elements + note
    assert {(tag, name) for tag, name, _ in found.attributes} == {(tag, name) for tag, name, _ in expected.attributes}
    assert found.inside == expected.inside
    for word in (*HOSTILE[:5], *HOSTILE[6:]):
        assert word in found.texts
    assert "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[31md⟨U+2028⟩e" in found.texts


def test_hidden_characters_are_written_out_and_other_scripts_stay_as_they_are() -> None:
    words = ("قهوة", "می\u200cشود", "咖啡", "x\u200eّ", *WORDS[4:])
    text = overlay_html(overlay_with(words))
    assert all(word in text for word in ("قهوة", "می\u200cشود", "咖啡", "x⟨U+200E⟩"))
    assert "\u200e" not in text


def test_the_policy_allows_the_own_script_and_style_alone_and_nothing_is_loaded() -> None:
    image = Image.new("RGB", (40, 80), "white")
    parsed = Parsed(overlay_html(replace(overlay_with(), image=image), "index.html"))
    (policy,) = (value for _, name, value in parsed.attributes if name == "content" and "default-src" in value)
    hashes = {
        kind: base64.b64encode(hashlib.sha256(parsed.inside[kind].encode()).digest()).decode() for kind in parsed.inside
    }
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )
    assert not [name for _, name, _ in parsed.attributes if name == "style" or name.startswith("on")]
    places = [value for _, name, value in parsed.attributes if name in ("href", "src", "srcset", "action", "data")]
    assert [value for value in places if not value.startswith("data:image/jpeg;base64,")] == ["index.html"]
    assert not re.search(r"url\(|@import|https?://", "".join(parsed.inside.values()))


def test_without_a_picture_words_are_drawn_at_their_boxes() -> None:
    drawn = overlay_html(overlay_with())
    assert re.search(r'<text class="print" x="77\.5" [^>]*>ACME</text>', drawn)
    assert "<image" not in drawn
    with_picture = overlay_html(replace(overlay_with(), image=Image.new("L", (400, 800))))
    assert '<text class="print"' not in with_picture
    assert 'viewBox="0 0 400 800"' in with_picture


def test_a_page_of_any_shape_has_a_drawing_of_bounded_size() -> None:
    for width, height in ((1, 10**9), (10**9, 1), (3, 7)):
        page = replace(page_with(), width=width, height=height)
        box = re.search(r'viewBox="0 0 (\d+) (\d+)"', overlay_html(Overlay(page)))
        assert box is not None
        assert int(box[1]) * int(box[2]) < 1_300_000
    strip = re.search(r'viewBox="0 0 (\d+) (\d+)"', overlay_html(Overlay(page, image=Image.new("L", (16, 300_000)))))
    assert strip is not None and int(strip[2]) <= 16_000
    huge = re.search(
        r'viewBox="0 0 (\d+) (\d+)"', overlay_html(replace(overlay_with(), image=Image.new("L", (6000, 8000))))
    )
    assert huge is not None and int(huge[1]) * int(huge[2]) <= 2_510_000


def test_without_gold_labels_there_is_nothing_to_compare() -> None:
    parsed = Parsed(overlay_html(replace(overlay_with(), gold=None)))
    texts = " ".join(filter(None, parsed.texts))
    assert "predicted 5" in texts
    assert "gold" not in [cell for cell in parsed.texts if cell == "gold"]
    assert [name for tag, name, value in parsed.attributes if tag == "input" and name == "disabled"] == ["disabled"] * 2


def drawn(page_id: str, errors: int = 0, lowest: float | None = 0.9, *, has_gold: bool = True) -> DrawnPage:
    kinds = {"missed": errors} if errors else {}
    return DrawnPage.model_validate(
        {"source": "s", "page": 1, "page_id": page_id, "model": "m", "content": "c",
         "files": {"html": f"{page_id}.html"}, "has_gold": has_gold, "predicted": 4, "right": 3, "errors": kinds,
         "lowest_confidence": lowest}
    )  # fmt: skip


def links(pages: list[DrawnPage]) -> list[str]:
    attributes = Parsed(index_html(pages, {})).attributes
    return [value.removesuffix(".html") for tag, name, value in attributes if name == "href" and "#" not in value]


def test_the_index_has_most_errors_first_and_then_the_least_certain() -> None:
    pages = [
        drawn("a"),
        drawn("b", 1),
        drawn("c", 2, 0.95),
        drawn("d", 2, 0.4),
        drawn("e", 0, 0.2),
        drawn("f", 0, None),
    ]
    assert links(pages) == ["d", "c", "b", "e", "a", "f"]
    unjudged = [drawn(name, 0, low, has_gold=False) for name, low in (("a", 0.9), ("b", 0.3), ("c", None))]
    assert links(unjudged) == ["c", "b", "a"]  # without any field, first


def test_the_index_escapes_ids_and_reasons_and_links_errors_to_the_differences() -> None:
    text = index_html([drawn(HOSTILE[0], 1)], {"x.jpg": f"x.jpg: {HOSTILE[1]}"})
    parsed = Parsed(text)
    assert parsed.elements["script"] == parsed.elements["img"] == 0
    assert HOSTILE[0] in parsed.texts
    assert any(value.endswith("#differences-only") for _, name, value in parsed.attributes if name == "href")


# --- in a browser ---

SCRIPT = """
const results = {};
function run() {
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView;
  const press = (key) => page.dispatchEvent(new view.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  const slider = page.getElementById("confidence");
  const slide = (value) => { slider.value = value; slider.dispatchEvent(new view.Event("input")); };
  const shown = (selector) => [...page.querySelectorAll(selector)].filter((each) => !each.closest("[hidden]")).length;
  const state = () => ({
    gold: shown(".finding .gold"), predicted: shown(".finding .predicted"), fields: shown(".fields tbody tr"),
    tokens: shown(".tokens tbody tr"), status: page.getElementById("status").textContent,
    selected: [...page.querySelectorAll("rect.on[data-word]")].map((each) => each.dataset.word),
  });
  results.first = state();
  press("g"); results.without_gold = state(); press("g");
  press("p"); results.without_predicted = state(); press("p");
  press("d"); results.differences = state(); press("d");
  slide("0.75"); results.confident = state(); slide("0");
  press("ArrowRight"); results.arrow = page.getElementById("from").textContent; press("ArrowLeft");
  press("j"); results.next = state(); press("e"); results.error = state(); press("Escape"); results.escape = state();
  page.querySelector('tr[data-word="4"]').click(); results.row = state();
  page.querySelector('rect[data-word="0"]').dispatchEvent(new view.MouseEvent("click", {bubbles: true}));
  results.click = state();
  press("Escape");
  page.querySelector('tr[data-word="2"]').dispatchEvent(new view.MouseEvent("mouseenter"));
  results.near = [...page.querySelectorAll("rect.near")].map((each) => each.dataset.word); results.hover = state();
  press("z"); results.whole = page.getElementById("picture").className;
  results.ran = "alerted" in view;
  document.body.dataset.found = JSON.stringify(results);
}
"""


@pytest.mark.engine
@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: overlays are not tried in a browser")
def test_toggles_slider_keys_and_clicks_work_in_a_browser(tmp_path: Path) -> None:
    words = ("<img src=x onerror=window.alerted=1>", *WORDS[1:])
    page = overlay_html(overlay_with(words)).replace("</h1>", "</h1><script>window.alerted = 1</script>")  # not allowed
    results = tried_in_frame(page, SCRIPT, tmp_path, width=1200, height=800)

    assert results["ran"] is False
    first = results["first"]
    assert (first["gold"], first["predicted"], first["fields"], first["tokens"]) == (
        3,
        5,
        6,
        8,
    )  # the right one is drawn once
    assert first["status"] == "5 of 5 predicted fields have this confidence, 3 of them wrong"
    assert (results["without_gold"]["gold"], results["without_gold"]["fields"]) == (0, 5)
    assert (results["without_predicted"]["gold"], results["without_predicted"]["predicted"]) == (4, 0)
    assert (results["differences"]["fields"], results["differences"]["tokens"]) == (4, 4)
    assert results["confident"]["predicted"] == 2
    assert results["confident"]["status"] == "2 of 5 predicted fields have this confidence, 0 of them wrong"
    assert results["arrow"] == "0.01"
    assert results["next"]["selected"] == ["0"]
    assert results["error"]["selected"] == ["2"]
    assert results["escape"]["selected"] == []
    assert (results["row"]["selected"], "10.70" in results["row"]["status"]) == (["4"], True)
    assert results["click"]["selected"] == ["0"]
    assert (results["near"], results["hover"]["selected"]) == (["2"], [])  # pointing selects nothing
    assert results["whole"] == "whole"
