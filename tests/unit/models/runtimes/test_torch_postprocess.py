"""The torch suppression: a table by hand, and agreement with the numpy version."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.runtimes.torch_predictor import postprocess_batch
from utils.postprocess import PostprocessConfig, postprocess

# cx, cy, w, h, objectness, three classes
ROWS = torch.tensor([
    [50, 50, 20, 20, 0.9, 0.9, 0.5, 0.0],  # 0: score 0.81 as class 0, 0.45 as class 1
    [51, 50, 20, 20, 0.8, 0.9, 0.1, 0.0],  # 1: overlaps 0, same class
    [50, 51, 20, 20, 0.8, 0.0, 0.0, 0.8],  # 2: overlaps 0, another class
    [90, 90, 10, 10, 0.2, 1.0, 1.0, 1.0],  # 3: objectness too low
    [20, 20, 10, 10, 0.5, 0.4, 0.0, 0.0],  # 4: 0.5 * 0.4 too low
    [20, 80, 10, 10, 1.0, 0.0, 0.7, 0.0],  # 5
])  # fmt: skip
BASE = PostprocessConfig(0.25, 0.45, 300)

# (settings, rows and classes that stay, best first)
TABLE = [
    ({}, [(0, 0), (5, 1), (2, 2)]),
    ({"multi_label": True}, [(0, 0), (5, 1), (2, 2), (0, 1)]),
    ({"class_agnostic": True}, [(0, 0), (5, 1)]),
    ({"classes": (2, 1)}, [(5, 1), (2, 2)]),  # of the best class only
    ({"classes": (1,), "multi_label": True}, [(5, 1), (0, 1)]),
    ({"classes": ()}, []),
    ({"max_detections": 1}, [(0, 0)]),
    ({"iou_threshold": 0.99}, [(0, 0), (1, 0), (5, 1), (2, 2)]),
    ({"score_threshold": 0.75}, [(0, 0)]),  # 0.7 and 0.64 and 0.72 are below
    ({"score_threshold": 1.0}, []),
]


@pytest.mark.parametrize(("changes", "expected"), TABLE)
def test_by_hand(changes, expected):
    config = dataclasses.replace(BASE, **changes)
    in_numpy = postprocess(ROWS.numpy(), config)
    found = postprocess_batch(torch.stack((ROWS, ROWS * 0)), config)
    assert len(found[1]) == 0  # the second image is empty
    for detections in (found[0], in_numpy):
        assert detections.class_ids.tolist() == [class_id for _, class_id in expected]
        for number, (row, class_id) in enumerate(expected):
            cx, cy, w, h = ROWS[row, :4].tolist()
            corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            assert detections.boxes[number].tolist() == pytest.approx(corners)
            score = float(ROWS[row, 4] * ROWS[row, 5 + class_id])
            assert float(detections.scores[number]) == pytest.approx(score)


def test_types_and_empty_input():
    for shape in ((0, 10, 8), (2, 0, 8), (2, 5, 8)):
        found = postprocess_batch(torch.zeros(shape), BASE)
        assert len(found) == shape[0]
        for detections in found:
            assert detections.boxes.shape == (0, 4)
            assert detections.boxes.dtype == detections.scores.dtype == np.float32
            assert detections.class_ids.dtype == np.int64


def test_half_precision_input():
    found = postprocess_batch(ROWS[None].half(), BASE)[0]
    assert found.boxes.dtype == np.float32
    assert found.class_ids.tolist() == [0, 1, 2]
