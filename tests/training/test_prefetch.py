"""Things made one ahead are those that were asked for, in whatever order that is."""

import threading

import pytest

from receipt_layoutlm.training.setup import Prefetcher


@pytest.mark.parametrize("is_enabled", [False, True])
def test_what_is_taken_is_what_was_asked_for(is_enabled: bool) -> None:
    ahead: Prefetcher[tuple[str, int]] = Prefetcher(is_enabled)
    for series, number in [(0, 0), (0, 1), (0, 1), (0, 3), (0, 4), (1, 0), (0, 2)]:
        assert ahead.get(lambda place, of=series: (str(of), place), series, number, 5) == (str(series), number)


def test_the_next_one_is_made_on_another_thread_and_none_after_the_last() -> None:
    makers: dict[int, int] = {}

    def make(number: int) -> int:
        makers[number] = threading.get_ident()
        return number

    ahead: Prefetcher[int] = Prefetcher(is_enabled=True)
    assert [ahead.get(make, 0, number, 3) for number in range(3)] == [0, 1, 2]
    here = threading.get_ident()
    assert makers[0] == here and makers[1] == makers[2] != here
    assert sorted(makers) == [0, 1, 2]


def test_what_could_not_be_made_is_raised_when_it_is_taken() -> None:
    ahead: Prefetcher[float] = Prefetcher(is_enabled=True)
    assert ahead.get(lambda number: 1 / (number - 1), 0, 0, 3) == -1
    with pytest.raises(ZeroDivisionError):
        ahead.get(lambda number: 1.0, 0, 1, 3)
