"""Any valid page, for property tests: words of every kind, boxes anywhere, IOB2 tags and undecided words."""

from hypothesis import strategies as st

from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, Box, Page

LABELS = ("MERCHANT_NAME", "ADDRESS_LINE", "DATE", "GRAND_TOTAL", "LINE_TOTAL", "QUANTITY", "OWN")
WORDS = (
    *("TOTAL", "RM", "9.00", "$1,234.50", "12,50", "9.000", "10.00%", "-5.59", "0.00", "20", "4", "1,200", "RM9.00"),
    *("COFFEE", "corner", "rn", "I", "81100", "JOHOR", "25/12/2018", "8:13", "&", "ñandú", "店", "0557", "***"),
)
_BOUND = st.integers(0, PAGE_EXTENT)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, x1 = sorted((draw(_BOUND), draw(_BOUND)))
    y0, y1 = sorted((draw(_BOUND), draw(_BOUND)))
    return x0, y0, x1, y1


@st.composite
def pieces(draw: st.DrawFn) -> tuple[str, ...]:
    """The tags of an entity, or one word outside."""
    label = draw(st.sampled_from((None, UNSUPERVISED, *LABELS)))
    if label is None or label == UNSUPERVISED:
        return (label or "O",)
    return (f"B-{label}", *(f"I-{label}",) * draw(st.integers(0, 4)))


@st.composite
def pages(draw: st.DrawFn) -> Page:
    tags = tuple(tag for piece in draw(st.lists(pieces(), min_size=1, max_size=15)) for tag in piece)
    texts = st.one_of(st.sampled_from(WORDS), st.text("0O1lrn.,", min_size=1, max_size=4))
    words = draw(st.lists(texts, min_size=len(tags), max_size=len(tags)))
    where = draw(st.lists(boxes(), min_size=len(tags), max_size=len(tags)))
    name = draw(st.text("abc", min_size=1, max_size=3))
    return Page(name, "shop", tuple(words), tuple(where), tags, 400, 900, image=None)
