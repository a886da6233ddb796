"""Small objects: an image is cut into overlapping tiles, and what they find is merged. numpy only.

The network sees the whole image once and every tile once, each letterboxed to the same input, so
that a small object has more pixels in it. `nms` merges by non-maximum suppression. `nmm` merges as
SAHI's GREEDYNMM does: the best box takes in those of its class of which it covers most, or which
cover most of it, and grows around them; so an object cut by the edge of a tile becomes one again.

Shapes: T tiles, N boxes. Boxes are xyxy in pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.boxes import box_area
from utils.letterbox import InputSize, Letterbox
from utils.postprocess import PostprocessConfig, nms
from utils.structures import Detections, FloatArray, ImageArray, IntArray

MERGES = ("nms", "nmm")
MAX_OVERLAP = 0.9
MIN_TILE = 32  # pixels; smaller ones are too many
MERGE_IOS = 0.5  # SAHI's: of the smaller box's area at least this is common
_ROUNDING = 1e-9  # 0.1 * 30 is 3.0000000000000004: three pixels are meant


@dataclass(frozen=True, slots=True)
class TileRules:
    """How images are cut into tiles, and what they find is merged.

    Attributes:
        tile_hw: height and width of a tile in pixels of the image.
        overlap: neighbours share at least this part of a side, 0 to MAX_OVERLAP.
        merge: `nms` or `nmm`.
        batch_size: tiles per run of the network, where its file leaves the choice.
    """

    tile_hw: tuple[int, int]
    overlap: float = 0.2
    merge: str = "nms"
    batch_size: int = 1

    @classmethod
    def of(
        cls, side: int, size: InputSize, *, overlap: float, merge: str, batch_size: int
    ) -> TileRules:
        """From the flags; a `side` of 0 takes the network's input size."""
        tile_hw = (side, side) if side else size.limit_hw
        return cls(tile_hw, overlap, merge, batch_size)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image.

    Attributes:
        image: (h, w, 3) its pixels, a view of the whole image's.
        corner: (x, y) of its left top pixel in the whole image.
        letterbox: how it becomes a network input.
    """

    image: ImageArray
    corner: tuple[int, int]
    letterbox: Letterbox

    def in_whole(self, found: Detections) -> Detections:
        """Detections with boxes in pixels of the tile -> in pixels of the whole image."""
        return replace(found, boxes=found.boxes + np.array(self.corner * 2, np.float32))


def tile_grid(image_hw: tuple[int, int], rules: TileRules) -> IntArray:
    """The tiles of an image, row after row.

    They lie inside the image, cover every pixel and are all of one size: that of the rules, cut to
    the image. They are as few as the overlap allows, at even distances.

    Returns:
        (T, 4) xyxy in pixels of the image; one row where a tile is as large as the image.
    """
    height, width = (min(pair) for pair in zip(image_hw, rules.tile_hw, strict=True))
    tops = _starts(image_hw[0], height, rules.overlap)
    lefts = _starts(image_hw[1], width, rules.overlap)
    return np.array(
        [(left, top, left + width, top + height) for top in tops for left in lefts], np.int64
    )


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of `side` pixels begin along `length` pixels."""
    step = max(side - math.ceil(overlap * side - _ROUNDING), 1)
    gaps = math.ceil((length - side) / step)
    # No two of them are more than `step` apart: rounding down keeps what is at most a whole number.
    return [index * (length - side) // max(gaps, 1) for index in range(gaps + 1)]


def cut_tiles(image: ImageArray, rules: TileRules, size: InputSize) -> list[Tile]:
    """The tiles of an image (H, W, 3), all of one input size; none where one would be all of it."""
    grid = tile_grid((image.shape[0], image.shape[1]), rules)
    if len(grid) == 1:
        return []
    tiles = []
    for left, top, right, bottom in grid.tolist():
        letterbox = size.letterbox((bottom - top, right - left))
        tiles.append(Tile(image[top:bottom, left:right], (left, top), letterbox))
    return tiles


def in_chunks(tiles: Sequence[Tile], count: int) -> Iterator[Sequence[Tile]]:
    """At most `count` at a time, in order."""
    for start in range(0, len(tiles), count):
        yield tiles[start : start + count]


def merge_detections(
    parts: Sequence[Detections], rules: PostprocessConfig, merge: str
) -> Detections:
    """What the whole image and its tiles found, as one list.

    Args:
        parts: detections of each, boxes in pixels of the whole image.
        rules: by which they were found; `iou_threshold` is that of `nms`.
        merge: `nms` or `nmm`.

    Returns:
        Best score first, of equals the first, at most `rules.max_detections`.
    """
    found = Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
    )
    groups = np.zeros_like(found.class_ids) if rules.class_agnostic else found.class_ids
    merged: list[Detections] = [found[:0]]
    for group in np.unique(groups):  # no offset between classes: images may be of any width
        same = found[groups == group]
        if merge == "nms":
            same = same[nms(same.boxes, same.scores, rules.iou_threshold, rules.max_detections)]
        else:
            same = merge_greedily(same)
        merged.append(same)
    boxes, scores, class_ids = (
        np.concatenate([getattr(part, name) for part in merged])
        for name in ("boxes", "scores", "class_ids")
    )
    order = np.argsort(-scores, kind="stable")[: rules.max_detections]
    return Detections(boxes[order], scores[order], class_ids[order])


def merge_greedily(found: Detections, threshold: float = MERGE_IOS) -> Detections:
    """Greedy non-maximum merging, whatever the classes.

    The best box takes those whose overlap with it is at least `threshold` of the smaller of both,
    best first. One that still overlaps so much with the box as it has grown until then makes it
    grow around both; others are dropped. Then the best of the rest, and so on. A merged box has
    the score and class of its best one.
    """
    order = np.argsort(-found.scores, kind="stable")
    boxes = found.boxes[order].copy()
    kept: list[int] = []
    rest = np.arange(len(boxes))
    while rest.size:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        near = _overlap_of_smaller(boxes[best], boxes[rest]) >= threshold
        for other in rest[near]:
            if _overlap_of_smaller(boxes[best], boxes[other][None])[0] >= threshold:
                boxes[best, :2] = np.minimum(boxes[best, :2], boxes[other, :2])
                boxes[best, 2:] = np.maximum(boxes[best, 2:], boxes[other, 2:])
        rest = rest[~near]
    chosen = order[kept]
    return Detections(boxes[kept], found.scores[chosen], found.class_ids[chosen])


def _overlap_of_smaller(box: FloatArray, others: FloatArray) -> FloatArray:
    """(N,) area common to a box (4,) and each of others (N, 4), over that of the smaller; IoS."""
    left_top = np.maximum(box[:2], others[:, :2])
    right_bottom = np.minimum(box[2:], others[:, 2:])
    common = np.clip(right_bottom - left_top, 0, None).prod(axis=1)
    smaller = np.minimum(box_area(box[None]), box_area(others))
    # Empty boxes overlap with none.
    overlap: FloatArray = common / np.maximum(smaller, np.finfo(np.float32).tiny)
    return overlap
