"""A window that shows detections as they are found."""

from __future__ import annotations

import os
import sys

import cv2

from utils.errors import ConfigError
from utils.stop_signals import StopSignals
from utils.structures import ImageArray

WINDOW, WAIT_MS = "detect", 100


class PreviewWindow:
    """A window that shows each result; `q` or Escape in it ends the run."""

    def __init__(self, asked_by: str = "--view-img") -> None:
        """Check that there is a screen.

        Args:
            asked_by: the flag or method, for messages.

        Raises:
            ConfigError: there is none (Qt would abort without a message).
        """
        self._asked_by = asked_by
        headless = sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
        if headless:
            raise ConfigError(f"{asked_by}: this machine has no screen; open the saved files")

    def show(
        self, image: ImageArray, *, is_video: bool, signals: StopSignals | None = None
    ) -> bool:
        """Show an RGB image; False when the user pressed a key to stop.

        Videos play on; a single image waits for a key, its window to be closed, or a signal.
        """
        try:
            cv2.imshow(WINDOW, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1 if is_video else WAIT_MS)
            while key < 0 and not is_video and _is_open():
                if signals is not None and signals.received is not None:
                    return False
                key = cv2.waitKey(WAIT_MS)  # no longer: meanwhile signals are not handled
        except cv2.error as error:
            raise ConfigError(
                f"{self._asked_by}: this OpenCV cannot open windows: {error}"
            ) from None
        return key & 0xFF not in (ord("q"), 27)


def _is_open() -> bool:
    try:
        return cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) != 0
    except cv2.error:  # as Qt says that it was closed
        return False
