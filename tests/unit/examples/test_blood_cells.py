"""Drawn blood cells: labels that fit, the same files for the same seed, clear errors."""

from __future__ import annotations

import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from examples import blood_cells
from utils.boxes import pairwise_iou
from utils.logs import SHIPPED_WEIGHTS
from val import ValConfig, validate


@pytest.fixture(scope="module")
def yaml(tmp_path_factory):
    return blood_cells.write_blood_cells(tmp_path_factory.mktemp("drawn") / "cells", 8)


def test_the_data_set_is_read_without_complaint(yaml):
    spec = load_dataset_spec(yaml)
    assert spec.class_names == blood_cells.CLASS_NAMES
    counts = {split: len(read_records(spec, split, strict=True)) for split in ("train", "val")}
    assert counts == {"train": 6, "val": 2}


@pytest.mark.parametrize("seed", range(5))
def test_boxes_fit_the_image_and_hide_no_other(seed):
    image, targets = blood_cells.draw_image(np.random.default_rng(seed))
    height, width = blood_cells.IMAGE_HW
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert set(targets.class_ids) <= {0, 1, 2} and len(targets.boxes) >= 8
    assert targets.boxes.min() >= 0
    assert (targets.boxes[:, 2:] <= [width, height]).all()
    assert (targets.boxes[:, 2:] - targets.boxes[:, :2]).min() > 4
    overlaps = pairwise_iou(targets.boxes, targets.boxes)
    np.fill_diagonal(overlaps, 0)
    assert overlaps.max() < 0.3


def test_the_shipped_network_finds_them(yaml, tmp_path):
    config = ValConfig(
        str(SHIPPED_WEIGHTS / "repyolov5n-bccd.pt"), data=str(yaml), project=str(tmp_path),
        noplots=True, workers=0,
    )  # fmt: skip
    assert validate(config).evaluation.metrics.AP50 > 0.5


def test_the_same_seed_gives_the_same_files(yaml, tmp_path, capsys):
    assert blood_cells.main([str(tmp_path / "again"), "--images", "8"]) == 0
    files = sorted(path for path in yaml.parent.rglob("*") if path.is_file())
    assert len(files) == 17
    for path in files:
        again = tmp_path / "again" / path.relative_to(yaml.parent)
        assert again.read_bytes() == path.read_bytes()


def test_folders_that_hold_something_are_left_alone(tmp_path, caplog):
    (tmp_path / "mine.txt").write_text("mine")
    assert blood_cells.main([str(tmp_path)]) == 2
    assert blood_cells.main([str(tmp_path / "new"), "--images", "3"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert [record.message for record in caplog.records] == [
        f"error: {tmp_path}: exists and is not empty; name a new folder",
        "error: --images 3: at least 4 are needed",
    ]
