"""Three views of an image, against a reference in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.network.model_spec import SPECS_FOLDER
from models.runtimes.augmented import VIEWS, AugmentedRunner, View, num_levels, without_tails
from models.runtimes.open_runner import open_networks
from models.runtimes.torch_runner import TorchRunner
from tests.blob_network import BlobNetwork, image_with
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, meta_model, tiny_spec
from tests.onnx_builders import save_detector
from utils.errors import ConfigError
from utils.letterbox import network_input

ROW = [16, 16, 16, 8, 0.5, 0.25, 1.0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("augmented") / "w.pt", finding_model(tiny_spec()))


def resized(plane, hw):
    """Bilinear in float64: the centres of the new pixels lie between those of the old ones."""
    for axis, new in enumerate(hw):
        old = plane.shape[axis]
        where = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, old - 1)
        shape = [1, 1]
        shape[axis] = new
        share = (where - low).reshape(shape)
        plane = np.take(plane, low, axis) * (1 - share) + np.take(plane, high, axis) * share
    return plane


def reference(runner, images, strides, num_anchors):
    """YOLOv5's rules, image by image, a level at a time."""
    height, width = images.shape[2:]
    stride = max(strides)
    collected = []
    for number, (scale, mirrored) in enumerate([(1, False), (0.83, True), (0.67, False)]):
        seen = images.astype(np.float64)[..., :: -1 if mirrored else 1]
        small_h, small_w = int(height * scale), int(width * scale)
        padded_hw = [math.ceil(side * scale / stride) * stride for side in (height, width)]
        view = np.full((*images.shape[:2], *padded_hw), 114 / 255)
        for target, image in zip(view, seen, strict=True):
            for plane, source in zip(target, image, strict=True):
                plane[:small_h, :small_w] = resized(source, (small_h, small_w))
        decoded = runner.run(view.astype(np.float32)).astype(np.float64)
        decoded[..., [0, 2]] *= width / small_w
        decoded[..., [1, 3]] *= height / small_h
        if mirrored:
            decoded[..., 0] = width - decoded[..., 0]
        counts = [num_anchors * (padded_hw[0] // s) * (padded_hw[1] // s) for s in strides]
        levels = np.split(decoded, np.cumsum(counts)[:-1], axis=1)
        if number == 0:
            levels = levels[:-1]
        if number == 2:
            levels = levels[1:]
        collected += levels
    return np.concatenate(collected, axis=1)


@pytest.mark.parametrize("image_hw", [(64, 96), (160, 64), (32, 32)])
def test_as_the_reference_does(weights, image_hw):
    images = np.random.default_rng(0).random((2, 3, *image_hw), np.float32)
    runner = TorchRunner(weights, device="cpu")
    found = AugmentedRunner(runner, "w.pt").run(images)
    expected = reference(runner, images, runner.model.strides, num_anchors=2)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=5e-3)
    assert np.abs(found - expected).mean() < 1e-4


def test_the_same_object_is_found_in_every_view():
    """Where it is, in pixels of the image, however the view is scaled and mirrored."""
    boxes = [(16, 32, 48, 56), (100, 8, 120, 80)]
    images = network_input([image_with(boxes, (128, 160))])
    network = BlobNetwork()
    for view in VIEWS:
        decoded = view.undo(network.run(view.apply(images, 32)), images)[0]
        found = decoded[decoded[:, 5] > 0]
        centres = sorted(((left + right) / 2, (top + bottom) / 2)
                         for left, top, right, bottom in boxes)  # fmt: skip
        np.testing.assert_allclose(sorted(found[:, :2].tolist()), centres, atol=1.2)
        np.testing.assert_allclose(sorted(found[:, 2]), [20, 32], atol=2)
    # Padded at the right and below, to multiples of the stride.
    assert network.seen == [(1, 128, 160), (1, 128, 160), (1, 96, 128)]


@pytest.mark.parametrize("scale", [1.0, 0.83, 0.67, 0.5])
def test_a_mirrored_view_of_a_mirrored_image_is_the_plain_view(scale):
    images = np.random.default_rng(1).random((2, 3, 64, 96), np.float32)
    mirrored = np.ascontiguousarray(images[..., ::-1])
    plain, flipped = View(scale), View(scale, mirrored=True)
    np.testing.assert_array_equal(plain.apply(images, 32), flipped.apply(mirrored, 32))
    decoded = np.random.default_rng(2).random((2, 5, 8), np.float32) * 60
    expected = plain.undo(decoded, images)
    expected[..., 0] = 96 - expected[..., 0]
    np.testing.assert_array_equal(flipped.undo(decoded, images), expected)


def test_nothing_given_is_changed(weights):
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    before = images.copy()
    AugmentedRunner(TorchRunner(weights, device="cpu"), "w.pt").run(images)
    np.testing.assert_array_equal(images, before)


def test_one_image_at_a_time_is_the_same(weights):
    images = np.random.default_rng(3).random((3, 3, 64, 64), np.float32)
    runner = open_networks([str(weights)], device="cpu", augment=True)
    one_by_one = np.concatenate([runner.run(image[None]) for image in images])
    np.testing.assert_allclose(runner.run(images), one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(path.name for path in SPECS_FOLDER.glob("*.yaml")))
def test_levels_of_every_network(name):
    model = meta_model(name)
    cells_hw = (3 * model.stride, 5 * model.stride)
    counts = [
        len(anchors) // 2 * (cells_hw[0] // stride) * (cells_hw[1] // stride)
        for anchors, stride in zip(model.spec.anchors, model.strides, strict=True)
    ]
    assert num_levels(sum(counts), 15) == len(counts)
    decoded = np.arange(sum(counts), dtype=np.float32).reshape(1, -1, 1)
    parts = without_tails([(decoded, len(counts))] * 3)
    assert parts[0].ravel().tolist() == list(range(sum(counts[:-1])))
    assert parts[1] is decoded
    assert parts[2].ravel().tolist() == list(range(counts[0], sum(counts)))


@pytest.mark.parametrize(("count", "cells"), [(300, 400), (3 * 15, 15), (1, 15)])
def test_predictions_of_no_levels_stay_whole(count, cells):
    """Suppressed lists, and networks of one level."""
    assert num_levels(count, cells) == 1
    decoded = np.ones((1, count, 7), np.float32)
    assert [part.shape[1] for part in without_tails([(decoded, 1)] * 3)] == [count] * 3


@pytest.mark.parametrize("image_hw", [(64, 64), (192, 320)], ids=["4 cells", "60 cells"])
def test_suppressed_detections_stay_whole(image_hw):
    """Whatever their number: 300 are also five times 60 cells, as two levels would be."""

    class Suppressing(BlobNetwork):
        suppresses = True

        def run(self, images):
            return np.zeros((len(images), 300, 6), np.float32)

    found = AugmentedRunner(Suppressing(), "w.onnx").run(np.zeros((1, 3, *image_hw), np.float32))
    assert found.shape == (1, 3 * 300, 6)


def test_a_file_of_one_size_is_refused(tmp_path):
    path = str(save_detector(tmp_path / "w.onnx", [ROW], input_shape=("batch", 3, 64, 64)))
    with pytest.raises(ConfigError) as error:
        open_networks([path], device="cpu", augment=True)
    assert str(error.value) == (
        f"--augment: {path} takes 64x64 px only and would have to see each image at three sizes; "
        "give a checkpoint, or a file exported with --dynamic"
    )


def test_a_file_of_free_size_is_not(tmp_path):
    path = str(save_detector(tmp_path / "w.onnx", [ROW]))
    runner = open_networks([path], device="cpu", augment=True)
    assert (runner.class_names, runner.stride, runner.input_hw) == (
        ("cat", "dog"),
        32,
        (None, None),
    )
    decoded = runner.run(np.ones((2, 3, 64, 64), np.float32))
    # At 0.83, 53 of 64 pixels, and mirrored; at 0.67, 42 pixels.
    expected = [[16, 16, 16, 8], [64 - 16 / 53 * 64, *(np.array([16, 16, 8]) / 53 * 64)],
                np.array([16, 16, 16, 8]) / 42 * 64]  # fmt: skip
    np.testing.assert_allclose(decoded[0, :, :4], expected, rtol=1e-5)
