"""Where detect.py's images come from: files, folders, lists, videos, addresses, live streams.

The network is accessed only for addresses that the user gave.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from data import captures
from data.captures import file_name, is_image_address, without_password
from data.image_file import (
    IMAGE_SUFFIXES,
    LISTED_SUFFIXES,
    decode_image,
    is_animation,
    path_kind,
    read_content,
)
from data.listing import read_lines
from data.streams import LiveSource, StreamOptions
from data.video import read_video_file
from utils.errors import DatasetError
from utils.letterbox import InputSize, Letterbox
from utils.structures import Frame, ImageArray, Skipped, StreamState

logger = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
LIST_SUFFIXES = (".txt", ".streams")
STANDARD_INPUT = "-"
WINDOW_BATCHES = 4  # a batch waits until so many batches' frames have come after its first


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        recursive: folders with all folders below.
        streams: of live ones; its stride is that of videos, too.
    """

    recursive: bool = False
    streams: StreamOptions = field(default_factory=StreamOptions)


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """A frame, its number in the run from 0, and how it becomes a network input."""

    number: int
    frame: Frame
    letterbox: Letterbox


class Source(Protocol):
    """Something that yields frames."""

    @property
    def is_live(self) -> bool:
        """Whether frames that are not read in time are lost."""

    def batches(self, size: InputSize, batch_size: int) -> Iterator[list[FittedFrame] | Skipped]:
        """Frames in batches of one input size, and files that cannot be read as they come."""

    @property
    def streams(self) -> Sequence[StreamState]:
        """What happened to each live stream so far."""

    def stop(self) -> None:
        """Let `batches` end soon; may be called from any thread."""


def open_source(texts: Sequence[str], options: SourceOptions) -> Source:
    """What `--source` names; nothing is opened yet.

    Args:
        texts: images, videos, folders, patterns like `a/*.jpg`, .txt lists, addresses of images;
            or only live ones: camera numbers, `screen`, addresses of streams, lists of them.
        options: how they are read.

    Raises:
        DatasetError: there is no such thing, no images and videos in it, or live and other
            sources are mixed.
    """
    items = [item for text in texts for item in _expand(text, options)]
    live = [item for item in items if isinstance(item, str) and not _is_image(item, options)]
    if not live:
        return FileSource(tuple(items), options.streams.capture.stride)
    if len(live) < len(items):
        other = next(item for item in items if item not in live)
        raise DatasetError(
            f"--source {without_password(live[0])} is live and {without_password(str(other))} is "
            "not; start detect.py once for each kind"
        )
    return LiveFrames(LiveSource(live, options.streams))


def grouped(
    items: Iterable[Frame | Skipped], size: InputSize, batch_size: int
) -> Iterator[list[FittedFrame] | Skipped]:
    """Frames in batches of one input size, and skipped files as they come.

    Frames of one size wait for each other, a window of a few batches long: so batches need not
    be in the order of their frames' numbers.

    Args:
        items: frames as they are read.
        size: what each is letterboxed to.
        batch_size: of a full batch.
    """
    waiting: dict[tuple[int, int], list[FittedFrame]] = {}
    number = 0
    for item in items:
        if isinstance(item, Skipped):
            yield item
            continue
        letterbox = size.letterbox(item.image_hw)
        group = waiting.setdefault(letterbox.input_hw, [])
        group.append(FittedFrame(number, item, letterbox))
        if len(group) == batch_size:
            yield waiting.pop(letterbox.input_hw)
        number += 1
        # The first group of the mapping is the one whose first frame waits longest.
        for oldest, group in list(waiting.items())[:1]:
            if number - group[0].number >= WINDOW_BATCHES * batch_size:
                yield waiting.pop(oldest)
    yield from waiting.values()


def is_address(text: str) -> bool:
    """Whether it names a camera, a screen or something in a network, not a file."""
    whole = text.isdigit() or captures.SCREEN.fullmatch(text) or captures.DEVICE.fullmatch(text)
    return bool(whole or captures.ADDRESS.match(text))


def _is_image(address: str, options: SourceOptions) -> bool:
    return options.streams.capture.poll_seconds is None and is_image_address(address)


def _expand(text: str, options: SourceOptions) -> Sequence[Path | str]:
    """The files and addresses that one `--source` names; addresses are text."""
    if is_address(text):
        return [text]
    if text == STANDARD_INPUT:
        return _from_standard_input()
    path = Path(text)
    kind = path_kind(path)
    if kind == "folder":
        found = path.rglob("*") if options.recursive else path.iterdir()
        deeper = "" if options.recursive else "; --recursive looks into folders below"
        files = sorted(file for file in found if _is_media(file))
        return _some(files, f"--source {text}: no images or videos in this folder{deeper}")
    if kind == "file" and path.suffix.lower() in LIST_SUFFIXES:
        return _some(_listed(read_lines(path), path.parent), f"--source {text}: this list is empty")
    if kind == "file":
        if _is_media(path):
            return [path]
        raise DatasetError(
            f"--source {text}: the suffix {path.suffix!r} is neither an image's nor a video's "
            f"(known: {' '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})"
        )
    if any(sign in text for sign in "*?["):
        anchor = Path(path.anchor)
        pattern = str(path.relative_to(anchor)) if path.anchor else text
        files = sorted(file for file in anchor.glob(pattern) if _is_media(file))
        return _some(files, f"--source {text}: no image or video matches this pattern")
    raise DatasetError(f"--source {text}: no such file or folder")


def _from_standard_input() -> Sequence[Path | str]:
    """An image's content, kept in a temporary file, or a list of paths and addresses."""
    content = sys.stdin.buffer.read()
    with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".txt") as file:
        path = Path(file.name)
        path.write_bytes(content)
        try:
            lines = read_lines(path)
        except DatasetError:
            lines = []
    if content and not lines:
        with tempfile.NamedTemporaryFile(prefix="stdin-", suffix=".jpg", delete=False) as kept:
            kept.write(content)
        return [Path(kept.name)]
    return _some(_listed(lines, Path()), "--source -: standard input is empty")


def _some(items: Sequence[Path | str], message: str) -> Sequence[Path | str]:
    if not items:
        raise DatasetError(message)
    return items


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in LISTED_SUFFIXES | VIDEO_SUFFIXES and path_kind(path) == "file"


def _listed(lines: Sequence[str], folder: Path) -> list[Path | str]:
    """Addresses, and paths: relative ones from the list's folder or the working directory."""
    items: list[Path | str] = []
    for line in lines:
        beside = folder / line
        items.append(line if is_address(line) else beside if path_kind(beside) else Path(line))
    return items


@dataclass(slots=True)
class LiveFrames:
    """Frames of live streams: those that have arrived make a batch, however few they are."""

    live: LiveSource

    @property
    def is_live(self) -> bool:
        """They come at the speed of the cameras."""
        return True

    def batches(self, size: InputSize, batch_size: int) -> Iterator[list[FittedFrame] | Skipped]:
        """Batches of the newest frames; all have one size, where there are several streams."""
        several = len(self.streams) > 1
        one_size = replace(size, stride=None) if several else size
        number = 0
        for frames in self.live.groups():
            fitted = [
                FittedFrame(number + index, frame, one_size.letterbox(frame.image_hw))
                for index, frame in enumerate(frames)
            ]
            number += len(fitted)
            for start in range(0, len(fitted), batch_size):
                yield fitted[start : start + batch_size]

    @property
    def streams(self) -> Sequence[StreamState]:
        """One per stream, in their order."""
        return self.live.states

    def stop(self) -> None:
        """End the streams."""
        self.live.stop()


@dataclass(slots=True)
class FileSource:
    """Images and videos, one after the other; images may be behind addresses."""

    files: tuple[Path | str, ...]
    vid_stride: int = 1
    _stopped: bool = False

    @property
    def is_live(self) -> bool:
        """Files can be read at any speed."""
        return False

    def batches(self, size: InputSize, batch_size: int) -> Iterator[list[FittedFrame] | Skipped]:
        """See `grouped`."""
        return grouped(self, size, batch_size)

    @property
    def streams(self) -> Sequence[StreamState]:
        """None of them is live."""
        return ()

    def stop(self) -> None:
        """Read no further frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame | Skipped]:
        """The frames of all files.

        Raises:
            DatasetError: the only file is a video that cannot be read.
        """
        scaled = False
        for position, item in enumerate(self.files, 1):
            path = Path(file_name(item)) if isinstance(item, str) else item
            source = without_password(item) if isinstance(item, str) else str(item)
            if self._stopped:
                return
            if isinstance(item, Path) and is_video(item):
                yield from self._video_frames(item, position)
                continue
            try:
                decoded = decode_image(path, _content(item))
            except DatasetError as error:
                yield Skipped(path, _reason(error, path))
                continue
            if decoded.is_rescaled and not scaled:
                scaled = True  # said once, for the first of perhaps many
                logger.info("%s: %d-bit data in a 16-bit file, scaled by that range",
                            path, decoded.bits)  # fmt: skip
            yield self._image(path, source, position, decoded.pixels)

    def _image(self, path: Path, source: str, position: int, pixels: ImageArray) -> Frame:
        total = len(self.files)
        return Frame(pixels, source, path, position, total, 1, 1, fps=None, is_video=False)

    def _video_frames(self, path: Path, position: int) -> Iterator[Frame | Skipped]:
        any_read = False
        try:
            for reader, index, image in read_video_file(path, self.vid_stride):
                any_read = True
                yield Frame(
                    image=image,
                    source=str(path),
                    path=path,
                    position=position,
                    num_positions=len(self.files),
                    frame_index=index,
                    frame_count=reader.frame_count,
                    fps=reader.fps,
                    is_video=True,
                    seconds=reader.seconds,
                )
                if self._stopped:
                    return
        except DatasetError as error:
            if len(self.files) == 1 and not any_read:
                raise
            yield Skipped(path, _reason(error, path))


def is_video(path: Path) -> bool:
    """Whether a file is a video by its suffix, or a GIF that moves."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix == ".gif" and is_animation(path))


def _content(item: Path | str) -> bytes:
    return captures.fetch(item) if isinstance(item, str) else read_content(item)


def _reason(error: DatasetError, path: Path) -> str:
    """The message without the path, which `Skipped` has beside it."""
    return str(error).removeprefix(f"{path}: ")
