"""Batches to detections with tiles, for small objects: val.py's `--tile`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

from utils.batches import BatchT
from utils.detect.tiles import Seen, TileRules, cut_tiles, in_chunks, merge_detections
from utils.engine.predictor import BatchPrediction, Predictor, StageTimes
from utils.letterbox import InputSize
from utils.postprocess import PostprocessConfig
from utils.structures import Detections, ImageArray


@dataclass(frozen=True, slots=True)
class TiledPredictor(Generic[BatchT]):
    """Finds objects in whole images, as `predict` does, and in their tiles.

    Tiles are cut from the images as they are in their files, which are read once more.

    Attributes:
        predict: finds objects in a batch of images or of tiles.
        read: the (H, W, 3) RGB pixels of a file.
        size: what tiles are letterboxed to.
        tiles: how images are cut, and what is found is merged.
        rules: by which `predict` finds.
    """

    predict: Predictor[BatchT]
    read: Callable[[Path], ImageArray]
    size: InputSize
    tiles: TileRules
    rules: PostprocessConfig

    def __call__(self, batch: BatchT) -> BatchPrediction:
        """The detections of a batch of uint8 images.

        Raises:
            DatasetError: an image cannot be read any more.
        """
        whole = self.predict(batch)
        seconds = whole.seconds
        detections = []
        for index, found in enumerate(whole.detections):
            merged, spent = self._with_tiles(batch, index, found)
            detections.append(merged)
            seconds = _added(seconds, spent)
        return replace(whole, detections=detections, seconds=seconds)

    def _with_tiles(
        self, batch: BatchT, index: int, found: Detections
    ) -> tuple[Detections, StageTimes]:
        """One image's detections in pixels of its network input, and the seconds for its tiles."""
        start = time.perf_counter()
        letterbox = batch.letterboxes[index]
        if letterbox is None:
            raise ValueError("tiles need letterboxed images, got an augmented one")
        tiles = cut_tiles(self.read(batch.paths[index]), self.tiles, self.size)
        seconds = StageTimes(time.perf_counter() - start, 0, 0)
        if not tiles:
            return found, seconds
        parts = [Seen.whole(found.in_original(letterbox))]
        for chunk in in_chunks(tiles, self.tiles.batch_size):
            start = time.perf_counter()
            images = [tile.letterbox.apply_image(tile.image) for tile in chunk]
            tile_batch = batch.parts(index, images, [tile.letterbox for tile in chunk])
            cut = time.perf_counter() - start
            predicted = self.predict(tile_batch)
            seconds = _added(seconds, predicted.seconds, StageTimes(cut, 0, 0))
            parts += [
                tile.in_whole(inside.in_original(tile.letterbox))
                for tile, inside in zip(chunk, predicted.detections, strict=True)
            ]
        start = time.perf_counter()
        merged = merge_detections(parts, self.rules, self.tiles.merge)
        seconds = _added(seconds, StageTimes(0, 0, time.perf_counter() - start))
        return replace(merged, boxes=letterbox.apply_boxes(merged.boxes)), seconds


def _added(*parts: StageTimes) -> StageTimes:
    return StageTimes(
        sum(part.preprocess for part in parts),
        sum(part.inference for part in parts),
        sum(part.postprocess for part in parts),
    )
