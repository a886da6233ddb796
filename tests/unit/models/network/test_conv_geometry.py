"""Where a convolution's taps lie: sizes, shapes, aligned branches, and what has no centre."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from models.reparam.algebra import pad_kernel
from models.reparam.rep_block import ConvGeometry


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_same_padding_keeps_the_size(kernel_size, dilation):
    geometry = ConvGeometry(1, 1, kernel_size, dilation=dilation)
    assert geometry.resolved_padding == dilation * (kernel_size - 1) // 2
    assert geometry.conv(bias=False)(torch.zeros(1, 1, 5, 8)).shape == (1, 1, 5, 8)
    assert geometry.keeps_shape


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (ConvGeometry(4, 4, 3, padding=1), True),
        (ConvGeometry(4, 4, 3, groups=2), True),
        (ConvGeometry(4, 4, 3, padding=2, dilation=2), True),
        (ConvGeometry(4, 8, 3), False),
        (ConvGeometry(4, 4, 3, stride=2), False),
        (ConvGeometry(4, 4, 3, padding=0), False),
        (ConvGeometry(4, 4, 3, padding=2), False),
        (ConvGeometry(4, 4, 3, padding=1, dilation=2), False),
        # the size stays, but no tap lies on the cell itself
        (ConvGeometry(4, 4, 2, dilation=2), False),
    ],
)
def test_keeps_shape(geometry, expected):
    assert geometry.keeps_shape is expected


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (ConvGeometry(4, 8, 3), True),
        (ConvGeometry(4, 8, 3, stride=2, padding=1, groups=4), True),
        (ConvGeometry(4, 8, 1), False),
        (ConvGeometry(4, 8, 5), False),
        (ConvGeometry(4, 8, 3, padding=0), False),
        (ConvGeometry(4, 8, 3, dilation=2), False),
    ],
)
def test_is_plain_3x3(geometry, expected):
    assert geometry.is_plain_3x3 is expected


SIZES = [
    (kernel_hw, kernel_size)
    for kernel_size in (1, 3, 5)
    for kernel_hw in itertools.product((1, 3, 5), repeat=2)
    if max(kernel_hw) <= kernel_size
]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("extra", [0, 1])  # padding beyond what keeps the size
@pytest.mark.parametrize(("kernel_hw", "kernel_size"), SIZES)
def test_a_smaller_kernel_sees_what_the_padded_one_sees(
    kernel_hw, kernel_size, extra, stride, dilation
):
    """The alignment formula against the same weights in the centre of a full kernel."""
    padding = dilation * (kernel_size - 1) // 2 + extra
    geometry = ConvGeometry(4, 6, kernel_size, stride, padding, groups=2, dilation=dilation)
    small = geometry.conv(bias=False, kernel_hw=kernel_hw).double()
    x = torch.randn(1, 4, 8, 7, dtype=torch.float64)
    with torch.no_grad():
        full = pad_kernel(small.weight, (kernel_size, kernel_size))
        expected = F.conv2d(x, full, None, stride, padding, dilation, groups=2)
        assert torch.allclose(small(x), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("geometry", "kernel_hw", "message"),
    [
        (
            ConvGeometry(4, 4, 4, padding=2),
            (1, 1),
            "a 1x1 branch cannot be centred beside a 4x4 kernel with padding 2",
        ),
        (
            ConvGeometry(4, 4, 4, padding=2),
            (1, 4),
            "a 1x4 branch cannot be centred beside a 4x4 kernel with padding 2",
        ),
        # dilated, the padding would come out whole, but between two taps
        (
            ConvGeometry(4, 4, 2, dilation=2),
            (1, 1),
            "a 1x1 branch cannot be centred beside a 2x2 kernel with padding 1",
        ),
        (
            ConvGeometry(4, 4, 3, padding=0),
            (1, 3),
            "a 1x3 branch cannot be centred beside a 3x3 kernel with padding 0",
        ),
        (
            ConvGeometry(4, 4, 5, padding=1),
            (1, 1),
            "a 1x1 branch cannot be centred beside a 5x5 kernel with padding 1",
        ),
        (
            ConvGeometry(4, 4, 3, padding=1, dilation=2),
            (1, 1),
            "a 1x1 branch cannot be centred beside a 3x3 kernel with padding 1",
        ),
    ],
)
def test_a_branch_without_a_place_is_refused(geometry, kernel_hw, message):
    with pytest.raises(ValueError) as caught:
        geometry.conv(bias=False, kernel_hw=kernel_hw)
    assert str(caught.value) == message
    geometry.conv(bias=False)  # alone, the kernel is fine


def test_pointwise():
    geometry = ConvGeometry(4, 8, 3, stride=2, padding=2, groups=2, dilation=2)
    assert geometry.pointwise(6) == ConvGeometry(4, 6, 1, 1, 0, groups=2)


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (ConvGeometry(4, 8), (8, 4, 1, 1)),
        (ConvGeometry(4, 8, 3), (8, 4, 3, 3)),
        (ConvGeometry(4, 8, 3, groups=2), (8, 2, 3, 3)),
        (ConvGeometry(6, 6, 5, groups=6), (6, 1, 5, 5)),  # depthwise
        # where the taps lie is no matter of the weight
        (ConvGeometry(3, 8, 6, stride=2, padding=2, dilation=2), (8, 3, 6, 6)),
    ],
)
def test_kernel_shape(geometry, expected):
    assert geometry.kernel_shape == expected
    assert tuple(geometry.conv(bias=False).weight.shape) == expected


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (ConvGeometry(5, 4, 3, groups=2), "2 groups do not divide 5 input and 4 output channels"),
        (ConvGeometry(4, 5, 3, groups=2), "2 groups do not divide 4 input and 5 output channels"),
        (ConvGeometry(8, 4, groups=8), "8 groups do not divide 8 input and 4 output channels"),
    ],
)
def test_groups_that_do_not_divide_are_refused(geometry, message):
    with pytest.raises(ValueError) as caught:
        _ = geometry.kernel_shape
    assert str(caught.value) == message
