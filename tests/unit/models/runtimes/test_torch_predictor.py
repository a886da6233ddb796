"""A network in torch from batch to detections."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models.network.box_coder import BoxCoder
from models.runtimes import torch_predictor
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


class MapFigures:
    """A criterion that depends on all values of the maps, and on the batch."""

    def __init__(self, raw_predictions=(), batch=None):
        self.raw, self.batch = raw_predictions, batch

    def __call__(self, raw_predictions, batch):
        return MapFigures(raw_predictions, batch)

    def parts(self):
        squares = sum(level.double().pow(2).mean() for level in self.raw)
        images = len({len(level) for level in self.raw} | {len(self.batch.image_ids)})
        return torch.tensor([squares, self.raw[0][-1].double().sum(), images])


def test_on_a_cpu_the_network_gets_few_images_at_once(monkeypatch):
    """Which changes neither what is found nor the loss."""
    model = finding_model(tiny_spec())
    generator = torch.Generator().manual_seed(0)
    batch = batch_of(torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8, generator=generator))
    given = []
    model.register_forward_pre_hook(lambda _, inputs: given.append(tuple(inputs[0].shape)))
    predict = TorchPredictor(model, CONFIG, criterion=MapFigures())
    whole = predict(batch)
    monkeypatch.setattr(torch_predictor, "CPU_PIXELS", 2 * 64 * 96 + 1)
    parts = predict(batch)
    monkeypatch.setattr(torch_predictor, "CPU_PIXELS", 1)  # an image is the least
    single = predict(batch)
    assert [shape[0] for shape in given] == [5, 2, 2, 1, 1, 1, 1, 1, 1]
    for cut in (parts, single):
        assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
        assert len(cut.detections) == len(whole.detections) == 5
        for found, wanted in zip(cut.detections, whole.detections, strict=True):
            assert len(found) == len(wanted) > 10
            np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
