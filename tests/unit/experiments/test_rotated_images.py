"""Images turned by 180 degrees: boxes follow what is in them, and two turns are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.records import read_records
from experiments.rotated_images import write_rotated_val
from tests.unit.data.builders import NAMES, write_yolo_set
from utils.structures import ImageRecord

LABELS = {
    "one": "0 0.25 0.3 0.5 0.2\n",
    "many": "2 0.1 0.2 0.1 0.3\n1 0.7 0.5 0.6 0.25\n0 0.5 0.5 1 1\n",
    "background": "",
    "unlabelled": None,
}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_yolo_set(tmp_path / "set", LABELS, hw=(47, 64))


def records(yaml: Path) -> dict[str, ImageRecord]:
    found = read_records(load_dataset_spec(str(yaml)), "val", strict=True)
    return {record.path.stem: record for record in found}


def test_boxes_by_hand(tmp_path):
    """A box at the top left of an image of 40 x 80 comes to lie at its bottom right."""
    data = write_yolo_set(tmp_path / "set", {"a": "1 0.25 0.25 0.3 0.1\n"}, hw=(40, 80))
    assert records(data)["a"].targets.boxes == pytest.approx(np.array([[8, 8, 32, 12]]), abs=1e-4)
    turned = records(write_rotated_val(data, tmp_path / "turned"))["a"]
    assert turned.targets.boxes == pytest.approx(np.array([[48, 28, 72, 32]]), abs=1e-4)
    assert turned.targets.class_ids.tolist() == [1]


def test_a_red_corner_moves_across(tmp_path):
    data = write_yolo_set(tmp_path / "set", {"a": ""}, hw=(12, 16))
    image = np.zeros((12, 16, 3), np.uint8)
    image[0, 0] = (0, 0, 255)  # for OpenCV
    cv2.imwrite(str(tmp_path / "set/images/a.png"), image)
    turned = read_image(records(write_rotated_val(data, tmp_path / "turned"))["a"].path)
    assert turned[-1, -1].tolist() == [255, 0, 0]
    assert int(turned.astype(int).sum()) == 255  # and nowhere else


def test_once(tmp_path, data):
    before, turned = records(data), records(write_rotated_val(data, tmp_path / "once"))
    assert list(turned) == sorted(LABELS) == list(before)
    for stem, record in turned.items():
        assert record.path == tmp_path / "once" / "images" / f"{stem}.png"
        assert record.image_hw == (47, 64)
        upright = read_image(before[stem].path)
        assert np.array_equal(read_image(record.path), upright[::-1, ::-1])
        assert not np.array_equal(read_image(record.path), upright)
        assert record.targets.class_ids.tolist() == before[stem].targets.class_ids.tolist()


def test_turning_twice_is_nothing(tmp_path, data):
    once = write_rotated_val(data, tmp_path / "once")
    before, twice = records(data), records(write_rotated_val(once, tmp_path / "twice"))
    assert list(twice) == list(before)
    for stem, record in twice.items():
        assert np.array_equal(read_image(record.path), read_image(before[stem].path))
        np.testing.assert_allclose(record.targets.boxes, before[stem].targets.boxes, atol=1e-4)
        assert record.targets.class_ids.tolist() == before[stem].targets.class_ids.tolist()


def test_the_yaml(tmp_path, data):
    yaml = write_rotated_val(data, tmp_path / "once")
    assert yaml == tmp_path / "once" / "rotated.yaml"
    assert load_dataset_spec(str(yaml)).class_names == NAMES


def test_the_original_stays(tmp_path, data):
    before = {path: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()}
    write_rotated_val(data, tmp_path / "once")
    after = {path: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()}
    assert after == before


def test_what_is_there_is_not_written_again(tmp_path, data):
    yaml = write_rotated_val(data, tmp_path / "once")
    label = tmp_path / "once" / "labels" / "one.txt"
    label.write_text("kept")
    assert write_rotated_val(data, tmp_path / "once") == yaml
    assert label.read_text() == "kept"
    yaml.unlink()  # written last: without it the folder is not whole
    write_rotated_val(data, tmp_path / "once")
    assert label.read_text() != "kept"
