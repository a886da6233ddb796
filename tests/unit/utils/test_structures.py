from __future__ import annotations

import numpy as np
import pytest

from utils.letterbox import Letterbox
from utils.structures import NO_TRACK, Detections


def found(track_ids=None):
    boxes = np.array([[0, 0, 8, 8], [4, 4, 16, 16], [2, 2, 4, 4]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    return Detections(boxes, scores, np.array([0, 1, 2]), track_ids)


@pytest.mark.parametrize(
    "keep", [np.array([True, False, True]), np.array([0, 2]), slice(0, 3, 2), np.zeros(0, np.int64)]
)
def test_ids_go_with_their_detections(keep):
    ids = np.array([5, NO_TRACK, 6])
    chosen = found(ids)[keep]
    assert chosen.track_ids is not None
    assert chosen.track_ids.tolist() == ids[keep].tolist()
    assert len(chosen.track_ids) == len(chosen)
    assert found()[keep].track_ids is None


def test_ids_stay_in_pixels_of_the_original():
    ids = np.array([5, NO_TRACK, 6])
    letterbox = Letterbox.fit((32, 32), (16, 16))
    assert found(ids).in_original(letterbox).track_ids is ids
    assert found().in_original(letterbox).track_ids is None
    assert Detections.empty().track_ids is None
