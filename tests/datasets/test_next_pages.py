"""The pages that are most worth a person's time, and why."""

from dataclasses import replace

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.next_pages import Doubt, choose_pages, is_labelled, suspect_pages
from receipt_layoutlm.datasets.suspects import Suspect


def page(page_id: str, text: str, group: str = "known", tags: tuple[str, ...] | None = None) -> Page:
    words = tuple(text.split())
    boxes = tuple((0, 0, 10, 10) for _ in words)
    return Page(page_id, group, words, boxes, tags or ("-",) * len(words), 100, 100)


LABELLED = page("labelled", "milk bread total 1.50", tags=("O", "O", "O", "B-GRAND_TOTAL"))


def test_a_page_unlike_the_labelled_ones_comes_before_one_like_them_that_the_model_is_as_sure_of() -> None:
    alike, other = page("alike", "bread milk total 9.75"), page("other", "shampoo und seife", "new shop")
    chosen = choose_pages([alike, other], [LABELLED], {}, 2)
    assert [each.page_id for each in chosen] == ["other", "alike"]
    assert chosen[0].reasons == ("100% of its letter triples are new", "no labelled page of group 'new shop'")
    assert chosen[1].score < 0.5  # other digits are nothing new


def test_a_page_that_the_model_is_unsure_of_comes_before_one_that_it_is_sure_of() -> None:
    pages = [page("sure", "bread milk"), page("unsure", "bread milk")]
    doubts = {"sure": Doubt("milk", "O", 0.99), "unsure": Doubt("milk", "DATE", 0.4)}
    first, second = choose_pages(pages, [LABELLED], doubts, 2)
    assert (first.page_id, second.page_id) == ("unsure", "sure")
    assert first.reasons[0] == "least sure of 'milk' as DATE (0.40)"


def test_the_second_receipt_of_a_new_shop_waits_for_other_new_ones() -> None:
    pages = [page("a1", "shampoo seife duft"), page("a2", "shampoo seife duft"), page("b", "shampoo xylofon")]
    assert [each.page_id for each in choose_pages(pages, [LABELLED], {}, 2)] == ["a1", "b"]


def test_a_page_is_labelled_if_it_has_a_label_and_no_word_waits() -> None:
    assert is_labelled(LABELLED)
    assert not is_labelled(replace(LABELLED, tags=("-", "O", "O", "B-GRAND_TOTAL")))
    assert not is_labelled(replace(LABELLED, tags=("O",) * 4))


def test_pages_of_suspect_labels_keep_their_order_and_are_named_once() -> None:
    def suspect(page_id: str, text: str, confidence: float) -> Suspect:
        return Suspect(page_id=page_id, text=text, label="TAX", says="O", confidence=confidence, words=())

    found = suspect_pages([suspect("b", "9", 0.99), suspect("a", "8", 0.98), suspect("b", "7", 0.91)])
    assert [(each.page_id, each.score, len(each.reasons)) for each in found] == [("b", 0.99, 2), ("a", 0.98, 1)]
    assert found[1].reasons == ("'8' is labelled TAX, a model says O (0.98)",)
