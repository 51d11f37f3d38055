"""Results of OCR and of document services: words with boxes, and the fields that a service found as labels."""

import json
from pathlib import Path

import pytest

from receipt_layoutlm.data.importers import ImportReport, import_pages, load_format
from receipt_layoutlm.data.importers.label_table import core_table, own_table
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.page import DataError, Page
from tests.support.spans import spans


def refuse(error: DataError) -> None:
    raise error


def read(name: str, *paths: Path, keep: bool = False) -> tuple[list[Page], ImportReport]:
    source_format = load_format(name)
    table = own_table(source_format.own_labels, {}) if keep else core_table(source_format.labels, {})
    return import_pages(name, paths, table, refuse, ReadOptions())


def written(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def refusal(name: str, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(name, path)
    return str(caught.value)


def entities(page: Page) -> list[tuple[str, str]]:
    return [(label, " ".join(words)) for label, words in spans(page)]


def geometry(left: float, top: float, right: float, bottom: float) -> dict[str, object]:
    box = {"Left": left, "Top": top, "Width": right - left, "Height": bottom - top}
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return {"BoundingBox": box, "Polygon": [{"X": x, "Y": y} for x, y in corners]}


def textract_word(text: str, *box: float, page: int | None = None) -> dict[str, object]:
    block = {"BlockType": "WORD", "Confidence": 99.2, "Text": text, "TextType": "PRINTED", "Geometry": geometry(*box)}
    return block | ({} if page is None else {"Page": page})


WORDS = [
    textract_word("Corner", 0.1, 0.05, 0.2, 0.08),
    textract_word("Shop", 0.22, 0.05, 0.3, 0.08),
    textract_word("Tea", 0.1, 0.2, 0.16, 0.23),
    textract_word("$3.70", 0.8, 0.2, 0.9, 0.23),
    textract_word("TOTAL", 0.1, 0.5, 0.2, 0.53),
    textract_word("$3.70", 0.8, 0.5, 0.9, 0.53),
]


def expense_field(name: str, text: str, *box: float) -> dict[str, object]:
    value = {"Text": text, "Geometry": geometry(*box), "Confidence": 98.0}
    return {"Type": {"Text": name, "Confidence": 97.1}, "ValueDetection": value, "PageNumber": 1}


EXPENSE = {
    "DocumentMetadata": {"Pages": 1},
    "ExpenseDocuments": [
        {
            "ExpenseIndex": 1,
            "SummaryFields": [
                expense_field("NAME", "Corner Shop", 0.1, 0.05, 0.3, 0.08),
                expense_field("VENDOR_NAME", "Corner Shop", 0.1, 0.05, 0.3, 0.08),
                expense_field("TOTAL", "$3.70", 0.8, 0.5, 0.9, 0.53),
            ],
            "LineItemGroups": [
                {
                    "LineItemGroupIndex": 1,
                    "LineItems": [
                        {
                            "LineItemExpenseFields": [
                                expense_field("ITEM", "Tea", 0.1, 0.2, 0.16, 0.23),
                                expense_field("PRICE", "$3.70", 0.8, 0.2, 0.9, 0.23),
                                expense_field("EXPENSE_ROW", "Tea $3.70", 0.1, 0.2, 0.9, 0.23),
                            ]
                        }
                    ],
                }
            ],
            "Blocks": WORDS,
        }
    ],
}


def test_textract_words_are_unlabelled_and_its_lines_are_no_words(tmp_path: Path) -> None:
    line = {**textract_word("Corner Shop", 0.1, 0.05, 0.3, 0.08), "BlockType": "LINE"}
    path = written(tmp_path / "r1.json", {"Blocks": [{"BlockType": "PAGE", "Id": "p"}, line, *WORDS[:2]]})

    (page,), report = read("textract", path)

    assert (page.page_id, page.words, page.tags) == ("r1", ("Corner", "Shop"), ("-", "-"))
    assert report.notes == ("no word has a label: the pages can be predicted or labelled, not learned",)
    assert page.boxes == ((100, 50, 200, 80), (220, 50, 300, 80))


def test_textract_expense_fields_and_rows_are_labels(tmp_path: Path) -> None:
    (page,), report = read("textract", written(tmp_path / "r1.json", EXPENSE))

    assert entities(page) == [
        ("MERCHANT_NAME", "Corner Shop"),
        ("PRODUCT_NAME", "Tea"),
        ("LINE_TOTAL", "$3.70"),
        ("GRAND_TOTAL", "$3.70"),
    ]
    assert page.tags[4] == "O", "a caption is read, and is no label"
    assert {name: match.rate for name, match in report.matches.items()}["TOTAL"] == 1


def test_textract_pages_and_parts_of_one_document_are_one_group(tmp_path: Path) -> None:
    parts = [{"Blocks": [WORDS[0]], "NextToken": "t"}, {"Blocks": [textract_word("Shop", 0.1, 0.1, 0.2, 0.2, page=2)]}]

    pages, _ = read("textract", written(tmp_path / "r1.json", parts))

    assert [(page.page_id, page.group, page.words) for page in pages] == [
        ("r1", "r1", ("Corner",)),
        ("r1#2", "r1", ("Shop",)),
    ]


def test_textract_expenses_without_blocks_have_the_words_of_their_fields(tmp_path: Path) -> None:
    (document,) = EXPENSE["ExpenseDocuments"]  # type: ignore[misc]
    old = {"ExpenseDocuments": [{**document, "Blocks": [], "LineItemGroups": []}]}

    (page,), _ = read("textract", written(tmp_path / "r1.json", old), keep=True)

    assert ("TOTAL", "$3.70") in entities(page)


PADDLE_LINE = [[[60, 40], [300, 40], [300, 70], [60, 70]], ["Corner Shop", 0.98]]


@pytest.mark.parametrize("result", [[PADDLE_LINE], [[PADDLE_LINE]], [[PADDLE_LINE], None]])
def test_paddleocr_lines_are_split_into_words(tmp_path: Path, result: object) -> None:
    (page,), report = read("paddleocr", written(tmp_path / "r1.json", result), keep=True)

    assert (page.page_id, page.words, page.tags) == ("r1", ("Corner", "Shop"), ("-", "-"))
    assert report.guessed_sizes == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_paddleocr_3_results_have_the_size_of_their_image(tmp_path: Path, wrapped: bool) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 600 800 255\n")
    result = {"input_path": "scans/a.ppm", "page_index": None, "rec_texts": ["Shop"], "rec_polys": [PADDLE_LINE[0]]}

    (page,), report = read("paddleocr", written(tmp_path / "a_res.json", {"res": result} if wrapped else result))

    assert (page.width, page.height, report.guessed_sizes) == (600, 800, 0)
    assert page.boxes == ((100, 50, 500, 88),)


def test_ppocrlabel_classes_are_labels_and_illegible_texts_no_words(tmp_path: Path) -> None:
    def text(transcription: str, left: int, key_cls: str = "None") -> dict[str, object]:
        points = [[left, 40], [left + 90, 40], [left + 90, 70], [left, 70]]
        return {"transcription": transcription, "points": points, "difficult": False, "key_cls": key_cls}

    first = [text("Corner Shop", 60, "store"), text("###", 200), text("thanks", 300)]
    lines = [f"img/a.jpg\t{json.dumps(first)}", f"img/b.jpg\t{json.dumps([text('Tea', 60)])}"]

    pages, _ = read("paddleocr", written(tmp_path / "Label.txt", "\n".join(lines)), keep=True)

    assert [page.words for page in pages] == [("Corner", "Shop", "thanks"), ("Tea",)]
    assert [page.tags for page in pages] == [("B-store", "I-store", "O"), ("O",)]


def doctr_word(value: str, *corners: tuple[float, float]) -> dict[str, object]:
    return {"value": value, "confidence": 0.9, "geometry": [list(corner) for corner in corners]}


def test_doctr_geometry_is_height_first_in_shares_and_may_have_four_corners(tmp_path: Path) -> None:
    words = [
        doctr_word("Corner", (0.1, 0.05), (0.2, 0.08)),
        doctr_word("Shop", (0.22, 0.05), (0.3, 0.051), (0.3, 0.08), (0.22, 0.079)),
    ]
    page_of = {"page_idx": 0, "dimensions": [800, 600], "blocks": [{"lines": [{"words": words}], "artefacts": []}]}

    (page,), _ = read("doctr", written(tmp_path / "r1.json", {"pages": [page_of]}), keep=True)

    assert (page.width, page.height) == (600, 800)
    assert page.boxes == ((100, 50, 200, 80), (220, 50, 300, 80))


def test_doctr_classes_of_the_kie_predictor_are_labels(tmp_path: Path) -> None:
    predictions = {
        "date": [doctr_word("25 Dec", (0.1, 0.05), (0.2, 0.08))],
        "words": [doctr_word("Thanks", (0.1, 0.5), (0.2, 0.53))],
    }
    document = {"pages": [{"page_idx": 0, "dimensions": [800, 600], "predictions": predictions}]}

    (page,), _ = read("doctr", written(tmp_path / "r1.json", document), keep=True)

    assert (page.words, page.tags) == (("25", "Dec", "Thanks"), ("B-date", "I-date", "O"))


HOCR = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head><title></title><meta name='ocr-system' content='tesseract 5.3.0' /></head>
 <body>
  <div class='ocr_page' id='page_1' title='image "scan.png"; bbox 0 0 600 800; ppageno 0; scan_res 70 70'>
   <div class='ocr_carea' id='block_1_1' title="bbox 60 40 300 70">
    <p class='ocr_par' id='par_1_1' lang='eng' title="bbox 60 40 300 70">
     <span class='ocr_line' id='line_1_1' title="bbox 60 40 300 70; baseline 0 -5; x_size 30">
      <span class='ocrx_word' id='word_1_1' title='bbox 60 40 180 70; x_wconf 96'><strong>Tea</strong> &amp;</span>
      <span class='ocrx_word' id='word_1_2' title='bbox 200 40 300 70; x_wconf 91'>Shop</span>
     </span>
    </p>
   </div>
  </div>
  <div class='ocr_page' id='page_2' title='bbox 0 0 600 800'>
   <span class='ocr_line' title="bbox 60 40 300 70">Thank<br>you</span>
  </div>
 </body>
</html>
"""


def test_hocr_words_and_lines_without_words_are_read_page_by_page(tmp_path: Path) -> None:
    pages, _ = read("hocr", written(tmp_path / "scan.hocr", HOCR))

    assert [(page.page_id, page.words) for page in pages] == [
        ("scan", ("Tea", "&", "Shop")),
        ("scan#2", ("Thank", "you")),
    ]
    assert (pages[0].width, pages[0].height, pages[0].boxes[2]) == (600, 800, (333, 50, 500, 88))


ALTO = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#">
 <Description><MeasurementUnit>mm10</MeasurementUnit></Description>
 <Tags><NamedEntityTag ID="NE1" LABEL="merchant"/></Tags>
 <Layout><Page WIDTH="600" HEIGHT="800" PHYSICAL_IMG_NR="0" ID="page_0"><PrintSpace><TextBlock><TextLine>
  <String HPOS="60" VPOS="40" WIDTH="60" HEIGHT="30" WC="0.96" CONTENT="Corner" TAGREFS="NE1"/><SP WIDTH="8"/>
  <String HPOS="130" VPOS="40" WIDTH="60" HEIGHT="30" WC="0.96" CONTENT="Shop" TAGREFS="NE1"/>
  <String HPOS="300" VPOS="40" WIDTH="60" HEIGHT="30" WC="0.96" CONTENT="Tea"/>
 </TextLine></TextBlock></PrintSpace></Page></Layout>
</alto>
"""


def test_alto_words_are_read_in_the_unit_of_the_page_and_its_named_entities_are_labels(tmp_path: Path) -> None:
    (page,), _ = read("alto", written(tmp_path / "scan.xml", ALTO), keep=True)

    assert (page.words, page.tags) == (("Corner", "Shop", "Tea"), ("B-merchant", "I-merchant", "O"))
    assert page.boxes[0] == (100, 50, 200, 88)

    (plain,), _ = read("alto", written(tmp_path / "plain.xml", ALTO.replace(' TAGREFS="NE1"', "")))
    assert plain.tags == ("-", "-", "-")


LAUGHS = '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]>\n'
OUTSIDE = '<!DOCTYPE x [<!ENTITY outside SYSTEM "file:///etc/hostname">]>\n'


@pytest.mark.parametrize("declared", [LAUGHS, OUTSIDE])
@pytest.mark.parametrize(
    ("name", "text", "encoding"), [("alto", ALTO, "utf-8"), ("alto", ALTO, "utf-16"), ("hocr", HOCR, "utf-8")]
)
def test_files_that_declare_entities_are_refused(
    tmp_path: Path, name: str, text: str, encoding: str, declared: str
) -> None:
    head, _, rest = text.partition("\n")
    path = tmp_path / ("scan.xml" if name == "alto" else "scan.hocr")
    path.write_bytes(f"{head}\n{declared}{rest}".replace("Shop", "&lol2;&outside;").encode(encoding))

    assert refusal(name, path).startswith(f"{path}:2: declares entities of its own")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("textract", '{"IdentityDocuments": []}', "neither Blocks nor ExpenseDocuments"),
        ("textract", '{"Blocks": [{"BlockType": "PAGE"}]}', "no text was found"),
        ("textract", '{"Blocks": [{"BlockType": "WORD", "Page": 1000000000}]}', "less than or equal to 3000"),
        ("textract", '{"Blocks": [{"BlockType": "WORD", "Text": "a", "Geometry": {}}]}', "BoundingBox"),
        ("paddleocr", "[[[[1, 2], [3, 4]], 5]]", "is not a box of corners"),
        ("paddleocr", '{"rec_texts": ["a", "b"], "rec_polys": [[[1, 1], [2, 1], [2, 2], [1, 2]]]}', "need one each"),
        ("paddleocr", "a.jpg [{}]", "a tab and a list of texts"),
        ("paddleocr", '[[[[1e308, 40], [300, 40], [300, 70], [60, 70]], ["Corner Shop", 0.98]]]', "no place on a page"),
        ("paddleocr", "[[", "is not JSON"),
        ("doctr", '{"pages": [{"dimensions": [0, 600], "blocks": []}]}', "height and width"),
        ("doctr", '{"pages": [{"dimensions": [800, 600]}]}', "neither blocks nor predictions"),
        ("hocr", "<html><body><p>Shop</p></body></html>", "no element of class ocr_page"),
        ("hocr", "<div class='ocr_page' title='bbox 0 0 9 9'></div>", "no text was found"),
        ("alto", "<alto><Page", "is not XML"),
        ("alto", "<mets></mets>", "its root is mets, not alto"),
        ("alto", '<alto><Page><String CONTENT="a" HPOS="x"/></Page></alto>', "HPOS of String 'a' is 'x'"),
        ("alto", '<alto><Page><String CONTENT="a" HPOS="nan"/></Page></alto>', "not a number of the page"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, name: str, content: str, reason: str) -> None:
    path = written(tmp_path / "wrong.json", content)

    error = refusal(name, path)

    assert str(path) in error and reason in error
