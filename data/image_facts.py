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

from data.decoder_errors import DECODER_ERRORS
from data.image_file import JPEG_START, decode_image, read_content, read_header
from utils.errors import DatasetError

MIN_SIDE = 10  # pixels; smaller images show nothing that can be detected
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_ODD_HEADERS = ("Invalid SOS parameters", "Unknown Adobe color transform", "Warning: unknown JFIF")
MAX_EXTRANEOUS = 1000  # bytes between parts of a JPEG that still are no loss


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


def verify_image(path: Path) -> tuple[int, int]:
    """Height and width after EXIF orientation; the rest is examine_image's."""
    return examine_image(path).image_hw


def examine_image(path: Path) -> ImageFacts:
    """Size and digest of an image, once the whole file has been decoded.

    What passes can be read by `read_image` later. JPEG is decoded at 1/8 scale, which reads every
    byte of it and costs less.

    Raises:
        DatasetError: the file is missing, empty, cut off, corrupt inside, not an image, one of
            several images, under 10 pixels, or has more than MAX_PIXELS.
    """
    content = read_content(path)
    header = read_header(path, content)
    image_hw, bits = header.image_hw, None
    if content.startswith(JPEG_START):
        _verify_jpeg(path, content)
    else:
        if header.kind != "HEIF":
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


def _verify_jpeg(path: Path, content: bytes) -> None:
    """Decode all of a JPEG; what libjpeg would only repair silently is an error.

    Raises:
        DatasetError: it is cut off, or a part of it is missing or overwritten.
    """
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
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


def _is_damage(warning: str) -> bool:
    """Whether a warning of libjpeg means that pixels are lost.

    Many cameras write odd headers, or a few bytes too many, reported by the same warnings.
    """
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous is not None:
        return int(extraneous[1]) > MAX_EXTRANEOUS
    return not warning.startswith(_ODD_HEADERS)
