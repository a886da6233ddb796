"""Detections as images: crops of each, and the images and videos with boxes drawn on them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

from utils.boxes import clip_boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from utils.frame import Frame
from utils.image_output import writable_suffix, write_image
from utils.structures import Detections, FloatArray, ImageArray
from utils.video_output import VideoFile

CROP_SCALE, CROP_MARGIN = 1.02, 10  # a crop shows a little more than the box, as YOLOv5's do
ASSUMED_FPS = 30.0


class Crops:
    """Each detection cut out, in a folder per class."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        """Choose where the class folders go."""
        self._folder = folder
        self._class_folders = [_folder_name(name) for name in class_names]
        self._written: set[Path] = set()

    def write(self, frame: Frame, stem: str, detections: Detections) -> None:
        """Write `<class>/<stem>.jpg`, `<stem>_2.jpg`, ... for one frame."""
        boxes = _with_margin(detections.boxes, frame.image_hw)
        for (left, top, right, bottom), class_id in zip(boxes, detections.class_ids, strict=True):
            crop = frame.image[top:bottom, left:right]
            if crop.size:
                folder = self._folder / self._class_folders[class_id]
                write_image(self._new_path(folder, stem), np.ascontiguousarray(crop))

    def _new_path(self, folder: Path, stem: str) -> Path:
        path, number = folder / f"{stem}.jpg", 1
        while path in self._written:
            number += 1
            path = folder / f"{stem}_{number}.jpg"
        self._written.add(path)
        return path


def _folder_name(class_name: str) -> str:
    """The class name without what no folder name may have; never `.`, `..` or empty."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", class_name).strip(". ")
    return name or "_"


def _with_margin(boxes: FloatArray, image_hw: tuple[int, int]) -> list[list[int]]:
    """Boxes a little larger, in whole pixels, inside the image."""
    cxcywh = xyxy_to_cxcywh(boxes)
    cxcywh[:, 2:] = cxcywh[:, 2:] * CROP_SCALE + CROP_MARGIN
    whole: list[list[int]] = clip_boxes(cxcywh_to_xyxy(cxcywh), image_hw).astype(int).tolist()
    return whole


class AnnotatedImages(AbstractContextManager["AnnotatedImages"]):
    """Images under their own file name, videos as mp4."""

    def __init__(self, folder: Path) -> None:
        """Choose the folder."""
        self._folder = folder
        self._video = contextlib.ExitStack()
        self._file: VideoFile | None = None

    def write(self, frame: Frame, name: str, drawn: ImageArray) -> None:
        """Write an image, or append to its video.

        Args:
            frame: where the image comes from.
            name: of the file, without suffix.
            drawn: the image to write, boxes already on it.
        """
        if not frame.is_video:
            suffix = writable_suffix(frame.path.suffix)
            write_image(self._folder / f"{name}{suffix}", drawn)
            return
        path = self._folder / f"{name}.mp4"
        if self._file is None or self._file.path != path:
            self._video.close()
            self._file = VideoFile(path, frame.fps or ASSUMED_FPS, frame.image_hw)
            self._video.enter_context(self._file)
        self._file.write(drawn)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the last video, or remove it after an error."""
        self._video.__exit__(kind, error, traceback)
