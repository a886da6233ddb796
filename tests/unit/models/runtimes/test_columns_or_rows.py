"""Whether boxes of foreign files are rows or columns is seen by their output."""

from __future__ import annotations

import numpy as np
import pytest

from models.runtimes.open_runner import open_runner
from tests.onnx_builders import save_detector

SIZE = (1, 3, 64, 96)
BOXES = 378  # of three levels with three anchors
NAMED = {"names": repr({class_id: f"c{class_id}" for class_id in range(80)})}
TWO_NAMES = {"names": repr(["cat", "dog"])}
AS_COLUMNS = {"task": "detect"}
CASES = {
    # metadata, sizes of the output -> number of classes
    "YOLOv5's": (NAMED, (BOXES, 85), 80),
    "ultralytics'": (NAMED | AS_COLUMNS, (84, BOXES), 80),
    "rows called columns": (NAMED | AS_COLUMNS, (BOXES, 85), 80),
    "columns called rows": (NAMED, (84, BOXES), 80),
    "rows called columns, no names": (AS_COLUMNS, (BOXES, 85), 80),
    "rows called columns, other names": (TWO_NAMES | AS_COLUMNS, (BOXES, 85), 80),
    "columns, no names": (AS_COLUMNS, (84, BOXES), 80),
    "fewer boxes than values": (NAMED | AS_COLUMNS, (84, 21), 80),
    "fewer boxes than values, as rows": (NAMED, (63, 85), 80),
    "both fit, columns": (NAMED | AS_COLUMNS, (84, 85), 80),
    "both fit, rows": (NAMED, (84, 85), 80),
    "rows, no names": ({}, (84, BOXES), BOXES - 5),
}


@pytest.mark.parametrize(("metadata", "sizes", "classes"), CASES.values(), ids=CASES)
def test_the_number_of_classes(tmp_path, metadata, sizes, classes) -> None:
    path = save_detector(tmp_path / "a.onnx", np.zeros(sizes), input_shape=SIZE, metadata=metadata)
    found = open_runner(str(path), device="cpu").run(np.zeros(SIZE, np.float32))
    assert found.shape[2] == 5 + classes
