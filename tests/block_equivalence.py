"""Blocks with random statistics, and how far their deploy form is from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.conversion.deploy import relative_error
from models.network.layers import ConvBNAct
from models.reparam.algebra import BatchNorm
from models.reparam.families import block_family
from models.reparam.rep_block import ConvGeometry, RepBlock

FLOAT64_BOUND = 1e-12  # of one block
FLOAT32_BOUND = 1e-5


@dataclass(frozen=True, slots=True)
class BlockCase:
    """One block and the size of its input; `kind` is `Conv` or what a yaml gives as rep_block."""

    kind: str
    in_channels: int
    out_channels: int
    stride: int = 1
    groups: int = 1
    kernel_size: int = 3
    padding: int | None = None
    dilation: int = 1
    hw: tuple[int, int] = (7, 8)
    identity: bool = True
    bias: bool = False

    @property
    def geometry(self) -> ConvGeometry:
        """Of the convolution the block becomes."""
        return ConvGeometry(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.groups,
            self.dilation,
        )

    def build(self, seed: int = 0) -> RepBlock:
        """The block in eval mode with random weights and statistics, float64."""
        torch.manual_seed(seed)
        activation = nn.LeakyReLU(0.1)
        if self.kind == "Conv":
            block: RepBlock = ConvBNAct(self.geometry.conv(bias=self.bias), activation)
        else:
            family = block_family(self.kind, "test")
            block = family.make(self.geometry, activation, identity=self.identity)
        randomise_norms(block)
        randomise_constants(block)
        return block.double().eval()

    def input(self, seed: int = 0) -> Tensor:
        """A random input whose mean is not zero, so that padding shows."""
        generator = torch.Generator().manual_seed(seed)
        shape = (2, self.in_channels, *self.hw)
        return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.5


def norms(module: nn.Module) -> list[BatchNorm]:
    """Every batch-norm, of whatever class."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm)]


@torch.no_grad()
def randomise_norms(module: nn.Module) -> None:
    """Statistics, scales and shifts of both signs, as training leaves them."""
    for norm in norms(module):
        norm.running_mean.normal_(0, 0.5)
        norm.running_var.uniform_(0.3, 3)
        if norm.affine:
            signs = torch.randint_like(norm.weight, 0, 2) * 2 - 1
            norm.weight.uniform_(0.5, 1.5).mul_(signs)
            norm.bias.normal_(0, 0.5)


@torch.no_grad()
def randomise_constants(module: nn.Module) -> None:
    """What else starts at one number, mostly zero: it would hide what it multiplies or adds."""
    of_norms = {id(p) for norm in norms(module) for p in norm.parameters()}
    for parameter in module.parameters():
        if id(parameter) not in of_norms and parameter.unique().numel() == 1:
            parameter.normal_(0, 0.5)


@torch.no_grad()
def block_error(block: RepBlock, x: Tensor) -> float:
    """The relative error of the deploy form: of the whole map or of its border, the worse."""
    expected, found = block(x), block.to_deploy()(x)
    assert expected.shape == found.shape
    assert found.dtype == expected.dtype
    whole = relative_error([expected], [found])
    return max(whole, relative_error([border(expected)], [border(found)]))


def border(maps: Tensor) -> Tensor:
    """The outermost ring of cells of (B, C, H, W), flat: where wrong padding shows."""
    ring = torch.ones(maps.shape[2:], dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return maps[:, :, ring]
