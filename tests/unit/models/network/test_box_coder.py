from __future__ import annotations

import math

import pytest
import torch

from models.network.box_coder import (
    BoxCoder,
    DecodedNetwork,
    centre_offset,
    size_ratio,
    split_anchors,
)
from models.network.detector import build_model
from tests.model_builders import tiny_spec

ANCHORS = ((10.0, 13.0, 16.0, 30.0), (30.0, 61.0, 62.0, 45.0))
STRIDES = (8, 16)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_by_hand():
    """One box: level 1 (stride 16), second anchor (62 x 45), row 1, column 2, one class."""
    levels = [torch.zeros(1, 12, 4, 6), torch.zeros(1, 12, 2, 3)]
    values = [logit(p) for p in (0.75, 0.5, 0.25, 0.9, 0.6, 0.8)]
    levels[1][0, 6:, 1, 2] = torch.tensor(values)

    decoded = BoxCoder(ANCHORS, STRIDES).decode(levels)

    assert decoded.shape == (1, 2 * 4 * 6 + 2 * 2 * 3, 6)
    place = 48 + 6 + 1 * 3 + 2  # after level 0, anchor 0, row 0
    centre = ((0.75 * 2 - 0.5 + 2) * 16, (0.5 * 2 - 0.5 + 1) * 16)
    size = ((2 * 0.25) ** 2 * 62, (2 * 0.9) ** 2 * 45)
    assert decoded[0, place].tolist() == pytest.approx([*centre, *size, 0.6, 0.8])


def test_zero_logits_are_anchors_in_the_middle_of_cells():
    decoded = BoxCoder(ANCHORS, STRIDES).decode(
        [torch.zeros(2, 14, 2, 3), torch.zeros(2, 14, 1, 1)]
    )
    assert decoded.shape == (2, 14, 7)
    assert torch.equal(decoded[0], decoded[1])
    first = decoded[0, :6]  # level 0, anchor 0: rows before columns
    assert first[:, :2].tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert decoded[0, :, 2:4].unique(dim=0).tolist() == [[10, 13], [16, 30], [30, 61], [62, 45]]
    assert decoded[0, 12:, 2:4].tolist() == [[30, 61], [62, 45]]
    assert decoded[..., 4:].unique().tolist() == [0.5]


def test_extreme_logits_stay_within_the_formula():
    coder = BoxCoder(((10.0, 20.0),), (8,))
    high = coder.decode([torch.full((1, 6, 1, 1), 200.0)])[0, 0].tolist()
    low = coder.decode([torch.full((1, 6, 1, 1), -200.0)])[0, 0].tolist()
    assert high == [12, 12, 40, 80, 1, 1]
    assert low == [-4, -4, 0, 0, 0, 0]


def test_formulas_and_their_inverse():
    probability = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    assert torch.allclose((centre_offset(probability) + 0.5) / 2, probability)
    assert torch.allclose(size_ratio(probability).sqrt() / 2, probability)


def test_split_anchors():
    raw = torch.arange(2 * 12 * 3 * 4).view(2, 12, 3, 4)
    split = split_anchors(raw, 2)
    assert split.shape == (2, 2, 3, 4, 6)
    assert split[1, 1, 2, 3].tolist() == raw[1, 6:, 2, 3].tolist()


@pytest.mark.parametrize("batch", [1, 3])
def test_half_precision_and_empty_batches_keep_dtype_and_shape(batch):
    coder = BoxCoder(ANCHORS, STRIDES)
    levels = [torch.zeros(batch, 12, 2, 2), torch.zeros(batch, 12, 1, 1)]
    assert coder.decode([level.bfloat16() for level in levels]).dtype == torch.bfloat16
    assert coder.decode([level[:0] for level in levels]).shape == (0, 10, 6)


def test_a_decoded_network_is_network_and_coder():
    model = build_model(tiny_spec()).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = BoxCoder.of(model).decode(model(images))
        assert torch.equal(DecodedNetwork(model).eval()(images), expected)
    assert expected.shape == (2, 2 * (8 * 12 + 4 * 6 + 2 * 3), 8)
