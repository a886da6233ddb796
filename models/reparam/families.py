"""The block families: which branches each has, and the table from name to maker.

A maker takes the geometry, the activation, whether an identity branch is wanted, and the family's
own options by keyword. A geometry that a family cannot represent is refused when the block is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import (
    Branch,
    ConvBranch,
    IdentityBranch,
    PointwiseThenAverage,
    PointwiseThenConv,
)
from models.reparam.orepa import orepa, orepa_vgg
from models.reparam.rep_block import ConvGeometry, RepBlock
from models.reparam.rep_opt import linear_add, rep_opt
from utils.call_text import parse_call
from utils.errors import ConfigError, suggest

BlockMaker = Callable[..., RepBlock]
MAX_BRANCHES = 64  # more take memory and teach nothing
_GIVEN = ("geometry", "activation", "identity")  # by the network; the rest are options


@dataclass(frozen=True, slots=True)
class BlockFamily:
    """A family with its options.

    Attributes:
        make: makes a block.
        pointwise: whether it replaces a network's 1x1 convolutions too.
        stem: whether it replaces those with kernels above 3x3 too.
    """

    make: BlockMaker
    pointwise: bool = False
    stem: bool = False

    def replaces(self, geometry: ConvGeometry) -> bool:
        """Whether a network's convolution of this geometry becomes a block."""
        if geometry.kernel_size > 3:
            return self.stem
        return geometry.is_plain_3x3 or (self.pointwise and geometry.kernel_size == 1)


def repvgg(
    geometry: ConvGeometry, activation: nn.Module, *, identity: bool, start: str = "plain"
) -> BranchedConv:
    """RepVGG (Ding et al., CVPR 2021, fig. 4): k x k, 1x1 and identity, each with its norm.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether an identity branch is wanted.
        start: see `BranchedConv`; this and the next families' articles start all scales at 1.
    """
    branches = _kxk_and_1x1(geometry)
    if identity and geometry.keeps_shape:
        branches["identity"] = IdentityBranch(geometry)
    return BranchedConv("RepVGG", geometry, branches, activation, start=start)


def rep_conv_n(
    geometry: ConvGeometry, activation: nn.Module, *, identity: bool, start: str = "plain"
) -> BranchedConv:
    """RepConvN (Wang et al., "YOLOv7", CVPR 2023, sec. 4.2): RepVGG without identity branch."""
    del identity  # the family has none
    return BranchedConv("RepConvN", geometry, _kxk_and_1x1(geometry), activation, start=start)


def acb(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    horizontal: bool = True,
    vertical: bool = True,
    branch_bn: bool = True,
    start: str = "plain",
) -> BranchedConv:
    """ACB (Ding et al., "ACNet", ICCV 2019, fig. 2): k x k, 1 x k and k x 1, each with its norm.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: has no effect: the family has none.
        horizontal: whether there is a 1 x k branch.
        vertical: whether there is a k x 1 branch.
        branch_bn: whether each branch has its norm; otherwise one follows the sum (table 5).
        start: see `BranchedConv`; has no effect without `branch_bn`.
    """
    del identity
    for name, value in {
        "horizontal": horizontal, "vertical": vertical, "branch_bn": branch_bn,
    }.items():  # fmt: skip
        if type(value) is not bool:
            raise ValueError(f"ACB: {name} is {value!r}, expected true or false")
    side = geometry.kernel_size
    branches: dict[str, Branch] = {"kxk": ConvBranch(geometry, norm=branch_bn)}
    if horizontal:
        branches["1xk"] = ConvBranch(geometry, (1, side), norm=branch_bn)
    if vertical:
        branches["kx1"] = ConvBranch(geometry, (side, 1), norm=branch_bn)
    return BranchedConv("ACB", geometry, branches, activation, post_norm=not branch_bn, start=start)


def dbb(
    geometry: ConvGeometry, activation: nn.Module, *, identity: bool, start: str = "plain"
) -> BranchedConv:
    """Diverse branch block (Ding et al., CVPR 2021, fig. 3): four branches, each with its norm.

    Depthwise convolutions have no 1x1 branch of their own, and twice the hidden channels.
    """
    del identity
    depthwise = geometry.groups == geometry.out_channels
    hidden = geometry.in_channels * (2 if depthwise else 1)
    branches: dict[str, Branch] = {"kxk": ConvBranch(geometry)}
    if not depthwise:
        branches["1x1"] = ConvBranch(geometry, (1, 1))
    branches["1x1_kxk"] = PointwiseThenConv(geometry, hidden)
    branches["1x1_avg"] = PointwiseThenAverage(geometry)
    return BranchedConv("DBB", geometry, branches, activation, start=start)


def mobile_one(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    branches: int = 4,
    start: str = "plain",
) -> BranchedConv:
    """MobileOne (Vasu et al., CVPR 2023, fig. 3): several k x k, a 1x1 and identity, with norms.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether an identity branch is wanted.
        branches: how many k x k branches.
        start: see `BranchedConv`.
    """
    if type(branches) is not int or not 1 <= branches <= MAX_BRANCHES:
        raise ValueError(
            f"MobileOne: branches is {branches!r}, expected an integer from 1 to {MAX_BRANCHES}"
        )
    parts: dict[str, Branch] = {f"kxk_{i}": ConvBranch(geometry) for i in range(branches)}
    if geometry.kernel_size > 1:
        parts["1x1"] = ConvBranch(geometry, (1, 1))
    if identity and geometry.keeps_shape:
        parts["identity"] = IdentityBranch(geometry)
    return BranchedConv("MobileOne", geometry, parts, activation, start=start)


def qa_repvgg(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> BranchedConv:
    """QARepVGG (Chu et al., AAAI 2024, setting S4): norm on the k x k alone, and after the sum."""
    branches: dict[str, Branch] = {
        "kxk": ConvBranch(geometry),
        "1x1": ConvBranch(geometry, (1, 1), norm=False),
    }
    if identity and geometry.keeps_shape:
        branches["identity"] = IdentityBranch(geometry, norm=False)
    return BranchedConv("QARepVGG", geometry, branches, activation, post_norm=True)


def _kxk_and_1x1(geometry: ConvGeometry) -> dict[str, Branch]:
    return {"kxk": ConvBranch(geometry), "1x1": ConvBranch(geometry, (1, 1))}


FAMILIES: dict[str, BlockMaker] = {
    "RepVGG": repvgg,
    "RepConvN": rep_conv_n,
    "ACB": acb,
    "DBB": dbb,
    "MobileOne": mobile_one,
    "QARepVGG": qa_repvgg,
    "OREPA": orepa,
    "OREPAVGG": orepa_vgg,
    "RepOpt": rep_opt,
    "LinearAdd": linear_add,
}
# Options that say which of a network's convolutions are replaced, not what a block is.
_REPLACES = {"OREPA": ("pointwise", "stem")}


def block_family(text: str, where: str) -> BlockFamily:
    """Parse a family with its options: `RepVGG`, `MobileOne(branches=2)`.

    Raises:
        ConfigError: unknown family, or options or values that it does not take.
    """
    call = parse_call(text, where)
    if call.name not in FAMILIES:
        raise ConfigError(f"{where}: unknown rep_block {text!r}{suggest(call.name, FAMILIES)}")
    maker = FAMILIES[call.name]
    wider = _REPLACES.get(call.name, ())
    options = [name for name in inspect.signature(maker).parameters if name not in _GIVEN]
    options += wider
    left = options[len(call.args) :]  # none is given twice
    if len(call.args) > len(options) or not set(call.kwargs) <= set(left):
        takes = f"takes only {', '.join(options)}" if options else "takes no options"
        raise ConfigError(f"{where}: {call.name} {takes}, got {text!r}")
    chosen = {**dict(zip(options, call.args, strict=False)), **call.kwargs}
    replaced = {name: chosen.pop(name) for name in wider if name in chosen}
    for name, value in replaced.items():
        if type(value) is not bool:
            raise ConfigError(f"{where}: {call.name}: {name} is {value!r}, expected true or false")
    make = functools.partial(maker, **chosen)
    try:  # values are checked where a block is made
        with torch.random.fork_rng(devices=()):
            make(ConvGeometry(2, 2, 3), nn.Identity(), identity=True)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return BlockFamily(make, **replaced)
