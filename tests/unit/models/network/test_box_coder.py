from __future__ import annotations

import math

import pytest
import torch

from models.export.export_networks import DecodedNetwork
from models.network.box_coder import BoxCoder, boxes_in_cell, split_anchors
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
    row = 48 + 6 + 1 * 3 + 2  # after level 0, anchor 0, row 0
    centre = ((0.75 * 2 - 0.5 + 2) * 16, (0.5 * 2 - 0.5 + 1) * 16)
    size = ((2 * 0.25) ** 2 * 62, (2 * 0.9) ** 2 * 45)
    assert decoded[0, row].tolist() == pytest.approx([*centre, *size, 0.6, 0.8])


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


def random_boxes(batch, grids_hw, num_classes=2):
    """What BoxCoder(ANCHORS, STRIDES) can represent, at random, with the ends of the ranges."""
    generator = torch.Generator().manual_seed(0)
    levels = []
    for anchors, stride, (height, width) in zip(ANCHORS, STRIDES, grids_hw, strict=True):
        shape = (batch, len(anchors) // 2, height, width, 5 + num_classes)
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        share[:, :, :1] = share[:, :, :1].round()  # 0 and 1
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        share[..., 0] = (columns - 0.5 + 2 * share[..., 0]) * stride
        share[..., 1] = (rows - 0.5 + 2 * share[..., 1]) * stride
        share[..., 2:4] *= 4 * torch.tensor(anchors).view(1, -1, 1, 1, 2)
        levels.append(share.flatten(1, 3))
    return torch.cat(levels, 1)


@pytest.mark.parametrize("grids_hw", [((4, 6), (2, 3)), ((5, 7), (3, 4)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_decode_is_the_inverse_of_encode(batch, grids_hw):
    boxes = random_boxes(batch, grids_hw)
    coder = BoxCoder(ANCHORS, STRIDES)
    raw = coder.encode(boxes, grids_hw)
    assert [tuple(level.shape) for level in raw] == [
        (batch, 14, height, width) for height, width in grids_hw
    ]
    torch.testing.assert_close(coder.decode(raw), boxes, rtol=1e-9, atol=1e-9)


def test_encode_is_the_inverse_of_decode():
    grids_hw = ((3, 5), (2, 3))
    generator = torch.Generator().manual_seed(1)
    raw = [
        torch.randn(2, 14, *grid, generator=generator, dtype=torch.float64) * 4 for grid in grids_hw
    ]
    coder = BoxCoder(ANCHORS, STRIDES)
    for found, expected in zip(coder.encode(coder.decode(raw), grids_hw), raw, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, -4.1), (1, 12.1), (2, 40.1), (3, -0.1)],  # centre, centre, width, height
)
def test_boxes_out_of_reach_become_nan(index, value):
    box = torch.tensor([[[4.0, 4.0, 10.0, 13.0, 0.5]]])
    box[..., index] = value
    raw = BoxCoder(((10.0, 13.0),), (8,)).encode(box, ((1, 1),))[0].flatten()
    assert raw.isnan().nonzero().flatten().tolist() == [index]


def test_boxes_in_cell_are_decoded_boxes_in_cells():
    """What the losses compare is what `decode` returns, in units of the cell."""
    raw = torch.randn(1, 7, 1, 1, dtype=torch.float64)
    decoded = BoxCoder(((10.0, 13.0),), (8,)).decode([raw])[0, :, :4]
    anchors = torch.tensor([[10 / 8, 13 / 8]])
    found = boxes_in_cell(raw.flatten()[None].sigmoid(), anchors)
    torch.testing.assert_close(found * 8, decoded)


def test_split_anchors():
    raw = torch.arange(2 * 12 * 3 * 4).view(2, 12, 3, 4)
    split = split_anchors(raw, 2)
    assert split.shape == (2, 2, 3, 4, 6)
    assert split[1, 1, 2, 3].tolist() == raw[1, 6:, 2, 3].tolist()


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_decoded_in_float32(dtype, batch):
    maps = [torch.randn(batch, 12, 2, 2), torch.randn(batch, 12, 1, 1)]
    coder = BoxCoder(ANCHORS, STRIDES)
    decoded = coder.decode([raw.to(dtype) for raw in maps])
    assert decoded.dtype == torch.float32
    assert decoded.shape == (batch, 10, 6)
    assert torch.equal(decoded, coder.decode([raw.to(dtype).float() for raw in maps]))


def test_a_decoded_network_is_network_and_coder():
    model = build_model(tiny_spec()).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = BoxCoder.of(model).decode(model(images))
        assert torch.equal(DecodedNetwork(model).eval()(images), expected)
    assert expected.shape == (2, 2 * (8 * 12 + 4 * 6 + 2 * 3), 8)
