from __future__ import annotations

import numpy as np
import pytest

from utils.postprocess import MAX_CANDIDATES, PostprocessConfig, postprocess

# cx, cy, w, h, objectness, two class probabilities
CAT = [10, 10, 8, 8, 0.5, 1.0, 0.25]
CAT_TWIN = [10, 10, 8, 7, 0.75, 0.5, 0.25]
DOG = [10, 10, 8, 8, 1.0, 0.25, 0.75]
FAR = [40, 40, 8, 8, 0.5, 0.0, 1.0]

CASES = [
    # rows, settings, (class id, score) of each detection
    ([], {}, []),  # no rows at all
    ([CAT], {}, [(0, 0.5)]),  # best class, objectness times probability
    ([CAT], {"score_threshold": 0.5}, []),  # objectness must be above the threshold, not at it
    ([CAT_TWIN], {"score_threshold": 0.375}, []),  # so must the score
    ([CAT, CAT_TWIN], {}, [(0, 0.5)]),  # same class, same place: the better one
    ([CAT, DOG], {}, [(1, 0.75), (0, 0.5)]),  # other class: both, best first
    ([CAT, DOG], {"class_agnostic": True}, [(1, 0.75)]),  # unless classes do not matter
    ([CAT], {"multi_label": True, "score_threshold": 0.1}, [(0, 0.5), (1, 0.125)]),  # every class
    ([CAT], {"multi_label": True, "score_threshold": 0.125}, [(0, 0.5)]),  # strictly above
    ([CAT, DOG, FAR], {"max_detections": 2}, [(1, 0.75), (0, 0.5)]),  # the best two
    ([CAT, DOG, FAR], {"classes": (0,)}, [(0, 0.5)]),  # wanted classes only
    ([CAT], {"classes": (1,)}, []),  # filtering comes after the choice of the best class
]


@pytest.mark.parametrize(("rows", "settings", "expected"), CASES)
def test_cases(rows, settings, expected):
    decoded = np.array(rows, np.float32).reshape(-1, 7)
    found = postprocess(decoded, PostprocessConfig(**settings))
    assert list(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True)) == expected
    assert found.boxes.shape == (len(expected), 4)
    assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )


def test_boxes_are_corners_in_input_pixels():
    found = postprocess(np.array([CAT], np.float32), PostprocessConfig())
    assert found.boxes.tolist() == [[6, 6, 14, 14]]


def test_one_class():
    decoded = np.array([[10, 10, 4, 4, 0.5, 0.75], [30, 30, 4, 4, 0.5, 0.25]], np.float32)
    for multi_label in (False, True):
        found = postprocess(decoded, PostprocessConfig(multi_label=multi_label))
        assert found.scores.tolist() == [0.375] and found.class_ids.tolist() == [0]


def test_the_best_candidates_enter_suppression():
    rng = np.random.default_rng(0)
    count = MAX_CANDIDATES + 500
    decoded = np.zeros((count, 6), np.float32)
    decoded[:, :2] = rng.uniform(0, 640, (count, 2))
    decoded[:, 2:4] = 0.01
    decoded[:, 4] = rng.permutation(np.linspace(0.3, 1, count))
    decoded[:, 5] = 1
    found = postprocess(decoded, PostprocessConfig(max_detections=10))
    assert found.scores.tolist() == np.sort(decoded[:, 4])[::-1][:10].tolist()
