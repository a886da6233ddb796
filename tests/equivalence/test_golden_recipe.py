"""Optimizer groups, schedule, average and loss gains against another implementation's figures."""

from __future__ import annotations

import pytest
import torch

from models.losses.loss import DetectionLoss
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from tests.goldens.stored_figures import figures
from train import Hyperparameters
from utils.engine.ema import ema_decay
from utils.engine.optim import build_optimizer
from utils.engine.schedule import Schedule

EPOCHS, BATCHES, BATCH_SIZE = 20, 13, 16


@pytest.fixture(scope="module")
def recipe():
    return figures("recipe")


@pytest.fixture(scope="module")
def hyp():
    return Hyperparameters.read("hyp.scratch-low.yaml")


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return build_model(ModelSpec.from_file("yolov5n.yaml"))


def test_parameter_groups(recipe, hyp, model):
    optimizer = build_optimizer(
        model,
        "SGD",
        lr=hyp.optimizer.lr0,
        momentum=hyp.optimizer.momentum,
        weight_decay=hyp.optimizer.scaled_weight_decay(BATCH_SIZE),
    )
    found = [
        [len(group["params"]), group["weight_decay"], sum(p.numel() for p in group["params"])]
        for group in optimizer.param_groups
    ]
    assert found == recipe["parameter_groups"].tolist()


@pytest.mark.parametrize(("key", "cosine"), [("schedule_linear", False), ("schedule_cosine", True)])
def test_schedule(recipe, hyp, key, cosine):
    schedule = Schedule(
        hyp.optimizer,
        epochs=EPOCHS,
        batches_per_epoch=BATCHES,
        batch_size=BATCH_SIZE,
        cosine=cosine,
    )
    assert len(recipe[key]) == 52
    for step, *expected in recipe[key].tolist():
        at = schedule.at(*divmod(step, BATCHES))
        found = [at.lr_bias, at.lr_weight, at.lr_norm, at.momentum, at.accumulate]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-15), step


def test_ema_decay(recipe):
    for updates, decay in recipe["ema_decay"].tolist():
        assert ema_decay(updates) == pytest.approx(decay, rel=1e-12)


def test_loss_gains(recipe, hyp, model):
    loss = DetectionLoss(BoxCoder.of(model), 80, 320, hyp.loss)
    gains = [loss.box_gain, loss.objectness_gain, loss.class_gain]
    assert gains == pytest.approx(recipe["loss_gains"].tolist())
