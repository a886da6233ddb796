"""Pixels of images, what OpenCV decodes of them, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.errors import DatasetError
from utils.structures import ImageArray

MAX_PIXELS = 178_956_970  # where Pillow stops; decoded they take half a gigabyte
MAX_PIXELS_PER_BYTE = 10_000  # of a file; compressed more, only an empty image can be
SMALL = 1_000_000  # pixels that any file may claim


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels, and how they were stored.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        bits: 8, or for a file of more those that its values use: 8, 12 or 16.
        is_deep: the file has 16 bits or more, floats of 0-1 excepted.
    """

    pixels: ImageArray
    bits: int = 8
    is_deep: bool = False

    @property
    def is_rescaled(self) -> bool:
        """Whether the values use so few of the file's bits that they were scaled up."""
        return self.is_deep and self.bits < 16


def decode_deep(path: Path, content: bytes | bytearray) -> DecodedImage:
    """As `decode_image`, of a format whose images may have 16 bits; of a TIFF its first page.

    Raises:
        DatasetError: it cannot be decoded.
    """
    pixels = by_opencv(path, content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype == np.uint16:
        return with_8_bits(np.asarray(pixels[..., ::-1], np.uint16))
    if pixels.dtype == np.uint8:
        return DecodedImage(_as_rgb(np.asarray(pixels, np.uint8)))
    return DecodedImage(rgb_by_opencv(path, content))


def check_size(path: Path, num_bytes: int, height: int, width: int) -> None:
    """Before decoders reserve memory and time for what a header claims.

    Raises:
        DatasetError: so many pixels are refused, or cannot be in a file of so many bytes.
    """
    if height * width > MAX_PIXELS:
        raise too_large(path)
    if height * width > max(SMALL, MAX_PIXELS_PER_BYTE * num_bytes):
        raise DatasetError(
            f"{path}: {width}x{height} pixels cannot be in {num_bytes} bytes; it is damaged"
        )


def too_large(path: Path) -> DatasetError:
    """That an image has more pixels than are read."""
    return DatasetError(
        f"{path}: more than {MAX_PIXELS / 1e6:.0f} million pixels; shrink it or cut it into tiles"
    )


def by_opencv(path: Path, content: bytes | bytearray, flags: int) -> np.typing.NDArray[np.generic]:
    """(H, W, 3) pixels of the depth and in the order that the flags ask for.

    Raises:
        DatasetError: it cannot be decoded.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DatasetError(f"{path}: cannot be decoded: {error.err}") from None
    if pixels is None:
        raise DatasetError(f"{path}: not an image that can be decoded")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:  # Pillow found another size
        raise too_large(path)
    return np.asarray(pixels)


def rgb_by_opencv(
    path: Path, content: bytes | bytearray, flags: int = cv2.IMREAD_COLOR
) -> ImageArray:
    """(H, W, 3) uint8 RGB pixels; the flags ask for color, perhaps reduced.

    Raises:
        DatasetError: it cannot be decoded.
    """
    rgb_flag: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11
    if rgb_flag is None:
        return _as_rgb(np.asarray(by_opencv(path, content, flags), np.uint8))
    rgb = by_opencv(path, content, flags - cv2.IMREAD_COLOR + rgb_flag)
    return np.asarray(rgb, np.uint8)


def _as_rgb(bgr: ImageArray) -> ImageArray:
    """The pixels in the other order; they are overwritten."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def with_8_bits(pixels: np.typing.NDArray[np.uint16]) -> DecodedImage:
    """16 bits as 8, by the range that the values use: cameras store 12 bits in files of 16."""
    largest = int(pixels.max(initial=0))
    bits = next(bits for bits in (8, 12, 16) if largest < 1 << bits)
    bits = bits if largest else 16
    return DecodedImage((pixels >> (bits - 8)).astype(np.uint8), bits, is_deep=True)
