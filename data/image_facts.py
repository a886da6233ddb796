"""Whether the whole of an image file can be read, and what is then known of it."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import simplejpeg
from PIL import Image

from data.decoded_image import check_size
from data.decoder_errors import DECODER_ERRORS
from data.image_file import JPEG_START, decode_image, read_content
from data.image_formats import read_header
from utils.errors import DatasetError

MIN_SIDE = 10  # pixels; smaller images show nothing that can be detected
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_ODD_HEADERS = ("Invalid SOS parameters", "Unknown Adobe color transform", "Warning: unknown JFIF")
_START_OF_PIXELS = b"\xff\xda"
# Tables, sizes, comments and applications' data, without APP1 (0xe1): it holds EXIF.
_PLAIN_SEGMENTS = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE})
MAX_EXTRANEOUS = 1000  # bytes between parts of a JPEG that still are no loss
RULES = 4  # of examine_image and of reading labels; another number makes all that is kept worthless


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image that can be read.

    Attributes:
        image_hw: height and width after EXIF orientation.
        digest: of the file's content.
        bits: those that the values of a file of 16 bits use where they are fewer, else None.
    """

    image_hw: tuple[int, int]
    digest: bytes
    bits: int | None = None


def examine_image(path: Path) -> ImageFacts:
    """Size and digest of an image, once the whole file has been decoded.

    What passes can be read by `read_image` later. JPEG is decoded at 1/8 scale, which reads every
    byte of it and costs less.

    Raises:
        DatasetError: the file is missing, empty, cut off, corrupt inside, not an image, one of
            several images, under 10 pixels, or has more than MAX_PIXELS.
    """
    content, bits = read_content(path), None
    if content.startswith(JPEG_START):
        image_hw = _verify_jpeg(path, content)
    else:
        header = read_header(path, content)
        if header.by_pillow:
            _load_by_pillow(path, content)  # OpenCV reads some files that are cut off
        decoded = decode_image(path, content)  # and fewer formats than Pillow
        image_hw = decoded.pixels.shape[:2]
        bits = decoded.bits if decoded.is_rescaled else None
    if min(image_hw) < MIN_SIDE:
        raise DatasetError(
            f"{path}: {image_hw[1]}x{image_hw[0]} pixels, must be at least {MIN_SIDE} on each side"
        )
    return ImageFacts(image_hw, hashlib.sha256(content).digest(), bits)


def _load_by_pillow(path: Path, content: bytes) -> None:
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def _verify_jpeg(path: Path, content: bytes) -> tuple[int, int]:
    """Decode all of a JPEG; what libjpeg would only repair silently is an error.

    Returns:
        Its height and width after EXIF orientation.

    Raises:
        DatasetError: it is cut off, or a part of it is missing or overwritten.
    """
    image_hw = read_header(path, content).image_hw if _may_be_turned(content) else None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        check_size(path, len(content), height, width)
        kind = "CMYK" if colors in ("CMYK", "YCCK") else "GRAY"
        decode = functools.partial(
            simplejpeg.decode_jpeg, content, kind, min_height=height // 8, min_width=width // 8
        )
        try:
            decode(strict=True)
        except ValueError as error:
            if _is_damage(str(error)):
                raise
            decode(strict=False)
            decode_image(path, content)  # OpenCV refuses some of these
    except ValueError as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    return image_hw or (height, width)


def _may_be_turned(content: bytes) -> bool:
    """Whether a JPEG has EXIF data, or segments out of order, in which Pillow has to look.

    It takes ten times as long.
    """
    position = 2
    while content[position : position + 2] != _START_OF_PIXELS:
        segment = content[position : position + 4]
        if len(segment) < 4 or segment[0] != 0xFF or segment[1] not in _PLAIN_SEGMENTS:
            return True
        position += 2 + int.from_bytes(segment[2:], "big")
    return False


def _is_damage(warning: str) -> bool:
    """Whether a warning of libjpeg means that pixels are lost.

    Many cameras write odd headers, or a few bytes too many, reported by the same warnings.
    """
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous is not None:
        return int(extraneous[1]) > MAX_EXTRANEOUS
    return not warning.startswith(_ODD_HEADERS)
