"""Anchors are kept where they fit and made where they do not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from models.network.anchors import check_anchors, closeness, fit_anchors, search_anchors

LEVELS = ((10.0, 13.0, 16.0, 30.0), (60.0, 60.0, 100.0, 150.0))


def boxes(*centres: tuple[float, float], count: int = 200, spread: float = 0.1) -> np.ndarray:
    """Sizes around some centres."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [np.array(c) * rng.normal(1, spread, (count, 2)).clip(0.5) for c in centres]
    )


def test_anchors_that_fit_are_kept(caplog):
    caplog.set_level(logging.INFO)
    assert check_anchors(LEVELS, boxes((12, 14), (80, 90)), 4.0, seed=0) == LEVELS
    assert caplog.messages[0].startswith("Anchors: 100.00% of the boxes can be learned, ")


def test_anchors_that_do_not_fit_are_replaced(caplog):
    caplog.set_level(logging.INFO)
    sizes = boxes((300, 20), (500, 30), (20, 300), (30, 600))
    better = check_anchors(LEVELS, sizes, 4.0, seed=0)
    assert [len(level) for level in better] == [4, 4]
    flat = np.array(better).reshape(-1, 2)
    assert fit_anchors(sizes, flat, 4.0).best_possible_recall > 0.99
    assert (np.diff(flat.prod(1)) > 0).all()  # finest level first
    assert "Anchors: replaced by" in caplog.text
    assert check_anchors(LEVELS, sizes, 4.0, seed=0) == better  # the same seed, the same anchors


def test_anchors_that_weights_were_trained_with_stay(caplog):
    caplog.set_level(logging.INFO)
    assert check_anchors(LEVELS, boxes((300, 20)), 4.0, seed=0, keep=True) == LEVELS
    assert caplog.messages[-1] == "Anchors: kept, as the weights were trained with them"


def test_a_search_finds_the_clusters():
    centres = np.array([(10, 20), (40, 40), (100, 50), (200, 300)], float)
    found = search_anchors(boxes(*centres, spread=0.02), 4, 4.0, seed=1)
    assert found[:, 0] == pytest.approx(centres[:, 0], rel=0.05)
    assert found[:, 1] == pytest.approx(centres[:, 1], rel=0.05)


def test_random_changes_only_help():
    sizes = np.random.default_rng(2).uniform(3, 400, (300, 2))
    found = search_anchors(sizes, 6, 4.0, seed=0)
    assert closeness(sizes, found).max(1).mean() > 0.5
    assert (found >= 2).all()


@pytest.mark.parametrize("sizes", [np.zeros((0, 2)), np.full((50, 2), 900.0)])
def test_too_few_boxes_to_make_anchors_of(sizes):
    assert check_anchors(LEVELS, sizes, 4.0, seed=0) == LEVELS
