from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data.training_images import log_label_summary, objects_per_size
from tests.unit.data.builders import record

BOX = [0, 0, 10, 10]


def test_counts_are_logged_and_missing_classes_warned_of(caplog):
    records = [
        record(Path("a"), (64, 64), [BOX] * 3, [1, 1, 0]),
        record(Path("b"), (64, 64)),
    ]
    sizes = np.array([[2.0, 1.0], [3.0, 7.0], [8.0, 1.0], [500.0, 1.0]])
    with caplog.at_level(logging.INFO):
        log_label_summary(records, sizes, ("cat", "dog", "owl"), 64)

    assert caplog.messages == [
        "Objects to learn: dog 2, cat 1",
        "  no object of owl",
        "Longer sides of boxes at 64 px: below 3 px 1, 3-8 px 1, 8-32 px 1, above 96 px 1",
    ]


def test_of_many_classes_the_largest_and_smallest_are_listed(caplog):
    names = tuple(f"c{number}" for number in range(30))
    ids = [number for number in range(30) for _ in range(30 - number)]
    records = [record(Path("a"), (64, 64), [BOX] * len(ids), ids)]
    with caplog.at_level(logging.INFO):
        log_label_summary(records, np.zeros((0, 2)), names, 64)

    assert caplog.messages[0] == (
        "Objects to learn: c0 30, c1 29, c2 28, c3 27, c4 26, c5 25, ..., c24 6, c25 5, c26 4, "
        "c27 3, c28 2, c29 1"
    )


def test_nothing_to_learn_is_said_without_zeros(caplog):
    with caplog.at_level(logging.INFO):
        log_label_summary([record(Path("a"), (64, 64))], np.zeros((0, 2)), ("cat",), 64)
    assert caplog.messages == ["Objects to learn: none", "  no object of cat"]


def test_no_boxes():
    assert sum(objects_per_size(np.zeros((0, 2))).values()) == 0
