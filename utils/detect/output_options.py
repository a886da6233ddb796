"""What a detection run writes, and what each kind of output can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from utils.structures import Detections, Frame, ImageArray

if TYPE_CHECKING:
    from utils.detect.zone_counts import FrameCounts
    from utils.detect_config import DetectConfig


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What to write.

    Attributes:
        images: images and videos with boxes drawn on them.
        labels: one text file per image or frame in which something was found.
        label_scores: the score as last column of the labels.
        label_corners: labels hold left, top, right, bottom instead of centre and size.
        csv: `predictions.csv`.
        json: `predictions.json`.
        json_lines: a file in the folder with a JSON line per frame; `-` is standard output.
        segment_seconds: begin a new video file when one is this long; None for one per source.
        crops: each detection as an image of its own.
        line_thickness: of drawn boxes, in pixels; None to suit the image.
        hide_labels: draw boxes without names.
        hide_scores: draw names without scores.
        tracks: objects are tracked, so that `predictions.csv` has a column for their ids.
        counts: `counts.csv`, of lines and zones.
    """

    images: bool = True
    labels: bool = False
    label_scores: bool = False
    label_corners: bool = False
    csv: bool = False
    json: bool = False
    json_lines: str | None = None
    segment_seconds: float | None = None
    crops: bool = False
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_scores: bool = False
    tracks: bool = False
    counts: bool = False

    @classmethod
    def of(cls, config: DetectConfig) -> OutputOptions:
        """What the flags of detect.py ask for."""
        return cls(
            images=not config.nosave,
            labels=config.save_txt,
            label_scores=config.save_conf,
            label_corners=config.save_format == 1,
            csv=config.save_csv,
            json=config.save_json,
            json_lines=config.save_jsonl,
            segment_seconds=config.segment,
            crops=config.save_crop,
            line_thickness=config.line_thickness,
            hide_labels=config.hide_labels,
            hide_scores=config.hide_conf,
            tracks=config.track,
            counts=config.zones is not None,
        )

    @property
    def have_data(self) -> bool:
        """Whether anything but images and videos is written."""
        tables = self.csv or self.json or self.counts or self.json_lines is not None
        return tables or self.labels or self.crops

    def draw(
        self,
        frame: Frame,
        detections: Detections,
        class_names: Sequence[str],
        counts: FrameCounts | None = None,
    ) -> ImageArray:
        """The frame's image with boxes, names, lines and zones on it, (H, W, 3) uint8 RGB."""
        from utils.draw import draw_detections  # loads Pillow, for the names

        line, image = self.line_thickness, frame.image
        if counts is not None:
            from utils.detect.zone_drawing import draw_numbers, draw_shapes

            image = draw_shapes(image, counts, line)
        drawn = draw_detections(image, detections, class_names, line_thickness=line,
                                hide_labels=self.hide_labels,
                                hide_scores=self.hide_scores)  # fmt: skip
        if counts is not None:
            draw_numbers(drawn, counts, line)
        return drawn


class Sink(Protocol):
    """One kind of output."""

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Add one frame; boxes in pixels of its image, `stem` names its files."""
