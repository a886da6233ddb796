"""The weights in models/weights: small, plain, ours, and as good as their card says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import detect
import val
from experiments.evaluations import write_data_yamls
from models.checkpoints.loading import build_from_checkpoint
from utils.checkpoint import load_checkpoint
from utils.detect_config import DetectConfig
from utils.logs import SAMPLE_IMAGES, SHIPPED_WEIGHTS
from utils.val_config import ValConfig

FILES = sorted(SHIPPED_WEIGHTS.glob("*.pt"))
CARDS = (SHIPPED_WEIGHTS / "README.md").read_text(encoding="utf-8")
MAX_BYTES = 4_000_000


def card(path: Path) -> str:
    """What the page says of a file."""
    return CARDS.partition(f"## {path.name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_small_file_in_deploy_form_of_which_the_card_is_true(path):
    checkpoint = load_checkpoint(path)
    assert checkpoint.form == "deploy" and path.stat().st_size < MAX_BYTES
    assert checkpoint.config["license"] == "Apache-2.0"
    assert checkpoint.config["opt"]["weights"] in ("", path.name)  # from scratch, or from itself
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card(path)
    parameters = sum(each.numel() for each in build_from_checkpoint(checkpoint).parameters())
    assert f"{parameters / 1e6:.2f} million parameters" in card(path)
    for name in checkpoint.class_names:
        assert name in card(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_of_the_machine_that_trained_it_is_inside(path):
    options = load_checkpoint(path).config["opt"]
    assert not [value for value in options.values() if str(value).startswith(("/", "~", ".."))]


def test_detect_without_flags_finds_defects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert detect.main([]) == 0
    shown = capsys.readouterr().out
    found = re.search(r"(\d+) frames, (\d+) detections", shown)
    assert found is not None and int(found[1]) == 4 and int(found[2]) > 20, shown
    names = sorted(path.name for path in (tmp_path / "runs/detect/exp").glob("*.jpg"))
    assert names == sorted(path.name for path in SAMPLE_IMAGES.glob("deeppcb_*.jpg"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_val_reproduces_the_cards_AP(path, tmp_path, shared):
    write_data_yamls(shared, tmp_path)
    data = tmp_path / f"{path.stem.rpartition('-')[2]}.yaml"
    config = ValConfig(str(path), data=str(data), project=str(tmp_path), noplots=True)
    stated = re.search(r"float \| (0\.\d+) \| (0\.\d+)", card(path))
    assert stated is not None
    metrics = val.validate(config).evaluation.metrics
    assert f"{metrics.AP:.3f}" == stated[1] and f"{metrics.AP50:.3f}" == stated[2]


def test_blood_cells_are_found(tmp_path):
    """Each sample image shows red cells, a white cell and platelets."""
    weights = str(SHIPPED_WEIGHTS / "repyolov5n-bccd.pt")
    config = DetectConfig(weights, str(SAMPLE_IMAGES / "bccd_*.jpg"), project=str(tmp_path),
                          save_json=True)  # fmt: skip
    entries = json.loads((detect.detect(config).folder / "predictions.json").read_text())
    assert len(entries) == 4
    for entry in entries:
        names = [each["name"] for each in entry["detections"]]
        assert set(names) == {"RBC", "WBC", "Platelets"} and names.count("RBC") > 5
