"""Evaluation with tiles, by a network of which every answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.array_loader import ArrayLoader
from data.eval_dataset import EvalDataset
from data.image_file import read_image
from models.runtimes.runner_predictor import RunnerPredictor
from tests.blob_network import BlobNetwork, image_with
from utils.detect.tiles import TileRules
from utils.engine.evaluate import evaluate
from utils.engine.tiled_predictor import TiledPredictor
from utils.errors import DatasetError
from utils.letterbox import InputSize
from utils.postprocess import VAL_POSTPROCESS
from utils.structures import ImageRecord, Targets

SMALL = [(3, 5, 13, 15), (60, 58, 70, 68), (201, 90, 211, 100)]
SHAPES = [(160, 256), (64, 64), (200, 90), (160, 256)]
NAMES = ("box", "other")


def targets(boxes):
    return Targets(np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Images of several sizes with small boxes; in the last one, one of them is in a crowd."""
    folder = tmp_path_factory.mktemp("tiled")
    made = []
    for number, (height, width) in enumerate(SHAPES):
        boxes = [box for box in SMALL if box[2] < width and box[3] < height]
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), image_with(boxes, (height, width)))
        crowd = boxes[-1:] if number == 3 else []
        objects = targets([box for box in boxes if box not in crowd])
        areas = np.full(len(objects), 100, np.float32)
        made.append(ImageRecord(path, (height, width), objects, number, areas, targets(crowd)))
    return tuple(made)


def measure(records, tiles=None, *, network=None, rect=True, size=64):
    """AP and detections, with tiles or without."""
    predict = RunnerPredictor(network or BlobNetwork(min_side=8), VAL_POSTPROCESS)
    if tiles is not None:
        fitted = InputSize((size, size), 32 if rect else None)
        predict = TiledPredictor(predict, read_image, fitted, tiles, VAL_POSTPROCESS)
    dataset = EvalDataset(records, size, 3, rect=rect)
    loader = ArrayLoader(dataset, workers=0)
    return evaluate(predict, loader, len(loader), dataset.records, NAMES)


@pytest.mark.parametrize("rect", [True, False])
@pytest.mark.parametrize("merge", ["nms", "nmm"])
def test_small_objects_are_found_where_they_are(records, merge, rect):
    plain = measure(records, rect=rect)
    tiled = measure(records, TileRules((64, 64), 0.3, merge, 4), rect=rect)
    assert plain.metrics.AP < 0.5 and tiled.metrics.AP > 0.999
    assert tiled.metrics.AP_small > 0.999 and tiled.metrics.instances == 8
    for record in records:
        expected = sorted([*record.targets.boxes.tolist(), *record.crowd.boxes.tolist()])
        found = tiled.detections[record.image_id].boxes
        np.testing.assert_allclose(sorted(found.tolist()), expected, atol=0.01)


def test_one_tile_is_plain_evaluation(records):
    plain, tiled = measure(records), measure(records, TileRules((256, 256)))
    assert tiled.metrics.AP == plain.metrics.AP
    for image_id, expected in plain.detections.items():
        found = tiled.detections[image_id]
        for name in ("boxes", "scores", "class_ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_tiles_run_in_batches(records):
    network = BlobNetwork(min_side=8)
    measure(records[:1], TileRules((64, 64), 0.3, "nms", 5), network=network)
    # 4 rows and 6 columns, 20 of 64 px shared, after the whole image.
    assert [count for count, _, _ in network.seen] == [1, 5, 5, 5, 5, 4]


def test_the_time_of_tiles_counts(records):
    times = measure(records, TileRules((64, 64))).ms_per_image
    assert min(times.preprocess, times.inference, times.postprocess) > 0


def test_a_damaged_image_is_named(records, tmp_path):
    """It was whole when the data set was read, and goes while it is evaluated."""

    def read(path):
        raise DatasetError(f"{path}: gone")

    predict = RunnerPredictor(BlobNetwork(), VAL_POSTPROCESS)
    tiled = TiledPredictor(predict, read, InputSize((64, 64), 32), TileRules((64, 64)),
                           VAL_POSTPROCESS)  # fmt: skip
    loader = ArrayLoader(EvalDataset(records[:1], 64, 1, rect=True), workers=0)
    with pytest.raises(DatasetError, match=r"0\.png: gone"):
        evaluate(tiled, loader, 1, records[:1], NAMES)
