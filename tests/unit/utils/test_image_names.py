"""What images are called in results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.data.builders import record
from utils.image_names import image_stems, names_in_results

CASES = [
    # paths, in the order of their image ids -> stems, names in results
    (["a.jpg", "b.png"], ["a", "b"], ["a", "b"]),
    (["000000000139.jpg"], ["000000000139"], [139]),  # as YOLOv5 does, for COCO's images
    (["x/a.jpg", "y/a.jpg", "A.png"], ["a", "a_2", "A_3"], ["a", "a_2", "A_3"]),
    (["7.jpg", "x/7.jpg"], ["7", "7_2"], [7, "7_2"]),
    (["007.jpg", "7.jpg"], ["007", "7"], [7, "7"]),
    (["1_2.jpg", "-3.jpg", "4.5.jpg", "٣.jpg"], ["1_2", "-3", "4.5", "٣"],
     ["1_2", "-3", "4.5", "٣"]),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "stems", "names"), CASES)
@pytest.mark.parametrize("step", [1, -1])
def test_names(paths, stems, names, step):
    records = [
        replace(record(Path(path), (48, 64)), image_id=number) for number, path in enumerate(paths)
    ]
    assert image_stems(records[::step]) == dict(enumerate(stems))
    assert names_in_results(records[::step]) == dict(enumerate(names))
