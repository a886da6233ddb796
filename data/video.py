"""Reading the frames of videos with OpenCV."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from utils.errors import ConfigError, DatasetError
from utils.structures import ImageArray

ASSUMED_FPS = 30.0  # where the file or camera reports none
MAX_FPS = 1000.0  # some cameras report 90000, the rate of their clock
# A container's frame count is often an estimate: so few missing frames are not reported.
COUNT_SLACK_FRAMES, COUNT_SLACK_SHARE = 2, 0.01


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a source, of about equal length: `part` from 1 to `parts`."""

    part: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """What `--shard 3/16` names.

        Raises:
            ConfigError: not a part and the number of parts.
        """
        numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
            raise ConfigError(
                f"--shard {text}: expected a part and the number of parts, from 1/16 to 16/16"
            )
        return cls(int(numbers[1]), int(numbers[2]))

    def __str__(self) -> str:
        """`3of16`, as folders are named."""
        return f"{self.part}of{self.parts}"

    def frames(self, path: Path, frame_count: int | None) -> tuple[int, int | None]:
        """Numbers of a video's first and last frame in this part; of the last part there is none.

        Raises:
            DatasetError: the number of frames is not known.
        """
        if frame_count is None:
            raise DatasetError(
                f"{path}: does not say how many frames it has, so --shard {self.part}/{self.parts} "
                "cannot divide it; cut it into files"
            )
        first = (self.part - 1) * frame_count // self.parts + 1
        return first, None if self.part == self.parts else self.part * frame_count // self.parts


class VideoReader:
    """The frames of one opened capture, RGB, every `stride`-th from `first` to `last`.

    Attributes:
        frames_read: frames read so far, including those that `stride` skips.
        seconds: when the latest frame is shown, from the start of the video.
    """

    def __init__(self, capture: cv2.VideoCapture, stride: int) -> None:
        self._capture, self._stride = capture, stride
        self.frames_read, self.seconds = 0, 0.0
        self.first: int = 1
        self.last: int | None = None
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
        while self.frames_read != self.last and self._capture.grab():
            self.frames_read += 1
            self._read_time()
            if (self.frames_read - 1) % self._stride or self.frames_read < self.first:
                continue
            readable, image = self._capture.retrieve()
            if not readable or image is None:
                self.frames_read -= 1
                return
            yield self.frames_read, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[misc]

    def _read_time(self) -> None:
        """The container's time stamp, or one frame later than the last where it has none."""
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self.frames_read > 1 and not seconds > self.seconds:
            seconds = self.seconds + 1 / self._fps
        self.seconds = seconds

    @property
    def broke_off(self) -> bool:
        """Whether clearly fewer frames were read than the file's frame count."""
        if self.frame_count is None or self.frames_read == self.last:
            return False
        return is_cut_off(self.frames_read, self.frame_count)


def is_cut_off(frames_read: int, frame_count: int) -> bool:
    """Whether clearly fewer frames were read than a container says it has."""
    slack = max(COUNT_SLACK_FRAMES, frame_count * COUNT_SLACK_SHARE)
    return frames_read < frame_count - slack


def read_video_file(
    path: Path, stride: int, shard: Shard | None = None, first: int = 1
) -> Iterator[tuple[VideoReader, int, ImageArray]]:
    """The frames of a file: the reader (for fps and count), the frame's number, the image.

    Args:
        path: the video.
        stride: every so many-th frame, counted from the first of the file.
        shard: of its frames only those of this part.
        first: the number of the first frame wanted.

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
        if shard is not None and capture.isOpened():
            reader.first, reader.last = shard.frames(path, reader.frame_count)
        reader.first = max(reader.first, first)
        for index, image in reader:
            yield reader, index, image
    finally:
        capture.release()
    if reader.frames_read == 0 and reader.last != 0:
        raise DatasetError(f"{path}: not a video that OpenCV can read, or one without frames")
    if reader.broke_off:
        raise DatasetError(
            f"{path}: broken after frame {reader.frames_read} of {reader.frame_count}; "
            "the rest is omitted"
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
