"""Each kernel identity against doing the operations one after the other, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.reparam.algebra import (
    average_kernel,
    batch_norm_scale_shift,
    chain_1x1_kxk,
    chain_kernels,
    fuse_bn,
    identity_kernel,
    pad_kernel,
)
from tests.block_equivalence import randomise_norms
from tests.case_loop import all_of, for_all

CPU = torch.device("cpu")


def random_norm(channels: int, **options: object) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **options)
    randomise_norms(norm)
    return norm.double().eval()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.5])
def test_scale_and_shift(affine, eps):
    norm = random_norm(6, affine=affine, eps=eps)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    scale, shift = batch_norm_scale_shift(norm)
    assert torch.allclose(x * scale[:, None, None] + shift[:, None, None], norm(x), atol=1e-13)
    assert scale.dtype == shift.dtype == torch.float64


def test_by_hand():
    """gamma 3, beta 5, mean 2, var 3.75, eps 0.25: (x - 2) / 2 * 3 + 5 = 1.5 x + 2."""
    norm = nn.BatchNorm2d(1, eps=0.25).eval()
    with torch.no_grad():
        norm.weight.fill_(3)
        norm.bias.fill_(5)
    norm.running_mean.fill_(2)
    norm.running_var.fill_(3.75)
    scale, shift = (value.detach() for value in batch_norm_scale_shift(norm))
    assert (float(scale), float(shift)) == (1.5, 2.0)


def test_a_norm_without_statistics_is_refused():
    with pytest.raises(ValueError) as caught:
        batch_norm_scale_shift(nn.BatchNorm2d(3, track_running_stats=False))
    assert str(caught.value) == "a batch-norm without running statistics cannot be folded"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_fuse_bn(groups, bias):
    conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=bias).double()
    norm = random_norm(8)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    weight, fused_bias = fuse_bn(conv.weight, conv.bias, norm)
    found = F.conv2d(x, weight, fused_bias, padding=1, groups=groups)
    assert torch.allclose(found, norm(conv(x)), atol=1e-13)


@pytest.mark.parametrize(
    ("small", "large"), [((1, 1), (3, 3)), ((1, 3), (5, 3)), ((3, 3), (5, 7)), ((3, 3), (3, 3))]
)
def test_pad_kernel(small, large):
    x, weight = torch.randn(1, 2, 9, 9), torch.randn(3, 2, *small)
    padded = pad_kernel(weight, large)
    assert padded.shape[2:] == large
    expected = F.conv2d(x, weight, padding=(small[0] // 2, small[1] // 2))
    found = F.conv2d(x, padded, padding=(large[0] // 2, large[1] // 2))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("small", "large"), [((2, 2), (3, 3)), ((3, 3), (1, 1)), ((1, 2), (3, 3))])
def test_a_kernel_without_a_centre_is_refused(small, large):
    with pytest.raises(ValueError) as caught:
        pad_kernel(torch.zeros(1, 1, *small), large)
    assert str(caught.value) == f"a {small} kernel has no centre in {large}"


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 1), (6, 2), (6, 3), (6, 6)])
def test_identity_kernel(channels, groups, kernel_size):
    x = torch.randn(2, channels, 4, 5, dtype=torch.float64)
    kernel = identity_kernel(channels, groups, kernel_size, CPU)
    padding = (kernel_size[0] // 2, kernel_size[1] // 2)
    assert torch.equal(F.conv2d(x, kernel, padding=padding, groups=groups), x)
    assert float(kernel.sum()) == channels


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 1), (6, 2), (6, 6)])
def test_average_kernel(channels, groups, kernel_size):
    x = torch.randn(2, channels, 7, 6, dtype=torch.float64)
    padding = kernel_size // 2
    kernel = average_kernel(channels, groups, kernel_size, CPU)
    assert kernel.dtype == torch.float64
    found = F.conv2d(x, kernel, padding=padding, stride=2, groups=groups)
    expected = F.avg_pool2d(x, kernel_size, 2, padding, count_include_pad=True)
    assert torch.allclose(found, expected, atol=1e-13)


def random_kernel(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*shape, dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64)


@for_all(
    all_of(
        channels=[(4, 6, 8, 1), (4, 6, 8, 2), (4, 8, 4, 4), (3, 6, 3, 3), (1, 1, 1, 1)],
        kernel_size=[1, 2, 3, 5], stride=[1, 2], dilation=[1, 2],
    )
)  # fmt: skip
def test_chain_of_two(case):
    """Everywhere, if the second sees the first one's bias in its padding."""
    (channels, hidden, out, groups), kernel_size, stride, dilation = case
    first = random_kernel(hidden, channels // groups, 1, 1)
    second = random_kernel(out, hidden // groups, kernel_size, kernel_size)
    x = torch.randn(2, channels, 10, 11, dtype=torch.float64)
    between = F.conv2d(x, *first, padding=2, groups=groups)
    expected = F.conv2d(between, *second, stride, dilation=dilation, groups=groups)
    merged = chain_1x1_kxk(first, second, groups)
    assert merged[0].shape == (out, channels // groups, kernel_size, kernel_size)
    found = F.conv2d(x, *merged, stride, 2, dilation, groups)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_chain_where_the_padding_is_zero():
    """With zeros after the first bias the border differs, and only the border."""
    torch.manual_seed(0)
    first, second = random_kernel(6, 4, 1, 1), random_kernel(8, 6, 3, 3)
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    stacked = F.conv2d(F.conv2d(x, *first), *second, padding=1)
    difference = (F.conv2d(x, *chain_1x1_kxk(first, second, 1), padding=1) - stacked).abs()
    assert float(difference[:, :, 1:-1, 1:-1].max()) < 1e-12
    worst = difference.amax((0, 1))
    worst[1:-1, 1:-1] = 1
    assert float(worst.amin()) > 1e-3


SIZES = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
# in, hidden, out, groups
CHANNELS = [(4, 6, 8, 1), (4, 6, 8, 2), (8, 4, 12, 4), (3, 6, 3, 3), (1, 1, 1, 1)]
each_chain = pytest.mark.parametrize(("channels", "hidden", "out", "groups"), CHANNELS)


def two_kernels(channels, hidden, out, groups, sizes):
    first = torch.randn(hidden, channels // groups, *[sizes[0]] * 2, dtype=torch.float64)
    second = torch.randn(out, hidden // groups, *[sizes[1]] * 2, dtype=torch.float64)
    return first, second


@for_all(all_of(channels=CHANNELS, sizes=SIZES, stride_dilation=[(1, 1), (2, 1), (1, 2), (2, 3)]))
def test_chained_kernels(case):
    """Without padding; the second has the stride, both have the dilation."""
    (channels, hidden, out, groups), sizes, (stride, dilation) = case
    first, second = two_kernels(channels, hidden, out, groups, sizes)
    x = torch.randn(2, channels, 14, 15, dtype=torch.float64)
    between = F.conv2d(x, first, dilation=dilation, groups=groups)
    expected = F.conv2d(between, second, None, stride, 0, dilation, groups)
    chained = chain_kernels(first, second, groups)
    assert chained.shape == (out, channels // groups, *[sum(sizes) - 1] * 2)
    found = F.conv2d(x, chained, None, stride, 0, dilation, groups)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@each_chain
@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)])
def test_chained_kernels_at_the_border(channels, hidden, out, groups, sizes):
    """With a 1x1 among them either may pad: without bias, zeros stay zeros."""
    first, second = two_kernels(channels, hidden, out, groups, sizes)
    x = torch.randn(2, channels, 6, 7, dtype=torch.float64)
    padding = [0 if size == 1 else 1 for size in sizes]
    between = F.conv2d(x, first, padding=padding[0], groups=groups)
    expected = F.conv2d(between, second, padding=padding[1], groups=groups)
    chained = chain_kernels(first, second, groups)
    found = F.conv2d(x, chained, padding=sum(padding), groups=groups)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_chained_3x3_kernels_differ_at_a_border_padded_twice():
    """The larger kernel reads through the ring that the first convolution never computed."""
    torch.manual_seed(0)
    first, second = two_kernels(4, 6, 8, 1, (3, 3))
    x = torch.randn(2, 4, 8, 9, dtype=torch.float64)
    stacked = F.conv2d(F.conv2d(x, first, padding=1), second, padding=1)
    difference = (F.conv2d(x, chain_kernels(first, second, 1), padding=2) - stacked).abs()
    assert float(difference[:, :, 1:-1, 1:-1].max()) < 1e-12
    assert float(difference[:, :, 0].amax((0, 1)).min()) > 1e-3


@each_chain
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_short_way_for_1x1_is_the_general_one(channels, hidden, out, groups, size):
    """A 1x1 in a ring of zeros takes the general way, and leaves its result in a ring of zeros."""
    first, second = two_kernels(channels, hidden, out, groups, (1, size))
    short = chain_kernels(first, second, groups)
    general = chain_kernels(F.pad(first, [1] * 4), second, groups)
    assert torch.allclose(F.pad(short, [1] * 4), general, rtol=0, atol=1e-12)


@each_chain
def test_chains_may_be_bracketed_as_you_like(channels, hidden, out, groups):
    first, second = two_kernels(channels, hidden, out, groups, (3, 3))
    third = torch.randn(2 * groups, out // groups, 2, 2, dtype=torch.float64)
    left = chain_kernels(chain_kernels(first, second, groups), third, groups)
    right = chain_kernels(first, chain_kernels(second, third, groups), groups)
    assert torch.allclose(left, right, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3])
def test_a_chain_keeps_the_dtype(size, dtype):
    first, second = (kernel.to(dtype) for kernel in two_kernels(4, 6, 8, 2, (size, 3)))
    assert chain_kernels(first, second, 2).dtype == dtype
