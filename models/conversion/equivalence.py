"""How far a converted network is from the one it came from, and what is accepted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from models.conversion.block_report import BlockReport
from utils.errors import ConversionError

logger = logging.getLogger(__name__)
BLOCK_TOLERANCE = 1e-12  # of one block in float64
FLOAT64_TOLERANCE = 1e-10  # of the whole network
FLOAT32_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Equivalence:
    """How far the converted network is from the one it came from.

    Attributes:
        float64: relative error of the converted network in memory, computed in float64.
        float32: relative error of the saved file read back, computed in float32.
        allowed: the largest float32 error that is accepted.
        blocks: each block that was folded or expanded, on its own.
    """

    float64: float
    float32: float
    allowed: float
    blocks: tuple[BlockReport, ...]


def check_equivalence(found: Equivalence) -> None:
    """Log every figure, and refuse what is too large.

    Raises:
        ConversionError: one of them is too large.
    """
    if found.blocks:
        logger.info("%-20s %-22s %13s  %s", "layer", "block", "float64 error", "|w|max/sigma")
    for block in found.blocks:
        logger.info(
            "%-20s %-22s %13.1e  %.1f -> %.1f",
            block.name,
            f"{block.block_before} -> {block.block_after}",
            block.rel_error_float64,
            block.weight_spread_before,
            block.weight_spread_after,
        )
    logger.info(
        "relative error: %.1e in float64 (allowed %.0e), %.1e in float32 (allowed %.0e)",
        found.float64, FLOAT64_TOLERANCE, found.float32, found.allowed,
    )  # fmt: skip
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
