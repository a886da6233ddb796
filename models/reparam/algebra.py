"""Kernel identities: several linear operations as one convolution.

Pure functions on weights (out, in / groups, kh, kw) and biases (out,), each with its closed form.
They compute in float64 unless they say otherwise; the final convolution casts once, at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# SyncBatchNorm is no subclass of BatchNorm2d; both are _BatchNorm.
BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norm_scale_shift(bn: BatchNorm) -> tuple[Tensor, Tensor]:
    """Batch-norm with fixed statistics as `scale * x + shift`, both (channels,) float64.

    scale = gamma / sqrt(var + eps), shift = beta - mean * scale, with this module's own eps;
    gamma = 1 and beta = 0 where the norm is not affine (Ioffe & Szegedy 2015, algorithm 2).

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    mean, var = _running_statistics(bn)
    scale = (var.double() + bn.eps).rsqrt()
    if bn.weight is not None:
        scale = scale * bn.weight.double()
    shift = -mean.double() * scale
    if bn.bias is not None:
        shift = shift + bn.bias.double()
    return scale, shift


def _running_statistics(bn: BatchNorm) -> tuple[Tensor, Tensor]:
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("a batch-norm without running statistics cannot be folded")
    return bn.running_mean, bn.running_var


def fuse_bn(weight: Tensor, bias: Tensor | None, bn: BatchNorm) -> tuple[Tensor, Tensor]:
    """Convolution, then batch-norm: weight' = scale * weight, bias' = scale * bias + shift."""
    scale, shift = batch_norm_scale_shift(bn)
    fused_bias = shift if bias is None else shift + scale * bias.double()
    return weight.double() * scale[:, None, None, None], fused_bias


@torch.no_grad()
def copy_batch_norm(source: BatchNorm, target: BatchNorm) -> None:
    """Make `target` compute what `source` computes, in eval and train mode.

    Raises:
        ValueError: they differ in eps, which no checkpoint stores.
    """
    if source.eps != target.eps:
        raise ValueError(f"batch-norms of different eps: {source.eps} and {target.eps}")
    target.load_state_dict(source.state_dict())


@torch.no_grad()
def make_transparent(
    norm: BatchNorm, bias: Tensor | None = None, statistics: BatchNorm | None = None
) -> None:
    """Make a norm return its input plus `bias` (channels,), if given, in eval mode.

    With the `statistics` of a norm whose input is about the same, it approximately does so in train
    mode as well; without, it assumes mean 0 and variance 1.

    Raises:
        ValueError: one of them is not affine or keeps no statistics.
    """
    mean, var = _running_statistics(norm)
    if statistics is None:
        mean.zero_()
        var.fill_(1 - norm.eps)
    else:
        other_mean, other_var = _running_statistics(statistics)
        mean.copy_(other_mean)
        var.copy_(other_var)
    if norm.bias is None:
        raise ValueError("only an affine batch-norm can be transparent")
    norm.weight.copy_((var.double() + norm.eps).sqrt())
    norm.bias.copy_(mean if bias is None else mean + bias)


def pad_kernel(weight: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """A smaller kernel in the centre of a larger one of zeros.

    Raises:
        ValueError: the sizes differ by an odd number, so that no centre exists, or shrink.
    """
    extra_h, extra_w = kernel_size[0] - weight.shape[2], kernel_size[1] - weight.shape[3]
    if min(extra_h, extra_w) < 0 or extra_h % 2 or extra_w % 2:
        raise ValueError(f"a {tuple(weight.shape[2:])} kernel has no centre in {kernel_size}")
    half_h, half_w = extra_h // 2, extra_w // 2
    return nn.functional.pad(weight, (half_w, half_w, half_h, half_h))


def identity_kernel(
    channels: int, groups: int, kernel_size: tuple[int, int], device: torch.device
) -> Tensor:
    """The (channels, channels / groups, kh, kw) float64 kernel that returns its input.

    In a grouped convolution, filter `o` sees only its own group, so its one sits at input
    `o mod (channels / groups)`.
    """
    per_group = channels // groups
    kernel = torch.zeros(channels, per_group, *kernel_size, dtype=torch.float64, device=device)
    filters = torch.arange(channels, device=device)
    kernel[filters, filters % per_group, kernel_size[0] // 2, kernel_size[1] // 2] = 1
    return kernel


def average_kernel(channels: int, groups: int, kernel_size: int, device: torch.device) -> Tensor:
    """Average pooling (padding counted) as a (channels, channels / groups, k, k) float64 kernel."""
    centre = identity_kernel(channels, groups, (1, 1), device)
    return centre.expand(-1, -1, kernel_size, kernel_size) / kernel_size**2


def cosine_filters(kernel_size: int) -> Tensor:
    """The 2-D discrete cosines of a k x k grid without the constant one, (k * k - 1, k, k) float64.

    Filter (u, v) is cos(pi u (h + 1/2) / k) cos(pi v (w + 1/2) / k), the DCT-II (Ahmed et al.,
    1974) that FcaNet and OREPA take their frequency prior from. None is zero, all are orthogonal.
    """
    steps = torch.arange(kernel_size, dtype=torch.float64)
    waves = torch.cos(torch.pi * steps[:, None] * (steps + 0.5) / kernel_size)
    return torch.einsum("uh,vw->uvhw", waves, waves).flatten(0, 1)[1:]


def chain_kernels(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """Two convolutions without bias, one after the other, as one.

    The kernels' true convolution: torch's transposed convolution of one with the other. Exact where
    the second needs no padding of its own; always if one of them is 1x1.

    Args:
        first: (hidden, in / groups, k1, k1).
        second: (out, hidden / groups, k2, k2).
        groups: of both.

    Returns:
        (out, in / groups, k, k), k = k1 + k2 - 1, in the dtype of both.
    """
    hidden, out = first.shape[0], second.shape[0]
    second = second.reshape(groups, out // groups, hidden // groups, *second.shape[2:])
    if first.shape[2:] == (1, 1):  # a matrix product, which is faster
        first = first.reshape(groups, hidden // groups, first.shape[1])
        return torch.einsum("gti,gothw->goihw", first, second).flatten(0, 1)
    second = second.transpose(1, 2).reshape(hidden, out // groups, *second.shape[3:])
    chained = nn.functional.conv_transpose2d(first.transpose(0, 1), second, groups=groups)
    return chained.transpose(0, 1)


def chain_1x1_kxk(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], groups: int
) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution followed by a k x k one, as one k x k (DBB, transform III).

    Exact, borders included, if the k x k reads the first one's bias in its padding.

    Args:
        first: (hidden, in / groups, 1, 1) kernel and (hidden,) bias.
        second: (out, hidden / groups, k, k) kernel and (out,) bias.
        groups: of both.
    """
    (weight_1, bias_1), (weight_2, bias_2) = first, second
    grouped = weight_2.reshape(groups, -1, *weight_2.shape[1:])
    bias = torch.einsum("gothw,gt->go", grouped, bias_1.reshape(groups, -1)).flatten()
    return chain_kernels(weight_1, weight_2, groups), bias + bias_2
