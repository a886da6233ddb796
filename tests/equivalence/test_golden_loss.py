"""Assignment, loss and gradients against another implementation's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from tests.assignment_levels import levels_of
from tests.goldens.stored_figures import (
    ANCHORS,
    IMAGE_SIZE,
    NUM_CLASSES,
    STRIDES,
    batch_of,
    figures,
    raw_maps,
)

BATCHES = range(3)
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def training():
    return figures("training")


@pytest.fixture(scope="module")
def criterion():
    return DetectionLoss(BoxCoder(ANCHORS, STRIDES), NUM_CLASSES, IMAGE_SIZE, LossConfig())


def stored_batch(training, number):
    """Its targets; the loss reads no pixels."""
    return batch_of(training[f"b{number}_targets"], torch.empty(4, 3, 0, 0))


def reported(terms):
    return [float(v.detach()) for v in (terms.total, terms.box, terms.objectness, terms.class_)]


@pytest.mark.parametrize("number", BATCHES)
def test_assignment(training, criterion, number):
    found = criterion.assign(raw_maps(training, number), stored_batch(training, number))
    levels = levels_of(found)
    assert len(levels) == 3
    for level, found in enumerate(levels):
        indices = torch.stack(
            (found.image_index, found.anchor_index, found.row, found.column, found.class_ids)
        )
        np.testing.assert_array_equal(indices.numpy(), training[f"b{number}_assign{level}"])
        np.testing.assert_allclose(found.boxes, training[f"b{number}_tbox{level}"], atol=1e-5)
        np.testing.assert_array_equal(found.anchors.numpy(), training[f"b{number}_anch{level}"])


@pytest.mark.parametrize("number", BATCHES)
def test_loss_terms(training, criterion, number):
    terms = criterion(raw_maps(training, number), stored_batch(training, number))
    assert reported(terms) == pytest.approx(training[f"b{number}_loss"].tolist(), rel=RELATIVE)
    assert terms.parts().tolist() == pytest.approx(reported(terms)[1:])


def test_gradient_of_the_head_biases(training, criterion):
    """A bias is added to every cell, so its gradient is the sum of the maps' gradients."""
    maps = [level.requires_grad_() for level in raw_maps(training, 0)]
    criterion(maps, stored_batch(training, 0)).total.backward()
    norms = [float(level.grad.sum((0, 2, 3)).norm()) for level in maps]
    assert norms == pytest.approx(training["b0_head_bias_grad_norms"].tolist(), rel=RELATIVE)


def test_a_wrong_loss_is_noticed(training):
    """The figures tell losses apart: another gain, another anchor rule, heavier positives."""
    coder, expected = BoxCoder(ANCHORS, STRIDES), training["b0_loss"].tolist()
    for changed in (
        LossConfig(obj=1.01),
        LossConfig(anchor_t=3.9),
        LossConfig(cls_pw=1.01),
    ):
        criterion = DetectionLoss(coder, NUM_CLASSES, IMAGE_SIZE, changed)
        terms = criterion(raw_maps(training, 0), stored_batch(training, 0))
        assert reported(terms) != pytest.approx(expected, rel=RELATIVE)


@pytest.fixture(scope="module")
def passes(yolov5n, golden_batches):
    """Per batch: the reference's network in train mode and its loss terms after backward."""
    done = []
    for batch in golden_batches:
        model = build_from_checkpoint(yolov5n).train()
        criterion = DetectionLoss(BoxCoder.of(model), NUM_CLASSES, IMAGE_SIZE, LossConfig())
        terms = criterion(model(batch.images), batch)
        terms.total.backward()
        done.append((model, terms))
    return done


@pytest.mark.parametrize("number", BATCHES)
def test_loss_of_the_whole_network(passes, golden, number):
    expected = golden[f"b{number}_loss"].tolist()
    assert reported(passes[number][1]) == pytest.approx(expected, rel=RELATIVE)


def test_gradient_of_every_parameter(passes, golden):
    model = passes[0][0]
    expected = {
        "layers." + name.removeprefix("model."): norm
        for name, norm in zip(golden["b0_grad_norm_names"], golden["b0_grad_norms"], strict=True)
    }
    found = {name: float(value.grad.norm()) for name, value in model.named_parameters()}
    assert found.keys() == expected.keys()
    wrong = {
        name: (norm, expected[name])
        for name, norm in found.items()
        if abs(norm - expected[name]) > RELATIVE * expected[name]
    }
    assert wrong == {}
