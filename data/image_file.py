"""Image files read as pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import simplejpeg

from data.decoded_image import DecodedImage, check_size, rgb_by_opencv
from utils.errors import DatasetError
from utils.structures import ImageArray

JPEG_START = b"\xff\xd8\xff"
_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
_HEADER_BYTES = 1 << 18  # in which XMP data begin, behind a preview and a color profile
SHRINK_FACTORS = {
    1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}  # fmt: skip


def read_image(path: Path) -> ImageArray:
    """The image as (H, W, 3) uint8 RGB, rotated as its EXIF orientation says.

    Gray images get three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        DatasetError: the file is missing, empty, too large or not an image.
    """
    return decode_image(path, read_content(path)).pixels


def read_shrunk(path: Path, factor: int) -> ImageArray:
    """As `read_image`; a JPEG is decoded at 1 / `factor` of its size, in a fraction of the time.

    Each of its pixels is about the mean of a square of `factor` x `factor` (libjpeg's scaled
    inverse DCT); height and width are rounded up. Other formats keep their size.

    Args:
        path: the file.
        factor: one of SHRINK_FACTORS.

    Raises:
        DatasetError: as `read_image`.
    """
    content = read_content(path)
    if not content.startswith(JPEG_START):
        return decode_image(path, content).pixels
    _check_jpeg_size(path, content)
    return rgb_by_opencv(path, _without_xmp(content), SHRINK_FACTORS[factor])


def shrink_factor(long_side: int, needed: int) -> int:
    """The largest of SHRINK_FACTORS that leaves a longer side of at least `needed` pixels."""
    return max(factor for factor in SHRINK_FACTORS if factor == 1 or long_side >= factor * needed)


def read_content(path: Path) -> bytes:
    """The bytes of a file that has some.

    Raises:
        DatasetError: it is missing or empty.
    """
    try:
        content = path.read_bytes()  # cv2.imread cannot open every unicode path
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: cannot be read: {reason}") from None
    if not content:
        raise DatasetError(f"{path}: the file is empty")
    return content


def decode_image(path: Path, content: bytes) -> DecodedImage:
    """The pixels of a file's content, of which `path` is named in messages.

    Raises:
        DatasetError: it is too large, of a format that cannot be read, cut off, or not an image.
    """
    if content.startswith(JPEG_START):
        _check_jpeg_size(path, content)  # Pillow's header takes ten times as long
        return DecodedImage(rgb_by_opencv(path, _without_xmp(content)))
    from data.image_formats import decode_by_header  # loads Pillow, which JPEG does without

    return decode_by_header(path, content)


def is_jpeg(path: Path) -> bool:
    """Whether a file begins as a JPEG does; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(JPEG_START)) == JPEG_START
    except (OSError, ValueError):
        return False


def _without_xmp(content: bytes) -> bytes:
    """A JPEG whose XMP data, if there are any, are marked as those of an unknown program.

    OpenCV 4.6 looks for the orientation in the first segment that may have EXIF or XMP data.
    """
    begin = content.find(_XMP_START, 0, _HEADER_BYTES)
    marker = begin - 4  # before the segment's two bytes of length
    if begin < 0 or content[marker : marker + 2] != b"\xff\xe1":
        return content
    return content[: marker + 1] + b"\xef" + content[marker + 2 :]


def _check_jpeg_size(path: Path, content: bytes) -> None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:  # OpenCV says what is wrong
        return
    check_size(path, len(content), height, width)
