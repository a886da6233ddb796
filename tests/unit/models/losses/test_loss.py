"""The loss against the formulas written out box by box."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.losses.loss import DetectionLoss, LossConfig, paired_ciou
from models.network.box_coder import BoxCoder, boxes_in_cell, split_anchors
from tests.assignment_levels import levels_of
from utils.batches import Batch

ANCHORS = ((10.0, 13.0, 16.0, 30.0), (30.0, 61.0, 62.0, 45.0), (116.0, 90.0, 156.0, 198.0))
CODER = BoxCoder(ANCHORS, (8, 16, 32))
GRIDS = [(8, 12), (4, 6), (2, 3)]
BALANCE = (4.0, 1.0, 0.4)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit: float, target: float, weight: float = 1.0, gamma: float = 0.0) -> float:
    p = sigmoid(logit)
    value = -(weight * target * math.log(p) + (1 - target) * math.log(1 - p))
    if gamma == 0:
        return value
    right = target * p + (1 - target) * (1 - p)
    return value * (target * 0.25 + (1 - target) * 0.75) * (1 - right) ** gamma


def ciou(a: list[float], b: list[float]) -> float:
    """Complete IoU of two cxcywh boxes (Zheng et al. 2020, eq. 10 and 11)."""
    a1, a2 = (a[0] - a[2] / 2, a[1] - a[3] / 2), (a[0] + a[2] / 2, a[1] + a[3] / 2)
    b1, b2 = (b[0] - b[2] / 2, b[1] - b[3] / 2), (b[0] + b[2] / 2, b[1] + b[3] / 2)
    overlap = math.prod(max(min(a2[i], b2[i]) - max(a1[i], b1[i]), 0) for i in (0, 1))
    iou = overlap / (a[2] * a[3] + b[2] * b[3] - overlap)
    diagonal = sum((max(a2[i], b2[i]) - min(a1[i], b1[i])) ** 2 for i in (0, 1))
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    v = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    return iou - distance / diagonal - v * v / (1 - iou + v + 1e-12)


def slow_terms(loss: DetectionLoss, raw: list[torch.Tensor], batch: Batch) -> list[float]:
    """Box, objectness and class terms."""
    config, terms = loss.config, [0.0, 0.0, 0.0]
    channels, levels = 5 + loss.num_classes, [level.detach() for level in raw]
    for maps, level, balance in zip(
        levels, levels_of(loss.assign(raw, batch)), BALANCE, strict=True
    ):
        count, targets, box, class_ = len(level.row), {}, [], []
        for k in range(count):
            image, anchor = int(level.image_index[k]), int(level.anchor_index[k])
            row, column = int(level.row[k]), int(level.column[k])
            logits = maps[image, anchor * channels : (anchor + 1) * channels, row, column].tolist()
            size = level.anchors[k].tolist()
            predicted = [sigmoid(logits[i]) * 2 - 0.5 for i in (0, 1)]
            predicted += [(sigmoid(logits[2 + i]) * 2) ** 2 * size[i] for i in (0, 1)]
            overlap = ciou(predicted, level.boxes[k].tolist())
            box.append(1 - overlap)
            targets[image, anchor, row, column] = max(overlap, 0)
            epsilon = loss.label_smoothing / 2
            for class_id, logit in enumerate(logits[5:]):
                hit = class_id == int(level.class_ids[k])
                target = 1 - epsilon if hit else epsilon
                class_.append(cross_entropy(logit, target, config.cls_pw, config.fl_gamma))
        images, _, rows, columns = maps.shape
        objectness = [
            cross_entropy(
                float(maps[i, a * channels + 4, y, x]),
                targets.get((i, a, y, x), 0.0),
                config.obj_pw,
                config.fl_gamma,
            )
            for i in range(images) for a in range(2) for y in range(rows) for x in range(columns)
        ]  # fmt: skip
        terms[0] += sum(box) / count if count else 0
        terms[1] += balance * sum(objectness) / len(objectness)
        terms[2] += sum(class_) / len(class_) if count and loss.num_classes > 1 else 0
    gains = (loss.box_gain, loss.objectness_gain, loss.class_gain)
    return [term * gain for term, gain in zip(terms, gains, strict=True)]


def random_raw(num_classes: int, seed: int, batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, 2 * (5 + num_classes), *grid, generator=generator).requires_grad_()
        for grid in GRIDS
    ]


def labels(rows: list[tuple[int, int, float, float, float, float]], batch: int = 2) -> Batch:
    """Rows of image, class, x1, y1, x2, y2."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    return Batch(
        images=torch.zeros(batch, 3, 64, 96),
        image_index=table[:, 0].long(),
        class_ids=table[:, 1].long(),
        boxes=table[:, 2:],
        image_ids=tuple(range(batch)),
        letterboxes=(None,) * batch,
        paths=(Path(),) * batch,
    )


OBJECTS = [
    (0, 0, 3.3, 4.1, 21.7, 30.2),
    (0, 1, 30.4, 10.9, 90.2, 60.6),
    (1, 2, 50.3, 20.1, 71.9, 50.8),
]
CONFIGS = {
    "defaults": LossConfig(),
    "gains": LossConfig(box=0.1, cls=0.3, obj=0.7),
    "positive weights": LossConfig(cls_pw=2.0, obj_pw=0.5),
    "focal": LossConfig(fl_gamma=1.5),
    "tighter anchors": LossConfig(anchor_t=2.0),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_against_the_formulas(config, smoothing):
    loss = DetectionLoss(CODER, 3, 96, config, label_smoothing=smoothing)
    raw, batch = random_raw(3, seed=1), labels(OBJECTS)
    found, expected = loss(raw, batch), slow_terms(loss, raw, batch)
    assert found.parts().tolist() == pytest.approx(expected, rel=1e-5)
    assert float(found.total.detach()) == pytest.approx(sum(expected) * 2, rel=1e-5)
    assert not found.parts().requires_grad


def test_one_class_has_no_class_term():
    loss = DetectionLoss(CODER, 1, 96, LossConfig())
    raw, batch = random_raw(1, seed=2), labels([(0, 0, *OBJECTS[0][2:])])
    terms = loss(raw, batch)
    assert terms.parts().tolist() == pytest.approx(slow_terms(loss, raw, batch), rel=1e-5)
    assert float(terms.class_.detach()) == 0
    terms.total.backward()
    assert all(torch.isfinite(level.grad).all() for level in raw)


def test_no_objects():
    loss = DetectionLoss(CODER, 3, 96, LossConfig())
    raw, batch = random_raw(3, seed=3), labels([])
    terms = loss(raw, batch)
    box, objectness, class_ = terms.parts().tolist()
    assert box == class_ == 0
    assert objectness == pytest.approx(slow_terms(loss, raw, batch)[1], rel=1e-5)
    terms.total.backward()
    for level in raw:
        assert torch.isfinite(level.grad).all() and level.grad.abs().sum() > 0
        split = level.grad.view(2, 2, 8, -1)
        assert split[:, :, [0, 1, 2, 3, 5, 6, 7]].abs().max() == 0  # objectness alone learns


def test_perfect_predictions_cost_less_than_others():
    loss = DetectionLoss(CODER, 3, 96, LossConfig())
    raw, batch = random_raw(3, seed=4), labels(OBJECTS)
    better = [level.detach().clone() for level in raw]
    for maps, level in zip(better, levels_of(loss.assign(raw, batch)), strict=True):
        split = maps.view(2, 2, 8, *maps.shape[2:])
        split[:, :, 4] = -8
        folder = (level.image_index, level.anchor_index, slice(None), level.row, level.column)
        ratio = (level.boxes[:, 2:] / level.anchors).sqrt() / 2
        xy = (level.boxes[:, :2] + 0.5) / 2
        classes = torch.nn.functional.one_hot(level.class_ids, 3) * 16.0 - 8
        objectness = torch.full((len(xy), 1), 8.0)
        split[folder] = torch.cat((torch.logit(xy), torch.logit(ratio), objectness, classes), 1)
    box, objectness, class_ = loss(better, batch).parts().tolist()
    # two pairs of one cell may want different boxes, so the box term is small, not zero
    worse = loss(raw, batch).parts().tolist()
    assert box < 0.02 * worse[0] + 1e-6
    assert objectness < 0.01 * worse[1]
    assert class_ < 0.01 * worse[2]


def test_gains():
    loss = DetectionLoss(CODER, 40, 320, LossConfig(box=0.05, cls=0.5, obj=1.0))
    assert (loss.box_gain, loss.class_gain, loss.objectness_gain) == pytest.approx(
        (0.05, 0.25, 0.25)
    )
    two = DetectionLoss(BoxCoder(CODER.anchors[:2], (8, 16)), 80, 640, LossConfig())
    assert (two.box_gain, two.class_gain, two.objectness_gain) == pytest.approx((0.075, 0.75, 1.5))


def test_half_precision_maps_give_a_float32_loss():
    loss = DetectionLoss(CODER, 3, 96, LossConfig())
    raw, batch = random_raw(3, seed=5), labels(OBJECTS)
    exact = loss(raw, batch)
    rough = loss([level.bfloat16() for level in raw], batch)
    assert rough.total.dtype == torch.float32
    assert float(rough.total.detach()) == pytest.approx(float(exact.total.detach()), rel=0.02)


class Reads(TorchDispatchMode):
    """Operations for which a GPU makes the host wait, outside of `paused` functions."""

    WAITS = frozenset(
        ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default",
         "aten.is_nonzero.default", "aten._to_copy.default", "aten.lift_fresh.default")
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.on = True

    def paused(self, function):
        def quiet(*arguments):
            self.on = False
            try:
                return function(*arguments)
            finally:
                self.on = True

        return quiet

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        masked = str(function) == "aten.index.Tensor" and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if self.on and (masked or str(function) in self.WAITS):
            self.found.append(str(function))
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("objects", [OBJECTS, []], ids=["objects", "none"])
def test_the_host_waits_for_nothing_but_the_assignment_which_it_does_itself(monkeypatch, objects):
    """Labels come on the host; what is computed of raw predictions is never read there."""
    loss, reads = DetectionLoss(CODER, 3, 96, LossConfig(fl_gamma=1.5)), Reads()
    monkeypatch.setattr(loss, "assign", reads.paused(loss.assign))
    raw, batch = random_raw(3, seed=1), labels(objects)
    with reads:
        terms = loss(raw, batch)
        terms.parts()
        terms.total.backward()
    assert reads.found == []


def test_a_wait_is_noticed():
    with (reads := Reads()):
        float(torch.ones(2)[torch.tensor([True, False])].sum())
    assert "aten._local_scalar_dense.default" in reads.found
    assert "aten.index.Tensor" in reads.found


# Several objects of one size in one cell: they want the same anchors.
CROWD = [(1, class_id, 50.3 + class_id, 20.1, 71.9 + class_id, 50.8) for class_id in (0, 1, 2, 2)]


def in_float64(loss_inputs: tuple[list[torch.Tensor], Batch]) -> tuple[list[torch.Tensor], Batch]:
    raw, batch = loss_inputs
    batch = replace(batch, boxes=batch.boxes.double())
    return [level.detach().double().requires_grad_() for level in raw], batch


def dense_total(loss: DetectionLoss, raw: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    """Level by level, each with a target for every anchor, by torch's own functions."""
    config, total = loss.config, raw[0].new_zeros(())
    for maps, level, balance in zip(raw, levels_of(loss.assign(raw, batch)), BALANCE, strict=True):
        split = split_anchors(maps, 2)
        where = tuple(level.indices[:4])
        predicted = split[where]
        ciou = paired_ciou(boxes_in_cell(predicted[:, :4].sigmoid(), level.anchors), level.boxes)
        targets = torch.zeros_like(split[..., 4])
        for k, index in enumerate(zip(*(each.tolist() for each in where), strict=True)):
            targets[index] = float(ciou[k].detach().clamp(min=0))
        class_targets = torch.nn.functional.one_hot(level.class_ids, loss.num_classes).double()
        class_targets = class_targets * (1 - loss.label_smoothing) + loss.label_smoothing / 2
        objectness = dense_cross_entropy(split[..., 4], targets, config.obj_pw, config.fl_gamma)
        class_ = dense_cross_entropy(
            predicted[:, 5:], class_targets, config.cls_pw, config.fl_gamma
        )
        total = total + objectness * balance * loss.objectness_gain
        if len(predicted):
            total = total + (1 - ciou).mean() * loss.box_gain + class_ * loss.class_gain
    return total * len(raw[0])


def dense_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weight: float, gamma: float
) -> torch.Tensor:
    p = logits.sigmoid()
    loss = -(weight * targets * p.log() + (1 - targets) * (1 - p).log())
    right = targets * p + (1 - targets) * (1 - p)
    focal = (targets * 0.25 + (1 - targets) * 0.75) * (1 - right) ** gamma if gamma else 1
    return (loss * focal).mean()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_value_and_gradient_in_float64(config, smoothing, memory_format):
    loss = DetectionLoss(CODER, 3, 96, config, label_smoothing=smoothing)
    raw, batch = in_float64((random_raw(3, seed=6), labels(OBJECTS + CROWD)))
    assert min(level.is_last.min() for level in levels_of(loss.assign(raw, batch))) == 0
    raw = [level.detach().contiguous(memory_format=memory_format).requires_grad_() for level in raw]
    found, expected = loss(raw, batch).total, dense_total(loss, raw, batch)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    gradients = [torch.autograd.grad(total, raw) for total in (found, expected)]
    for level, one, other in zip(raw, *gradients, strict=True):
        assert one.stride() == level.stride()
        assert (one - other).abs().max() < 1e-12 * other.abs().max()


@pytest.mark.parametrize("bias", [-8.0, 0.0, 8.0])
def test_float32_keeps_its_digits(bias):
    """Also where the network is sure, rightly or wrongly."""
    loss = DetectionLoss(CODER, 3, 96, LossConfig())
    raw, batch = random_raw(3, seed=7), labels(OBJECTS + CROWD)
    raw = [(level * 2 + bias).detach() for level in raw]
    exact = loss([level.double() for level in raw], batch).parts().tolist()
    assert loss(raw, batch).parts().tolist() == pytest.approx(exact, rel=1e-6)
