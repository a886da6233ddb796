"""The batch that is found was tried, fits, and is nearly the largest that does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.engine.batch_search import largest_batch


@given(
    fixed=st.integers(0, 1000),
    per_image=st.integers(1, 200),
    bend=st.floats(0, 0.3),
    budget=st.integers(0, 100_000),
    most=st.integers(1, 1024),
    fails=st.booleans(),
)
def test_law(fixed, per_image, bend, budget, most, fails):
    """Memory that grows with the batch, in steps and bent; running out of it says nothing."""

    def used(batch: int) -> int:
        return fixed + int(per_image * batch * (1 + bend * batch / 1024)) // 8 * 8

    tried: list[int] = []

    def measure(batch: int) -> int | None:
        tried.append(batch)
        return None if fails and used(batch) > budget else used(batch)

    found = largest_batch(measure, budget, most)

    best = max((batch for batch in range(1, most + 1) if used(batch) <= budget), default=0)
    assert found <= best
    assert found == 0 or found in tried
    assert found >= 0.85 * best - 1
    assert len(tried) == len(set(tried)) <= 16
    assert max(tried) <= most


@pytest.mark.parametrize(
    ("most", "found"), [(1, 1), (2, 2), (7, 7), (1024, 1024)], ids=["one", "two", "few", "many"]
)
def test_where_memory_does_not_matter_the_largest_wanted_is_found(most, found):
    assert largest_batch(lambda batch: 5, 10, most) == found


def test_nothing_fits():
    assert largest_batch(lambda batch: None, 10, 64) == 0
    assert largest_batch(lambda batch: 11, 10, 64) == 0
