"""The plain layers of YOLOv5 v6/v7, and the factory that chooses plain or branched convolutions.

Shapes: B batch, H W cells. Attribute names (cv1, m, ...) follow YOLOv5's state dicts, so that its
checkpoints map onto these layers name by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.families import BlockFamily, BlockMaker
from models.reparam.rep_block import (
    ConvAct,
    ConvGeometry,
    ConvParams,
    RepBlock,
    batch_norm,
    params_of,
)
from utils.call_text import parse_call
from utils.errors import ConfigError, first_line, suggest

Form = Literal["train", "deploy"]
ActivationMaker = Callable[[], nn.Module]


class ConvBNAct(RepBlock):
    """act(BN(conv(x))): a RepBlock with a single branch."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = batch_norm(conv.out_channels)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def equivalent_conv(self) -> ConvParams:
        """The convolution with its batch-norm folded in, in float64."""
        weight, bias = algebra.fuse_bn(self.conv.weight, self.conv.bias, self.bn)
        return params_of(self.conv, weight, bias)

    @torch.no_grad()
    def load_conv_bn(self, conv: nn.Conv2d, norm: algebra.BatchNorm) -> None:
        """Copy the weight of `conv`, and `norm` with its statistics."""
        self.conv.weight.copy_(conv.weight)
        algebra.copy_batch_norm(norm, self.bn)

    def main_kernel(self) -> Tensor:
        """The convolution's weight, before the batch-norm."""
        return self.conv.weight


def plain_block(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> ConvBNAct:
    """Convolution, batch-norm and activation; `identity` has no effect."""
    del identity
    return ConvBNAct(geometry.conv(bias=False), activation)


@dataclass(frozen=True, slots=True)
class ConvFactory:
    """Makes every convolution of a network, so that one yaml key changes all of them.

    Attributes:
        activation: makes the activation that follows each convolution.
        form: "train" (branches and norms) or "deploy" (convolutions with bias).
        rep_block: family of the blocks; None keeps plain convolution and norm.
        rep_policy: which convolutions become blocks: "all", "downsample" (stride 2 only), or
            "no-identity-in-residual" (all, without identity branch inside a residual bottleneck).
    """

    activation: ActivationMaker
    form: Form = "train"
    rep_block: BlockFamily | None = None
    rep_policy: str = "all"

    def __call__(
        self, geometry: ConvGeometry, *, act: bool = True, in_residual: bool = False
    ) -> nn.Module:
        """A convolution, or a block of the family where the policy wants one, and an activation."""
        family = self.rep_block
        if family is None or not family.replaces(geometry) or not self._wanted(geometry):
            return self.block(plain_block, geometry, act=act)
        identity = not (in_residual and self.rep_policy == "no-identity-in-residual")
        return self.block(family.make, geometry, act=act, identity=identity)

    def block(
        self, make: BlockMaker, geometry: ConvGeometry, *, act: bool = True, identity: bool = True
    ) -> nn.Module:
        """A block by `make`, whatever the network's family; in deploy form a plain convolution."""
        activation = self.activation() if act else nn.Identity()
        if self.form == "deploy":
            return ConvAct(geometry.conv(bias=True), activation)
        return make(geometry, activation, identity=identity)

    def plain(self, make: Callable[..., nn.Conv2d], *, act: bool = True) -> nn.Module:
        """The convolution that `make(bias=...)` returns, and an activation; never a block."""
        activation = self.activation() if act else nn.Identity()
        if self.form == "deploy":
            return ConvAct(make(bias=True), activation)
        return ConvBNAct(make(bias=False), activation)

    def _wanted(self, geometry: ConvGeometry) -> bool:
        return self.rep_policy != "downsample" or geometry.stride == 2


class Bottleneck(nn.Module):
    """1x1 then 3x3 convolution, plus the input where `shortcut` and the channels allow it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        conv: ConvFactory,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.add = shortcut and in_channels == out_channels
        self.cv1 = conv(ConvGeometry(in_channels, hidden))
        self.cv2 = conv(ConvGeometry(hidden, out_channels, 3, groups=groups), in_residual=self.add)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Cross-stage-partial block: a chain on one half, the other passes by, 1x1 over both.

    The chain is of bottlenecks; relatives of this block have another.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        conv: ConvFactory,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = conv(ConvGeometry(in_channels, hidden))
        self.cv2 = conv(ConvGeometry(in_channels, hidden))
        self.cv3 = conv(ConvGeometry(2 * hidden, out_channels))
        self.m = self.chain(hidden, repeats, shortcut=shortcut, groups=groups, conv=conv)

    @staticmethod
    def chain(
        channels: int, repeats: int, *, shortcut: bool, groups: int, conv: ConvFactory
    ) -> nn.Module:
        """What one half runs through, (B, channels, H, W) to the same."""
        blocks = (
            Bottleneck(
                channels, channels, shortcut=shortcut, groups=groups, expansion=1.0, conv=conv
            )
            for _ in range(repeats)
        )
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        y: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return y


class SPPF(nn.Module):
    """Spatial pyramid pooling by three chained max-pools, as wide as pools of 5, 9 and 13."""

    def __init__(
        self, in_channels: int, out_channels: int, pool_size: int = 5, *, conv: ConvFactory
    ) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = conv(ConvGeometry(in_channels, hidden))
        self.cv2 = conv(ConvGeometry(hidden * 4, out_channels))
        self.m = nn.MaxPool2d(pool_size, stride=1, padding=pool_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        first = self.cv1(x)
        second = self.m(first)
        third = self.m(second)
        y: Tensor = self.cv2(torch.cat((first, second, third, self.m(third)), 1))
        return y


class Join(nn.Module):
    """A layer that reads several: `forward` takes their outputs as a list."""


class Concat(Join):
    """Concatenation of several maps of one size along the channels."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """[(B, c_i, H, W)] -> (B, sum of c_i, H, W)."""
        return torch.cat(maps, 1)


class DetectHead(Join):
    """Raw predictions from one feature map per level.

    Args:
        in_channels: channels of each level's map, finest first.
        num_anchors: anchors per cell, A.
        num_classes: classes, C.
    """

    def __init__(self, in_channels: Sequence[int], num_anchors: int, num_classes: int) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.num_classes = num_classes
        self.m = nn.ModuleList(
            nn.Conv2d(channels, num_anchors * (5 + num_classes), 1) for channels in in_channels
        )

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Per level (B, c_i, H, W) -> (B, A * (5 + C), H, W) logits: x y w h objectness classes."""
        return tuple(conv(x) for conv, x in zip(self.m, maps, strict=True))

    @torch.no_grad()
    def set_prior_bias(self, strides: Sequence[int]) -> None:
        """Start objectness at 8 objects in a 640 px image, and classes at 0.6 / C.

        The prior of Lin et al., "Focal Loss for Dense Object Detection" (sec. 3.3), with YOLOv5's
        values; without it the first steps are spent on suppressing objects in every cell.
        """
        for conv, stride in zip(self.m, strides, strict=True):
            if not isinstance(conv, nn.Conv2d) or conv.bias is None:
                raise TypeError("a head level is a convolution with bias")
            bias = conv.bias.view(self.num_anchors, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (self.num_classes - 0.99999))


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "SiLU": nn.SiLU,
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardswish": nn.Hardswish,
    "Mish": nn.Mish,
    "GELU": nn.GELU,
    "Identity": nn.Identity,
}
_IN_PLACE = {"SiLU", "LeakyReLU", "ReLU", "ReLU6", "Hardswish", "Mish"}


def activation_maker(text: str, where: str) -> Callable[[], nn.Module]:
    """A factory of the activation that `text` names, e.g. `LeakyReLU(0.1)`.

    Raises:
        ConfigError: unknown name or arguments it does not take.
    """
    call = parse_call(text, where)
    if call.name not in ACTIVATIONS:
        raise ConfigError(f"{where}: unknown activation {text!r}{suggest(call.name, ACTIVATIONS)}")
    kind = ACTIVATIONS[call.name]
    # The convolution before keeps its own input for backward, so its output may be overwritten.
    kwargs = {"inplace": True, **call.kwargs} if call.name in _IN_PLACE else call.kwargs
    try:
        # Wrong argument types only fail in use; not on the meta device, which loads sympy for it.
        kind(*call.args, **kwargs)(torch.zeros(1, device="cpu"))
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"{where}: {text!r}: {first_line(error)}") from None
    return lambda: kind(*call.args, **kwargs)
