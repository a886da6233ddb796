from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from models.losses.loss import LossConfig
from utils.errors import ConfigError
from utils.hyperparameters import HYPS_FOLDER, Hyperparameters
from utils.strict_yaml import write_yaml

SHIPPED = sorted(path.name for path in HYPS_FOLDER.glob("*.yaml"))


def test_three_are_shipped():
    names = [f"hyp.scratch-{size}.yaml" for size in ("high", "low", "med")]
    assert names == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_say_everything(name):
    hyp = Hyperparameters.from_file(name)
    lines = (HYPS_FOLDER / name).read_text().splitlines()
    keys = {line.split(":")[0] for line in lines if line and not line.startswith("#")}
    assert keys == {field.name for field in dataclasses.fields(hyp)}


def test_the_defaults_are_the_low_ones():
    assert Hyperparameters.from_file("hyp.scratch-low.yaml") == Hyperparameters()


def test_what_the_stronger_ones_change():
    """YOLOv5's differences between its files."""
    high, low, med = (Hyperparameters.from_file(name) for name in SHIPPED)
    assert (med.lrf, med.cls, med.obj) == (0.1, 0.3, 0.7)
    assert (low.scale, med.scale, high.scale) == (0.5, 0.9, 0.9)
    assert (low.mixup, med.mixup, high.mixup) == (0.0, 0.1, 0.1)
    assert (low.copy_paste, med.copy_paste, high.copy_paste) == (0.0, 0.0, 0.1)


def test_some_keys_are_enough(tmp_path):
    path = tmp_path / "h.yaml"
    write_yaml(path, {"lr0": 1, "mosaic": 0.0})
    assert Hyperparameters.from_file(path) == Hyperparameters(lr0=1.0, mosaic=0.0)


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({"lr": 0.1}, "unknown key 'lr'; did you mean 'lr"),
        ({"lr0": "fast"}, "lr0 is 'fast' (str), expected float"),
        ({"lr0": True}, "lr0 is True (bool), expected float"),
        ({"lr0": None}, "lr0 is None (NoneType), expected float"),
    ],
)
def test_wrong_files(tmp_path, content, start):
    path = tmp_path / "h.yaml"
    write_yaml(path, content)
    with pytest.raises(ConfigError) as caught:
        Hyperparameters.from_file(path)
    assert str(caught.value).startswith(f"{path}: {start}")


def test_parts():
    @dataclass(frozen=True)
    class Part:
        box: float
        extra: int

    hyp = Hyperparameters(box=0.3, cls=0.7)
    assert hyp.part(Part, extra=2) == Part(0.3, 2)
    loss = hyp.part(LossConfig, label_smoothing=0.1)
    assert (loss.box, loss.cls, loss.label_smoothing) == (0.3, 0.7, 0.1)
