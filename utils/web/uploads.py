"""Images that are sent to the page, and what is found in them: one at a time, in one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from utils.detect.frame_detections import FrameDetections
from utils.detect.pipeline import FrameDetector
from utils.errors import DatasetError, UserError, first_line
from utils.structures import Frame, ImageArray

MAX_BYTES = 32_000_000
MAX_PIXELS = 50_000_000
NAME = Path("upload")


class TooLargeError(UserError):
    """An upload has too many bytes or pixels."""


class Pixels(Protocol):
    """A decoded image."""

    @property
    def pixels(self) -> ImageArray:
        """(H, W, 3) uint8 RGB."""


class Header(Protocol):
    """What the first bytes of an image file say."""

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""


@dataclass(frozen=True, slots=True)
class ImageReader:
    """How files are read; each takes a name for messages, and the content of a file.

    Attributes:
        read_header: its size, before pixels are decoded.
        decode_image: its pixels.
    """

    read_header: Callable[[Path, bytes], Header]
    decode_image: Callable[[Path, bytes], Pixels]

    def pixels(self, content: bytes) -> ImageArray:
        """(H, W, 3) uint8 RGB.

        Raises:
            TooLargeError: it has more than 50 million pixels.
            DatasetError: it is empty or cannot be decoded.
        """
        if not content:
            raise DatasetError("the request has no content; send the bytes of an image file")
        try:
            height, width = self.read_header(NAME, content).image_hw
            if height * width > MAX_PIXELS:
                raise TooLargeError(
                    f"{width}x{height}: more than {MAX_PIXELS / 1e6:.0f} million pixels; shrink it"
                )
            return self.decode_image(NAME, content).pixels
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001, whatever a decoder makes of a stranger's bytes
            raise DatasetError(f"{NAME}: cannot be decoded: {first_line(error)}") from None


class UploadWorker(threading.Thread):
    """Finds objects in images one after the other, with a network of its own.

    The network is loaded for the first image: where none comes, none is loaded.
    """

    def __init__(self, open_detector: Callable[[], FrameDetector], reader: ImageReader) -> None:
        # A daemon: a library that hangs must not keep the program from ending.
        super().__init__(daemon=True, name="uploads")
        self._open_detector, self._reader = open_detector, reader
        self._jobs: queue.SimpleQueue[tuple[bytes | None, Future[str]] | None] = queue.SimpleQueue()

    def submit(self, content: bytes) -> Future[str]:
        """The JSON of what will be found in an image file.

        Its errors are those of `ImageReader.pixels` and of loading the network.
        """
        answer: Future[str] = Future()
        self._jobs.put((content, answer))
        return answer

    def load(self) -> None:
        """Load the network now.

        Raises:
            UserError: it cannot be loaded.
        """
        answer: Future[str] = Future()
        self._jobs.put((None, answer))
        answer.result()

    def stop(self) -> None:
        """Answer nothing more."""
        self._jobs.put(None)

    def run(self) -> None:
        """Answer until the end."""
        detector: FrameDetector | None = None
        while (job := self._jobs.get()) is not None:
            content, answer = job
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                pixels = None if content is None else self._reader.pixels(content)
                detector = detector or self._open_detector()
                answer.set_result("" if pixels is None else found_in(pixels, detector).to_json())
            except BaseException as error:  # noqa: BLE001, raised again by the one who waits
                answer.set_exception(error)


def found_in(pixels: ImageArray, detector: FrameDetector) -> FrameDetections:
    """What the network finds in one image, (H, W, 3) uint8 RGB."""
    frame = Frame(pixels, str(NAME), NAME, 1, 1, 1, 1, fps=None, is_video=False)
    (found,) = detector.found_in([frame], 1)
    return FrameDetections(frame, found.detections, detector.class_names)
