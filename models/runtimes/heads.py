"""From what a file answers to decoded predictions: the same for every kind of file.

Shapes: B images, N boxes of one image, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.raw_heads import RawHeads
from models.runtimes.suppressed_rows import as_predictions
from utils.errors import CheckpointError
from utils.structures import FloatArray


@dataclass(frozen=True, slots=True)
class Heads:
    """How the outputs of one file become predictions.

    Attributes:
        outputs: names of those that are needed, in order.
        raw: decodes raw maps; None where the file decodes by itself.
        num_classes: C, where the file suppresses by itself; else None.
    """

    outputs: tuple[str, ...]
    raw: RawHeads | None = None
    num_classes: int | None = None

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
            CheckpointError: nothing here can be used.
        """
        maps = tuple(name for name, shape in shapes if len(shape) == 4)
        rows = tuple(name for name, shape in shapes if len(shape) == 3)
        suppressed = tuple(name for name, shape in shapes if len(shape) == 3 and shape[2] == 6)
        num_levels = len(metadata.anchors or ())
        decodable = num_levels > 0 and num_levels == len(metadata.strides) == len(maps)
        if metadata.head in ("raw", "sigmoid") and metadata.anchors and decodable:
            done = metadata.head == "sigmoid"
            raw = RawHeads(
                metadata.anchors, metadata.strides, sigmoid_done=done, rows_last=metadata.rows_last
            )
            return cls(maps, raw=raw)
        if metadata.head == "decoded" and rows:
            return cls(rows[:1])
        if metadata.head == "e2e" and suppressed and metadata.class_names:
            return cls(suppressed[:1], num_classes=len(metadata.class_names))
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes)
        raise CheckpointError(
            f"{path}: its outputs are {found}, its head is {metadata.head!r}; expected decoded "
            "predictions (batch, boxes, 5 + classes), or raw maps with their anchors in the "
            "metadata; export it again with --preset onnx"
        )

    def decode(self, answers: Sequence[npt.NDArray[Any]]) -> FloatArray:
        """The needed outputs, in order -> (B, N, 5 + C), boxes in pixels of the input."""
        if self.raw is not None:
            return self.raw.decode([np.asarray(answer, np.float32) for answer in answers])
        decoded = np.asarray(answers[0], np.float32)
        return decoded if self.num_classes is None else as_predictions(decoded, self.num_classes)


def in_batches(
    run: Callable[[npt.NDArray[Any]], FloatArray],
    images: npt.NDArray[Any],
    batch_size: int | None,
) -> FloatArray:
    """Run all images through a file that takes `batch_size` at a time (None: any number).

    The last batch is filled up, and the surplus cut off the answer.
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
