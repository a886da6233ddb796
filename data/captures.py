"""Opening what sends images: cameras, network streams, snapshots at an address, screens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from data.addresses import DEVICE, HTTP, SCREEN, file_name
from data.image_file import decode_image
from data.stream_options import StreamOptions
from data.video import VideoReader
from data.web_content import fetch, has_length
from utils.errors import DatasetError, MissingPackageError
from utils.structures import ImageArray

STALL_SECONDS = 5  # without a frame, a connection is lost
OPEN_SECONDS = 10  # ffmpeg looks for sound in an RTMP stream for five


class Capture(Protocol):
    """An opened stream: iterate over its images, (H, W, 3) uint8 RGB, then close it."""

    @property
    def fps(self) -> float | None:
        """Images per second, where it says so."""

    @property
    def frame_count(self) -> int | None:
        """How many images it has, where it says so."""

    @property
    def is_file(self) -> bool:
        """Whether it has an end: it is read once, and whole."""

    @property
    def seconds(self) -> float | None:
        """Of a file, when the latest image is shown, from its start; None of what is live."""

    def __iter__(self) -> Iterator[ImageArray]:
        """The images until there are no more."""

    def close(self) -> None:
        """Free it."""


def open_capture(address: str, options: StreamOptions) -> Capture | None:
    """Open a camera (by number), a screen (`screen`, `screen:2`) or an address.

    Returns:
        None where nothing answers, or it is no video.

    Raises:
        DatasetError: there is no such screen.
        MissingPackageError: screens are read by a package that is not installed.
    """
    if screen := SCREEN.fullmatch(address):
        return _ScreenCapture(int(screen[1] or 1), options)
    if options.poll_seconds is not None and HTTP.match(address):
        return _SnapshotCapture(address, options.poll_seconds)
    if DEVICE.match(address) and not Path(address).exists():
        return None  # OpenCV says so in lines of its own
    opened, is_file = cv2.VideoCapture(), False
    if address.isdecimal() or DEVICE.match(address):
        opened.open(int(address) if address.isdecimal() else address)
    else:
        limits = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: 1000 * OPEN_SECONDS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: 1000 * STALL_SECONDS,
        }
        is_file = has_length(address)  # first: small cameras serve one client at a time
        opened.open(address, cv2.CAP_ANY, [number for pair in limits.items() for number in pair])
    if not opened.isOpened():
        return None
    reader = VideoReader(opened, options.stride)
    return _VideoCapture(opened, reader, is_file or reader.frame_count is not None)


class _VideoCapture:
    """What OpenCV reads."""

    def __init__(self, opened: cv2.VideoCapture, reader: VideoReader, is_file: bool) -> None:
        self._opened, self._reader, self.is_file = opened, reader, is_file

    @property
    def fps(self) -> float | None:
        return self._reader.fps

    @property
    def frame_count(self) -> int | None:
        return self._reader.frame_count

    @property
    def seconds(self) -> float | None:
        return self._reader.seconds if self.is_file else None

    def __iter__(self) -> Iterator[ImageArray]:
        for _, image in self._reader:
            yield image

    def close(self) -> None:
        self._opened.release()


class _SnapshotCapture:
    """An image behind an address, fetched again and again."""

    frame_count = seconds = None
    is_file = False

    def __init__(self, address: str, poll_seconds: float) -> None:
        self._address, self._poll_seconds = address, poll_seconds
        self._name = Path(file_name(address))
        self._closed = False

    @property
    def fps(self) -> float | None:
        return 1 / self._poll_seconds

    def __iter__(self) -> Iterator[ImageArray]:
        due = time.monotonic()
        while not self._closed:
            try:
                yield decode_image(self._name, fetch(self._address)).pixels
            except DatasetError:
                return
            # What an image that came late has cost is not caught up with.
            due = max(due + self._poll_seconds, time.monotonic())
            time.sleep(max(due - time.monotonic(), 0))

    def close(self) -> None:
        self._closed = True


class _ScreenCapture:
    """A monitor of this machine."""

    frame_count = fps = seconds = None
    is_file = False

    def __init__(self, number: int, options: StreamOptions) -> None:
        try:
            import mss
        except ImportError:
            raise MissingPackageError(
                "--source screen: reading screens needs the package mss; pip install mss"
            ) from None
        self._failure: type[Exception] = mss.ScreenShotError
        try:
            self._screens: Any = mss.mss()
        except mss.ScreenShotError as error:
            raise DatasetError(f"--source screen: there is none to read: {error}") from None
        monitors = self._screens.monitors
        if number >= len(monitors):
            raise DatasetError(
                f"--source screen:{number}: the last monitor of this machine is {len(monitors) - 1}"
            )
        self._monitor, self._poll_seconds = monitors[number], options.poll_seconds or 0.0

    def __iter__(self) -> Iterator[ImageArray]:
        while True:
            try:
                shot = np.asarray(self._screens.grab(self._monitor))
            except self._failure:  # locked, or its resolution changed
                return
            yield cv2.cvtColor(shot, cv2.COLOR_BGRA2RGB)  # type: ignore[misc]
            time.sleep(self._poll_seconds)

    def close(self) -> None:
        self._screens.close()
