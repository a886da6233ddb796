"""Runs that are finished are read, and each setting has its own."""

from __future__ import annotations

import dataclasses
import json

import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from experiments import scratch_training
from experiments.scratch_training import (
    COUNTED,
    PLAIN,
    PREDICTIONS,
    ROWS,
    Setting,
    hyp_of_a_step_per_batch,
    loss_curve,
    table,
    train_row,
    write_report,
)
from experiments.voc_data import matches_of, voc_yaml, voc_yaml_without_difficult
from models.reparam.families import block_family
from tests.unit.data.builders import write_image
from train import Hyperparameters
from utils.cli import parse
from utils.train_config import REFUSED, TrainConfig

BY_NAME = {row.name: row for row in ROWS}
HEAD = ("epoch,      train/box_loss, train/obj_loss, train/cls_loss, metrics/mAP_0.5, "
        "metrics/mAP_0.5:0.95")  # fmt: skip


@pytest.fixture
def setting(tmp_path) -> Setting:
    shared = tmp_path / "shared"
    root = shared / "data" / "voc07"
    for stem in ("a", "b"):
        write_image(root / "images" / f"{stem}.jpg", (40, 80))
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.25 0.5\n")
    (root / "labels" / "b.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (root / "difficult.txt").write_text("a 1\n")
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("images/a.jpg\nimages/b.jpg\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return Setting(shared, tmp_path / "runs", 2, 96)


def finish(setting: Setting, row, seed: int, AP: float) -> None:
    folder = setting.folder(row, seed)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"AP": AP, "AP50": 2 * AP, "seconds": 120}))
    (folder / COUNTED).write_text(json.dumps({"AP": AP / 2, "AP50": AP}))
    (folder / PREDICTIONS).parent.mkdir()
    found = [{"image_id": 1, "category_id": 0, "bbox": [20, 10, 40, 20], "score": AP}]
    (folder / PREDICTIONS).write_text(json.dumps(found))
    (folder / "commit.txt").write_text("abc1234")
    (folder / "results.csv").write_text(f"{HEAD}\n0, .1, .2, .3, 0, 0\n1, .1, .1, .2, .2, {AP}\n")


def test_rows_have_names_of_their_own_and_known_blocks():
    assert len(BY_NAME) == len(ROWS) and ROWS[0] == PLAIN
    for row in ROWS[1:]:
        block_family(row.rep_block, row.name)
        assert not row.scales_of or BY_NAME[row.scales_of].rep_block == "LinearAdd"


def test_the_flags_are_those_of_train(setting, monkeypatch):
    """And searched scales are those of the same seed."""
    seen = []
    monkeypatch.setattr(
        scratch_training, "train_once", lambda folder, *flags: seen.append(flags) or {}
    )
    train_row(BY_NAME["RepOpt, searched scales"], 1, setting)
    config = parse(TrainConfig, list(seen[0]), REFUSED)
    best = setting.folder(BY_NAME["LinearAdd"], 1) / "weights" / "best.pt"
    assert (config.rep_block, config.scales, config.seed) == ("RepOpt", str(best), 1)
    assert (config.imgsz, config.epochs, config.batch_size) == (96, 2, 16)


def test_settings_do_not_share_runs(setting):
    others = [
        Setting(setting.shared, setting.runs, 3, 96),
        Setting(setting.shared, setting.runs, 2, 64),
        Setting(setting.shared, setting.runs, 2, 96, amp="bf16"),
    ]
    folders = {each.folder(row, seed) for each in (setting, *others) for row in ROWS
               for seed in (0, 1)}  # fmt: skip
    assert len(folders) == 4 * 2 * len(ROWS)


@pytest.mark.parametrize("batch_size", [8, 16])
def test_a_step_per_batch(setting, batch_size):
    setting.runs.mkdir()
    setting = dataclasses.replace(setting, batch_size=batch_size)
    hyp = Hyperparameters.read(str(hyp_of_a_step_per_batch(setting)))
    assert hyp.optimizer.accumulate(batch_size) == 1


def test_a_report_of_what_is_finished(setting, tmp_path):
    voc_yaml_without_difficult(setting.shared, setting.runs)
    for seed, AP in enumerate((0.10, 0.12)):
        finish(setting, PLAIN, seed, AP)
    finish(setting, BY_NAME["RepOpt"], 0, 0.2)
    assert loss_curve(setting.folder(PLAIN, 0)) == pytest.approx([0.6, 0.4])
    write_report(tmp_path, setting, (0, 1, 2))
    (report,) = tmp_path.glob("scratch_training_voc07_cpu_*.md")
    assert (tmp_path / f"{report.stem}.png").exists()
    rows = [line for line in report.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 3  # a head, and two rows with runs
    assert (
        "| plain | 2 | 0.1000, 0.1200 | 0.110 (0.014) | 0.220 | 0.055, 0.110 |  |  | "
        "0.400 (0.000) | 2, 2 |" in rows[1]
    )
    assert (
        "| RepOpt | 1 | 0.2000 | 0.200 | 0.400 | 0.100, 0.200 | +0.090 | +0.000 to +0.000 | "
        "0.400 | 2 | abc1234 |" in rows[2]
    )
    assert table(setting, {BY_NAME["RepOpt"]: [0]})[2].count("|") == rows[2].count("|")


def test_difficult_boxes_are_crowd_regions(setting, tmp_path):
    data = voc_yaml_without_difficult(setting.shared, setting.runs)
    first, second = read_records(load_dataset_spec(data), "val")
    assert first.path == setting.shared / "data" / "voc07" / "images" / "a.jpg"
    assert first.targets.boxes.tolist() == [[20, 10, 60, 30]]
    assert first.crowd.boxes.tolist() == [[10, 10, 30, 30]]
    assert second.targets.class_ids.tolist() == [1] and not len(second.crowd)
    assert first.image_hw == (40, 80)

    predictions = tmp_path / "found.json"
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    predictions.write_text(json.dumps([box, {**box, "image_id": 2, "bbox": [30, 10, 20, 20]}]))
    dogs = matches_of(data, predictions).classes[1]
    assert dogs.counted[0, 0].tolist() == [False, True]  # on the difficult one: neither
    assert dogs.true_positive[0, 0].tolist() == [False, True]


def test_the_data_is_read_in_place(setting):
    text = voc_yaml(setting.shared, setting.runs).read_text()
    assert str(setting.shared / "data" / "voc07") in text and "train.txt" in text
    assert "cat" in text and "dog" in text
