"""Writing mp4 videos that browsers play, and that play as far as they go when a run is killed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from utils.errors import OutputError, UserError
from utils.growing_file import GrowingFile
from utils.output_files import atomic_path
from utils.structures import ImageArray

if TYPE_CHECKING:
    from av.container import OutputContainer

logger = logging.getLogger(__name__)

CLOCK_RATE = 90_000  # of time stamps, per second: MPEG's clock
# By preference; all play in browsers but the last one, which every ffmpeg has.
ENCODERS = {"libx264": "H.264", "libopenh264": "H.264", "libvpx-vp9": "VP9", "mpeg4": "MPEG-4"}
# Few frames wait inside the encoder, so that a kill loses less than a second.
ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "bf": "0", "rc-lookahead": "5"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}
GOP_SECONDS = 2.0  # between images that a player can jump to
# Fragments of half a second while it is written, an ordinary mp4 when it is closed.
MUXER_OPTIONS = {
    "movflags": "hybrid_fragmented+default_base_moof",
    "frag_duration": "500000",
    "flush_packets": "1",
}
BT601 = 6  # SMPTE 170M, the matrix of OpenCV's color conversion: players of HD assume another


class VideoFile(AbstractContextManager["VideoFile"]):
    """One mp4 being written.

    With PyAV it is H.264 (the encoder used is logged), keeps time stamps and sound, and plays
    whenever the process ends. Without PyAV, OpenCV writes MPEG-4 at a constant rate, and the file
    appears when it is closed.
    """

    def __init__(
        self, path: Path, fps: float, image_hw: tuple[int, int], sound: Path | None = None
    ) -> None:
        """Open for images of one size.

        Args:
            path: the .mp4.
            fps: frames per second, where images come without a time.
            image_hw: height and width; both are rounded up to even numbers, as the codecs need.
            sound: a video whose sound is copied.

        Raises:
            UserError: there is no PyAV, and this OpenCV cannot write videos.
            OutputError: the file cannot be written.
        """
        self.path, self._fps = path, fps
        self._even_hw = (image_hw[0] + image_hw[0] % 2, image_hw[1] + image_hw[1] % 2)
        self._last = -1
        with contextlib.ExitStack() as opening:
            self._encoder = opening.enter_context(_encoder(path, fps, self._even_hw, sound))
            self._cleanup = opening.pop_all()

    def write(self, image: ImageArray, seconds: float | None = None) -> None:
        """Append an image.

        Args:
            image: (H, W, 3) RGB; one of another size (a stream may change) is resized.
            seconds: when it is shown, from the start of the video; None for the next frame at the
                constant rate.

        Raises:
            OutputError: the disk is full.
        """
        height, width = self._even_hw
        missing_h, missing_w = height - image.shape[0], width - image.shape[1]
        if missing_h not in (0, 1) or missing_w not in (0, 1):
            image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        elif missing_h or missing_w:
            edges = (0, missing_h, 0, missing_w)
            image = np.asarray(cv2.copyMakeBorder(image, *edges, cv2.BORDER_REPLICATE), np.uint8)
        if seconds is None:
            seconds = 0.0 if self._last < 0 else self._last / CLOCK_RATE + 1 / self._fps
        self._last = max(round(seconds * CLOCK_RATE), self._last + 1)
        self._encoder.write(image, self._last)

    def close(self) -> None:
        """Finish the file; closing it again does nothing.

        Raises:
            OutputError: the disk is full.
        """
        self._cleanup.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file; it holds what was written so far, also after an error."""
        self.close()


class _Encoder(Protocol):
    def write(self, image: ImageArray, pts: int) -> None:
        """Append an RGB image of the video's size, shown at `pts` / CLOCK_RATE seconds."""


@contextlib.contextmanager
def _encoder(
    path: Path, fps: float, image_hw: tuple[int, int], sound: Path | None
) -> Iterator[_Encoder]:
    try:
        import av
    except ImportError:
        logger.warning("%s: written by OpenCV without sound, and browsers may not play it; "
                       "`pip install av` writes H.264", path)  # fmt: skip
        with _OpenCvEncoder.open(path, fps, image_hw) as plain:
            yield plain
        return
    with GrowingFile(path) as file:
        target = _Target(file)
        container = av.open(target, "w", format="mp4", options=MUXER_OPTIONS)
        encoder = _AvEncoder(container, path, fps, image_hw, sound)
        try:
            yield _Checked(encoder, target)
        finally:
            encoder.finish()
            container.close()
        target.check()


class _Target:
    """What ffmpeg writes to: it sees no error, since its mp4 writer does not survive one."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file
        self._error: OutputError | None = None

    def write(self, content: bytes) -> int:
        if self._error is None:
            try:
                self._file.write(content)
            except OutputError as error:
                self._error = error
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise the error of an earlier write."""
        if self._error is not None:
            raise self._error


@dataclass(frozen=True, slots=True)
class _Checked:
    """An encoder whose file is checked after each image."""

    encoder: _AvEncoder
    target: _Target

    def write(self, image: ImageArray, pts: int) -> None:
        self.encoder.write(image, pts)
        self.target.check()


class _AvEncoder:
    """Encodes with PyAV, the sound of another file beside it."""

    def __init__(
        self,
        container: OutputContainer,
        path: Path,
        fps: float,
        image_hw: tuple[int, int],
        sound: Path | None,
    ) -> None:
        import av

        name = next(name for name in ENCODERS if name in av.codecs_available)
        self._container = container
        stream: Any = container.add_stream(name, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = image_hw
        stream.pix_fmt, stream.options = "yuv420p", ENCODER_OPTIONS.get(name, {})
        stream.codec_context.time_base = Fraction(1, CLOCK_RATE)
        stream.codec_context.gop_size = max(round(GOP_SECONDS * fps), 1)
        stream.codec_context.colorspace = BT601
        self._stream = stream
        self._cleanup = contextlib.ExitStack()
        self._sound = _Sound.of(sound, container, self._cleanup)
        kept = ", with its sound" if self._sound is not None else ""
        logger.info("%s: %s by %s%s", path, ENCODERS[name], name, kept)

    def write(self, image: ImageArray, pts: int) -> None:
        import av

        if self._sound is not None:
            self._mux(self._sound.packets_until(pts / CLOCK_RATE))
        planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = pts, Fraction(1, CLOCK_RATE)
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoders hold back."""
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            self._mux(self._sound.rest())
        self._cleanup.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)


class _Sound:
    """The sound of a video, read as far as its images are written, as AAC."""

    def __init__(self, opened: Any, container: OutputContainer) -> None:
        source, video = opened.streams.audio[0], opened.streams.video[0]
        self._start = float((video.start_time or 0) * video.time_base)
        self._frames = opened.decode(source)
        self._encoder: Any = container.add_stream("aac", rate=source.rate)
        self._encoder.layout = "mono" if source.channels == 1 else "stereo"
        self._ahead: Any = None  # the first frame that is not due yet
        self._finished = False

    @classmethod
    def of(
        cls, path: Path | None, container: OutputContainer, cleanup: contextlib.ExitStack
    ) -> _Sound | None:
        """None where there is no such file, no sound in it, or none that can be read."""
        import av

        if path is None:
            return None
        try:
            # Not by its name, which may be no UTF-8.
            opened = av.open(cleanup.enter_context(path.open("rb")))
        except (OSError, av.FFmpegError) as error:
            logger.warning("%s: its sound is omitted: %s", path, error)
            return None
        cleanup.callback(opened.close)
        return cls(opened, container) if opened.streams.audio and opened.streams.video else None

    def packets_until(self, seconds: float) -> list[Any]:
        """The packets of everything heard before this time of the video."""
        packets: list[Any] = []
        while not self._finished:
            frame = self._next()
            if frame is None:
                break
            at = frame.time - self._start if frame.time is not None else 0.0
            if at > seconds:
                self._ahead = frame
                break
            if at >= 0:
                frame.pts = round(at / frame.time_base)
                packets += self._encoder.encode(frame)
        return packets

    def rest(self) -> list[Any]:
        """What the encoder holds back; sound after the last image is omitted."""
        packets: list[Any] = self._encoder.encode(None)
        return packets

    def _next(self) -> Any:
        import av

        frame, self._ahead = self._ahead, None
        if frame is not None:
            return frame
        try:
            return next(self._frames)
        except (StopIteration, av.FFmpegError):
            self._finished = True
            return None


class _OpenCvEncoder:
    """OpenCV's own writer: MPEG-4, constant rate, no sound."""

    def __init__(self, writer: cv2.VideoWriter) -> None:
        self._writer = writer

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, fps: float, image_hw: tuple[int, int]) -> Iterator[_OpenCvEncoder]:
        try:
            str(path.parent).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{path.parent}: OpenCV cannot write videos to a folder whose name is no UTF-8; "
                "choose another --project"
            ) from None
        with atomic_path(path) as temporary:
            height, width = image_hw
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(temporary), codec, fps, (width, height))
            if not writer.isOpened():
                raise UserError(f"{path}: this OpenCV cannot write mp4 videos; use --nosave")
            try:
                yield cls(writer)
            finally:
                writer.release()

    def write(self, image: ImageArray, pts: int) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
