"""Block by block: the error between two forms of a network, and how wide their weights spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.conversion.deploy import relative_error
from models.network.detector import block_kind
from models.reparam.rep_block import ConvAct, RepBlock

INPUT_HW = (9, 10)  # odd and even: every border a stride of 2 can meet


@dataclass(frozen=True, slots=True)
class BlockReport:
    """One convolution of a network in two forms.

    Attributes:
        name: of the module.
        block_before: kind of block.
        block_after: kind of block it was changed into.
        rel_error_float64: max |a - b| / max |a| of its output on a random input.
        weight_spread_before: largest weight of its main kernel, in standard deviations; what
            8-bit weights have to span.
        weight_spread_after: largest weight of the kernel it was changed into, likewise.
    """

    name: str
    block_before: str
    block_after: str
    rel_error_float64: float
    weight_spread_before: float
    weight_spread_after: float


@torch.no_grad()
def block_reports(
    before: nn.Module, after: nn.Module, prefix: str, generator: torch.Generator
) -> list[BlockReport]:
    """A report for every convolution block of a network, or of one of its modules.

    Args:
        before: in float64.
        after: the same module of another network with the same rows.
        prefix: of the names in the network: empty, or the module's and a dot.
        generator: of the inputs.
    """
    reports = []
    for inner, old in _blocks(before):
        name, new = f"{prefix}{inner}".rstrip("."), after.get_submodule(inner)
        channels = _in_channels(old, new)
        x = torch.randn(2, channels, *INPUT_HW, generator=generator, dtype=torch.float64)
        reports.append(
            BlockReport(
                name=name,
                block_before=block_kind(old),
                block_after=block_kind(new),
                rel_error_float64=relative_error([old(x)], [new(x)]),
                weight_spread_before=_spread(_kernel(old)),
                weight_spread_after=_spread(_kernel(new)),
            )
        )
    return reports


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Blocks of either form, outermost only, by name; a module that is one has no name."""
    if isinstance(module, RepBlock | ConvAct):
        yield prefix.rstrip("."), module
        return
    for name, child in module.named_children():
        yield from _blocks(child, f"{prefix}{name}.")


def _in_channels(*forms: nn.Module) -> int:
    """How many channels a block reads, by any of its forms."""
    for block in forms:
        if isinstance(block, ConvAct):
            return block.conv.in_channels  # known without folding
    (block, *_) = forms
    if not isinstance(block, RepBlock):
        raise TypeError(f"{type(block).__name__} is no convolution block")
    return block.main_kernel().shape[1] * block.equivalent_conv().groups


def _kernel(block: nn.Module) -> Tensor:
    """The main kernel."""
    if isinstance(block, ConvAct):
        return block.conv.weight
    if isinstance(block, RepBlock):
        return block.main_kernel()
    raise TypeError(f"{type(block).__name__} is no convolution block")


def _spread(kernel: Tensor) -> float:
    """Largest weight in standard deviations; 1 where all weights are the same."""
    deviation = float(kernel.std(correction=0))
    return float(kernel.abs().max()) / deviation if deviation > 0 else 1.0
