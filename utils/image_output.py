"""Images as files, and which formats they can have."""

from __future__ import annotations

from pathlib import Path

import cv2

from utils.errors import UserError
from utils.output_files import atomic_path
from utils.structures import ImageArray

FALLBACK_SUFFIX = ".jpg"
# Formats of which every OpenCV that writes them writes color.
_WRITABLE = frozenset({".bmp", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def writable_suffix(suffix: str) -> str:
    """The suffix itself where color images can be written so, else `.jpg`."""
    known = suffix.lower() in _WRITABLE and cv2.haveImageWriter(f"image{suffix.lower()}")
    return suffix if known else FALLBACK_SUFFIX


def write_image(path: Path, image: ImageArray) -> None:
    """Write an RGB image atomically, in the format of its suffix.

    Raises:
        UserError: OpenCV cannot write images of this suffix.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if writable_suffix(path.suffix) != path.suffix:
        raise UserError(f"{path}: images cannot be written as {path.suffix!r}; use .jpg or .png")
    _, content = cv2.imencode(path.suffix.lower(), bgr)
    with atomic_path(path) as temporary:
        # Not cv2.imwrite, which cannot open every unicode path.
        temporary.write_bytes(content.tobytes())
