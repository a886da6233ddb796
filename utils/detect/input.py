"""Frames letterboxed and grouped into batches of one input size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from utils.frame import Frame, Skipped
from utils.letterbox import InputSize, Letterbox
from utils.structures import ImageArray
from utils.timing import StageClock


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame and its letterboxed pixels, (H, W, 3) uint8 RGB."""

    frame: Frame
    letterbox: Letterbox
    pixels: ImageArray


def prepare_batches(
    items: Iterable[Frame | Skipped], size: InputSize, batch_size: int, clock: StageClock
) -> Iterator[list[PreparedFrame] | Skipped]:
    """Frames of equal input size in groups of up to `batch_size`, in order; skipped files between.

    Args:
        items: the frames as they are read.
        size: what each is letterboxed to.
        batch_size: a group is handed on when it has this many, or when the size changes.
        clock: gets the time of the stages `decode` and `preprocess`.
    """
    batch: list[PreparedFrame] = []
    for item in clock.each("decode", items):
        if isinstance(item, Skipped):
            yield item
            continue
        with clock.stage("preprocess"):
            letterbox = size.letterbox(item.image_hw)
            prepared = PreparedFrame(item, letterbox, letterbox.apply_image(item.image))
        if batch and batch[0].letterbox.input_hw != letterbox.input_hw:
            yield batch
            batch = []
        batch.append(prepared)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
