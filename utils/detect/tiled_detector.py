"""A detector that looks at images in tiles, for small objects: detect.py's `--tile`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from utils.detect.pipeline import Found, FrameDetector, StageClock, prepared
from utils.detect.tiles import Seen, Tile, TileRules, cut_tiles, in_chunks, merge_detections
from utils.detect_config import DetectConfig
from utils.structures import FittedFrame, FloatArray, Frame, Skipped


def with_tiles(detector: FrameDetector, config: DetectConfig) -> TiledDetector:
    """The same network and rules, which sees the tiles that the flags ask for, too."""
    tiles = TileRules.of(
        config.tile or 0, detector.size, overlap=config.tile_overlap, merge=config.tile_merge,
        batch_size=config.batch_size,
    )  # fmt: skip
    tiles.warn_of_low_scores(config.conf_thres)
    return TiledDetector.of(detector, tiles)


@dataclass(frozen=True, slots=True)
class TiledDetector(FrameDetector):
    """Finds objects in the whole of each frame, as a FrameDetector does, and in its tiles.

    Attributes:
        tiles: how frames are cut, and what is found is merged.
    """

    tiles: TileRules = field(kw_only=True)

    @classmethod
    def of(cls, detector: FrameDetector, tiles: TileRules) -> TiledDetector:
        """The same network and rules, with tiles."""
        return cls(
            detector.network, detector.class_names, detector.size, detector.rules, tiles=tiles
        )

    def find(
        self, batches: Iterable[tuple[list[FittedFrame], FloatArray] | Skipped], clock: StageClock
    ) -> Iterator[Found | Skipped]:
        """As FrameDetector does it; a frame that one tile would cover is seen once.

        Raises:
            CheckpointError: the network has another number of classes than there are names.
        """
        # Not super(): the class that dataclass makes for the slots is another one.
        for whole in FrameDetector.find(self, batches, clock):
            yield whole if isinstance(whole, Skipped) else self._with_tiles(whole, clock)

    def _with_tiles(self, whole: Found, clock: StageClock) -> Found:
        tiles = cut_tiles(whole.frame.image, self.tiles, self.size)
        if not tiles:
            return whole
        parts = [Seen.whole(whole.detections)]
        milliseconds = whole.milliseconds
        batches = prepared(self._batches(whole.frame, tiles), clock)
        for tile, found in zip(tiles, FrameDetector.find(self, batches, clock), strict=True):
            if isinstance(found, Found):
                parts.append(tile.in_whole(found.detections))
                milliseconds += found.milliseconds
        with clock.stage("postprocess"):
            merged = merge_detections(parts, self.rules, self.tiles.merge)
        return replace(whole, detections=merged, milliseconds=milliseconds)

    def _batches(self, frame: Frame, tiles: Sequence[Tile]) -> Iterator[list[FittedFrame]]:
        """Tiles as frames, as many as the network computes at a time."""
        count = self.network.batch_size or self.tiles.batch_size
        for chunk in in_chunks(tiles, count):
            yield [FittedFrame(0, replace(frame, image=tile.image), tile.letterbox)
                   for tile in chunk]  # fmt: skip
