"""VOC's files read in place, difficult boxes as regions that are ignored."""

from __future__ import annotations

import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from experiments.voc_data import voc_yaml_without_difficult
from tests.unit.experiments.voc_builder import write_voc


@pytest.fixture
def shared(tmp_path):
    return write_voc(tmp_path / "shared")


def test_difficult_boxes_are_crowd_regions(shared, tmp_path):
    data = voc_yaml_without_difficult(shared, tmp_path / "runs")
    first, second = read_records(load_dataset_spec(data), "val")
    assert first.path == shared / "data" / "voc07" / "images" / "a.jpg"
    assert first.targets.boxes.tolist() == [[20, 10, 60, 30]]
    assert first.crowd.boxes.tolist() == [[10, 10, 30, 30]]
    assert second.targets.class_ids.tolist() == [1] and not len(second.crowd)
    assert first.image_hw == (40, 80)


def test_the_data_is_read_in_place(shared, tmp_path):
    spec = load_dataset_spec(voc_yaml_without_difficult(shared, tmp_path / "runs"))
    assert spec.class_names == ("cat", "dog")
    assert not list((tmp_path / "runs").rglob("*.jpg"))
