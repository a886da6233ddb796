"""Frames seen whole and in tiles, by a network of which every answer is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.sources import SourceOptions, open_source
from tests.blob_network import BlobNetwork, image_with
from utils.detect.pipeline import FrameDetector, StageClock, prepared
from utils.detect.tiled_detector import TiledDetector
from utils.detect.tiles import TileRules
from utils.letterbox import InputSize
from utils.postprocess import PostprocessConfig
from utils.structures import FittedFrame, Frame, Skipped

SIZE = InputSize((64, 64), 32)
# A network's limit: nothing shorter than 8 px of its input. The objects are 10 px and 100 px.
SMALL = [(3, 5, 13, 15), (60, 58, 70, 68), (201, 90, 211, 100), (240, 140, 250, 150)]
LARGE = (92, 20, 188, 120)  # whole pixels of the input, too, where the image is a quarter
IMAGE = image_with([*SMALL, LARGE], (160, 256))


def clock():
    return StageClock(("decode", "preprocess", "inference", "postprocess"))


def frame(image, name="x.png"):
    return Frame(image, name, Path(name), 1, 1, 1, 1, None, False)


def detectors(network, tiles, size=SIZE, **settings):
    """One that looks at whole frames, and one with tiles, too."""
    plain = FrameDetector(network, network.class_names, size, PostprocessConfig(**settings))
    return plain, TiledDetector.of(plain, tiles)


def find(detector, images):
    """What it finds in images of one input size."""
    items = [FittedFrame(number, frame(image), detector.size.letterbox(image.shape[:2]))
             for number, image in enumerate(images)]  # fmt: skip
    watch = clock()
    return list(detector.find(prepared([items], watch), watch))


def boxes_of(found):
    return sorted(tuple(np.rint(box).astype(int).tolist()) for box in found.detections.boxes)


@pytest.mark.parametrize("merge", ["nms", "nmm"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_small_objects_are_found_where_they_are(batch_size, merge):
    network = BlobNetwork(min_side=8)
    plain, tiled = detectors(network, TileRules((64, 64), 0.2, merge, batch_size))
    assert boxes_of(find(plain, [IMAGE])[0]) == [LARGE]
    network.seen.clear()
    (found,) = find(tiled, [IMAGE])
    boxes = boxes_of(found)
    assert boxes == sorted([*SMALL, LARGE])  # the large one once: the tiles show parts of it
    assert network.seen[0] == (1, 64, 64)  # 40 px high, padded
    assert sum(count for count, _, _ in network.seen[1:]) == 15
    assert max(count for count, _, _ in network.seen[1:]) == min(batch_size, 15)
    assert found.detections.scores.tolist() == sorted(found.detections.scores, reverse=True)


def test_batch_size_of_the_file_counts():
    network = BlobNetwork(min_side=8, batch_size=4)
    _, tiled = detectors(network, TileRules((64, 64), 0.2, "nms", 100))
    find(tiled, [IMAGE])
    assert [count for count, _, _ in network.seen] == [1, 4, 4, 4, 3]


@pytest.mark.parametrize(
    "image",
    [
        image_with([(20, 20, 40, 40)], (64, 64)),
        image_with([(4, 4, 12, 12)], (24, 40)),  # smaller than a tile
        image_with([(0, 0, 1, 1)], (1, 1)),  # a pixel
        image_with([], (64, 1)),
    ],
    ids=["tile", "small", "pixel", "line"],
)
def test_one_tile_is_plain_detection(image):
    network = BlobNetwork()
    plain, tiled = detectors(network, TileRules((64, 64)))
    expected, found = find(plain, [image])[0], find(tiled, [image])[0]
    assert len(network.seen) == 2  # nothing is seen twice
    for name in ("boxes", "scores", "class_ids"):
        np.testing.assert_array_equal(
            getattr(found.detections, name), getattr(expected.detections, name)
        )


def test_images_that_are_one_tile_high():
    """And tiles of another shape than the input, which are resized and padded."""
    image = image_with([(10, 4, 30, 20), (100, 2, 110, 22)], (24, 128))
    _, tiled = detectors(BlobNetwork(), TileRules((48, 48), 0.5, "nmm"))
    (found,) = find(tiled, [image])
    np.testing.assert_allclose(
        sorted(found.detections.boxes.tolist()), [[10, 4, 30, 20], [100, 2, 110, 22]], atol=1.5
    )


def test_rules_of_detection_hold_for_tiles():
    network = BlobNetwork()
    for settings, count in (({"max_detections": 2}, 2), ({"classes": (1,)}, 0),
                            ({"score_threshold": 0.95}, 0)):  # fmt: skip
        _, tiled = detectors(network, TileRules((64, 64)), **settings)
        assert len(find(tiled, [IMAGE])[0].detections) == count


def test_frames_of_a_batch_do_not_mix():
    second = image_with([(30, 30, 45, 45)], (160, 256))
    _, tiled = detectors(BlobNetwork(min_side=8), TileRules((64, 64), 0.2, "nmm", 4))
    together = find(tiled, [IMAGE, second, IMAGE])
    assert [found.number for found in together] == [0, 1, 2]
    for found, image in zip(together, (IMAGE, second, IMAGE), strict=True):
        assert boxes_of(found) == boxes_of(find(tiled, [image])[0])
        assert found.frame.image.shape == image.shape and found.milliseconds > 0


@pytest.mark.parametrize("stride", [32, None], ids=["rect", "one size"])
def test_a_folder_of_images_of_all_sizes(tmp_path, stride):
    """In their order, whatever the batches; what cannot be read is skipped."""
    shapes = [(160, 256), (64, 64), (300, 90), (160, 256), (20, 30), (64, 400)]
    for number, image_hw in enumerate(shapes):
        image = image_with([(4, 4, 14, 14)], image_hw)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    (tmp_path / "3b.png").write_bytes(b"no image")
    _, tiled = detectors(
        BlobNetwork(min_side=8), TileRules((64, 64), 0.2, "nmm", 2), InputSize((64, 64), stride)
    )
    results = list(tiled.results(open_source([str(tmp_path)], SourceOptions()), 2, clock()))
    assert [r.path.name for r in results if isinstance(r, Skipped)] == ["3b.png"]
    found = [result for result in results if not isinstance(result, Skipped)]
    assert [each.frame.path.name for each in found] == [f"{n}.png" for n in range(6)]
    for each in found:
        np.testing.assert_allclose(each.detections.boxes, [[4, 4, 14, 14]], atol=1)
