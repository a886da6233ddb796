"""Our network, from pixels to detections, against another implementation's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint
from models.conversion.deploy import to_deploy
from models.network.box_coder import BoxCoder, split_anchors
from models.runtimes.torch_predictor import postprocess_batch
from tests.equivalence.same_detections import DETECT, VAL, assert_same_detections
from utils.postprocess import postprocess


@pytest.fixture(scope="module")
def model(yolov5n):
    return build_from_checkpoint(yolov5n)


@pytest.fixture(scope="module")
def raw(model, golden_batches):
    """Per batch, the raw predictions of its four images."""
    with torch.no_grad():
        return [model(batch.images) for batch in golden_batches]


@pytest.fixture(scope="module")
def decoded(model, raw):
    coder = BoxCoder.of(model)
    return [coder.decode(maps) for maps in raw]


def assert_maps_agree(maps, golden, prefix):
    """Of the first image, to 1e-5 of the largest value."""
    for level, ours in enumerate(maps):
        expected = golden[f"{prefix}{level}"]
        found = split_anchors(ours[:1], 3).detach().numpy()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_raw_predictions(raw, golden):
    assert_maps_agree(raw[0], golden, "b0_eval_raw")


def test_raw_predictions_in_train_mode(yolov5n, golden, golden_batches):
    trained = build_from_checkpoint(yolov5n).train()
    with torch.no_grad():
        assert_maps_agree(trained(golden_batches[0].images), golden, "b0_train_p")


def test_deploy_form(model, golden, golden_batches):
    with torch.no_grad():
        maps = to_deploy(model)(golden_batches[0].images[:1])
    assert_maps_agree(maps, golden, "b0_eval_raw")


def test_decoded(decoded, golden):
    expected = golden["b0_eval_decoded"]
    found = decoded[0][:1].numpy()
    assert found.shape == expected.shape
    assert np.abs(found[..., :4] - expected[..., :4]).max() < 1e-2  # pixels
    assert np.abs(found[..., 4:] - expected[..., 4:]).max() < 1e-5


@pytest.mark.parametrize("numpy_twin", [False, True], ids=["torch", "numpy"])
@pytest.mark.parametrize(
    ("kind", "config"), [("val", VAL), ("detect", DETECT)], ids=["val", "detect"]
)
@pytest.mark.parametrize("batch", range(3))
def test_suppression(decoded, golden, batch, kind, config, numpy_twin):
    images = decoded[batch]
    if numpy_twin:
        found = [postprocess(image.numpy(), config) for image in images]
    else:
        found = postprocess_batch(images, config)
    for number, detections in enumerate(found):
        assert_same_detections(detections, golden[f"b{batch}_nms_{kind}_{number}"])
