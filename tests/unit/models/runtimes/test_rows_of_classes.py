"""Files whose rows name a class each become predictions, if there is a name for it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.runtimes.heads import as_predictions
from models.runtimes.open_runner import open_runner
from tests.onnx_builders import OUR_METADATA, save_detector
from utils.errors import CheckpointError


def rows(*class_ids: float) -> np.ndarray:
    return np.array([[[1, 2, 3, 6, 0.5, class_id] for class_id in class_ids]], np.float32)


def test_each_row_scores_in_its_class() -> None:
    predictions = as_predictions(rows(0, 2), 3)
    assert predictions.tolist() == [[[2, 4, 2, 4, 1, 0.5, 0, 0], [2, 4, 2, 4, 1, 0, 0, 0.5]]]


def test_no_rows() -> None:
    assert as_predictions(np.zeros((1, 0, 6), np.float32), 3).shape == (1, 0, 8)


@pytest.mark.parametrize("class_id", [3, 79, -1])
def test_a_class_without_a_name(class_id: int) -> None:
    message = f"the network finds objects of class {class_id}, but there are names for 3; "
    with pytest.raises(CheckpointError, match=message):
        as_predictions(rows(0, class_id), 3)


@pytest.mark.parametrize(("head", "notes"), [("e2e", 1), ("best", 0)])
def test_the_user_is_told_that_a_file_suppresses(tmp_path, caplog, head, notes) -> None:
    metadata = {**OUR_METADATA, "head": json.dumps(head)}
    path = save_detector(tmp_path / "a.onnx", [[0, 0, 9, 9, 0.5, 1]], metadata=metadata)
    with caplog.at_level("INFO"):
        open_runner(str(path), device="cpu")
    assert [f"{path}: drops boxes itself" in text for text in caplog.messages] == [True] * notes
