"""Which anchors, in which cells, are responsible for which labelled object (YOLOv5's rule).

An object goes to every anchor whose width and height differ from its own by less than a factor, in
the cell of its centre and in the one or two nearest neighbour cells. It may go to several levels.
M: objects of the batch, K: (object, anchor, cell) pairs of one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LevelAssignment:
    """The responsible anchors of one level.

    Attributes:
        image_index: (K,) which image of the batch.
        anchor_index: (K,) which anchor of the level.
        row: (K,) cell row.
        column: (K,) cell column.
        class_ids: (K,).
        boxes: (K, 4) target boxes: centre relative to the cell's corner and size, in cells.
        anchors: (K, 2) the responsible anchor's width and height, in cells.
    """

    image_index: Tensor
    anchor_index: Tensor
    row: Tensor
    column: Tensor
    class_ids: Tensor
    boxes: Tensor
    anchors: Tensor

    def to(self, device: torch.device) -> LevelAssignment:
        """A copy on another device; the host does not wait for it."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return LevelAssignment(
            **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        )


def assign(
    image_index: Tensor,
    class_ids: Tensor,
    boxes_cxcywh: Tensor,
    *,
    anchors: Sequence[Tensor],
    strides: Sequence[int],
    grids_hw: Sequence[tuple[int, int]],
    ratio_threshold: float,
) -> tuple[LevelAssignment, ...]:
    """Responsible anchors for all objects of a batch.

    Args:
        image_index: (M,) int64.
        class_ids: (M,) int64.
        boxes_cxcywh: (M, 4) in input pixels.
        anchors: per level (A, 2) width and height in input pixels.
        strides: per level, input pixels per cell.
        grids_hw: per level, rows and columns of cells.
        ratio_threshold: largest allowed factor between object and anchor side (YOLOv5: anchor_t).

    Returns:
        One LevelAssignment per level. Pairs are ordered by neighbour (own cell, left, top, right,
        bottom), then anchor, then object.
    """
    levels = zip(anchors, strides, grids_hw, strict=True)
    return tuple(
        _assign_level(
            image_index, class_ids, boxes_cxcywh / stride, sizes / stride, grid, ratio_threshold
        )
        for sizes, stride, grid in levels
    )


def _assign_level(
    image_index: Tensor,
    class_ids: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    grid_hw: tuple[int, int],
    ratio_threshold: float,
) -> LevelAssignment:
    """One level; `boxes` and `anchors` are in cells of this level."""
    ratio = boxes[None, :, 2:] / anchors[:, None]  # (A, M, 2)
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < ratio_threshold
    anchor_index, object_index = fits.nonzero(as_tuple=True)
    centre = boxes[object_index, :2]
    moves, chosen = _neighbour_moves(centre, grid_hw)
    neighbour, pair = chosen.nonzero(as_tuple=True)
    anchor_index, object_index = anchor_index[pair], object_index[pair]

    centre = boxes[object_index, :2]
    cell = (centre - moves[neighbour]).long()
    limit = torch.tensor((grid_hw[1] - 1, grid_hw[0] - 1), device=cell.device)
    relative = torch.cat((centre - cell, boxes[object_index, 2:]), 1)
    cell = torch.minimum(cell.clamp(min=0), limit)
    return LevelAssignment(
        image_index=image_index[object_index],
        anchor_index=anchor_index,
        row=cell[:, 1],
        column=cell[:, 0],
        class_ids=class_ids[object_index],
        boxes=relative,
        anchors=anchors[anchor_index],
    )


def _neighbour_moves(centre: Tensor, grid_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which neighbour cells also take an object.

    Args:
        centre: (P, 2) x, y in cells.
        grid_hw: rows and columns.

    Returns:
        (5, 2) what to subtract from a centre to fall into its own, left, top, right or bottom cell;
        (5, P) whether each of the five takes the object.
    """
    size = centre.new_tensor((grid_hw[1], grid_hw[0]))
    near_start = (centre % 1 < 0.5) & (centre > 1)  # left, top
    from_end = size - centre
    near_end = (from_end % 1 < 0.5) & (from_end > 1)  # right, bottom
    own = torch.ones_like(near_start[:, :1])
    chosen = torch.cat((own, near_start, near_end), 1).T
    moves = centre.new_tensor(((0, 0), (0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)))
    return moves, chosen
