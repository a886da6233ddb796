"""Image files: read one as pixels, or make sure that it can be read."""

from __future__ import annotations

import functools
import re
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from utils.errors import DatasetError
from utils.structures import ImageArray

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
# Suffixes that a folder is searched for; some of these files are then skipped with a reason.
LISTED_SUFFIXES = IMAGE_SUFFIXES | {".gif"}
MIN_SIDE = 10  # pixels; smaller images show nothing that can be detected
_EXIF_ORIENTATION = 0x0112
_ROTATED_90 = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_JPEG_START = b"\xff\xd8\xff"
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_ODD_HEADERS = ("Invalid SOS parameters", "Unknown Adobe color transform", "Warning: unknown JFIF")
MAX_EXTRANEOUS = 1000  # bytes between parts of a JPEG that still are no loss


def read_image(path: Path) -> ImageArray:
    """The image as (H, W, 3) uint8 RGB, rotated as its EXIF orientation says.

    Gray images get three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        DatasetError: the file is missing, empty or not an image.
    """
    try:
        content = np.fromfile(path, np.uint8)  # cv2.imread cannot open every unicode path
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if content.size == 0:
        raise DatasetError(f"{path}: the file is empty")
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DatasetError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise DatasetError(f"{path}: not an image that can be decoded")
    return np.asarray(image, np.uint8)


def verify_image(path: Path) -> tuple[int, int]:
    """Height and width after EXIF orientation, once the whole file has been decoded.

    What passes can be read by `read_image` later. JPEG is decoded at 1/8 scale, which reads every
    byte of it and costs less.

    Raises:
        DatasetError: the file is missing, empty, cut off, corrupt inside, not an image, a GIF (of
            which each may hold several), or under 10 pixels.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not content:
        raise DatasetError(f"{path}: the file is empty")
    try:
        with Image.open(BytesIO(content)) as image:
            width, height = image.size
            if image.format == "GIF":
                raise DatasetError(f"{path}: a GIF, which may hold several images; save it as PNG")
            # Pillow rotates TIFF itself; everything else it leaves as stored.
            rotated = (
                image.format != "TIFF" and image.getexif().get(_EXIF_ORIENTATION) in _ROTATED_90
            )
            if not content.startswith(_JPEG_START):
                image.load()
    except UnidentifiedImageError:
        raise DatasetError(f"{path}: not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    if content.startswith(_JPEG_START):
        _verify_jpeg(path, content)
    else:
        read_image(path)  # OpenCV reads fewer formats than Pillow
    if min(height, width) < MIN_SIDE:
        raise DatasetError(
            f"{path}: {width}x{height} pixels, must be at least {MIN_SIDE} on each side"
        )
    return (width, height) if rotated else (height, width)


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
