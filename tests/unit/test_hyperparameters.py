from __future__ import annotations

from types import SimpleNamespace

import pytest

from data.augment import AugmentConfig
from data.hyps import HYPS_FOLDER
from models.losses.loss import LossConfig
from train import Hyperparameters
from utils.engine.optim import OptimizerConfig
from utils.engine.resume import ResumedRun
from utils.errors import ConfigError
from utils.strict_mapping import from_flat, to_flat
from utils.strict_yaml import write_yaml
from utils.train_config import TrainConfig

SHIPPED = sorted(path.name for path in HYPS_FOLDER.glob("*.yaml"))


SCRATCH = [f"hyp.scratch-{size}.yaml" for size in ("high", "low", "med")]


def test_three_are_shipped_and_those_of_the_weights():
    weights = ("hyp.bccd.yaml", "hyp.deeppcb-finetune.yaml", "hyp.deeppcb.yaml")
    assert sorted([*SCRATCH, *weights]) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_say_everything(name):
    hyp = Hyperparameters.read(name)
    lines = (HYPS_FOLDER / name).read_text().splitlines()
    keys = {line.split(":")[0] for line in lines if line and not line.startswith("#")}
    assert keys == set(to_flat(hyp))


def test_the_defaults_are_the_low_ones():
    assert Hyperparameters.read("hyp.scratch-low.yaml") == Hyperparameters()


def test_what_the_stronger_ones_change():
    """YOLOv5's differences between its files."""
    high, low, med = (SimpleNamespace(**to_flat(Hyperparameters.read(name))) for name in SCRATCH)
    assert (med.lrf, med.cls, med.obj) == (0.1, 0.3, 0.7)
    assert (low.scale, med.scale, high.scale) == (0.5, 0.9, 0.9)
    assert (low.mixup, med.mixup, high.mixup) == (0.0, 0.1, 0.1)
    assert (low.copy_paste, med.copy_paste, high.copy_paste) == (0.0, 0.0, 0.1)


def test_some_keys_are_enough(tmp_path):
    path = tmp_path / "h.yaml"
    write_yaml(path, {"lr0": 1, "mosaic": 0.0})
    assert Hyperparameters.read(str(path)) == Hyperparameters(
        OptimizerConfig(lr0=1.0), augment=AugmentConfig(mosaic=0.0)
    )


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({"lr": 0.1}, "unknown key 'lr'; did you mean 'lr"),
        ({"anchors": 3.4}, "anchors is 3.4, but here how many a level has is a key of the model"),
        ({"lr0": "fast"}, "lr0 is 'fast' (str), expected float"),
        ({"lr0": True}, "lr0 is True (bool), expected float"),
        ({"lr0": None}, "lr0 is None (NoneType), expected float"),
    ],
)
def test_wrong_files(tmp_path, content, start):
    path = tmp_path / "h.yaml"
    write_yaml(path, content)
    with pytest.raises(ConfigError) as caught:
        Hyperparameters.read(str(path))
    assert str(caught.value).startswith(f"{path}: {start}")


def test_the_file_is_flat_and_in_yolov5s_order():
    """Each key once, whatever part of training it belongs to; ours are nbs and distill."""
    order = [
        "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "warmup_momentum",
        "warmup_bias_lr", "nbs", "box", "cls", "cls_pw", "obj", "obj_pw", "anchor_t",
        "fl_gamma", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear",
        "perspective", "flipud", "fliplr", "mosaic", "mixup", "copy_paste", "distill",
    ]  # fmt: skip
    assert list(to_flat(Hyperparameters())) == order


def test_a_yaml_of_yolov5(tmp_path):
    """It has a key that nothing uses."""
    path = tmp_path / "h.yaml"
    write_yaml(path, {"obj_pw": 1.0, "iou_t": 0.2, "anchor_t": 4.0})
    assert Hyperparameters.read(str(path)) == Hyperparameters()
    old = ResumedRun(tmp_path / "last.pt", None, {}, TrainConfig(), {"iou_t": 0.2})
    assert Hyperparameters.read("unused.yaml", old) == Hyperparameters()  # as its run stored it


def test_flat_and_back():
    hyp = Hyperparameters(
        OptimizerConfig(lr0=0.5), LossConfig(box=0.3), AugmentConfig.only(mosaic=0.5), distill=2.0
    )
    assert from_flat("hyp", to_flat(hyp), Hyperparameters) == hyp


def test_every_part_is_reached_from_a_file(tmp_path):
    """Each key changes just its own value."""
    path = tmp_path / "h.yaml"
    for name, value in to_flat(Hyperparameters()).items():
        write_yaml(path, {name: value / 2 + 0.25})
        found = to_flat(Hyperparameters.read(str(path)))
        assert found == {**to_flat(Hyperparameters()), name: value / 2 + 0.25}


def test_a_value_out_of_range(tmp_path):
    path = tmp_path / "h.yaml"
    write_yaml(path, {"mosaic": 1.5})
    with pytest.raises(ConfigError, match=r"h\.yaml: mosaic is 1\.5, must be from 0 to 1"):
        Hyperparameters.read(str(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lr0: -1", "lr0 is -1.0, must be at least 0"),  # of the optimizer
        ("lr0: .nan", "lr0 is nan, must be at least 0"),
        ("momentum: 1", "momentum is 1.0, must be from 0 to 0.9999"),
        ("weight_decay: -1", "weight_decay is -1.0, must be at least 0"),
        ("nbs: 0", "nbs is 0.0, must be at least 1"),
        ("anchor_t: 0", "anchor_t is 0.0, must be at least 1"),  # of the loss
        ("box: .inf", "box is inf, must be at least 0"),
        ("degrees: .inf", "degrees is inf, must be at least 0"),  # of the changes of images
        ("shear: 90", "shear is 90.0, must be from 0 to 89"),
        ("distill: -1", "distill is -1.0, must be at least 0"),
        ("lr0: 1e", "lr0 is '1e' (str), expected float"),
    ],
)
def test_numbers_that_nothing_can_be_learnt_with(tmp_path, line, message):
    file = tmp_path / "h.yaml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError) as caught:
        Hyperparameters.read(str(file))
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001"])
def test_exponents(tmp_path, text):
    """For yaml 1.1, which PyYAML reads, the first two are text."""
    file = tmp_path / "h.yaml"
    file.write_text(f"lr0: {text}\n")
    assert Hyperparameters.read(str(file)).optimizer.lr0 == 0.001
