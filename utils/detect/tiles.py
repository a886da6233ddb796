"""Small objects: an image is cut into overlapping tiles, and what they find is merged. numpy only.

The network sees the whole image once and every tile once, each letterboxed to the same input, so
that a small object has more pixels in it. What is found is merged in one of two ways:

- `nms`: a box that a tile's edge cuts is a part of an object. Where a box of its class that no edge
  cuts covers at least half of it, it is dropped, whatever it scores. Then non-maximum suppression.
- `nmm`: greedy non-maximum merging, as SAHI's GREEDYNMM does it. The best box takes in those of its
  class that cover half of it or are covered half by it, and grows around them.

Shapes: T tiles, N boxes. Boxes are xyxy in pixels of the image.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from utils.boxes import box_area
from utils.letterbox import InputSize, Letterbox
from utils.nms import nms
from utils.postprocess import PostprocessConfig
from utils.structures import Detections, FloatArray, ImageArray, IntArray

logger = logging.getLogger(__name__)
MERGE_IOS = 0.5  # SAHI's: of the smaller box's area at least this is common
MIN_MERGED_SCORE = 0.1  # SAHI's; boxes that score less cover everything, and all would grow
COVERED = 0.5  # of a part's area, which makes it a part of that object
EDGE = 8  # pixels of the network's input, its finest cell: what ends so near an edge is cut by it
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

    def warn_of_low_scores(self, score_threshold: float) -> None:
        """Say that `nmm` is of no use where nearly everything is a detection."""
        if self.merge == "nmm" and score_threshold < MIN_MERGED_SCORE:
            logger.warning(
                "--tile-merge nmm: at --conf-thres %g boxes grow around all that scores nearly "
                "nothing; use nms, or a --conf-thres of at least %g",
                score_threshold, MIN_MERGED_SCORE,
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in one look at an image.

    Attributes:
        detections: boxes in pixels of the whole image.
        cut: (N,) whether an edge of the tile cuts the object, so that the box is a part of it.
    """

    detections: Detections
    cut: npt.NDArray[np.bool_]

    @classmethod
    def whole(cls, detections: Detections) -> Seen:
        """Of the whole image, which cuts nothing."""
        return cls(detections, np.zeros(len(detections), np.bool_))


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image.

    Attributes:
        image: (h, w, 3) its pixels, a view of the whole image's.
        box: (x1, y1, x2, y2) where it lies.
        whole_hw: height and width of the whole image.
        letterbox: how it becomes a network input.
    """

    image: ImageArray
    box: tuple[int, int, int, int]
    whole_hw: tuple[int, int]
    letterbox: Letterbox

    def in_whole(self, found: Detections) -> Seen:
        """What was found, with boxes in pixels of the tile, as parts of the whole image."""
        left, top, right, bottom = self.box
        boxes = found.boxes + np.array([left, top, left, top], np.float32)
        near_x, near_y = (EDGE / scale for scale in self.letterbox.scale_xy)
        height, width = self.whole_hw
        # The edges of the image itself cut nothing that another tile would show.
        cut = np.zeros(len(boxes), np.bool_)
        if left > 0:
            cut |= boxes[:, 0] <= left + near_x
        if top > 0:
            cut |= boxes[:, 1] <= top + near_y
        if right < width:
            cut |= boxes[:, 2] >= right - near_x
        if bottom < height:
            cut |= boxes[:, 3] >= bottom - near_y
        return Seen(replace(found, boxes=boxes), cut)


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
    # No two of them are more than `step` apart: rounding down keeps what is at most an integer.
    return [index * (length - side) // max(gaps, 1) for index in range(gaps + 1)]


def cut_tiles(image: ImageArray, rules: TileRules, size: InputSize) -> list[Tile]:
    """The tiles of an image (H, W, 3), all of one input size; none where one would be all of it."""
    whole_hw = (image.shape[0], image.shape[1])
    grid = tile_grid(whole_hw, rules)
    if len(grid) == 1:
        return []
    tiles = []
    for left, top, right, bottom in grid.tolist():
        letterbox = size.letterbox((bottom - top, right - left))
        pixels = image[top:bottom, left:right]
        tiles.append(Tile(pixels, (left, top, right, bottom), whole_hw, letterbox))
    return tiles


def in_chunks(tiles: Sequence[Tile], count: int) -> Iterator[Sequence[Tile]]:
    """At most `count` at a time, in order."""
    for start in range(0, len(tiles), count):
        yield tiles[start : start + count]


def merge_detections(parts: Sequence[Seen], rules: PostprocessConfig, merge: str) -> Detections:
    """What the whole image and its tiles found, as one list.

    Args:
        parts: what each found, at least one.
        rules: by which they were found; `iou_threshold` is that of `nms`.
        merge: `nms` or `nmm`.

    Returns:
        Best score first, of equals the first, at most `rules.max_detections`.
    """
    found = _joined([part.detections for part in parts])
    cut = np.concatenate([part.cut for part in parts])
    groups = np.zeros_like(found.class_ids) if rules.class_agnostic else found.class_ids
    merged = [found[:0]]
    for group in np.unique(groups):  # no offset between classes: images may be of any width
        same = groups == group
        merged.append(
            merge_greedily(found[same])
            if merge == "nmm"
            else _suppressed(found[same & ~cut], found[same & cut], rules)
        )
    joined = _joined(merged)
    order = np.argsort(-joined.scores, kind="stable")
    return joined[order[: rules.max_detections]]


def _suppressed(whole: Detections, parts: Detections, rules: PostprocessConfig) -> Detections:
    """Non-maximum suppression of whole objects and of the parts that none of them covers."""
    kept = whole[nms(whole.boxes, whole.scores, rules.iou_threshold, rules.max_detections)]
    areas = box_area(parts.boxes)
    is_alone = np.ones(len(parts), np.bool_)
    for box in kept.boxes:
        is_alone &= ~(_common_area(box, parts.boxes) >= COVERED * areas)
    found = _joined([kept, parts[is_alone]])
    return found[nms(found.boxes, found.scores, rules.iou_threshold, rules.max_detections)]


def _joined(parts: Sequence[Detections]) -> Detections:
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
    )


def merge_greedily(found: Detections) -> Detections:
    """Greedy non-maximum merging, whatever the classes.

    The best box takes those whose overlap with it is at least MERGE_IOS of the smaller of both,
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
        near = _overlap_of_smaller(boxes[best], boxes[rest]) >= MERGE_IOS
        for other in rest[near]:
            if _overlap_of_smaller(boxes[best], boxes[other][None])[0] >= MERGE_IOS:
                boxes[best, :2] = np.minimum(boxes[best, :2], boxes[other, :2])
                boxes[best, 2:] = np.maximum(boxes[best, 2:], boxes[other, 2:])
        rest = rest[~near]
    chosen = order[kept]
    return Detections(boxes[kept], found.scores[chosen], found.class_ids[chosen])


def _overlap_of_smaller(box: FloatArray, others: FloatArray) -> FloatArray:
    """(N,) area common to a box (4,) and each of others (N, 4), over that of the smaller; IoS."""
    tiny = np.finfo(np.float32).tiny  # empty boxes overlap with none
    smaller: FloatArray = np.maximum(np.minimum(box_area(box[None]), box_area(others)), tiny)
    overlap: FloatArray = _common_area(box, others) / smaller
    return overlap


def _common_area(box: FloatArray, others: FloatArray) -> FloatArray:
    """(N,) square pixels that a box (4,) has in common with each of others (N, 4)."""
    left_top = np.maximum(box[:2], others[:, :2])
    right_bottom = np.minimum(box[2:], others[:, 2:])
    area: FloatArray = np.clip(right_bottom - left_top, 0, None).prod(axis=1)
    return area
