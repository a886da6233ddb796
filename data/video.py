"""Reading the frames of videos with OpenCV."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2

from utils.errors import DatasetError
from utils.structures import ImageArray

ASSUMED_FPS = 30.0  # where the file or camera reports none
MAX_FPS = 1000.0  # some cameras report 90000, the rate of their clock
# A container's frame count is often an estimate: so few missing frames are not reported.
COUNT_SLACK_FRAMES, COUNT_SLACK_SHARE = 2, 0.01


class VideoReader:
    """The frames of one opened capture, RGB, every `stride`-th.

    Attributes:
        frames_read: frames read so far, including those that `stride` skips.
        seconds: when the latest frame is shown, from the start of the video.
    """

    def __init__(self, capture: cv2.VideoCapture, stride: int) -> None:
        self._capture, self._stride = capture, stride
        self.frames_read, self.seconds = 0, 0.0
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._fps = fps if 0 < fps < MAX_FPS else ASSUMED_FPS
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 else None

    @property
    def fps(self) -> float:
        """Frames per second of what is yielded, so that the result plays at the same speed."""
        return self._fps / self._stride

    def __iter__(self) -> Iterator[tuple[int, ImageArray]]:
        """Number (from 1) and image of each frame, until no more can be read."""
        while self._capture.grab():
            self.frames_read += 1
            if (self.frames_read - 1) % self._stride:
                continue
            readable, image = self._capture.retrieve()
            if not readable or image is None:
                self.frames_read -= 1
                return
            self._read_time()
            yield self.frames_read, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[misc]

    def _read_time(self) -> None:
        """The container's time stamp, or one frame later than the last where it has none."""
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self.frames_read > 1 and not seconds > self.seconds:
            seconds = self.seconds + self._stride / self._fps
        self.seconds = seconds

    @property
    def broke_off(self) -> bool:
        """Whether clearly fewer frames were read than the file's frame count."""
        if self.frame_count is None:
            return False
        slack = max(COUNT_SLACK_FRAMES, self.frame_count * COUNT_SLACK_SHARE)
        return self.frames_read < self.frame_count - slack


def read_video_file(path: Path, stride: int) -> Iterator[tuple[VideoReader, int, ImageArray]]:
    """The frames of a file: the reader (for fps and count), the frame's number, the image.

    Raises:
        DatasetError: not one frame can be read, or, after the last one that can, the file is cut
            off.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    with _openable(path) as name:
        capture = cv2.VideoCapture(name)
    try:
        reader = VideoReader(capture, stride)
        for index, image in reader:
            yield reader, index, image
    finally:
        capture.release()
    if reader.frames_read == 0:
        raise DatasetError(f"{path}: not a video that OpenCV can read, or one without frames")
    if reader.broke_off:
        raise DatasetError(
            f"{path}: broken after frame {reader.frames_read} of {reader.frame_count}; "
            "the rest is left out"
        )


@contextlib.contextmanager
def _openable(path: Path) -> Iterator[str]:
    """A name for the file that OpenCV can open; a path that is no UTF-8 would end the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        suffix = path.suffix if path.suffix.isascii() else ""
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / f"video{suffix}"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield str(path)
