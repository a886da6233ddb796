"""Files of several images: animations, pages of a TIFF, photos of a HEIC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.decoded_image import DecodedImage, check_size, with_8_bits
from data.decoder_errors import DECODER_ERRORS
from data.heif_file import START_BYTES, heif_pixels, is_heif, open_heif
from data.image_file import JPEG_START, read_content
from data.image_formats import known_animated_formats, num_images
from data.tiff_pages import TIFF_STARTS, TiffPage, put_first, tiff_pages
from data.tiff_samples import decode_tiff
from data.video import Shard
from utils.errors import DatasetError, first_line
from utils.structures import Skipped

# Browsers show images that ask for less so long, and most animations count on it.
SHORTEST_MS, INSTEAD_MS = 10.0, 100.0
SLOWEST_FPS = 0.01  # that a video is written with, whatever an animation asks for
_WEBP_ANIMATION = 2  # a bit of the 21st byte
_BOXES, _BRANDS_END = b"ftyp", 64  # how AVIF and HEIF files begin, and where the brands end


@dataclass(frozen=True, slots=True)
class SeriesImage:
    """One image of a file.

    Attributes:
        number: in its file, from 1.
        count: how many the file has.
        decoded: its pixels.
        fps: images per second of what is yielded, by the first one's duration; None of pages.
        seconds: when it is shown, from the start of an animation; None of pages.
    """

    number: int
    count: int
    decoded: DecodedImage
    fps: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SeriesPart:
    """Which images of a file are read.

    Attributes:
        stride: every so many-th one, counted from the first of the file.
        shard: only those of this part.
        first: none before this one.
    """

    stride: int = 1
    shard: Shard | None = None
    first: int = 1

    def numbers(self, path: Path, count: int) -> range:
        """Their numbers, from 1, of `count` images."""
        first, last = (1, None) if self.shard is None else self.shard.frames(path, count)
        first = max(first, self.first)
        first += -(first - 1) % self.stride
        return range(first, (count if last is None else last) + 1, self.stride)


def may_have_several(path: Path) -> bool:
    """Whether the beginning of a file allows several images in it, as that of a JPEG does not."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except (OSError, ValueError):
        return False
    if start.startswith(JPEG_START):
        return False
    if start.startswith(b"RIFF"):
        return start[12:16] == b"VP8X" and len(start) > 20 and bool(start[20] & _WEBP_ANIMATION)
    if start.startswith(b"\x89PNG"):
        before, found, _ = start.partition(b"IDAT")
        return not found or b"acTL" in before
    if start[4:8] == _BOXES:
        return b"avis" in start[8:_BRANDS_END] or is_heif(start)
    return start.startswith((*TIFF_STARTS, b"GIF8"))


def has_several(path: Path) -> bool:
    """Whether the file holds more than one image; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
            if start.startswith(TIFF_STARTS):
                return len(tiff_pages(file).pages) > 1
        if is_heif(start):
            return len(open_heif(path, read_content(path))) > 1
        with Image.open(path, formats=known_animated_formats()) as image:
            return num_images(image) > 1
    except (*DECODER_ERRORS, DatasetError):
        return False


def read_series(path: Path, part: SeriesPart) -> Iterator[SeriesImage | Skipped]:
    """The images of a file that has several.

    A page that cannot be decoded is skipped; behind a broken image of an animation, which the
    later ones build on, nothing is read.

    Raises:
        DatasetError: no image can be read, or, after the last one that can, the file is cut off.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if start.startswith(TIFF_STARTS):
        return _tiff_pages(path, part)
    return _heif_images(path, part) if is_heif(start) else _animation(path, part)


def _tiff_pages(path: Path, part: SeriesPart) -> Iterator[SeriesImage | Skipped]:
    content = bytearray(read_content(path))
    with path.open("rb") as file:
        found = tiff_pages(file)
    count = len(found.pages)
    with _PillowPages(path) as by_pillow:
        for number in part.numbers(path, count):
            page = found.pages[number - 1]
            try:
                check_size(path, len(content), *page.image_hw)
                by_pillow.check(page)  # OpenCV makes black ones of some that are broken
                put_first(content, page)
                decoded = decode_tiff(path, content, page)
            except DatasetError as error:
                yield _skipped_page(path, number, error)
            else:
                yield SeriesImage(number, count, decoded)
    if found.is_cut:
        raise DatasetError(f"{path}: broken after page {count}; the rest is omitted")


class _PillowPages(AbstractContextManager["_PillowPages"]):
    """The images of a TIFF, decoded by Pillow to see whether all of their content is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: Image.Image | None = None

    def check(self, page: TiffPage) -> None:
        """Decode a page, unless Pillow does not know its numbers.

        Raises:
            DatasetError: it is damaged.
        """
        try:
            if self._opened is None:
                self._opened = Image.open(self._path, formats=("TIFF",))
            self._opened.seek(page.index)
            self._opened.load()
        except DECODER_ERRORS as error:
            self._close()
            is_unknown = isinstance(error, UnidentifiedImageError | SyntaxError)
            if is_unknown and not page.has_usual_samples:
                return
            raise DatasetError(f"{self._path}: cannot be decoded: {first_line(error)}") from None

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._close()


def _heif_images(path: Path, part: SeriesPart) -> Iterator[SeriesImage | Skipped]:
    content = read_content(path)
    images = open_heif(path, content)
    for number in part.numbers(path, len(images)):
        image = images[number - 1]
        width, height = image.size
        try:
            check_size(path, len(content), height, width)
            decoded = DecodedImage(heif_pixels(path, image))
        except DatasetError as error:
            yield _skipped_page(path, number, error)
        else:
            yield SeriesImage(number, len(images), decoded)


def _skipped_page(path: Path, number: int, error: DatasetError) -> Skipped:
    return Skipped(path, f"page {number}: {str(error).removeprefix(f'{path}: ')}")


def _animation(path: Path, part: SeriesPart) -> Iterator[SeriesImage | Skipped]:
    num_bytes, number, count = path.stat().st_size, 0, 0
    try:
        with Image.open(path, formats=known_animated_formats()) as counted:
            count = num_images(counted)
        with Image.open(path, formats=known_animated_formats()) as image:
            before = int(getattr(image, "default_image", False))  # an image that is not shown
            numbers = part.numbers(path, count)
            milliseconds, fps = 0.0, None
            # All of them are decoded: each one holds only what changes.
            for number in range(1, numbers.stop):
                image.seek(number - 1 + before)
                check_size(path, num_bytes, image.height, image.width)
                image.load()
                duration = _milliseconds(image)
                fps = fps or max(1000 / duration / part.stride, SLOWEST_FPS)
                if number in numbers:
                    yield SeriesImage(number, count, _decoded(image), fps, milliseconds / 1000)
                milliseconds += duration
    except DECODER_ERRORS as error:
        if number <= 1:
            raise DatasetError(f"{path}: cannot be decoded: {error}") from None
        raise DatasetError(
            f"{path}: broken after frame {number - 1} of {count}; the rest is omitted"
        ) from None


def _milliseconds(image: Image.Image) -> float:
    """How long the image of an animation is shown."""
    duration = float(image.info.get("duration") or 0)
    return duration if duration > SHORTEST_MS else INSTEAD_MS


def _decoded(image: Image.Image) -> DecodedImage:
    """The loaded image, upright; gray of 16 bits by its range, 16-bit color by its upper bits."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        gray = np.asarray(upright).astype(np.uint16)
        return with_8_bits(np.repeat(gray[..., None], 3, axis=2))
    return DecodedImage(np.array(upright.convert("RGB")))
