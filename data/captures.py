"""Opening what sends images: cameras, network streams, snapshots at an address, screens."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np

from data.file_suffixes import IMAGE_SUFFIXES
from data.image_file import decode_image
from data.video import VideoReader
from utils.errors import DatasetError, MissingPackageError
from utils.structures import ImageArray

STALL_SECONDS = 5  # without an answer or a frame, a connection is lost
MAX_IMAGE_BYTES = 1 << 28  # of an image behind an address
ADDRESS = re.compile(r"(rtsps?|rtmps?|srt|https?|udp|tcp)://", re.IGNORECASE)
DEVICE = re.compile(r"/dev/video\d+")
SCREEN = re.compile(r"screen(?::(\d+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How streams are opened.

    Attributes:
        stride: yield every so many-th frame.
        poll_seconds: fetch an image behind an address again after so long; None reads videos.
    """

    stride: int = 1
    poll_seconds: float | None = None


class Capture(Protocol):
    """An opened stream: iterate over its images, (H, W, 3) uint8 RGB, then close it."""

    @property
    def fps(self) -> float | None:
        """Images per second, where it says so."""

    @property
    def frame_count(self) -> int | None:
        """How many images it has, where it is a file behind an address."""

    def __iter__(self) -> Iterator[ImageArray]:
        """The images until there are no more."""

    def close(self) -> None:
        """Free it."""


def open_capture(address: str, options: CaptureOptions) -> Capture | None:
    """Open a camera (by number), a screen (`screen`, `screen:2`) or an address.

    Returns:
        None where nothing answers, or it is no video.

    Raises:
        MissingPackageError: screens are read by a package that is not installed.
    """
    if screen := SCREEN.fullmatch(address):
        return _ScreenCapture(int(screen[1] or 1), options)
    if options.poll_seconds is not None:
        return _SnapshotCapture(address, options.poll_seconds)
    opened = cv2.VideoCapture()
    if address.isdigit() or DEVICE.match(address):
        opened.open(int(address) if address.isdigit() else address)
    else:
        milliseconds = 1000 * STALL_SECONDS
        limits = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: milliseconds,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: milliseconds,
        }
        opened.open(address, cv2.CAP_ANY, [number for pair in limits.items() for number in pair])
    return _VideoCapture(opened, options.stride) if opened.isOpened() else None


class _VideoCapture:
    """What OpenCV reads."""

    def __init__(self, opened: cv2.VideoCapture, stride: int) -> None:
        self._opened, self._reader = opened, VideoReader(opened, stride)

    @property
    def fps(self) -> float | None:
        return self._reader.fps

    @property
    def frame_count(self) -> int | None:
        return self._reader.frame_count

    def __iter__(self) -> Iterator[ImageArray]:
        for _, image in self._reader:
            yield image

    def close(self) -> None:
        self._opened.release()


class _SnapshotCapture:
    """An image behind an address, fetched again and again."""

    frame_count = None

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
            due += self._poll_seconds
            time.sleep(max(due - time.monotonic(), 0))

    def close(self) -> None:
        self._closed = True


class _ScreenCapture:
    """A monitor of this machine."""

    frame_count = fps = None

    def __init__(self, number: int, options: CaptureOptions) -> None:
        try:
            import mss
        except ImportError:
            raise MissingPackageError(
                "--source screen: reading screens needs the package mss; pip install mss"
            ) from None
        self._screens: Any = mss.mss()
        monitors = self._screens.monitors
        if number >= len(monitors):
            raise DatasetError(
                f"--source screen:{number}: this machine has {len(monitors) - 1} monitors"
            )
        self._monitor, self._poll_seconds = monitors[number], options.poll_seconds or 0.0

    def __iter__(self) -> Iterator[ImageArray]:
        while True:
            shot = np.asarray(self._screens.grab(self._monitor))
            yield cv2.cvtColor(shot, cv2.COLOR_BGRA2RGB)  # type: ignore[misc]
            time.sleep(self._poll_seconds)

    def close(self) -> None:
        self._screens.close()


def fetch(address: str) -> bytes:
    """What is behind an http(s) address.

    Raises:
        DatasetError: it cannot be fetched.
    """
    try:
        with urllib.request.urlopen(address, timeout=STALL_SECONDS) as answer:
            content: bytes = answer.read(MAX_IMAGE_BYTES)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DatasetError(f"cannot be fetched: {error}") from None
    return content


def is_image_address(address: str) -> bool:
    """Whether an http(s) address is that of one image: by its suffix, else by asking the server."""
    parts = urlsplit(address)
    if parts.scheme.lower() not in ("http", "https"):
        return False
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix:
        return suffix in IMAGE_SUFFIXES
    try:
        with urllib.request.urlopen(address, timeout=STALL_SECONDS) as answer:
            kind: str = answer.headers.get_content_type()
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return kind.startswith("image/")


def without_password(address: str) -> str:
    """`rtsp://user:secret@host/1` -> `rtsp://host/1`, for messages and results."""
    return re.sub(r"//[^/@]*@", "//", address)


def file_name(address: str) -> str:
    """A name for the files of a stream: `camera0`, `rtsp_host_1`."""
    public = without_password(address)
    return f"camera{public}" if public.isdigit() else re.sub(r"[^A-Za-z0-9_-]+", "_", public)
