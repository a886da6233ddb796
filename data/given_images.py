"""Images that a program has at hand: paths, addresses, arrays and PIL images, as frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from data.captures import fetch, file_name, is_image_address, without_password
from data.image_file import decode_image, read_content
from data.sources import is_address, is_video
from utils.errors import DatasetError
from utils.structures import Frame, ImageArray

# A path or http(s) address, an array (H, W, 3), (H, W, 4) or (H, W) of uint8, or a PIL image.
GivenImage = str | Path | npt.NDArray[Any] | Image.Image

_DEEP_MODES = ("I", "F")  # how Pillow's names of modes with more than 8 bits begin


def given_frames(
    images: Iterable[GivenImage], *, bgr: bool | None = None, count: int = 0
) -> Iterator[Frame]:
    """The images as frames, each read when it is asked for.

    Args:
        images: in any mixture.
        bgr: whether arrays are blue, green, red, as OpenCV reads them, or red, green, blue.
        count: how many there are; 0 where that is not known.

    Raises:
        DatasetError: one cannot be read, is no single image, or is an array of colors and `bgr`
            is None.
    """
    for number, image in enumerate(images):
        source, path = f"image{number}", Path(f"image{number}.jpg")
        if isinstance(image, str | Path):
            source, path, pixels = _read(image)
        elif isinstance(image, Image.Image):
            stored = str(getattr(image, "filename", ""))
            if stored:
                source, path = stored, Path(stored)
            pixels = _from_pillow(image, source)
        elif isinstance(image, np.ndarray):
            pixels = _from_array(image, source, bgr)
        else:
            raise DatasetError(
                f"{source}: is of type {type(image).__name__}; expected a path, an address, a "
                "numpy array or a PIL image"
            )
        yield Frame(pixels, source, path, number + 1, count, 1, 1, fps=None, is_video=False)


def _read(image: str | Path) -> tuple[str, Path, ImageArray]:
    """The name, the path, and the pixels of a file or of what is behind an address."""
    text = str(image)
    if isinstance(image, str) and is_address(text):
        source, path = without_password(text), Path(file_name(text))
        if not is_image_address(text):
            raise _not_an_image(source)
        try:
            content = fetch(text)
        except DatasetError as error:
            raise DatasetError(f"{source}: {error}") from None
        return source, path, decode_image(path, content).pixels
    path = Path(image)
    if path.is_dir() or is_video(path):
        raise _not_an_image(text)
    return text, path, decode_image(path, read_content(path)).pixels


def _not_an_image(source: str) -> DatasetError:
    return DatasetError(
        f"{source}: is not one image; folders, videos and live sources are for stream()"
    )


def _from_pillow(image: Image.Image, source: str) -> ImageArray:
    if image.mode.startswith(_DEEP_MODES):
        raise DatasetError(
            f"{source}: has more than 8 bits per pixel (mode {image.mode}), of which only you "
            "know the range; scale it to 0-255 and convert it to mode L, or give the file's path"
        )
    return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


def _from_array(image: npt.NDArray[Any], source: str, bgr: bool | None) -> ImageArray:
    gray = image.ndim == 2
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise DatasetError(
            f"{source}: is an array {image.shape} of {image.dtype}; expected (height, width, 3) "
            "of uint8, values 0-255"
        )
    if not image.size:
        raise DatasetError(f"{source}: is an array {image.shape}, without any pixel")
    if gray:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    if bgr is None:
        raise DatasetError(
            f"{source}: an array does not say how its colors are ordered; give bgr=True for what "
            "OpenCV reads, bgr=False for red, green, blue"
        )
    channels = image[..., 2::-1] if bgr else image[..., :3]
    return np.ascontiguousarray(channels)
