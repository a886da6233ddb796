"""A trained network is evaluated once, with and without the boxes that VOC marks difficult."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from experiments.run_evaluation import (
    DRAWS_FILE,
    FIGURES_FILE,
    RESAMPLES,
    main,
    with_crowds_as_objects,
)
from experiments.voc_data import voc_yaml_without_difficult
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec
from tests.unit.experiments.voc_builder import write_voc
from utils.structures import Targets


@pytest.fixture
def data(tmp_path):
    return voc_yaml_without_difficult(write_voc(tmp_path / "shared"), tmp_path / "runs")


def test_crowds_become_objects(data):
    first, second = read_records(load_dataset_spec(data), "val")
    record = with_crowds_as_objects(first)
    assert record.targets.boxes.tolist() == [[20, 10, 60, 30], [10, 10, 30, 30]]
    assert record.targets.class_ids.tolist() == [0, 1]
    assert record.areas.tolist() == [800, 400] and not len(record.crowd)
    unchanged = with_crowds_as_objects(second)
    assert unchanged.targets.boxes.tolist() == second.targets.boxes.tolist()
    assert len(with_crowds_as_objects(without_objects(second)).areas) == 0


def without_objects(record):
    return type(record)(record.path, record.image_hw, Targets.empty(), record.image_id,
                        np.zeros(0, np.float32), Targets.empty())  # fmt: skip


def test_the_files_of_an_evaluation(data, tmp_path):
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    save_model(folder / "weights" / "best.pt", finding_model(tiny_spec(nc=2)))
    main([str(folder), "--data", str(data), "--imgsz", "64", "--workers", "0"])
    figures = json.loads((folder / FIGURES_FILE).read_text())
    assert set(figures["per_class"]) == {"cat", "dog"}
    assert figures["AP"] == pytest.approx(np.mean(list(figures["per_class"].values())))
    assert set(figures["crowds_counted"]) <= set(figures)
    assert np.shape(figures["skeleton"]) == (3, 3)
    draws = np.load(folder / DRAWS_FILE)
    assert draws.shape == (1 + RESAMPLES,) and draws[0] == pytest.approx(figures["AP"])
