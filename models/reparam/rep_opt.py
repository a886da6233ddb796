"""RepOptimizer: a plain convolution trained as branches with constant scales would be.

Ding et al., "Re-parameterizing Your Optimizers rather than Architectures", ICLR 2023. Branches
k x k, 1x1 and identity without norms, each scaled by output channel, are one kernel

    W = s_kxk K_kxk + pad(s_1x1 K_1x1) + pad(diag(w_identity)).

Where the scales s are constant, a step of SGD on the branches (the identity has a weight per
channel and the scale 1) changes W as a step on W alone does whose gradient is multiplied by

    s_kxk^2 everywhere, + s_1x1^2 at the centre tap, + 1 at [o, o, centre] with an identity.

`RepOpt` is that convolution; the optimizer multiplies. `LinearAdd` is the branches with scales that
learn: a short training of it finds the constants.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.reparam import algebra
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import ConvBranch
from models.reparam.composed_branch import ComposedBranch
from models.reparam.composed_kernel import ComposedKernel, ScaledTerm
from models.reparam.kernel_terms import CONV_SLOPE, FixedKernel, FreeKernel, SpreadPointwise
from models.reparam.rep_block import ConvGeometry

KXK, POINTWISE, IDENTITY = "kxk", "1x1", "identity"  # the branches, and the names of their scales


class TapScaledConv(ConvBranch):
    """A convolution with norm that learns as k x k, 1x1 and identity with constant scales do.

    Args:
        geometry: of the block.
        scales: of each branch, by name; without `identity` there is none.

    Raises:
        ValueError: a 1x1 has no place in the centre of the kernel.
    """

    def __init__(self, geometry: ConvGeometry, scales: dict[str, float]) -> None:
        super().__init__(geometry)
        self.geometry = geometry
        for name, value in scales.items():
            self.register_buffer(f"scale_{name}", torch.full((geometry.out_channels,), value))
        self.draw()

    @property
    def scales(self) -> dict[str, Tensor]:
        """Branch -> (out,) constant scales; for the identity, its weights at the start."""
        buffers = self.named_buffers(recurse=False)
        return {name.removeprefix("scale_"): buffer for name, buffer in buffers}

    @torch.no_grad()
    def draw(self) -> None:
        """Start anew: the kernel of freshly drawn branches, merged."""
        geometry, weight = self.geometry, self.conv.weight
        kxk = geometry.conv(bias=False).weight.to(weight)
        pointwise = geometry.conv(bias=False, kernel_hw=(1, 1)).weight.to(weight)
        weight.copy_(self.merged(kxk, pointwise, self.scales))

    def merged(self, kxk: Tensor, pointwise: Tensor, scales: dict[str, Tensor]) -> Tensor:
        """The kernel of branches with these scales.

        Args:
            kxk: (out, in / groups, k, k).
            pointwise: (out, in / groups, 1, 1).
            scales: branch -> (out,).

        Returns:
            (out, in / groups, k, k), in the dtype of `kxk`.
        """
        by_filter = {name: scale.to(kxk)[:, None, None, None] for name, scale in scales.items()}
        kernel = by_filter[KXK] * kxk
        kernel += algebra.pad_kernel(by_filter[POINTWISE] * pointwise, self.full_hw)
        if IDENTITY in by_filter:
            channels, groups = self.geometry.out_channels, self.geometry.groups
            identity = algebra.identity_kernel(channels, groups, self.full_hw, kxk.device)
            kernel += by_filter[IDENTITY] * identity.to(kxk)
        return kernel

    @torch.no_grad()
    def gradient_multipliers(self, power: int) -> dict[Tensor, Tensor]:
        """The weight -> what multiplies each element of its gradient, or of its update.

        Args:
            power: of the scales: 2 for SGD, 1 for optimizers whose steps do not depend on the
                scale of gradients (Adam, AdamW).
        """
        weight = self.conv.weight
        ones = torch.ones_like(weight)  # in the memory format of the weight
        powers = {name: scale.abs() ** power for name, scale in self.scales.items()}
        if IDENTITY in powers:
            powers[IDENTITY] = torch.ones_like(powers[IDENTITY])
        return {weight: self.merged(ones, ones[:, :, :1, :1], powers)}

    @torch.no_grad()
    def set_scales(self, scales: dict[str, Tensor]) -> None:
        """Take over constants, branch -> (out,); the kernel stays as it is.

        Raises:
            ValueError: they are of other branches, or of other numbers of channels.
        """
        shapes = ({name: tuple(scale.shape) for name, scale in each.items()}
                  for each in (scales, self.scales))  # fmt: skip
        found, expected = shapes
        if found != expected:
            raise ValueError(f"scales {found}, expected {expected}")
        for name, buffer in self.scales.items():
            buffer.copy_(scales[name])


def rep_opt(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    scale_kxk: float = 1.0,
    scale_1x1: float = 1.0,
    scale_identity: float = 1.0,
) -> BranchedConv:
    """RepOpt (sec. 3.2): a plain convolution and norm, whose gradients are multiplied tap by tap.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether it learns as if there were an identity branch.
        scale_kxk: constant scale of the k x k branch.
        scale_1x1: constant scale of the 1x1 branch.
        scale_identity: weight that the identity branch starts with.
    """
    scales = _checked("RepOpt", geometry, identity, (scale_kxk, scale_1x1, scale_identity))
    branch = TapScaledConv(geometry, scales)
    return BranchedConv("RepOpt", geometry, {KXK: branch}, activation)


def linear_add(
    geometry: ConvGeometry,
    activation: nn.Module,
    *,
    identity: bool,
    scale_kxk: float = 1.0,
    scale_1x1: float = 1.0,
    scale_identity: float = 1.0,
) -> BranchedConv:
    """LinearAdd (sec. 3.3): the branches with scales that learn, and one norm after their sum.

    The branches are merged before the convolution, which then runs once.

    Args:
        geometry: of the convolution.
        activation: applied last.
        identity: whether there is an identity branch.
        scale_kxk: what the scales of the k x k branch start at.
        scale_1x1: those of the 1x1 branch.
        scale_identity: those of the identity.
    """
    starts = _checked("LinearAdd", geometry, identity, (scale_kxk, scale_1x1, scale_identity))
    geometry.conv(bias=False, kernel_hw=(1, 1))  # refuses where it has no centre
    size, out = (geometry.kernel_size,) * 2, geometry.out_channels
    centre = algebra.pad_kernel(torch.ones(1, 1, 1, 1), size)[0]
    terms = {
        KXK: ScaledTerm(FreeKernel(geometry, CONV_SLOPE), starts[KXK]),
        POINTWISE: ScaledTerm(SpreadPointwise(geometry, centre, CONV_SLOPE), starts[POINTWISE]),
    }
    if IDENTITY in starts:
        # torch.get_default_device() of torch 2.6 overlooks `with torch.device(...)`.
        kernel = algebra.identity_kernel(out, geometry.groups, size, centre.device)
        terms[IDENTITY] = ScaledTerm(FixedKernel(kernel), starts[IDENTITY])
    composed = ComposedKernel(terms, out, "vector")
    branch = ComposedBranch(geometry, composed, norm=False)
    return BranchedConv("LinearAdd", geometry, {KXK: branch}, activation, post_norm=True)


def learnt_scales(network: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Name of each LinearAdd branch -> its scales: branch -> (out,)."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, BranchedConv) and module.kind == "LinearAdd":
            branch = module.branches[KXK]
            if isinstance(branch, ComposedBranch):  # always; for mypy
                scales = {term: scale.detach() for term, scale in branch.composed.scales.items()}
                found[f"{name}.branches.{KXK}"] = scales
    return found


def take_scales(network: nn.Module, learnt: Mapping[str, dict[str, Tensor]], *, draw: bool) -> int:
    """Give every RepOpt block the scales that its namesake learnt.

    Args:
        network: changed in place.
        learnt: of `learnt_scales`.
        draw: whether the kernels start anew, as these scales have it.

    Returns:
        How many blocks there are.

    Raises:
        ValueError: a block has no namesake, or one of another shape.
    """
    convs = {name: module for name, module in network.named_modules()
             if isinstance(module, TapScaledConv)}  # fmt: skip
    for name, conv in convs.items():
        if name not in learnt:
            raise ValueError(f"no scales for {name}")
        try:
            conv.set_scales(learnt[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if draw:
            conv.draw()
    return len(convs)


def _checked(
    family: str, geometry: ConvGeometry, identity: bool, scales: tuple[float, float, float]
) -> dict[str, float]:
    """The scales of the branches that a block of this geometry has.

    Raises:
        ValueError: one is no number above zero: that branch would never learn.
    """
    found = dict(zip((KXK, POINTWISE, IDENTITY), scales, strict=True))
    for name, value in found.items():
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ValueError(f"{family}: scale_{name} is {value!r}, expected a number above 0")
    if not (identity and geometry.keeps_shape):
        del found[IDENTITY]
    return {name: float(value) for name, value in found.items()}
