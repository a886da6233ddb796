"""Re-parameterizable blocks: their geometry, interface, and the convolution that replaces them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

EPS = 1e-3  # YOLOv5 trains with these two instead of torch's 1e-5 and 0.1
MOMENTUM = 0.03


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch-norm over (B, channels, H, W) with EPS and MOMENTUM."""
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)


@dataclass(frozen=True, slots=True)
class ConvParams:
    """One convolution: weight (out, in / groups, kh, kw), bias (out,), and its geometry."""

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class ConvAct(nn.Module):
    """Convolution with bias, then activation: the deploy form of every block."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        return self.act(self.conv(x))  # type: ignore[no-any-return]


class RepBlock(nn.Module, ABC):
    """A block that is linear up to its activation, and so equals one convolution in eval mode.

    Subclasses sum their branches in `forward` and fold them in `equivalent_conv`.
    """

    act: nn.Module

    @property
    def kind(self) -> str:
        """The block's name in reports: by default that of its class."""
        return type(self).__name__

    @abstractmethod
    def equivalent_conv(self) -> ConvParams:
        """The convolution that equals the block in eval mode, activation aside, in float64."""

    @abstractmethod
    def load_conv_bn(self, conv: nn.Conv2d, norm: nn.modules.batchnorm._BatchNorm) -> None:
        """Change parameters in place to compute `conv` then `norm`, activation aside."""

    @abstractmethod
    def main_kernel(self) -> Tensor:
        """The first branch's kernel, before any norm, in the block's dtype and on its device."""

    def to_deploy(self) -> ConvAct:
        """A new, plain module that computes what this block computes in eval mode.

        The block is not changed. Weights are folded in float64 and cast last.

        Raises:
            ValueError: the block is in train mode, where batch-norm uses the statistics of each
                batch and no fixed convolution is equivalent.
        """
        if self.training:
            raise ValueError(
                "only a block in eval mode has an equivalent convolution; call .eval()"
            )
        conv = conv_from_params(self.equivalent_conv(), like=self.main_kernel())
        return ConvAct(conv, copy.deepcopy(self.act))


@torch.no_grad()
def conv_from_params(params: ConvParams, like: Tensor) -> nn.Conv2d:
    """A trainable Conv2d of these parameters, in the dtype and on the device of `like`."""
    out_channels, in_per_group, height, width = params.weight.shape
    conv = nn.Conv2d(
        in_per_group * params.groups,
        out_channels,
        (height, width),
        stride=params.stride,
        padding=params.padding,
        dilation=params.dilation,
        groups=params.groups,
        device="meta",  # without random numbers that nothing reads
    )
    conv.weight = nn.Parameter(_copied(params.weight, like))
    conv.bias = nn.Parameter(_copied(params.bias, like))
    return conv


def _copied(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device, like.dtype, copy=True)


@torch.no_grad()
def params_of(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> ConvParams:
    """`weight` and `bias` with the geometry of `conv`."""
    return ConvParams(
        weight=weight,
        bias=bias,
        stride=_pair(conv.stride),
        padding=_pair(conv.padding),
        dilation=_pair(conv.dilation),
        groups=conv.groups,
    )


def _pair(value: object) -> tuple[int, int]:
    if not (isinstance(value, tuple) and len(value) == 2):
        raise ValueError(f"expected two numbers, got {value!r}")
    return int(value[0]), int(value[1])


def outermost_blocks(module: nn.Module) -> Iterator[RepBlock]:
    """Blocks with branches that are inside no other one, the module itself included."""
    if isinstance(module, RepBlock):
        yield module
        return
    for child in module.children():
        yield from outermost_blocks(child)


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Channels, kernel, stride, padding, groups, dilation; `padding` None is `same_padding`."""

    in_channels: int
    out_channels: int
    kernel_size: int = 1
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    dilation: int = 1

    @property
    def same_padding(self) -> int:
        """The padding that keeps the size at stride 1; exact for odd kernels."""
        return self.dilation * (self.kernel_size - 1) // 2

    @property
    def resolved_padding(self) -> int:
        """`padding`, or `same_padding` where it is None."""
        return self.same_padding if self.padding is None else self.padding

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """The weight's shape: (out, in / groups, k, k).

        Raises:
            ValueError: the groups do not divide the channels.
        """
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{self.groups} groups do not divide {self.in_channels} input and "
                f"{self.out_channels} output channels"
            )
        size = self.kernel_size
        return self.out_channels, self.in_channels // self.groups, size, size

    @property
    def is_plain_3x3(self) -> bool:
        """Whether a re-parameterizable 3x3 block can replace it; stride and groups are free."""
        return self.kernel_size == 3 and self.padding in (None, 1) and self.dilation == 1

    @property
    def keeps_shape(self) -> bool:
        """Whether input and output have the same shape, so that an identity branch can exist.

        An even kernel has no tap in its centre, even where its dilation keeps the size.
        """
        same_size = self.stride == 1 and self.resolved_padding == self.same_padding
        return self.in_channels == self.out_channels and same_size and self.kernel_size % 2 == 1

    def conv(self, *, bias: bool, kernel_hw: tuple[int, int] | None = None) -> nn.Conv2d:
        """The bare convolution, or one with a smaller kernel whose taps lie on the same centre.

        A kernel of size k' parallel to one of size k is aligned by the padding
        p - d (k - k') / 2 along each axis.

        Raises:
            ValueError: that padding would be negative, or the kernels have no common centre.
        """
        height, width = kernel_hw or (self.kernel_size, self.kernel_size)
        padding = []
        for side in (height, width):
            excess = self.dilation * (self.kernel_size - side)
            no_centre = (self.kernel_size - side) % 2 == 1  # whatever the dilation
            if no_centre or self.resolved_padding * 2 < excess:
                raise ValueError(
                    f"a {height}x{width} branch cannot be centred beside a {self.kernel_size}x"
                    f"{self.kernel_size} kernel with padding {self.resolved_padding}"
                )
            padding.append(self.resolved_padding - excess // 2)
        return nn.Conv2d(
            self.in_channels,
            self.out_channels,
            (height, width),
            self.stride,
            (padding[0], padding[1]),
            groups=self.groups,
            dilation=self.dilation,
            bias=bias,
        )

    def pointwise(self, out_channels: int) -> ConvGeometry:
        """A 1x1 convolution in front of this one, with this one's groups."""
        return replace(
            self, out_channels=out_channels, kernel_size=1, stride=1, padding=0, dilation=1
        )
