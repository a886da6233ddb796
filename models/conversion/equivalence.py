"""The equivalence check: does a converted network compute the same as the one it came from?"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from models.conversion.block_report import BlockReport, block_reports
from models.conversion.deploy import raw_maps, worst_error
from models.network.detector import Detector
from utils.errors import ConversionError

logger = logging.getLogger(__name__)
BLOCK_TOLERANCE = 1e-12  # of one block in float64
FLOAT64_TOLERANCE = 1e-10  # of the whole network
FLOAT32_TOLERANCE = 1e-5


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


def measure_equivalence(
    model: Detector,
    saved: Detector,
    inputs: Sequence[Tensor],
    *,
    change_form: Callable[[Detector], Detector] | None,
    change_stem: Callable[[Detector], Detector],
    tolerance: float | None = None,
) -> Equivalence:
    """Compare a network with its conversion as saved, and with the same conversion in float64.

    Args:
        model: in float32.
        saved: the converted network, read back from its file.
        inputs: (B, 3, H, W) float32 each.
        change_form: folds or expands; None where the form stays.
        change_stem: changes the first layer after that.
        tolerance: limit of the float32 error; by default 1e-5, or 4 times the float32 error of
            `model` itself where that is more.
    """
    exact = copy.deepcopy(model).double()
    exact_changed = exact if change_form is None else change_form(exact)
    maps, exact_maps = raw_maps(model, inputs), raw_maps(exact, inputs)
    if tolerance is None:
        tolerance = max(FLOAT32_TOLERANCE, 4 * worst_error(exact_maps, maps))
    blocks = [] if change_form is None else block_reports(exact, exact_changed)
    return Equivalence(
        float64=worst_error(exact_maps, raw_maps(change_stem(exact_changed), inputs)),
        float32=worst_error(maps, raw_maps(saved, inputs)),
        allowed=tolerance,
        blocks=tuple(blocks),
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
