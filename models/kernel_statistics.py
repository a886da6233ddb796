"""Where the weight of trained 3x3 kernels lies, and which branch it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.network.detector import block_kind
from models.reparam.branched_conv import BranchedConv
from models.reparam.rep_block import ConvAct, RepBlock

SIZE = (3, 3)
FloatGrid = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerKernels:
    """One 3x3 convolution.

    Attributes:
        name: of the module.
        block: kind of block.
        main: (3, 3) mean magnitude of the first branch's kernel per position; in a deploy form, of
            the kernel itself.
        merged: (3, 3) mean magnitude of the kernel that the block is folded to.
        parts: root mean square of what each branch adds to the merged kernel; empty where there is
            one branch.
        merged_rms: root mean square of the merged kernel.
        similarity: |cosine| between what two branches add, by their names.
    """

    name: str
    block: str
    main: FloatGrid
    merged: FloatGrid
    parts: Mapping[str, float]
    merged_rms: float
    similarity: Mapping[tuple[str, str], float]


@torch.no_grad()
def layer_kernels(model: nn.Module) -> list[LayerKernels]:
    """Every 3x3 convolution of a network in either form, in the order of its rows."""
    found = []
    for name, block in model.named_modules():
        if not isinstance(block, RepBlock | ConvAct):
            continue
        main, merged = _main_and_merged(block)
        if merged.shape[2:] != SIZE:
            continue
        parts = block.kernel_parts() if isinstance(block, BranchedConv) else {}
        found.append(
            LayerKernels(
                name=name,
                block=block_kind(block),
                main=_magnitude(main),
                merged=_magnitude(merged),
                parts={part: _rms(kernel) for part, kernel in parts.items()},
                merged_rms=_rms(merged),
                similarity=_similarities(parts),
            )
        )
    return found


def skeleton(magnitudes: Sequence[FloatGrid]) -> FloatGrid:
    """Mean over layers of each layer's magnitudes over its largest (ACNet, sec. 4.4).

    Layers of zeros, which have no largest, are skipped.
    """
    shares = [grid / grid.max() for grid in magnitudes if grid.max() > 0]
    mean: FloatGrid = np.stack(shares if shares else [np.zeros(SIZE)]).mean(0)
    return mean


def mean_parts(layers: Sequence[LayerKernels]) -> dict[str, float]:
    """Root mean square of each branch's part over the merged kernel's, mean over its layers."""
    shares: dict[str, list[float]] = {}
    for layer in layers:
        for name, rms in layer.parts.items() if layer.merged_rms > 0 else ():
            shares.setdefault(name, []).append(rms / layer.merged_rms)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def mean_similarity(layers: Sequence[LayerKernels]) -> tuple[list[str], FloatGrid]:
    """Names of all branches, and the (n, n) mean |cosine| of what any two of them add."""
    names = list(mean_parts(layers))
    grid = np.eye(len(names))
    for row, first in enumerate(names):
        for column, second in enumerate(names[:row]):
            pairs = ((first, second), (second, first))
            values = [
                layer.similarity[p] for layer in layers for p in pairs if p in layer.similarity
            ]
            grid[row, column] = grid[column, row] = np.mean(values) if values else np.nan
    return names, grid


def _main_and_merged(block: RepBlock | ConvAct) -> tuple[Tensor, Tensor]:
    if isinstance(block, ConvAct):
        return block.conv.weight, block.conv.weight
    return block.main_kernel(), block.equivalent_conv().weight


def _magnitude(kernel: Tensor) -> FloatGrid:
    return kernel.double().abs().mean((0, 1)).numpy(force=True)


def _rms(kernel: Tensor) -> float:
    return float(kernel.double().square().mean().sqrt())


def _similarities(parts: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    """|cosine| of each two branches that both add something."""
    flat = {name: kernel.flatten() for name, kernel in parts.items() if kernel.abs().max() > 0}
    names = list(flat)
    return {
        (a, b): float(torch.cosine_similarity(flat[a], flat[b], dim=0).abs())
        for number, a in enumerate(names)
        for b in names[number + 1 :]
    }
