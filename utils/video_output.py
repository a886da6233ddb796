"""Writing mp4 videos that players can play."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from utils.errors import UserError
from utils.output_files import atomic_path
from utils.structures import ImageArray

logger = logging.getLogger(__name__)

# H.264 plays in browsers and all players, but not every OpenCV can write it; MPEG-4 plays in all
# desktop players.
CODECS = ("avc1", "mp4v")
TRIAL_FRAMES, TRIAL_HW = 3, (240, 320)


class VideoFile(AbstractContextManager["VideoFile"]):
    """One mp4 being written; it appears under its name when the block ends without an error."""

    def __init__(self, path: Path, fps: float, image_hw: tuple[int, int]) -> None:
        """Open for images of one size.

        Args:
            path: the .mp4.
            fps: frames per second.
            image_hw: height and width; both are rounded up to even numbers, as the codecs need.

        Raises:
            UserError: this OpenCV cannot write videos.
        """
        try:
            str(path.parent).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{path.parent}: OpenCV cannot write videos to a folder whose name is no UTF-8; "
                "choose another --project"
            ) from None
        self.path = path
        self._even_hw = (image_hw[0] + image_hw[0] % 2, image_hw[1] + image_hw[1] % 2)
        self._cleanup = contextlib.ExitStack()
        temporary = self._cleanup.enter_context(atomic_path(path))
        self._writer = _open_writer(temporary, working_codec(), fps, self._even_hw)
        if not self._writer.isOpened():
            self._cleanup.close()
            raise UserError(f"{path}: this OpenCV cannot write mp4 videos; use --nosave")
        self._cleanup.callback(self._writer.release)

    def write(self, image: ImageArray) -> None:
        """Append an RGB image; one of another size (a stream may change) is resized."""
        height, width = self._even_hw
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        missing_h, missing_w = height - bgr.shape[0], width - bgr.shape[1]
        if missing_h in (0, 1) and missing_w in (0, 1):
            if missing_h or missing_w:
                bgr = cv2.copyMakeBorder(bgr, 0, missing_h, 0, missing_w, cv2.BORDER_REPLICATE)
        else:
            bgr = cv2.resize(bgr, (width, height))
        self._writer.write(bgr)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file, or remove it after an error."""
        self._cleanup.__exit__(kind, error, traceback)


@functools.cache
def working_codec() -> str:
    """The first codec whose videos this OpenCV can write and read back."""
    with tempfile.TemporaryDirectory() as folder, _quiet_stderr():
        for codec in CODECS[:-1]:
            trial = Path(folder) / f"{codec}.mp4"
            writer = _open_writer(trial, codec, 25.0, TRIAL_HW)
            for _ in range(TRIAL_FRAMES):
                writer.write(np.zeros((*TRIAL_HW, 3), np.uint8))
            writer.release()
            if _count_frames(trial) == TRIAL_FRAMES:
                return codec
    return CODECS[-1]


def _open_writer(path: Path, codec: str, fps: float, image_hw: tuple[int, int]) -> cv2.VideoWriter:
    height, width = image_hw
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))


def _count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence the codec libraries, which report each encoder they do not have."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
