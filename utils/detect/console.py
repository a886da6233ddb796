"""What detect.py tells on the console and, if asked, shows in a window."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence

import cv2
import numpy as np

from utils.errors import ConfigError
from utils.frame import Frame
from utils.logs import PLAIN_INTERVAL_SECONDS
from utils.structures import Detections, ImageArray, IntArray

logger = logging.getLogger(__name__)

TERMINAL_INTERVAL_SECONDS = 1.0


class DetectionLog:
    """One line per image; for videos a line now and then, with rate and time left."""

    def __init__(self, class_names: Sequence[str], vid_stride: int) -> None:
        self._class_names, self._vid_stride = class_names, vid_stride
        on_terminal = sys.stdout.isatty()
        self._interval = TERMINAL_INTERVAL_SECONDS if on_terminal else PLAIN_INTERVAL_SECONDS
        self._position = 0
        self._start = self._last = 0.0
        self._done = 0

    def add(
        self,
        frame: Frame,
        input_hw: tuple[int, int],
        detections: Detections,
        milliseconds: float,
    ) -> None:
        """Tell about one frame.

        Args:
            frame: where it comes from.
            input_hw: the size it was looked at.
            detections: what was found.
            milliseconds: how long the network took for it.
        """
        found = count_by_name(detections.class_ids, self._class_names) or "(no detections)"
        text = f"{input_hw[0]}x{input_hw[1]} {found}, {milliseconds:.1f}ms"
        place = f"{frame.position}/{frame.num_positions}"
        if not frame.is_video:
            logger.info("image %s %s: %s", place, frame.source, text)
            return
        rate = self._video_rate(frame)
        if rate is not None:
            count = f"/{frame.frame_count}" if frame.frame_count else ""
            index = f"{frame.frame_index}{count}"
            logger.info("video %s (%s) %s: %s%s", place, index, frame.source, text, rate)

    def _video_rate(self, frame: Frame) -> str | None:
        """Frames per second and time left where it is time for a line, else None."""
        now = time.monotonic()
        if frame.position != self._position:
            self._position, self._start, self._last, self._done = frame.position, now, now, 1
            return ""
        self._done += 1
        is_last = frame.frame_index == frame.frame_count
        if now - self._last < self._interval and not is_last:
            return None
        self._last = now
        per_second = (self._done - 1) / max(now - self._start, 1e-9)
        if not frame.frame_count:
            return f", {per_second:.1f} frames/s"
        left = (frame.frame_count - frame.frame_index) / self._vid_stride / per_second
        return f", {per_second:.1f} frames/s, {left:.0f} s left"


def count_by_name(class_ids: IntArray, class_names: Sequence[str]) -> str:
    """`4 persons, 1 bus`, classes in the order of their ids; empty for no detections."""
    counts = zip(*np.unique(class_ids, return_counts=True), strict=True)
    return ", ".join(_counted(count, class_names[class_id]) for class_id, count in counts)


def _counted(count: int, name: str) -> str:
    """`1 cross`, `2 crosses`."""
    if count > 1:
        name += "es" if name.endswith("s") else "s"
    return f"{count} {name}"


class PreviewWindow:
    """A window that shows each result; `q` or Escape in it ends the run."""

    def __init__(self) -> None:
        """Make sure that there is a screen.

        Raises:
            ConfigError: there is none (Qt would end the program without a word).
        """
        headless = sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
        if headless:
            raise ConfigError("--view-img: this machine has no screen; look at the saved files")

    def show(self, image: ImageArray, *, is_video: bool) -> bool:
        """Show an RGB image; False when the user wants to stop.

        Videos play on; a single image waits for a key.
        """
        try:
            cv2.imshow("detect", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1 if is_video else 0) & 0xFF
        except cv2.error as error:
            raise ConfigError(f"--view-img: this OpenCV cannot open windows: {error}") from None
        return key not in (ord("q"), 27)
