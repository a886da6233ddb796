"""Which anchors, in which cells, are responsible for which labelled object (YOLOv5's rule).

An object goes to every anchor whose width and height differ from its own by less than a factor, in
the cell of its centre and in the one or two nearest neighbour cells. It may go to several levels.
M: objects of the batch, K: (object, anchor, cell) pairs of all levels, P: (object, anchor) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Assignment:
    """The responsible anchors, those of the first level first.

    Two tensors hold everything, so that two copies bring it to a device.

    Attributes:
        pairs: how many of the K pairs each level has.
        indices: (5, K) int64: `image_index`, `anchor_index`, `row`, `column`, `class_ids`.
        numbers: (K, 7): `boxes`, `anchors`, `is_last`.
    """

    pairs: tuple[int, ...]
    indices: Tensor
    numbers: Tensor

    @property
    def image_index(self) -> Tensor:
        """(K,) which image of the batch."""
        return self.indices[0]

    @property
    def anchor_index(self) -> Tensor:
        """(K,) which anchor of the level."""
        return self.indices[1]

    @property
    def row(self) -> Tensor:
        """(K,) cell row."""
        return self.indices[2]

    @property
    def column(self) -> Tensor:
        """(K,) cell column."""
        return self.indices[3]

    @property
    def class_ids(self) -> Tensor:
        """(K,) class of the object."""
        return self.indices[4]

    @property
    def boxes(self) -> Tensor:
        """(K, 4) target boxes: centre relative to the cell's corner and size, in cells."""
        return self.numbers[:, :4]

    @property
    def anchors(self) -> Tensor:
        """(K, 2) the responsible anchor's width and height, in cells."""
        return self.numbers[:, 4:6]

    @property
    def is_last(self) -> Tensor:
        """(K,) 1 for the last pair of an anchor in a cell, 0 where another object follows."""
        return self.numbers[:, 6]

    def to(self, device: torch.device) -> Assignment:
        """A copy on another device; the host does not wait for it."""
        return replace(
            self,
            indices=self.indices.to(device, non_blocking=True),
            numbers=self.numbers.to(device, non_blocking=True),
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
) -> Assignment:
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
        Pairs ordered by level, then neighbour (own cell, left, top, right, bottom), then anchor,
        then object.
    """
    rows = [(level, each) for level, sizes in enumerate(anchors) for each in range(len(sizes))]
    level_of_row, anchor_of_row = image_index.new_tensor(rows).unbind(1)  # tables of all anchors
    in_cells = boxes_cxcywh / boxes_cxcywh.new_tensor(strides)[:, None, None]  # (levels, M, 4)
    sides = torch.cat([level / stride for level, stride in zip(anchors, strides, strict=True)])
    ratio = in_cells[level_of_row, :, 2:] / sides[:, None]
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < ratio_threshold
    anchor_row, object_index = fits.nonzero(as_tuple=True)  # (P,), by level, anchor, object
    level = level_of_row[anchor_row]
    boxes = in_cells[level, object_index]
    sizes_xy = boxes.new_tensor([(width, height) for height, width in grids_hw])[level]
    moves, chosen = _neighbour_moves(boxes[:, :2], sizes_xy)
    neighbour, pair = chosen.nonzero(as_tuple=True)  # (K,), by neighbour, level, anchor, object
    order = level[pair].argsort(stable=True)
    neighbour, pair = neighbour[order], pair[order]
    anchor_row, object_index, boxes = anchor_row[pair], object_index[pair], boxes[pair]
    corner = (boxes[:, :2] - moves[neighbour]).long()
    cell = torch.minimum(corner.clamp(min=0), sizes_xy[pair].long() - 1)
    image, class_id, (column, row) = image_index[object_index], class_ids[object_index], cell.T
    max_height, max_width = map(max, zip(*grids_hw, strict=True))
    key = ((image * len(rows) + anchor_row) * max_height + row) * max_width + column
    is_last = _last_of_equals(key)[:, None]
    numbers = (boxes[:, :2] - corner, boxes[:, 2:], sides[anchor_row], is_last.to(boxes.dtype))
    pairs = level[pair].bincount(minlength=len(anchors)).tolist()
    indices = torch.stack((image, anchor_of_row[anchor_row], row, column, class_id))
    return Assignment(tuple(pairs), indices, torch.cat(numbers, 1))


def _neighbour_moves(centre: Tensor, sizes_xy: Tensor) -> tuple[Tensor, Tensor]:
    """Which neighbour cells also take an object.

    Args:
        centre: (P, 2) x, y in cells.
        sizes_xy: (P, 2) columns and rows of the level.

    Returns:
        (5, 2) what to subtract from a centre to fall into its own, left, top, right or bottom cell;
        (5, P) whether each of the five takes the object.
    """
    near_start = (centre % 1 < 0.5) & (centre > 1)  # left, top
    from_end = sizes_xy - centre
    near_end = (from_end % 1 < 0.5) & (from_end > 1)  # right, bottom
    own = torch.ones_like(near_start[:, :1])
    chosen = torch.cat((own, near_start, near_end), 1).T
    moves = centre.new_tensor(((0, 0), (0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)))
    return moves, chosen


def _last_of_equals(values: Tensor) -> Tensor:
    """(K,) bool: which of the (K,) values are not followed by an equal one."""
    ordered, order = values.sort(stable=True)
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return torch.empty_like(last).index_copy_(0, order, last)
