"""A law that does not hold for one of many cases fails the test, which names the case."""

from __future__ import annotations

import pytest

from tests.case_loop import all_of, for_all

NUMBERS = {"one": 1, "two": 2, "three": 3}


def test_every_case_is_looked_at():
    seen: list[int] = []
    for_all(NUMBERS)(seen.append)()
    assert seen == [1, 2, 3]


def test_all_failing_cases_are_named():
    def is_even(number: int) -> None:
        assert number % 2 == 0, f"{number} is odd"

    with pytest.raises(AssertionError) as caught:
        for_all(NUMBERS)(is_even)()
    assert str(caught.value).splitlines()[:4] == [
        "2 of 3 cases:", "one", "three", "The first: 1 is odd",
    ]  # fmt: skip
    assert "1 is odd" in str(caught.value.__cause__)


def test_another_error_names_its_case():
    def divides_six(number: int) -> None:
        assert 6 % (number - 2) == 0

    with pytest.raises(AssertionError, match=r"^case 'two'$") as caught:
        for_all(NUMBERS)(divides_six)()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_all_combinations_have_names():
    assert all_of(size=[1, 3], channels=[(4, 6)]) == {
        "size 1, channels (4, 6)": (1, (4, 6)), "size 3, channels (4, 6)": (3, (4, 6)),
    }  # fmt: skip


def test_no_cases_are_a_mistake():
    with pytest.raises(AssertionError):
        for_all({})
