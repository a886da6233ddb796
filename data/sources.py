"""Where detect.py's images come from: files, folders, lists, videos, addresses, live streams.

The network is accessed only for addresses that the user gave.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.addresses import file_name, is_address, without_password
from data.file_suffixes import LISTED_SUFFIXES, VIDEO_SUFFIXES
from data.image_file import decode_image, is_jpeg, read_content
from data.stream_options import StreamOptions
from utils.detect.pipeline import Source, grouped
from utils.errors import ConfigError, DatasetError
from utils.letterbox import InputSize
from utils.path_kind import path_kind
from utils.structures import FittedFrame, Frame, Skipped, StreamState

if TYPE_CHECKING:
    from data.decoded_image import DecodedImage
    from data.source_items import Item
    from data.video import Shard
    from utils.detect_config import DetectConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        recursive: folders with all folders below.
        shard: the part to read; None for everything.
        streams: of live ones; its stride is that of videos, too.
    """

    recursive: bool = False
    shard: Shard | None = None
    streams: StreamOptions = field(default_factory=StreamOptions)

    @classmethod
    def of(cls, config: DetectConfig) -> SourceOptions:
        """What the flags of detect.py ask for.

        Raises:
            ConfigError: `--shard` names no part.
        """
        streams = StreamOptions(
            config.vid_stride, config.poll, config.every_frame, config.reconnect
        )
        if config.shard is None:
            return cls(config.recursive, streams=streams)
        from data.video import Shard

        return cls(config.recursive, Shard.parse(config.shard), streams)


def source_texts(source: object) -> list[str]:
    """What a program names as its source, as `--source` takes it.

    Args:
        source: a path, an address or the number of a camera; or several of them.

    Raises:
        DatasetError: it is of another type: an image, whose bytes are no cameras, or None.
    """
    is_one = isinstance(source, str | bytes | bytearray | memoryview | os.PathLike)
    texts = []
    for each in [source] if is_one or not isinstance(source, Iterable) else source:
        text = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(text, str | int) or isinstance(text, bool):
            raise DatasetError(
                f"--source: is of type {type(each).__name__}; expected a path, an address, the "
                "number of a camera, or several of them; images are given to the detector itself"
            )
        texts.append(str(text))
    return texts


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
    if not isinstance(options, SourceOptions):
        raise ConfigError(f"options={options!r}: expected SourceOptions(...)")
    items = [item for text in texts for item in _expand(text, options)]
    live = [item for item in items if isinstance(item, str) and not _is_image(item, options)]
    if not live:
        return FileSource.of(items, options)
    if len(live) < len(items):
        other = next(item for item in items if item not in live)
        raise DatasetError(
            f"--source {without_password(live[0])} is live and {without_password(str(other))} is "
            "not; start detect.py once for each kind"
        )
    if options.shard is not None:
        raise DatasetError(
            f"--source {without_password(live[0])} is live and cannot be divided by --shard"
        )
    from data.streams import LiveFrames, LiveSource  # files do without

    return LiveFrames(LiveSource(live, options.streams))


def _is_image(address: str, options: SourceOptions) -> bool:
    """Whether an address is that of one image, to be read once."""
    from data.web_content import is_image_address  # files do without urllib

    return options.streams.poll_seconds is None and is_image_address(address)


def _expand(text: str, options: SourceOptions) -> Sequence[Item]:
    """The files and addresses that one `--source` names."""
    if not text.strip():  # an unset variable of a shell; as a path it is the working directory
        raise DatasetError("--source: is empty; name files, a folder, or a live source (. is here)")
    path = Path(text)
    if path.suffix.lower() in LISTED_SUFFIXES | VIDEO_SUFFIXES and path_kind(path) == "file":
        return [path]
    if is_address(text):
        return [text]
    from data.source_items import source_items  # folders, patterns and lists

    return source_items(text, recursive=options.recursive)


@dataclass(frozen=True)
class SourceFile:
    """An image or a video, by its path or address, and its number in the source, from 1."""

    item: Item
    position: int

    @functools.cached_property
    def path(self) -> Path:
        """The file; for an address, a name that can serve as a file name."""
        if isinstance(self.item, str):
            return Path(file_name(self.item))
        return self.item if isinstance(self.item, Path) else self.item.path

    @property
    def source(self) -> str:
        """The path or address, without a password."""
        return without_password(self.item) if isinstance(self.item, str) else str(self.path)

    @functools.cached_property
    def is_video(self) -> bool:
        """Whether it has several frames: a video, an animation, a file of pages."""
        return not isinstance(self.item, str | Skipped) and is_video(self.path)

    @property
    def is_movie(self) -> bool:
        """Whether a video reader reads it."""
        return is_movie(self.path)

    def content(self) -> bytes:
        """Of an image.

        Raises:
            DatasetError: it cannot be read.
        """
        if not isinstance(self.item, str):
            return read_content(self.path)
        from data.web_content import fetch  # files do without urllib

        return fetch(self.item)


@dataclass(slots=True)
class FileSource:
    """Images and videos, one after the other; images may be behind addresses.

    Attributes:
        files: all of them, in their order.
        vid_stride: every so many-th frame of videos.
        shard: the part that is read: of one video a range of its frames, else every so many-th
            file.
        done: position and frame of the last one that a cut run has written, None for the last
            frame of that file; what follows is read.
    """

    files: tuple[SourceFile, ...]
    vid_stride: int = 1
    shard: Shard | None = None
    done: tuple[int, int | None] = (0, 0)
    _stopped: bool = False
    _rescaled: bool = False

    @classmethod
    def of(cls, items: Sequence[Item], options: SourceOptions) -> FileSource:
        """Files in their order."""
        files = tuple(SourceFile(item, position) for position, item in enumerate(items, 1))
        return cls(files, options.streams.stride, options.shard)

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
        for file in self._files_left():
            if self._stopped:
                return
            if isinstance(file.item, Skipped):
                yield file.item
            elif file.is_video:
                yield from self._frames(file)
            else:
                try:
                    decoded = decode_image(file.path, file.content())
                except DatasetError as error:
                    yield Skipped(file.path, _reason(error, file.path))
                else:
                    yield self._image(file, decoded)

    def _files_left(self) -> Sequence[SourceFile]:
        """Those of the part that a cut run has not finished."""
        files = self.files
        if self.shard is not None and not self._one_video:
            files = files[self.shard.part - 1 :: self.shard.parts]
        # The file in work may have further frames.
        last, frame = self.done
        return [file for file in files if file.position > last
                or (file.position == last and frame is not None and file.is_video)]  # fmt: skip

    @property
    def _one_video(self) -> bool:
        return len(self.files) == 1 and self.files[0].is_video

    def _frames(self, file: SourceFile) -> Iterator[Frame | Skipped]:
        """Those of a file that has several."""
        any_read = False
        shard = self.shard if self._one_video else None
        first = (self.done[1] or 0) + 1 if file.position == self.done[0] else 1
        frames = self._movie if file.is_movie else self._series
        try:
            for frame in frames(file, shard, first):
                any_read = True
                yield frame
                if self._stopped:
                    return
        except DatasetError as error:
            if self._one_video and not any_read:
                raise
            yield Skipped(file.path, _reason(error, file.path))

    def _movie(self, file: SourceFile, shard: Shard | None, first: int) -> Iterator[Frame]:
        from data.video import read_video_file

        for reader, index, image in read_video_file(file.path, self.vid_stride, shard, first):
            yield Frame(
                image=image,
                source=file.source,
                path=file.path,
                position=file.position,
                num_positions=len(self.files),
                frame_index=index,
                frame_count=reader.frame_count,
                fps=reader.fps,
                is_video=True,
                seconds=reader.seconds,
            )

    def _series(
        self, file: SourceFile, shard: Shard | None, first: int
    ) -> Iterator[Frame | Skipped]:
        from data.image_series import SeriesPart, read_series  # loads Pillow

        for image in read_series(file.path, SeriesPart(self.vid_stride, shard, first)):
            if isinstance(image, Skipped):
                yield image
                continue
            frame = self._image(file, image.decoded)
            yield replace(
                frame, frame_index=image.number, frame_count=image.count, fps=image.fps,
                is_video=True, seconds=image.seconds,
            )  # fmt: skip

    def _image(self, file: SourceFile, decoded: DecodedImage) -> Frame:
        if decoded.is_rescaled and not self._rescaled:
            self._rescaled = True  # said once, for the first of perhaps many
            logger.info("%s: %d-bit data in 16 bits or more, scaled by that range", file.path,
                        decoded.bits)  # fmt: skip
        return Frame(
            image=decoded.pixels,
            source=file.source,
            path=file.path,
            position=file.position,
            num_positions=len(self.files),
            frame_index=1,
            frame_count=1,
            fps=None,
            is_video=False,
        )


def is_video(path: Path) -> bool:
    """Whether a file has several frames: a video, an animation, a file of pages."""
    if is_movie(path) or is_jpeg(path):
        return is_movie(path)
    from data.image_series import has_several, may_have_several  # loads Pillow

    return may_have_several(path) and has_several(path)


def is_movie(path: Path) -> bool:
    """Whether a video reader reads it."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _reason(error: DatasetError, path: Path) -> str:
    """The message without the path, which `Skipped` has beside it."""
    return str(error).removeprefix(f"{path}: ")
