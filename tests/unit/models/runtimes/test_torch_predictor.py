"""A network in torch from batch to detections."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models.network.box_coder import BoxCoder
from models.runtimes.torch_predictor import TorchPredictor, postprocess_batch
from tests.model_builders import finding_model, tiny_spec
from utils.batches import Batch
from utils.postprocess import PostprocessConfig

CONFIG = PostprocessConfig(0.001, 0.6, 300, multi_label=True)


def batch_of(images):
    count = len(images)
    return Batch(
        images=images,
        image_index=torch.zeros(0, dtype=torch.int64),
        class_ids=torch.zeros(0, dtype=torch.int64),
        boxes=torch.zeros(0, 4),
        image_ids=tuple(range(count)),
        letterboxes=(None,) * count,
        paths=(Path("a.jpg"),) * count,
    )


@pytest.mark.parametrize("half", [False, True])
def test_boxes_are_decoded_in_float32(half):
    """A wide input, where float16 would place boxes on a grid of whole pixels."""
    model = finding_model(tiny_spec())
    model = copy.deepcopy(model).half() if half else model
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 1280), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        raw = model(images.to(torch.float16 if half else torch.float32) / 255)
    expected = postprocess_batch(
        BoxCoder.of(model).decode([level.float() for level in raw]), CONFIG
    )
    prediction = TorchPredictor(model, CONFIG, half=half)(batch_of(images))
    right_edges = 0
    for found, wanted in zip(prediction.detections, expected, strict=True):
        assert np.array_equal(found.boxes, wanted.boxes)
        assert np.array_equal(found.scores, wanted.scores)
        right_edges += int((found.boxes[:, 2] % 1 > 0).sum())
    assert right_edges > 10
    assert prediction.loss is None
