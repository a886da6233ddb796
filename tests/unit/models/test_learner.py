"""What a learner hands to its parts."""

from __future__ import annotations

import pytest
import torch

from models import learner as learner_module
from models.learner import Learner
from tests.model_builders import write_small_yolov5
from utils.engine.distributed import Ranks
from utils.hyperparameters import Hyperparameters
from utils.train_config import TrainConfig


@pytest.mark.parametrize(("multi_scale", "side"), [(False, 64), (True, 96)])
def test_memory_is_measured_at_the_largest_size(tmp_path, monkeypatch, multi_scale, side):
    cfg = str(write_small_yolov5(tmp_path / "small.yaml"))
    config = TrainConfig(cfg=cfg, imgsz=64, multi_scale=multi_scale)
    cpu = torch.device("cpu")
    learner = Learner.of(config, Hyperparameters(), None, ("a", "b"), cpu)
    seen = {}

    def measured(*_, **given):
        seen.update(given)
        return 5

    monkeypatch.setattr(learner_module, "fitting_batch_size", measured)
    found = learner.fitting_batch_size(config, Ranks(), 40, reserved=7)

    assert found == 5
    assert (seen["image_size"], seen["most"]) == (side, 40)
    assert (seen["room"].reserved, seen["room"].sharers) == (7, 1)
    two = Ranks(0, 0, 1, 2)
    learner.fitting_batch_size(config, two, 40, reserved=7)
    assert (seen["room"].reserved, seen["room"].sharers) == (14, 2)


def test_anchors_are_the_averages_too(tmp_path):
    cfg = str(write_small_yolov5(tmp_path / "small.yaml"))
    learner = Learner.of(
        TrainConfig(cfg=cfg, imgsz=64), Hyperparameters(), None, ("a",), torch.device("cpu")
    )
    others = tuple((9.0,) * len(level) for level in learner.model.spec.anchors)
    learner.use_anchors(others)
    assert learner.model.spec.anchors == learner.ema.model.spec.anchors == others
