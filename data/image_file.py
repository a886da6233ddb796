"""Picture files: read one as pixels, or make sure that it can be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.errors import DatasetError
from utils.structures import ImageArray

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
MIN_SIDE = 10  # pixels; smaller pictures hold nothing to detect
_EXIF_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_SHORTEST_DRAFT = 64  # pixels; keeps libjpeg's 1/8 scale away from pictures that are small anyway


def read_image(path: Path) -> ImageArray:
    """The picture as (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Gray pictures get three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        DatasetError: the file is missing, empty or not a picture.
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
        raise DatasetError(f"{path}: not a picture that can be decoded")
    return np.asarray(image, np.uint8)


def verify_image(path: Path) -> tuple[int, int]:
    """Height and width after EXIF orientation, once the whole file has been decoded.

    JPEG is decoded at 1/8 scale, which reads every byte of it and costs a third.

    Raises:
        DatasetError: the file is missing, empty, cut off, not a picture, or under 10 pixels.
    """
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{path}: the file is empty")
        with Image.open(path) as image:
            width, height = image.size
            # Pillow turns TIFF by itself; everything else it leaves as stored.
            turned = image.format != "TIFF" and image.getexif().get(_EXIF_ORIENTATION) in _TURNED
            if min(width, height) >= _SHORTEST_DRAFT:
                image.draft(None, (width // 8, height // 8))
            image.load()
    except UnidentifiedImageError:
        raise DatasetError(f"{path}: not a picture") from None
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    if min(height, width) < MIN_SIDE:
        raise DatasetError(
            f"{path}: {width}x{height} pixels, must be at least {MIN_SIDE} on each side"
        )
    return (width, height) if turned else (height, width)
