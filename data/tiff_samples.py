"""Pixels of TIFF files with other numbers than 8 and 16 bits without sign.

Cameras and microscopes that measure write such files. What such a number means as brightness is in
no tag, so that only ranges of one meaning are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.decoded_image import DecodedImage, by_opencv, decode_deep, with_8_bits
from data.tiff_pages import TiffPage
from utils.errors import DatasetError
from utils.letterbox import to_pixels

OVERSHOOT = 0.01  # below 0 and above 1 that resizing and rounding leave in 0-1 floats
MIN_LARGEST = 16.0  # of floats that count as integers; less may be light brighter than white
_READ = frozenset({"int8", "int16", "int32", "uint32", "float32", "float64"})
_REMEDY = "save it with 8 or 16 bits, or as floats of 0-1"


def decode_tiff(path: Path, content: bytes | bytearray, page: TiffPage) -> DecodedImage:
    """The pixels of a TIFF's first page.

    Floats of 0-1 are multiplied by 255. Other numbers must be within 0-65535 and are scaled by the
    range that they use, 8, 12 or 16 bits, as those of 16 bits are.

    Args:
        path: the file, for messages.
        content: of the file.
        page: that page.

    Raises:
        DatasetError: numbers or a range that cannot be read, or it is damaged.
    """
    if page.has_usual_samples:
        return decode_deep(path, content)
    found = f"its pixels are {page.channels} x {page.sample_kind}"
    if page.sample_kind not in _READ or page.channels not in (1, 3) or page.has_planes:
        raise DatasetError(f"{path}: {found}, which is not read; {_REMEDY}")
    color = 0 if page.channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels = by_opencv(path, content, color | cv2.IMREAD_ANYDEPTH)
    except DatasetError:
        raise DatasetError(f"{path}: cannot be decoded ({found}); {_REMEDY}") from None
    if pixels.dtype != page.sample_kind:  # an OpenCV that does not know this kind
        raise DatasetError(f"{path}: {found}, which this OpenCV does not read; {_REMEDY}")
    rgb = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., ::-1]
    return _by_range(path, rgb, found)


def _by_range(path: Path, rgb: np.typing.NDArray[Any], found: str) -> DecodedImage:
    """(H, W, 3) numbers of any kind as 8 bits."""
    low, high = float(rgb.min()), float(rgb.max())  # both are NaN where one number is
    are_floats = np.issubdtype(rgb.dtype, np.floating)
    if are_floats and low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return DecodedImage(to_pixels(rgb))
    if low >= 0 and rgb.itemsize == 1:
        return DecodedImage(rgb.astype(np.uint8))
    if low >= 0 and high < 1 << 16 and (not are_floats or high >= MIN_LARGEST):
        return with_8_bits(rgb.astype(np.uint16))
    raise DatasetError(
        f"{path}: {found} from {low:g} to {high:g}, whose brightness is not known; {_REMEDY}"
    )
