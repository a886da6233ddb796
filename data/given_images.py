"""Images that a program has at hand: paths, addresses, arrays, PIL images, bytes, as frames."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from data.addresses import HTTP, address_suffix, file_name, is_address, without_password
from data.decoded_image import MAX_PIXELS
from data.file_suffixes import VIDEO_SUFFIXES
from data.image_file import decode_image, read_content
from data.sources import is_video
from utils.errors import DatasetError
from utils.path_kind import path_kind
from utils.structures import Frame, ImageArray

if TYPE_CHECKING:
    from PIL import Image  # what is no PIL image is read without it

ImagePath: TypeAlias = str | os.PathLike[str]
# A path or http(s) address, an array (H, W, 3), (H, W, 4) or (H, W) of uint8, a PIL image, or the
# bytes of an image file.
GivenImage: TypeAlias = "ImagePath | npt.NDArray[Any] | Image.Image | bytes"

# Modes of Pillow that do not become RGB in one step, or not without a warning.
_VIA = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_DEEP_MODES = ("I", "F")  # how Pillow's names of modes with more than 8 bits begin


def is_iterator(images: object) -> bool:
    """Whether it yields images; an open file, which yields lines, does not."""
    return isinstance(images, Iterator) and not isinstance(images, io.IOBase)


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
            is None; `bgr` is something else.
    """
    if bgr not in (None, True, False):
        raise DatasetError(f"bgr={bgr!r}: expected True (as OpenCV's) or False (red, green, blue)")
    for number, image in enumerate(images):
        source, path = f"image{number}", Path(f"image{number}.jpg")
        if isinstance(image, str | os.PathLike):
            source, path, pixels = _read(image)
        elif isinstance(image, np.ndarray):
            pixels = _from_array(image, source, bgr)
        elif isinstance(image, bytes):
            pixels = decode_image(Path(source), image).pixels
        else:
            source, path, pixels = _from_pillow(image, source, path)
        yield Frame(pixels, source, path, number + 1, count, 1, 1, fps=None, is_video=False)


def _read(image: ImagePath) -> tuple[str, Path, ImageArray]:
    """The name, the path, and the pixels of a file or of what is behind an address."""
    text = os.fspath(image)
    if isinstance(text, bytes):
        raise DatasetError(f"{text!r}: a path of bytes; give it as text: os.fsdecode(path)")
    if isinstance(image, str) and is_address(text):
        source, path = without_password(text), Path(file_name(text))
        if address_suffix(text) in VIDEO_SUFFIXES or not HTTP.match(text):
            raise _not_an_image(source)
        from data.web_content import fetch  # files do without urllib

        try:
            content = fetch(text)
        except DatasetError as error:
            raise DatasetError(f"{source}: {error}") from None
        return source, path, decode_image(Path(source), content).pixels
    if not text.strip():  # as a path it is the working directory
        raise DatasetError("an image's path is empty; name a file")
    path = Path(text)
    if path_kind(path) == "folder" or is_video(path):
        raise _not_an_image(text)
    return text, path, decode_image(path, read_content(path)).pixels


def _not_an_image(source: str) -> DatasetError:
    return DatasetError(
        f"{source}: is not one image; folders, videos and live sources are for stream()"
    )


def _from_pillow(image: object, source: str, path: Path) -> tuple[str, Path, ImageArray]:
    """The name, the path, and the pixels of a PIL image, which may know its file.

    Raises:
        DatasetError: it is something else, or cannot be converted.
    """
    from PIL import Image, ImageOps  # loaded already, where there are PIL images

    from data.decoder_errors import DECODER_ERRORS

    if not isinstance(image, Image.Image):
        raise DatasetError(
            f"{source}: is of type {type(image).__name__}; expected a path, an address, a "
            "numpy array, a PIL image or the bytes of an image file"
        )
    if stored := str(getattr(image, "filename", "")):
        source, path = stored, Path(stored)
    if image.mode.startswith(_DEEP_MODES):
        raise DatasetError(
            f"{source}: has more than 8 bits per pixel (mode {image.mode}), of which only you "
            "know the range; scale it to 0-255 and convert it to mode L, or give the file's path"
        )
    _check_size(image.height, image.width, source)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in _VIA:
            image = image.convert(_VIA[image.mode])
        return source, path, np.array(image.convert("RGB"), np.uint8)
    except DECODER_ERRORS as error:
        raise DatasetError(f"{source}: cannot be converted to RGB: {error}") from None


def _from_array(image: npt.NDArray[Any], source: str, bgr: bool | None) -> ImageArray:
    gray = image.ndim == 2
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise DatasetError(
            f"{source}: is an array {image.shape} of {image.dtype}; expected (height, width, 3) "
            "of uint8, values 0-255; several images are a list of arrays"
        )
    _check_size(image.shape[0], image.shape[1], source)
    if gray:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    if bgr is None:
        raise DatasetError(
            f"{source}: an array does not say how its colors are ordered; give bgr=True for what "
            "OpenCV reads, bgr=False for red, green, blue"
        )
    # A copy: the caller may read the next image into the same array.
    return np.array(image[..., 2::-1] if bgr else image[..., :3], np.uint8, order="C")


def _check_size(height: int, width: int, source: str) -> None:
    if not height or not width:
        raise DatasetError(f"{source}: is {width}x{height}, without any pixel")
    if height * width > MAX_PIXELS:
        raise DatasetError(
            f"{source}: {width}x{height} has more than {MAX_PIXELS / 1e6:.0f} million pixels; "
            "shrink it or cut it into tiles"
        )
