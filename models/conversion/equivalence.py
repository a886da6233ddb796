"""The equivalence check: does a converted network compute the same as the one it came from?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.conversion.block_report import BlockReport, block_outputs, compare_blocks
from models.conversion.deploy import (
    equivalence_error,
    fold_in_place,
    relative_error,
    to_deploy,
)
from models.network.changed_copy import as_double, changed_copy
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


class ExactComparison(NamedTuple):
    """A network and its conversion, both computed in float64.

    Attributes:
        error: relative, of the worst output map.
        blocks: each block that was folded or expanded, on its own.
        inputs: of both.
        maps: what the network itself computes, for each input.
    """

    error: float
    blocks: tuple[BlockReport, ...]
    inputs: Sequence[Tensor]
    maps: list[tuple[Tensor, ...]]


@torch.no_grad()
def compare_exactly(
    model: Detector,
    inputs: Sequence[Tensor],
    *,
    change_form: Callable[[Detector], Detector] | None,
    change_stem: Callable[[Detector], Detector] | None,
) -> ExactComparison:
    """Convert and compare in float64, row by row where rows can be folded on their own.

    Args:
        model: in float32; it does not change.
        inputs: (B, 3, H, W) float32 each.
        change_form: folds or expands; None where the form stays.
        change_stem: changes the first layer after that; None where it stays.
    """
    changed, rows = _rows(model, change_form, change_stem)
    before = _RowByRow(model, inputs)
    after = _RowByRow(changed, inputs)
    random = None if change_form is None else torch.Generator().manual_seed(0)
    blocks: list[BlockReport] = []
    for index in range(len(model.layers)):  # no variable here keeps a row
        blocks += _compare_row(index, next(rows), before, after, random)
    error = max(map(relative_error, before.maps(), after.maps()))
    return ExactComparison(error, tuple(blocks), inputs, before.maps())


def _compare_row(
    index: int, row: _Row, before: _RowByRow, after: _RowByRow, random: torch.Generator | None
) -> list[BlockReport]:
    """Run a row in both forms; reports of its blocks if there is something to draw inputs with."""
    name = str(index)
    before.run(index, row.before)
    outputs = [] if random is None else block_outputs(nn.ModuleDict({name: row.before}), random)
    folded, changed = row.change()
    after.run(index, changed)
    reports = compare_blocks(outputs, nn.ModuleDict({name: folded}))
    return [replace(report, name=f"layers.{report.name}") for report in reports]


class _Row(NamedTuple):
    """A row in float64, and what gives it in the other form, and that with another stem.

    The first one may be used up by that.
    """

    before: nn.Module
    change: Callable[[], tuple[nn.Module, nn.Module]]


def _rows(
    model: Detector,
    change_form: Callable[[Detector], Detector] | None,
    change_stem: Callable[[Detector], Detector] | None,
) -> tuple[Detector, Iterator[_Row]]:
    """The rows of a conversion, and a network that runs the changed ones.

    What is only folded is made row by row: a network in float64 takes twice its memory.
    """
    if change_form is to_deploy and change_stem is None:
        return model, map(_folded_row, model.layers)
    exact = changed_copy(model, as_double)
    folded = exact if change_form is None else change_form(exact)
    after = folded if change_stem is None else change_stem(folded)
    pairs = zip(folded.layers, after.layers, strict=True)
    return after, (
        _Row(row, lambda pair=pair: pair)  # type: ignore[misc]  # a default that is bound
        for row, pair in zip(exact.layers, pairs, strict=True)
    )


def _folded_row(layer: nn.Module) -> _Row:
    row = changed_copy(layer, as_double)

    def change() -> tuple[nn.Module, nn.Module]:
        folded = fold_in_place(row)
        return folded, folded

    return _Row(row, change)


class _RowByRow:
    """Runs the rows of a network, handed in one after the other, on several inputs."""

    def __init__(self, network: Detector, inputs: Sequence[Tensor]) -> None:
        self._network = network
        self._outputs = [{-1: x.double()} for x in inputs]
        self._last: list[Tensor | tuple[Tensor, ...]] = []

    def run(self, index: int, layer: nn.Module) -> None:
        """Run the next row."""
        self._last = [self._network.run_row(index, layer, each) for each in self._outputs]

    def maps(self) -> list[tuple[Tensor, ...]]:
        """The raw predictions for each input, after the last row."""
        return [each for each in self._last if not isinstance(each, Tensor)]


@torch.no_grad()
def measure_equivalence(
    model: Detector,
    saved: Detector,
    inputs: Sequence[Tensor],
    exact: ExactComparison,
    tolerance: float | None = None,
) -> Equivalence:
    """Compare a network with its conversion as saved, in float32.

    Args:
        model: in float32.
        saved: the converted network, read back from its file.
        inputs: (B, 3, H, W) float32 each.
        exact: the same conversion in float64.
        tolerance: limit of the float32 error; by default 1e-5, or 4 times the float32 error of
            `model` itself where that is more.
    """
    if tolerance is None:
        own = max(map(relative_error, exact.maps, map(model, exact.inputs)))
        tolerance = max(FLOAT32_TOLERANCE, 4 * own)
    return Equivalence(
        float64=exact.error,
        float32=equivalence_error(model, saved, inputs),
        allowed=tolerance,
        blocks=exact.blocks,
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
