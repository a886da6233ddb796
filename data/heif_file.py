"""HEIC and HEIF photos, which pillow-heif reads."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import DatasetError, first_line
from utils.structures import ImageArray

START_BYTES = 4096  # of a file, that tell its format
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_COMMON_BRANDS = frozenset({b"mif1", b"msf1"})  # what these hold, the compatible brands say
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MISSING = "HEIC images need pillow-heif: pip install pillow-heif"


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so is one; AVIFs, which have the same container, are not."""
    if len(start) < 12 or start[4:8] != b"ftyp":
        return False
    (length,) = struct.unpack_from(">I", start)
    end = min(length, len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    return bool(brands & _HEIF_BRANDS) or (
        bool(brands & _COMMON_BRANDS) and not brands & _AVIF_BRANDS
    )


def missing_package() -> str | None:
    """Why no such file can be read here; None where pillow-heif is installed."""
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return _MISSING
    return None


def open_heif(path: Path, content: bytes) -> tuple[Any, ...]:
    """The images of a file, as pillow-heif opens them: `size` is known, nothing is decoded.

    Raises:
        DatasetError: pillow-heif is not installed, or cannot open it.
    """
    try:
        import pillow_heif
    except ImportError:
        raise DatasetError(f"{path}: {_MISSING}") from None
    from data.decoder_errors import DECODER_ERRORS  # loads Pillow, which `is_heif` does without

    try:
        return tuple(pillow_heif.open_heif(BytesIO(content)))
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {first_line(error)}") from None


def heif_pixels(path: Path, image: Any) -> ImageArray:
    """(H, W, 3) uint8 RGB of an opened image.

    libheif turns it upright by the file's own properties, as the standard says; the EXIF
    orientation, which repeats them, is not applied. 10 bits become 8, transparency is dropped.

    Raises:
        DatasetError: it cannot be decoded.
    """
    from data.decoder_errors import DECODER_ERRORS

    try:
        return np.array(image.to_pillow().convert("RGB"))
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {first_line(error)}") from None
