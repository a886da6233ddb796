from __future__ import annotations

import numpy as np
import pytest

from utils.engine.training_state import BestEpoch, fitness


def test_fitness():
    assert fitness(AP=0.3, AP50=0.5) == pytest.approx(0.32)
    both = fitness(np.array([0.3, np.nan]), np.array([0.5, 0.5]))
    assert both[0] == pytest.approx(0.32) and np.isnan(both[1])


def test_the_best_is_remembered():
    best = BestEpoch(patience=0)
    assert [best.update(e, f, f) for e, f in enumerate([0.0, 0.2, 0.2, 0.1, 0.3])] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert (best.epoch, best.fitness) == (4, pytest.approx(0.3))
    assert not best.should_stop(10**6)  # patience 0: never


def test_patience():
    best = BestEpoch(patience=3)
    stops = []
    for epoch, value in enumerate([0.1, 0.2, 0.2, 0.1, 0.0, 0.0]):
        best.update(epoch, value, value)
        stops.append(best.should_stop(epoch))
    assert stops == [False, False, False, False, True, True]


def test_epochs_that_were_not_evaluated_do_not_stop():
    """Else a run that validates rarely, or at its end only, would stop without a best epoch."""
    best = BestEpoch(patience=3)
    assert not any(best.update(epoch, None, None) for epoch in range(20))
    assert not any(best.should_stop(epoch) for epoch in range(20))
    best.update(20, 0.5, 0.5)
    assert not any(best.should_stop(epoch) for epoch in range(20, 29))
    best.update(29, 0.4, 0.4)
    assert best.should_stop(29)


def test_not_a_number_is_no_better():
    best = BestEpoch(patience=1)
    best.update(0, 0.1, 0.1)
    assert not best.update(1, float("nan"), 0.5)
    assert best.epoch == 0
