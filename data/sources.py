"""Where detect.py's images come from: files, folders, lists, videos, cameras and streams.

The network is accessed only for the address of a stream that the user gave.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.image_file import (
    IMAGE_SUFFIXES,
    LISTED_SUFFIXES,
    decode_image,
    is_animation,
    read_content,
)
from data.listing import path_kind, read_lines
from data.video import read_stream, read_video_file, without_password
from utils.errors import DatasetError
from utils.letterbox import InputSize, Letterbox
from utils.structures import Frame, ImageArray, Skipped

logger = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
STREAM_ADDRESS = re.compile(r"(rtsp|rtmp|http|https|udp|tcp)://", re.IGNORECASE)


FittedFrame = tuple[Frame, Letterbox]  # a frame and how it becomes a network input


class Source(Protocol):
    """Something that yields frames one by one."""

    @property
    def is_stream(self) -> bool:
        """Whether it is live: frames that are not read in time are lost."""

    def __iter__(self) -> Iterator[Frame | Skipped]:
        """The frames in order; files that cannot be read show up as Skipped."""


def open_source(text: str, vid_stride: int = 1) -> Source:
    """What `--source` names.

    Args:
        text: an image, a video, a folder (not searched further down), a pattern like `a/*.jpg`,
            a .txt list of paths, a camera number, or the address of a stream.
        vid_stride: of videos and streams, yield every so many-th frame.

    Raises:
        DatasetError: there is no such thing, or no images and videos in it.
    """
    if STREAM_ADDRESS.match(text) or text.isdigit():
        return StreamSource(text, vid_stride)
    if text.lower() == "screen" or text.lower().endswith(".streams"):
        raise DatasetError(
            f"--source {text}: screens and lists of streams cannot be read; "
            "give one stream and start detect.py once for each"
        )
    return FileSource(tuple(_find_files(text)), vid_stride)


def batches(
    items: Iterable[Frame | Skipped], size: InputSize, batch_size: int
) -> Iterator[list[FittedFrame] | Skipped]:
    """Frames in batches of one input size, in order, and skipped files as they come.

    Args:
        items: frames as they are read.
        size: what each is letterboxed to.
        batch_size: a batch is yielded when it has this many frames, or when the input size changes.
    """
    batch: list[FittedFrame] = []
    for item in items:
        if isinstance(item, Skipped):
            yield item
            continue
        letterbox = size.letterbox(item.image_hw)
        if batch and batch[0][1].input_hw != letterbox.input_hw:
            yield batch
            batch = []
        batch.append((item, letterbox))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _find_files(text: str) -> list[Path]:
    path = Path(text)
    kind = path_kind(path)
    if kind == "folder":
        files = sorted(file for file in path.iterdir() if _is_media(file))
        return _some(files, f"--source {text}: no images or videos in this folder")
    if path.suffix.lower() == ".txt" and kind == "file":
        return _some(_listed(path), f"--source {text}: this list is empty")
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


def _some(files: list[Path], message: str) -> list[Path]:
    if not files:
        raise DatasetError(message)
    return files


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in LISTED_SUFFIXES | VIDEO_SUFFIXES and path_kind(path) == "file"


def _listed(list_file: Path) -> list[Path]:
    """Paths of a .txt list: relative ones from the list's folder or the working directory."""
    paths = [Path(line) for line in read_lines(list_file)]
    beside = [list_file.parent / path for path in paths]
    return [near if path_kind(near) else path for near, path in zip(beside, paths, strict=True)]


@dataclass(frozen=True, slots=True)
class FileSource:
    """Images and videos, one after the other."""

    files: tuple[Path, ...]
    vid_stride: int = 1

    @property
    def is_stream(self) -> bool:
        """Files can be read at any speed."""
        return False

    def __iter__(self) -> Iterator[Frame | Skipped]:
        """The frames of all files.

        Raises:
            DatasetError: the only file is a video that cannot be read.
        """
        scaled = False
        for position, path in enumerate(self.files, 1):
            suffix = path.suffix.lower()
            if suffix in VIDEO_SUFFIXES or (suffix == ".gif" and is_animation(path)):
                yield from self._video_frames(path, position)
                continue
            try:
                decoded = decode_image(path, read_content(path))
            except DatasetError as error:
                yield Skipped(path, _reason(error, path))
                continue
            if decoded.is_rescaled and not scaled:
                scaled = True  # said once, for the first of perhaps many
                logger.info("%s: %d-bit data in a 16-bit file, scaled by that range",
                            path, decoded.bits)  # fmt: skip
            yield self._image(path, position, decoded.pixels)

    def _image(self, path: Path, position: int, pixels: ImageArray) -> Frame:
        return Frame(
            image=pixels,
            source=str(path),
            path=path,
            position=position,
            num_positions=len(self.files),
            frame_index=1,
            frame_count=1,
            fps=None,
            is_video=False,
        )

    def _video_frames(self, path: Path, position: int) -> Iterator[Frame | Skipped]:
        total = len(self.files)
        try:
            for reader, index, image in read_video_file(path, self.vid_stride):
                yield Frame(
                    image=image,
                    source=str(path),
                    path=path,
                    position=position,
                    num_positions=total,
                    frame_index=index,
                    frame_count=reader.frame_count,
                    fps=reader.fps,
                    is_video=True,
                )
        except DatasetError as error:
            if total == 1:
                raise
            yield Skipped(path, _reason(error, path))


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A camera (by number) or a network stream (by address)."""

    address: str
    vid_stride: int = 1

    @property
    def is_stream(self) -> bool:
        """Frames come at the camera's speed."""
        return True

    def __iter__(self) -> Iterator[Frame | Skipped]:
        """The frames as they come.

        Raises:
            DatasetError: it cannot be opened.
        """
        public_address = without_password(self.address)
        name = (
            f"camera{public_address}"
            if public_address.isdigit()
            else re.sub(r"[^A-Za-z0-9_-]+", "_", public_address)
        )
        for reader, index, image in read_stream(self.address, self.vid_stride):
            yield Frame(
                image=image,
                source=public_address,
                path=Path(name),
                position=1,
                num_positions=1,
                frame_index=index,
                frame_count=reader.frame_count,
                fps=reader.fps,
                is_video=True,
            )


def _reason(error: DatasetError, path: Path) -> str:
    """The message without the path, which `Skipped` has beside it."""
    return str(error).removeprefix(f"{path}: ")
