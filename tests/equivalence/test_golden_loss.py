"""Assignment, loss and gradients against another implementation's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder

RELATIVE = 1e-4


@pytest.fixture(scope="module")
def passes(yolov5n, golden_batches):
    """Per batch: network in train mode, loss, raw predictions, loss terms after backward."""
    done = []
    for batch in golden_batches:
        model = build_from_checkpoint(yolov5n).train()
        criterion = DetectionLoss(BoxCoder.of(model), 80, 320, LossConfig())
        raw = model(batch.images)
        terms = criterion(raw, batch)
        terms.total.backward()
        done.append((model, criterion, raw, terms))
    return done


@pytest.mark.parametrize("number", range(3))
def test_assignment(passes, golden, golden_batches, number):
    _, criterion, raw, _ = passes[number]
    levels = criterion.assign(raw, golden_batches[number])
    assert len(levels) == 3
    for level, found in enumerate(levels):
        indices = torch.stack(
            (found.image_index, found.anchor_index, found.row, found.column, found.class_ids)
        )
        np.testing.assert_array_equal(indices.numpy(), golden[f"b{number}_assign{level}"])
        np.testing.assert_allclose(found.boxes, golden[f"b{number}_tbox{level}"], atol=1e-5)
        np.testing.assert_array_equal(found.anchors.numpy(), golden[f"b{number}_anch{level}"])


@pytest.mark.parametrize("number", range(3))
def test_loss_terms(passes, golden, number):
    terms = passes[number][3]
    found = [float(v.detach()) for v in (terms.total, terms.box, terms.objectness, terms.class_)]
    assert found == pytest.approx(golden[f"b{number}_loss"].tolist(), rel=RELATIVE)
    assert terms.parts().tolist() == pytest.approx(found[1:])


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
