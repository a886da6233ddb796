"""Images that 8-bit networks are calibrated on, in the forms that calibrators take."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from utils.image_output import write_image
from utils.letterbox import to_pixels
from utils.structures import FloatArray, ImageArray

# (B, 3, H, W) in 0-1 each, B times one image; anew at each call.
Images = Callable[[], Iterable[FloatArray]]
FOLDER = "calibration"


def pixels_of(images: Images) -> Iterator[ImageArray]:
    """Each image as (H, W, 3) uint8 RGB: letterboxed, as the network sees it."""
    for batch in images():
        yield np.ascontiguousarray(to_pixels(batch[0]).transpose(1, 2, 0))


def write_images(folder: Path, images: Images) -> list[str]:
    """Write them as PNG files below `folder`; returns their paths relative to it."""
    (folder / FOLDER).mkdir()
    names = []
    for number, image in enumerate(pixels_of(images)):
        names.append(f"{FOLDER}/{number:04d}.png")
        write_image(folder / names[-1], image)
    return names


def write_array(path: Path, images: Images) -> None:
    """Write them as one array (N, H, W, 3) uint8 RGB."""
    np.save(path, np.stack(list(pixels_of(images))), allow_pickle=False)


def pack(archive: Path, folder: Path, names: Iterable[str]) -> None:
    """Put files of a folder into a tar archive, without times and owners."""
    with tarfile.open(archive, "w") as tar:
        for name in names:
            content = (folder / name).read_bytes()
            entry = tarfile.TarInfo(Path(name).name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
