"""Files of several images, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.unit.data.builders import noise

KINDS = {
    "a.gif": "GIF", "a.webp": "WEBP", "a.png": "PNG", "a.apng": "PNG", "a.avif": "AVIF",
    "a.tif": "TIFF",
}  # fmt: skip
ANIMATED = [name for name in KINDS if name != "a.tif"]
HW = (48, 64)


def frames(count: int = 4) -> list[np.ndarray]:
    """(48, 64, 3) images that differ by far more than any format's loss."""
    return [noise(HW, seed) for seed in range(count)]


def write_series(path: Path, kind: str, pixels: Sequence[np.ndarray], **options: object) -> Path:
    """A file of these images in a format of Pillow."""
    first, *rest = [Image.fromarray(each) for each in pixels]
    first.save(path, kind, save_all=True, append_images=rest, **options)
    return path
