"""Writing image files."""

from __future__ import annotations

from pathlib import Path

import cv2

from utils.errors import UserError
from utils.output_files import atomic_path
from utils.structures import ImageArray

FALLBACK_SUFFIX = ".jpg"


def writable_suffix(suffix: str) -> str:
    """The suffix itself where OpenCV can write such files, else `.jpg`."""
    known = suffix and cv2.haveImageWriter(f"image{suffix.lower()}")
    return suffix if known else FALLBACK_SUFFIX


def write_image(path: Path, image: ImageArray) -> None:
    """Write an RGB image atomically, in the format its suffix says.

    Raises:
        UserError: the suffix is of no format that can be written.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not cv2.haveImageWriter(f"image{path.suffix.lower()}"):
        raise UserError(f"{path}: images cannot be written as {path.suffix!r}; use .jpg or .png")
    _, content = cv2.imencode(path.suffix.lower(), bgr)
    with atomic_path(path) as temporary:
        # Not cv2.imwrite, which cannot open every unicode path.
        temporary.write_bytes(content.tobytes())
