"""Detections cut out of their image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.boxes import clip_boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from utils.image_output import write_image
from utils.output_files import short_stem
from utils.structures import Detections, FloatArray, Frame, ImageArray

if TYPE_CHECKING:
    from utils.detect.zone_counts import FrameCounts

CROP_SCALE, CROP_MARGIN = 1.02, 10  # a crop shows a little more than the box, as YOLOv5's do


class Crops:
    """Each detection cut out, in a folder per class."""

    def __init__(
        self, folder: Path, class_names: Sequence[str], is_taken: Callable[[str], bool]
    ) -> None:
        """Choose where the class folders go; no crop gets the name of another file's."""
        self._folder, self._is_taken = folder, is_taken
        self._class_folders = [_folder_name(name) for name in class_names]

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Write `<class>/<stem>.jpg`, `<stem>-2.jpg`, ... for one frame."""
        written: set[Path] = set()
        crops = cut_out(frame.image, detections.boxes)
        for crop, class_id in zip(crops, detections.class_ids, strict=True):
            if crop.size:
                folder = self._folder / self._class_folders[class_id]
                path = self._new_path(folder, stem, written)
                written.add(path)
                write_image(path, np.ascontiguousarray(crop))

    def _new_path(self, folder: Path, stem: str, written: set[Path]) -> Path:
        path, number = folder / f"{stem}.jpg", 1
        while path in written or (number > 1 and self._is_taken(path.stem)):
            number += 1
            path = folder / f"{stem}-{number}.jpg"
        return path


def _folder_name(class_name: str) -> str:
    """The class name without what no folder name may have; never `.`, `..` or empty."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", class_name).strip(". ")
    return short_stem(name) or "_"


def cut_out(image: ImageArray, boxes: FloatArray) -> list[ImageArray]:
    """What is in each of (N, 4) xyxy boxes and a margin around it; views of the image."""
    cxcywh = xyxy_to_cxcywh(boxes)
    cxcywh[:, 2:] = cxcywh[:, 2:] * CROP_SCALE + CROP_MARGIN
    pixels = clip_boxes(cxcywh_to_xyxy(cxcywh), image.shape[:2]).astype(int)
    return [image[top:bottom, left:right] for left, top, right, bottom in pixels]
