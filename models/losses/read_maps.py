"""What the loss reads of raw maps: all values of a few anchors, and the objectness of all.

Autograd alone would make a whole map of zeros for each of the two readings and add them up. Here
both gradients are written into one map.

Shapes: B images, A anchors of a cell, C classes, H W cells of a level, K responsible anchors of all
levels, N = sum of B * A * H * W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.losses.assign import Assignment
from models.network.box_coder import split_anchors


def read_maps(
    raw_predictions: Sequence[Tensor], assignment: Assignment, num_anchors: int
) -> tuple[Tensor, Tensor]:
    """Read raw maps, differentiably and once.

    Args:
        raw_predictions: per level (B, A * (5 + C), H, W) logits.
        assignment: which anchors to read, on the same device.
        num_anchors: A.

    Returns:
        (K, 5 + C) all values of these anchors, (N,) objectness by level, image, anchor, row and
        column; in float32, or in the maps' own precision where it is higher.
    """
    rows, objectness = _Reading.apply(assignment.pairs, num_anchors, assignment.indices,
                                      *raw_predictions)  # fmt: skip
    return rows, objectness


class _MapLayout(NamedTuple):
    """How a map lies in memory; its gradient lies alike."""

    shape: torch.Size
    dtype: torch.dtype
    memory_format: torch.memory_format

    @classmethod
    def of(cls, raw: Tensor) -> _MapLayout:
        last = torch.channels_last
        is_last = not raw.is_contiguous() and raw.is_contiguous(memory_format=last)
        return cls(raw.shape, raw.dtype, last if is_last else torch.contiguous_format)

    @property
    def cells(self) -> int:
        """Of all images."""
        batch, _, height, width = self.shape
        return batch * height * width

    def zeros(self, device: torch.device) -> Tensor:
        empty = torch.empty(self.shape, dtype=self.dtype, device=device,
                            memory_format=self.memory_format)  # fmt: skip
        return empty.zero_()


class _Reading(torch.autograd.Function):
    """`read_maps` and its gradient, which is not differentiable again."""

    @staticmethod
    def forward(
        ctx: Any, pairs: tuple[int, ...], num_anchors: int, indices: Tensor, *raw: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(indices)
        ctx.pairs, ctx.num_anchors = pairs, num_anchors
        ctx.layouts = [_MapLayout.of(level) for level in raw]
        maps = [split_anchors(level, num_anchors) for level in raw]
        where = torch.split(indices[:4], list(pairs), 1)
        rows = [level[tuple(index)] for level, index in zip(maps, where, strict=True)]
        objectness = [level[..., 4].reshape(-1) for level in maps]
        dtype = torch.promote_types(raw[0].dtype, torch.float32)
        return torch.cat(rows).to(dtype), torch.cat(objectness).to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (indices,), (of_rows, of_objectness) = ctx.saved_tensors, gradients
        cells = [layout.cells * ctx.num_anchors for layout in ctx.layouts]
        where = torch.split(indices[:4], list(ctx.pairs), 1)
        parts = zip(ctx.layouts, where, torch.split(of_rows, list(ctx.pairs)),
                    torch.split(of_objectness, cells), strict=True)  # fmt: skip
        grads: list[Tensor] = []
        for layout, index, rows, objectness in parts:
            grad = layout.zeros(of_rows.device)
            maps = split_anchors(grad, ctx.num_anchors)
            maps[..., 4] = objectness.view(maps.shape[:-1])
            # Two objects may want one anchor: their gradients add up.
            maps.index_put_(tuple(index), rows.to(layout.dtype), accumulate=True)
            grads.append(grad)
        return None, None, None, *grads
