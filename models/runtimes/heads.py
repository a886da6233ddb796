"""From the outputs of an exported file, of whatever kind, to decoded predictions, in numpy.

A file ends in decoded predictions, in raw maps (logits or probabilities), in boxes with scores, or
in detections. The box formula of raw maps is specified in models/network/box_coder.py.

Shapes: B images, A anchors per cell, C classes, H W cells of a level, N boxes of one image,
K detections of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.network_metadata import NetworkMetadata
from utils.errors import CheckpointError
from utils.structures import FloatArray


@dataclass(frozen=True, slots=True)
class RawMapDecoder:
    """Decodes the raw maps of one network.

    Attributes:
        anchors: per level the (width, height) of its anchors in input pixels.
        strides: input pixels per cell, one per level.
        sigmoid_done: the maps are already probabilities.
        rows_last: the maps are (B, H, W, A * (5 + C)).
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...]
    sigmoid_done: bool = False
    rows_last: bool = False

    def decode(self, maps: Sequence[npt.NDArray[Any]]) -> FloatArray:
        """Maps (B, A * (5 + C), H, W), finest level first -> (B, N, 5 + C), boxes in pixels.

        Maps of any precision are decoded in float32.
        """
        if self.rows_last:
            maps = [level_map.transpose(0, 3, 1, 2) for level_map in maps]
        levels = zip(maps, self.anchors, self.strides, strict=True)
        return np.concatenate([self._decode_level(*level) for level in levels], axis=1)

    def _decode_level(
        self, level_map: npt.NDArray[Any], anchors: tuple[tuple[float, float], ...], stride: int
    ) -> FloatArray:
        batch, channels, height, width = level_map.shape
        cells = level_map.reshape(batch, len(anchors), channels // len(anchors), height, width)
        # One copy, in the order of boxes; everything below works in it, for it is large.
        values: FloatArray = cells.transpose(0, 1, 3, 4, 2).astype(np.float32, order="C")
        if not self.sigmoid_done:
            with np.errstate(over="ignore"):  # exp(large) is inf, and 1 / inf the 0 that is meant
                np.exp(np.negative(values, out=values), out=values)
            np.reciprocal(np.add(values, 1, out=values), out=values)
        grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
        corner = np.stack([grid_x, grid_y], axis=-1) - 0.5
        values[..., 0:2] = (2 * values[..., 0:2] + corner) * stride
        sizes = np.array(anchors, np.float32)[:, None, None, :]
        values[..., 2:4] = (2 * values[..., 2:4]) ** 2 * sizes
        decoded: FloatArray = values.reshape(batch, len(anchors) * height * width, values.shape[-1])
        return decoded


@dataclass(frozen=True, slots=True)
class Heads:
    """How the outputs of one file become decoded predictions.

    Attributes:
        outputs: names of those that are needed, in order.
        raw: decodes raw maps; None where the file decodes by itself.
        num_classes: C, by the names in the file; 0 where it has none.
        rows_name_classes: boxes are rows (B, K, 6) that end in a score and its class.
        columns: boxes are columns (B, 4 + C, N) that end in scores.
    """

    outputs: tuple[str, ...]
    raw: RawMapDecoder | None = None
    num_classes: int = 0
    rows_name_classes: bool = False
    columns: bool = False

    @classmethod
    def choose(
        cls,
        path: Path,
        shapes: Sequence[tuple[str, Sequence[Any]]],
        metadata: NetworkMetadata,
    ) -> Heads:
        """Which outputs to ask for.

        Args:
            path: the file, for messages.
            shapes: name and sizes of each output, in the file's order; sizes that may change are
                anything but numbers.
            metadata: of the file.

        Raises:
            CheckpointError: no outputs that can be decoded.
        """
        maps = tuple(name for name, shape in shapes if len(shape) == 4)
        rows = tuple(name for name, shape in shapes if len(shape) == 3)
        detections = tuple(name for name, shape in shapes if len(shape) == 3 and shape[2] == 6)
        num_levels = len(metadata.anchors or ())
        decodable = num_levels > 0 and num_levels == len(metadata.strides) == len(maps)
        if metadata.head in ("raw", "sigmoid") and metadata.anchors and decodable:
            done = metadata.head == "sigmoid"
            raw = RawMapDecoder(
                metadata.anchors, metadata.strides, sigmoid_done=done, rows_last=metadata.rows_last
            )
            return cls(maps, raw=raw)
        num_classes = len(metadata.class_names)
        if metadata.head in ("decoded", "scores") and rows:
            return cls(rows[:1], num_classes=num_classes, columns=metadata.head == "scores")
        if metadata.head in ("best", "e2e") and detections and num_classes:
            return cls(detections[:1], num_classes=num_classes, rows_name_classes=True)
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes)
        raise CheckpointError(
            f"{path}: its outputs are {found}, its head is {metadata.head!r}; expected decoded "
            "predictions (batch, boxes, 5 + classes), or raw maps with their anchors in the "
            "metadata; export it again with --preset onnx"
        )

    def decode(self, outputs: Sequence[npt.NDArray[Any]]) -> FloatArray:
        """The needed outputs, in order -> (B, N, 5 + C) float32, boxes in pixels of the input."""
        if self.raw is not None:
            return self.raw.decode([np.asarray(output) for output in outputs])
        decoded = np.asarray(outputs[0], np.float32)
        if self.rows_name_classes:
            return as_predictions(decoded, self.num_classes)
        return scored_predictions(decoded) if self._are_columns(*decoded.shape[1:]) else decoded

    def _are_columns(self, height: int, width: int) -> bool:
        """Whether boxes are columns: files exist whose metadata are of another kind than they are.

        The names decide where they fit one of both; else more boxes than values make rows.
        """
        as_columns, as_rows = height == 4 + self.num_classes, width == 5 + self.num_classes
        if self.num_classes and as_columns != as_rows:
            return as_columns
        return self.columns and (as_columns or height <= width)


def scored_predictions(columns: FloatArray) -> FloatArray:
    """(B, 4 + C, N) of centre, size and scores -> (B, N, 5 + C), decoded predictions.

    Objectness is 1 and scores are class probabilities: their product is the score again.
    """
    batch, values, count = columns.shape
    predictions = np.empty((batch, count, values + 1), np.float32)
    predictions[..., :4] = columns[:, :4].transpose(0, 2, 1)
    predictions[..., 4] = 1
    predictions[..., 5:] = columns[:, 4:].transpose(0, 2, 1)
    return predictions


def as_predictions(detections: FloatArray, num_classes: int) -> FloatArray:
    """(B, K, 6) rows of x1 y1 x2 y2 score class -> (B, K, 5 + C), decoded predictions.

    Objectness is 1 and the score is the class's probability, so that the postprocessing of all
    files finds the same boxes. Of suppressed ones it finds all again: nothing is left to suppress.
    Padding rows (zeros) get score 0.

    Raises:
        CheckpointError: a row names another class.
    """
    batch, count, _ = detections.shape
    predictions = np.zeros((batch, count, 5 + num_classes), np.float32)
    corners = detections[..., :4]
    predictions[..., :2] = (corners[..., :2] + corners[..., 2:]) / 2
    predictions[..., 2:4] = corners[..., 2:] - corners[..., :2]
    predictions[..., 4] = 1
    class_ids = detections[..., 5].astype(np.int64)
    wrong = class_ids[(class_ids < 0) | (class_ids >= num_classes)]
    if wrong.size:
        raise CheckpointError(
            f"the network finds objects of class {wrong[0]}, but there are names for "
            f"{num_classes}; export it again with the names of all its classes"
        )
    np.put_along_axis(predictions[..., 5:], class_ids[..., None], detections[..., 4:5], axis=2)
    return predictions


def in_batches(
    run: Callable[[npt.NDArray[Any]], FloatArray],
    images: npt.NDArray[Any],
    batch_size: int | None,
) -> FloatArray:
    """Run all images through a file that takes `batch_size` at a time (None: any number).

    The last batch is padded with black images, whose predictions are dropped.
    """
    if batch_size is None or batch_size == len(images):
        return run(images)
    parts = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        missing = batch_size - len(part)
        padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part
        parts.append(run(padded)[: len(part)])
    return np.concatenate(parts)
