"""The block families: which branches each has, and the table from name to maker.

A maker takes the geometry, the activation, whether an identity branch is wanted, and the family's
own options by keyword. What a family cannot stand for is refused when the block is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import nn

from models.conv_geometry import ConvGeometry
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import (
    Branch,
    ConvBranch,
    IdentityBranch,
    PointwiseThenAverage,
    PointwiseThenConv,
)
from models.reparam.rep_block import RepBlock
from utils.call_text import parse_call
from utils.errors import ConfigError
from utils.strict_yaml import suggest

BlockMaker = Callable[..., RepBlock]
_GIVEN = ("geometry", "activation", "identity")  # by the network; the rest are options


def repvgg(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> BranchedConv:
    """RepVGG (Ding et al., CVPR 2021, fig. 4): k x k, 1x1 and identity, each with its norm."""
    branches = _kxk_and_1x1(geometry)
    if identity and geometry.keeps_shape:
        branches["identity"] = IdentityBranch(geometry)
    return BranchedConv("RepVGG", geometry, branches, activation)


def rep_conv_n(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> BranchedConv:
    """RepConvN (Wang et al., "YOLOv7", CVPR 2023, sec. 4.2): RepVGG without identity branch."""
    del identity  # the family has none
    return BranchedConv("RepConvN", geometry, _kxk_and_1x1(geometry), activation)


def acb(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> BranchedConv:
    """ACB (Ding et al., "ACNet", ICCV 2019, fig. 2): k x k, 1 x k and k x 1, each with its norm."""
    del identity
    side = geometry.kernel_size
    branches: dict[str, Branch] = {
        "kxk": ConvBranch(geometry),
        "1xk": ConvBranch(geometry, (1, side)),
        "kx1": ConvBranch(geometry, (side, 1)),
    }
    return BranchedConv("ACB", geometry, branches, activation)


def dbb(geometry: ConvGeometry, activation: nn.Module, *, identity: bool) -> BranchedConv:
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
    return BranchedConv("DBB", geometry, branches, activation)


def mobile_one(
    geometry: ConvGeometry, activation: nn.Module, *, identity: bool, branches: int = 4
) -> BranchedConv:
    """MobileOne (Vasu et al., CVPR 2023, fig. 3): several k x k, a 1x1 and identity, with norms.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether an identity branch is wanted.
        branches: how many k x k branches.
    """
    if type(branches) is not int or branches < 1:
        raise ValueError(
            f"MobileOne: branches is {branches!r}, expected a whole number of at least 1"
        )
    parts: dict[str, Branch] = {f"kxk_{i}": ConvBranch(geometry) for i in range(branches)}
    if geometry.kernel_size > 1:
        parts["1x1"] = ConvBranch(geometry, (1, 1))
    if identity and geometry.keeps_shape:
        parts["identity"] = IdentityBranch(geometry)
    return BranchedConv("MobileOne", geometry, parts, activation)


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
}


def family_maker(text: str, where: str) -> BlockMaker:
    """The maker of the family `text` names, with its options: `RepVGG`, `MobileOne(branches=2)`.

    Raises:
        ConfigError: unknown family, or options it does not take.
    """
    call = parse_call(text, where)
    if call.name not in FAMILIES:
        raise ConfigError(f"{where}: unknown rep_block {text!r}{suggest(call.name, FAMILIES)}")
    maker = FAMILIES[call.name]
    options = [name for name in inspect.signature(maker).parameters if name not in _GIVEN]
    left = options[len(call.args) :]  # none is given twice
    if len(call.args) > len(options) or not set(call.kwargs) <= set(left):
        takes = f"takes only {', '.join(options)}" if options else "takes no options"
        raise ConfigError(f"{where}: rep_block {call.name} {takes}, got {text!r}")
    chosen = {**dict(zip(options, call.args, strict=False)), **call.kwargs}
    return functools.partial(maker, **chosen)
