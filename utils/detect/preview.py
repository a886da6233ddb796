"""A window that shows detections as they are found."""

from __future__ import annotations

import os
import sys

import cv2

from utils.errors import ConfigError
from utils.structures import ImageArray


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

    def show(self, image: ImageArray, *, is_video: bool) -> bool:
        """Show an RGB image; False when the user pressed a key to stop.

        Videos play on; a single image waits for a key.
        """
        try:
            cv2.imshow("detect", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1 if is_video else 0) & 0xFF
        except cv2.error as error:
            raise ConfigError(
                f"{self._asked_by}: this OpenCV cannot open windows: {error}"
            ) from None
        return key not in (ord("q"), 27)
