"""The equivalence check: does a converted network compute the same as the one it came from?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.conversion.block_report import BlockReport, block_reports
from models.conversion.deploy import Maps, relative_error
from models.conversion.form_change import FormChange
from models.conversion.stem import stem_layer
from models.network.detector import Detector, Outputs
from models.network.module_copy import copy_with, in_float64
from utils.errors import ConversionError

logger = logging.getLogger(__name__)
BLOCK_TOLERANCE = 1e-12  # of one block in float64
FLOAT64_TOLERANCE = 1e-10  # of the whole network
FLOAT32_TOLERANCE = 1e-5
# Input sizes of the check, in strides: odd and even numbers of cells, square and not.
CHECK_CELLS = ((3, 5), (4, 4), (7, 2))


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Relative errors of a converted network, max |a - b| / max |a| of the worst output map.

    Attributes:
        float64: of the converted network in memory, computed in float64.
        float32: of the saved file read back, computed in float32.
        allowed: the limit of `float32`.
        blocks: each block that was folded or expanded, on its own.
    """

    float64: float
    float32: float
    allowed: float
    blocks: tuple[BlockReport, ...]


@torch.no_grad()
def measure_equivalence(
    model: Detector,
    saved: Detector,
    inputs: Sequence[Tensor],
    change: FormChange,
    *,
    tolerance: float | None = None,
) -> Equivalence:
    """Compare a network with its conversion as saved, and with the same conversion in float64.

    Layer by layer, so that of what is in float64 only one layer is in memory at a time.

    Args:
        model: in float32.
        saved: the converted network, read back from its file.
        inputs: (B, 3, H, W) float32 each.
        change: the conversion.
        tolerance: limit of the float32 error; by default 1e-5, or 4 times the float32 error of
            `model` itself where that is more.
    """
    passes = [Passes.start(each) for each in inputs]
    generator, blocks = torch.Generator().manual_seed(0), list[BlockReport]()
    for index, layer in enumerate(model.layers):
        new_layer, exact = saved.layers[index], copy_with(layer, in_float64)
        exact_new = change.layer(new_layer, exact)
        if change.replaces_blocks:
            blocks += block_reports(exact, exact_new, f"layers.{index}.", generator)
        if index == 0:
            exact_new = stem_layer(new_layer, exact_new)
        for each in passes:
            each.run(index, (model, saved), (layer, new_layer, exact, exact_new))
    errors = [each.errors() for each in passes]
    own, float32, float64 = (max(kind) for kind in zip(*errors, strict=True))
    if tolerance is None:
        tolerance = max(FLOAT32_TOLERANCE, 4 * own)
    return Equivalence(float64, float32, tolerance, tuple(blocks))


@dataclass(slots=True)
class Passes:
    """One input on its way through four networks.

    Attributes:
        outputs: of the network before, the saved one, and both in float64.
        maps: the raw predictions of each, in the end.
    """

    outputs: tuple[Outputs, ...]
    maps: list[Maps]

    @classmethod
    def start(cls, images: Tensor) -> Passes:
        """Before the first layer."""
        return cls(tuple({-1: each} for each in (images, images, images.double(), images.double())),
                   [])  # fmt: skip

    def run(
        self, index: int, networks: tuple[Detector, Detector], layers: tuple[nn.Module, ...]
    ) -> None:
        """Through one layer of each."""
        before, after = networks
        rows = zip((before, after, before, after), layers, self.outputs, strict=True)
        last = [network.run_layer(index, layer, outputs) for network, layer, outputs in rows]
        self.maps = [each for each in last if not isinstance(each, Tensor)]

    def errors(self) -> tuple[float, float, float]:
        """Of the network before in float32, of the saved one, and of the new one in float64."""
        before, saved, exact, exact_new = self.maps
        return (
            relative_error(exact, before),
            relative_error(before, saved),
            relative_error(exact, exact_new),
        )


def check_equivalence(found: Equivalence, *, every_block: bool = False) -> None:
    """Log the errors, those of each block if asked for, and refuse what is above its limit.

    Raises:
        ConversionError: one is above its limit, or not a number.
    """
    _log(found, every_block=every_block)
    for block in found.blocks:
        if not block.rel_error_float64 <= BLOCK_TOLERANCE:
            raise ConversionError(
                f"{block.name} ({block.block_before}): float64 error "
                f"{block.rel_error_float64:.1e} is above {BLOCK_TOLERANCE:.0e}; nothing written"
            )
    if not found.float64 <= FLOAT64_TOLERANCE:
        raise ConversionError(
            f"float64 error {found.float64:.1e} is above {FLOAT64_TOLERANCE:.0e}; nothing written"
        )
    if not found.float32 <= found.allowed:
        raise ConversionError(
            f"float32 error {found.float32:.1e} is above {found.allowed:.1e}; nothing written"
        )


def _log(found: Equivalence, *, every_block: bool) -> None:
    listed = found.blocks if every_block else ()
    if listed:
        logger.info("%-20s %-22s %13s  %s", "layer", "block", "float64 error", "|w|max/sigma")
    for block in listed:
        logger.info(
            "%-20s %-22s %13.1e  %.1f -> %.1f",
            block.name,
            f"{block.block_before} -> {block.block_after}",
            block.rel_error_float64,
            block.weight_spread_before,
            block.weight_spread_after,
        )
    if found.blocks:
        worst = max(found.blocks, key=lambda block: block.rel_error_float64)
        logger.info(
            "%d blocks: relative error at most %.1e in float64 (limit %.0e), in %s",
            len(found.blocks), worst.rel_error_float64, BLOCK_TOLERANCE, worst.name,
        )  # fmt: skip
    logger.info(
        "Equivalence check: relative error %.1e in float64 (limit %.0e), %.1e in float32 "
        "(limit %.0e)",
        found.float64, FLOAT64_TOLERANCE, found.float32, found.allowed,
    )  # fmt: skip
