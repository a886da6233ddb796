"""Opening what sends images: cameras, network streams, snapshots at an address, screens."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from data.file_suffixes import IMAGE_SUFFIXES
from data.image_file import decode_image
from data.video import VideoReader
from utils.errors import DatasetError, MissingPackageError
from utils.structures import ImageArray

STALL_SECONDS = 5  # without an answer or a frame, a connection is lost
OPEN_SECONDS = 10  # ffmpeg looks for sound in an RTMP stream for five
MAX_IMAGE_BYTES = 1 << 28  # of an image behind an address
ADDRESS = re.compile(r"(rtsps?|rtmps?|srt|https?|udp|tcp)://", re.IGNORECASE)
HTTP = re.compile("https?://", re.IGNORECASE)
PLAYLISTS = (".m3u8", ".m3u", ".mpd")
PLAYLIST_KINDS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/dash+xml")
DEVICE = re.compile(r"/dev/video\d+")
# What urllib raises: no answer, an answer that is no HTTP, an address that is none.
_FETCH_ERRORS = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
_ENDLESS = ("video/", "audio/", "multipart/")  # types of what may never end
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
        """How many images it has, where it says so."""

    @property
    def is_file(self) -> bool:
        """Whether it has an end: it is read once, and whole."""

    def __iter__(self) -> Iterator[ImageArray]:
        """The images until there are no more."""

    def close(self) -> None:
        """Free it."""


def open_capture(address: str, options: CaptureOptions) -> Capture | None:
    """Open a camera (by number), a screen (`screen`, `screen:2`) or an address.

    Returns:
        None where nothing answers, or it is no video.

    Raises:
        DatasetError: there is no such screen.
        MissingPackageError: screens are read by a package that is not installed.
    """
    if screen := SCREEN.fullmatch(address):
        return _ScreenCapture(int(screen[1] or 1), options)
    if options.poll_seconds is not None:
        return _SnapshotCapture(address, options.poll_seconds)
    opened, is_file = cv2.VideoCapture(), False
    if address.isdigit() or DEVICE.match(address):
        opened.open(int(address) if address.isdigit() else address)
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

    def __iter__(self) -> Iterator[ImageArray]:
        for _, image in self._reader:
            yield image

    def close(self) -> None:
        self._opened.release()


class _SnapshotCapture:
    """An image behind an address, fetched again and again."""

    frame_count, is_file = None, False

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
    is_file = False

    def __init__(self, number: int, options: CaptureOptions) -> None:
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


def fetch(address: str) -> bytes:
    """What is behind an http(s) address.

    Raises:
        DatasetError: it cannot be fetched.
    """
    try:
        with _answer(address) as answer:
            kind: str = answer.headers.get_content_type()
            if kind.startswith(_ENDLESS):
                raise DatasetError(f"is {kind}, not one image")
            content: bytes = answer.read(MAX_IMAGE_BYTES)
    except _FETCH_ERRORS as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too
        raise DatasetError(f"cannot be fetched: {error}") from None
    return content


class _BasicLogin(urllib.request.HTTPBasicAuthHandler):
    """Closes the answer that asked for a login, which urllib leaves open."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask again with name and password."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


class _DigestLogin(urllib.request.HTTPDigestAuthHandler):
    """As `_BasicLogin`."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask again with a digest of name and password."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


@contextmanager
def _answer(address: str) -> Iterator[Any]:
    """Of an http(s) server, with the name and password of the address if it asks for them."""
    parts, public = urlsplit(address), without_password(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    passwords.add_password(None, public, name, password)
    opener = urllib.request.build_opener(_BasicLogin(passwords), _DigestLogin(passwords))
    try:
        with opener.open(public, timeout=STALL_SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise


def is_image_address(address: str) -> bool:
    """Whether an http(s) address is that of one image: by its suffix, else by asking the server."""
    if not HTTP.match(address):
        return False
    if suffix := address_suffix(address):
        return suffix in IMAGE_SUFFIXES
    try:
        with _answer(address) as answer:
            kind: str = answer.headers.get_content_type()
    except _FETCH_ERRORS:
        return False
    return kind.startswith("image/")


def address_suffix(address: str) -> str:
    """`.jpg` of `http://host/a.JPG?size=1`; empty where there is none."""
    try:
        return PurePosixPath(urlsplit(address).path).suffix.lower()
    except ValueError:  # it is no address, such as http://[1
        return ""


def has_length(address: str) -> bool:
    """Whether an http(s) server says how many bytes there are, of anything but a playlist."""
    if not HTTP.match(address):
        return False
    try:
        with _answer(address) as answer:
            kind, length = answer.headers.get_content_type(), answer.headers["Content-Length"]
    except _FETCH_ERRORS:
        return False
    return (
        length is not None
        and address_suffix(address) not in PLAYLISTS
        and (kind not in PLAYLIST_KINDS)
    )


def without_password(address: str) -> str:
    """`rtsp://user:secret@host/1` -> `rtsp://host/1`, for messages and results."""
    return re.sub(r"//[^/@]*@", "//", address)


def file_name(address: str) -> str:
    """A name for the files of a stream: `camera0`, `rtsp_host_1`."""
    public = without_password(address)
    return f"camera{public}" if public.isdigit() else re.sub(r"[^A-Za-z0-9_-]+", "_", public)
