from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from utils.engine.optim import OptimizerConfig, build_optimizer
from utils.engine.schedule import Schedule, StepSettings

LINEAR = Schedule(OptimizerConfig(lrf=0.1), epochs=100, batches_per_epoch=50, batch_size=16)
COSINE = dataclasses.replace(LINEAR, cosine=True)


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    [
        (LINEAR, 0, 1.0),
        (LINEAR, 50, 0.55),
        (LINEAR, 100, 0.1),
        (COSINE, 0, 1.0),
        (COSINE, 50, 0.55),
        (COSINE, 100, 0.1),
        (COSINE, 25, 1 - 0.9 * (1 - 2**-0.5) / 2),
    ],
)
def test_decay(schedule, epoch, factor):
    assert schedule.decay(epoch) == pytest.approx(factor)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_after_the_warm_up_all_rates_are_one(schedule):
    rates = [schedule.at(epoch, 1) for epoch in range(4, 100)]
    assert all(s.lr_bias == s.lr_weight == s.lr_norm for s in rates)
    assert all(a.lr_weight > b.lr_weight for a, b in itertools.pairwise(rates))
    assert {(s.momentum, s.accumulate) for s in rates} == {(0.937, 4)}


def test_the_warm_up():
    assert LINEAR.warmup_batches == 150
    start = LINEAR.at(0, 0)
    assert start == StepSettings(0.1, 0.0, 0.0, 0.8, 1)
    middle = LINEAR.at(1, 25)  # batch 75 of 150
    rate = 0.01 * LINEAR.decay(1)
    assert middle.lr_bias == pytest.approx((0.1 + rate) / 2)
    assert middle.lr_weight == middle.lr_norm == pytest.approx(rate / 2)
    assert middle.momentum == pytest.approx((0.8 + 0.937) / 2)
    assert middle.accumulate == 2  # 2.5, to even
    end = LINEAR.at(3, 0)
    assert end.lr_bias == end.lr_weight == pytest.approx(0.01 * LINEAR.decay(3))
    assert end.accumulate == 4


def test_a_short_run_warms_up_for_100_batches():
    assert dataclasses.replace(LINEAR, batches_per_epoch=2).warmup_batches == 100


@pytest.mark.parametrize(("batch_size", "expected"), [(16, 4), (64, 1), (300, 1), (24, 3), (1, 64)])
def test_accumulation_reaches_about_64_images(batch_size, expected):
    schedule = dataclasses.replace(LINEAR, batch_size=batch_size)
    assert schedule.config.accumulate(schedule.batch_size) == expected
    steps = [schedule.at(0, batch).accumulate for batch in range(50)]
    assert min(steps) == 1 and steps == sorted(steps)
    assert schedule.at(99, 0).accumulate == expected


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_settings_reach_the_optimizer(name):
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    optimizer = build_optimizer(model, name, lr=0.5, momentum=0.5, weight_decay=0.1)
    StepSettings(0.1, 0.2, 0.3, 0.8, 1).apply(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.3]
    for group in optimizer.param_groups:
        if name == "SGD":
            assert group["momentum"] == 0.8
        else:
            assert group["betas"] == (0.8, 0.999)
    model(torch.ones(2, 1, 2, 2)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(("nbs", "expected"), [(16, 1), (32, 2), (8, 1)])
def test_a_smaller_nominal_batch_gives_more_steps(nbs, expected):
    config = OptimizerConfig(lrf=0.1, nbs=nbs)
    schedule = dataclasses.replace(LINEAR, config=config)
    assert {schedule.at(epoch, 1).accumulate for epoch in range(4, 100)} == {expected}
    images = 16 * expected
    assert config.scaled_weight_decay(16) == pytest.approx(0.0005 * images / 64)


def test_a_nominal_batch_without_images():
    with pytest.raises(ValueError, match=r"^nbs is 0, must be at least 1$"):
        OptimizerConfig(nbs=0)
