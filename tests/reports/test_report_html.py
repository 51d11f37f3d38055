"""The page of a report: what it shows, that texts are only texts, that it fits a phone, and its Markdown."""

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from receipt_layoutlm.reports.charts import figure, run_charts, ticks
from receipt_layoutlm.reports.history import Findings, RunHistory
from receipt_layoutlm.reports.overlay import Overlay
from receipt_layoutlm.reports.report import Artifact, DataFacts, EvaluationPoint, OptionRow
from receipt_layoutlm.reports.report_build import MadeReport, build_report, without_texts
from receipt_layoutlm.reports.report_html import MAX_BYTES, report_html
from receipt_layoutlm.reports.report_markdown import report_markdown
from receipt_layoutlm.run.scores import Bin, LabelScore
from tests.reports.test_overlay_html import HOSTILE, Parsed
from tests.support.browser import PROGRAM, tried_in_frame
from tests.support.reports import (
    NOON,
    RIGHT,
    TRUE,
    WRONG,
    attempt,
    evaluation,
    history,
    job,
    judged,
    made,
    predictions,
    report,
    rerun,
)


def shown(parsed: Parsed) -> str:
    return " ".join(filter(None, parsed.texts))


def test_the_page_answers_what_ran_on_what_for_how_much_and_whether_it_compares() -> None:
    text = shown(Parsed(report_html(made())))
    for part in (
        "eval_f1 0.8000 at step 30, epoch 3",
        "cost 0.1000 USD 2 attempts",
        "running (h:mm:ss) 0:06:00 of 0:10:00 since it was submitted; 5 steps lost",
        "task layoutlm, from minilm",
        "dataset receipts@0123456789ab , split group",
        "200 training, 100 validation",
        "cuda (NVIDIA L4), bf16",
        "comparable with runs of the stamp 99",
        "TOTAL 0.5000 0.5000 0.5000 2 20",
        "interrupted: asked to stop",
        "--lr 0.0001 5e-05 flag",
        "best model s3://b/best/ 10",
        "c" * 64,
        "ECE 0.2750",
        "seen in training 1 2 1.0000 1.0000 1.0000",
    ):
        assert part in text


def test_every_link_leads_to_a_part_of_the_page_and_cells_lead_to_drawn_pages() -> None:
    parsed = Parsed(report_html(made()))
    ids = {value for _, name, value in parsed.attributes if name == "id"}
    links = [value for tag, name, value in parsed.attributes if (tag, name) == ("a", "href")]
    assert {"#page-1", "#page-2", "#pages", "#confusion"} <= set(links)
    assert [link for link in links if link[1:] not in ids] == []
    assert len([link for link in links if link.startswith("#cell-")]) >= 4


def test_the_attempts_lie_under_the_axis_and_a_repeated_evaluation_is_off_the_curve() -> None:
    losses, rate, scores = run_charts(report())
    assert [curve.name for curve in losses.curves] == ["train loss", "eval loss"]
    assert [curve.name for curve in scores.curves] == ["eval_f1", "precision"]
    assert [len(curve.marks) for curve in scores.curves] == [3, 3]
    assert [mark.text for mark in scores.curves[0].discarded] == ["eval_f1 0.99 at step 25"]
    assert [(span.ending, span.text) for span in rate.spans] == [
        ("interrupted", "attempt 1, steps 0 to 25: interrupted: asked to stop"),
        ("succeeded", "attempt 2, steps 20 to 30: succeeded"),
    ]
    assert rate.spans[1].x < rate.spans[0].x + rate.spans[0].width  # it repeats five steps
    assert len(rate.cuts) == 1


def test_a_score_beyond_0_to_1_has_a_chart_of_its_own() -> None:
    point = evaluation(
        30, 0.8, scores={"f1": 0.8, "temperature": 1.7}, metric_name="negative_eval_loss", metric_value=-3.0
    )
    titles = [chart.title for chart in run_charts(report(evaluations=[point]))]
    assert titles == ["Losses", "Learning rate", "Headline", "Scores", "temperature"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 0.1), (0, 2e-5), (0.93, 0.97), (0, 123456)])
def test_ticks_are_round_and_enclose_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 8
    assert all(len(figure(value)) <= 8 for value in found)


def test_a_quality_task_is_drawn_by_the_same_template() -> None:
    point = EvaluationPoint.model_validate(
        evaluation(30, 0.8).point.model_dump()
        | {"metric_name": "negative_mae", "metric_value": -0.2, "scores": {"mae": 0.2}}
    )
    bins = (Bin(low=0.5, high=1.0, words=12, confidence=0.7, accuracy=0.6),)
    quality = replace(
        evaluation(30, 0.8), point=point, per_label={}, reliability=bins, breakdowns={"mae_by": {"photo": 0.3}}
    )
    text = report_html(made(evaluations=[quality], predictions=None))
    assert "negative_mae -0.2000" in shown(Parsed(text))
    assert "mae by value photo 0.3" in shown(Parsed(text))
    assert 'id="calibration"' in text and 'id="confusion"' not in text and 'id="labels"' not in text


def test_a_report_of_nothing_is_a_page_too() -> None:
    empty = made(job=job(status="pending", ended_at=None), attempts=[], evaluations=[], predictions=None)
    text = shown(Parsed(report_html(empty)))
    assert "none yet" in text and "No worker has claimed the job yet." in text
    assert "none yet" not in report_markdown(empty.report)


def hostile(text: str) -> RunHistory:
    """A history with the text wherever a person, a page, a task or a machine may have written."""
    words = (text, "STORES", "TOTAL", "10.70")
    labelled = (f"B-{text}", "O", "O", "B-TOTAL")
    page = judged(text, ("B-TOTAL", "O", "O", f"B-{text}"), words, text, true=TRUE)
    view = replace(page[0], true=labelled)
    bad = replace(
        evaluation(30, 0.8, metric_name=text, scores={text: 0.3, f"{text}2": 7.0}),
        per_label={text: LabelScore(precision=0, recall=0, f1=0, support=3)},
        breakdowns={text: {text: 1.0}},
        confusion={text: {text: 3, "O": 2}, "TOTAL": {text: 9}},
        predicted_labels={text: 4},
    )
    base = history()
    data = {"dataset": text, "fingerprint": text, "eval_dataset": None, "split": text, "pages": {"validation": 3}}
    return replace(
        base,
        job=job(
            name=text, status_text=text, task=text, pretrained=text, description=text, created_by=text,
            tags={text: text}, stop_reason=text, error=text, status="failed",
        ),
        data=DataFacts.model_validate({**data, "entities": {}}),
        machine=base.machine.model_copy(update={"hardware": text, "versions": {text: text}, "git_sha": text}),
        comparability=base.comparability.model_copy(update={"text": text, "fields": {text: text}}),
        attempts=[attempt(1, 0, 30, worker_id=text, machine=text, outcome=text, phase_seconds={text: 1.0})],
        evaluations=[bad],
        findings=Findings([f"{text}: {text}: {text}"], {"lr": 1}),
        predictions=predictions((view, page[1])),
        options=[OptionRow(option=text, value=text, default=[text], source=text)],
        artifacts=[Artifact(name=text, uri=text, size=1, sha256=None)],
        notes=[text],
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_pages_people_and_machines_are_shown_as_text_and_as_nothing_else(text: str) -> None:
    plain = Parsed(report_html(build_report(hostile("plain"), rerun, NOON, "9")))
    parsed = Parsed(report_html(build_report(hostile(text), rerun, NOON, "9")))
    assert parsed.elements == plain.elements
    assert {(tag, name) for tag, name, _ in parsed.attributes} == {(tag, name) for tag, name, _ in plain.attributes}
    assert not [value for _, name, value in parsed.attributes if name in ("href", "src") and not value.startswith("#")]
    assert parsed.elements["script"] == 0
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00\u2028]", " ".join(parsed.texts))


def test_the_policy_allows_the_styles_of_the_page_and_no_script() -> None:
    text = report_html(made())
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert "script-src 'none'" in policy and "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2 and "style=" not in text
    assert not re.search(r"(?:href|src)=\"(?!#)[^\"]", text)


def test_a_redacted_page_has_no_word_no_name_and_no_drawing() -> None:
    secret = judged("file-of-Mr-Smith", ("O",) * 4, ("Zaphod", "Beeblebrox", "TOTAL", "77.31"), "Smith and Sons")
    whole = made(predictions=predictions(secret, WRONG))
    pages = report_html(without_texts(whole)), report_markdown(without_texts(whole).report)
    for text in pages:
        assert not [word for word in ("Zaphod", "Beeblebrox", "77.31", "Smith", "page-wrong") if word in text]
    assert "Zaphod" in report_html(whole) and 'class="drawn"' not in pages[0]
    assert "without texts and pictures" in pages[0]


def with_pictures(whole: MadeReport, size: tuple[int, int]) -> MadeReport:
    def picture(overlay: Overlay | None) -> Overlay | None:
        return overlay and replace(overlay, image=Image.effect_noise(size, 90).convert("RGB"))

    return replace(whole, overlays=tuple(map(picture, whole.overlays)))


def test_pictures_are_scaled_down_and_very_long_pages_are_left_out_before_the_file_gets_too_large() -> None:
    pages = [judged(f"p{number}", TRUE) for number in range(20)]
    drawn = report_html(with_pictures(made(predictions=predictions(*pages)), (1700, 2600)))
    assert "data:image/jpeg" in drawn and len(drawn.encode()) < MAX_BYTES
    count = 4000
    boxes = tuple((place % 1000, place // 4, place % 1000, place // 4) for place in range(count))
    long = [judged(f"p{n}", ("O",) * count, ("word",) * count, boxes=boxes, true=("O",) * count) for n in range(20)]
    text = report_html(made(predictions=predictions(*long)))
    assert len(text.encode()) < MAX_BYTES
    assert 0 < text.count('class="drawn"') < 20 and "to keep the file small" in text


def test_markdown_has_the_same_figures_and_its_texts_are_no_markup() -> None:
    text = report_markdown(report())
    assert "| eval\\_f1 | 0.8000 at step 30 |" in text
    assert "| TOTAL | 0.5000 | 0.5000 | 0.5000 | 2 |" in text
    nasty = report_markdown(report(job=job(name="<img src=x>|**b** [l](javascript:1) `c`\n# h")))
    assert nasty.splitlines()[0] == (
        "# Report of \\<img src=x\\>\\|\\*\\*b\\*\\* \\[l\\](javascript:1) \\`c\\`⟨U+000A⟩\\# h"
    )
    options = [OptionRow(option="--x", value="a|`b`", default=None, source="flag")]
    assert "| `--x` | a\\|\\`b\\` | null |" in report_markdown(report(options=options))


# --- in a browser ---

SCRIPT = """
const found = {};
function run() {
  const page = document.querySelector("iframe").contentDocument;
  found.width = page.documentElement.scrollWidth;
  found.wide = [...page.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > 391
    && getComputedStyle(each).display !== "none").map((each) => each.outerHTML.slice(0, 80));
  const links = [...page.querySelectorAll("a[href^='#cell-']")].filter((each) => each.offsetParent);
  found.links = links.length;
  found.ran = "alerted" in page.defaultView;
  document.body.dataset.found = JSON.stringify(found);
}
"""


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[dict[str, Any]]:
    words = ("<img src=x onerror=window.alerted=1>", "STORES", "TOTAL", "10.70")
    page = judged("a-page-with-a-very-long-name-" + "x" * 80, ("B-TOTAL", "O", "O", "O"), words)
    text = report_html(made(predictions=predictions(page, RIGHT, WRONG)))
    text = text.replace("</h1>", "</h1><script>window.alerted = 1</script>")  # which the policy does not allow
    yield tried_in_frame(text, SCRIPT, tmp_path, width=390, height=800)


@pytest.mark.engine
@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: reports are not tried in a browser")
def test_a_phone_shows_the_page_without_scrolling_sideways_and_cells_stay_within_reach(narrow: dict[str, Any]) -> None:
    assert narrow["width"] <= 390 and narrow["wide"] == []
    assert narrow["links"] > 0
    assert narrow["ran"] is False
