"""Image files: read one as pixels, or make sure that it can be read."""

from __future__ import annotations

import functools
import hashlib
import re
import stat
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import DatasetError
from utils.structures import ImageArray

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm"}
    | {".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
UNREADABLE_SUFFIXES = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jxl", ".nef", ".orf"}
    | {".pcx", ".psd", ".raf", ".rw2", ".svg", ".tga"}
)
# Suffixes that a folder is searched for; some of these files are then skipped with a reason.
LISTED_SUFFIXES = IMAGE_SUFFIXES | UNREADABLE_SUFFIXES
MIN_SIDE = 10  # pixels; smaller images show nothing that can be detected
MAX_PIXELS = 178_956_970  # where Pillow stops; decoded they take half a gigabyte
MAX_PIXELS_PER_BYTE = 10_000  # of a file; compressed more, only an empty image can be
SMALL = 1_000_000  # pixels that any file may claim
DEEP_FORMATS = frozenset({"JPEG2000", "PNG", "PPM", "TIFF"})  # may have 16 bits
_PILLOW_FORMATS = frozenset({"AVIF", "GIF", "WEBP"})  # OpenCV's builds differ in these
_AVIF_STARTS = (b"ftypavif", b"ftypavis")  # from the fifth byte on
_ORDINARY_FORMATS = frozenset({"BMP", "JPEG", "MPO", "PNG", "WEBP"})
# Nothing else is opened: to load an EPS Pillow starts Ghostscript, and of kinds that only OpenCV
# knows nobody asks the size before gigabytes are reserved.
_FORMATS = DEEP_FORMATS | _PILLOW_FORMATS | _ORDINARY_FORMATS | {"DIB"}
_EXIF_ORIENTATION = 0x0112
_ROTATED_90 = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_JPEG_START = b"\xff\xd8\xff"
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_ODD_HEADERS = ("Invalid SOS parameters", "Unknown Adobe color transform", "Warning: unknown JFIF")
# What Pillow's readers of damaged files raise, before what is wrong has a better name.
PILLOW_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, MemoryError),
    *(LookupError, ArithmeticError, AttributeError, struct.error, zlib.error),
)
MAX_EXTRANEOUS = 1000  # bytes between parts of a JPEG that still are no loss


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels, and how they were stored.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        bits: 8, or for a file of 16 bits those that its values use: 8, 12 or 16.
        is_deep: the file has 16 bits.
    """

    pixels: ImageArray
    bits: int = 8
    is_deep: bool = False

    @property
    def is_rescaled(self) -> bool:
        """Whether the values use so few of the file's 16 bits that they were scaled up."""
        return self.is_deep and self.bits < 16


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image that can be read.

    Attributes:
        image_hw: height and width after EXIF orientation.
        digest: of the file's content.
        bits: those that the values of a file of 16 bits use where they are fewer, else None.
    """

    image_hw: tuple[int, int]
    digest: bytes
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes of an image file say.

    Attributes:
        kind: Pillow's name of the format.
        image_hw: height and width after EXIF orientation.
    """

    kind: str
    image_hw: tuple[int, int]


def read_image(path: Path) -> ImageArray:
    """The image as (H, W, 3) uint8 RGB, rotated as its EXIF orientation says.

    Gray images get three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        DatasetError: the file is missing, empty, too large or not an image.
    """
    return decode_image(path, read_content(path)).pixels


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
    if content.startswith(_JPEG_START):
        _check_jpeg_size(path, content)  # Pillow's header takes ten times as long
        return DecodedImage(_as_rgb(_by_opencv(path, content, cv2.IMREAD_COLOR)))
    kind = read_header(path, content).kind
    if kind in _PILLOW_FORMATS:
        return DecodedImage(_by_pillow(path, content))
    if kind in DEEP_FORMATS:
        pixels = _by_opencv(path, content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if pixels.dtype == np.uint16:
            return _with_8_bits(np.asarray(pixels[..., ::-1], np.uint16))
        if pixels.dtype == np.uint8:
            return DecodedImage(_as_rgb(pixels))
    return DecodedImage(_as_rgb(_by_opencv(path, content, cv2.IMREAD_COLOR)))


def read_header(path: Path, content: bytes) -> ImageHeader:
    """Format and size of an image, before any of it is decoded.

    Raises:
        DatasetError: it has too many pixels, is one of several in its file, or of a format that
            cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        with Image.open(BytesIO(content)) as image:
            kind, (width, height) = image.format or "", image.size
            if kind == "GIF" and getattr(image, "is_animated", False):
                raise DatasetError(f"{path}: a GIF of several images; save the one meant as PNG")
            # Pillow rotates TIFF itself; everything else it leaves as stored.
            rotated = kind != "TIFF" and image.getexif().get(_EXIF_ORIENTATION) in _ROTATED_90
    except UnidentifiedImageError:
        kind, width, height, rotated = "", 0, 0, False
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except PILLOW_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    if content[4:12] in _AVIF_STARTS and ".avif" not in Image.registered_extensions():
        raise DatasetError(f"{path}: AVIF needs Pillow 11.3 or newer; or save it as JPEG or PNG")
    if suffix in UNREADABLE_SUFFIXES and kind not in _ORDINARY_FORMATS:
        raise DatasetError(f"{path}: {suffix} files cannot be read; save it as JPEG or PNG")
    if kind not in _FORMATS:
        raise DatasetError(f"{path}: not an image that can be decoded")
    _check_size(path, content, height, width)
    return ImageHeader(kind, (width, height) if rotated else (height, width))


def is_animation(path: Path) -> bool:
    """Whether the file is a GIF of several images; False where it cannot be read."""
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return bool(getattr(image, "is_animated", False))
    except (*PILLOW_ERRORS, Image.DecompressionBombError):
        return False


def verify_image(path: Path) -> tuple[int, int]:
    """Height and width after EXIF orientation; the rest is examine_image's."""
    return examine_image(path).image_hw


def examine_image(path: Path) -> ImageFacts:
    """Size and digest of an image, once the whole file has been decoded.

    What passes can be read by `read_image` later. JPEG is decoded at 1/8 scale, which reads every
    byte of it and costs less.

    Raises:
        DatasetError: the file is missing, empty, cut off, corrupt inside, not an image, a GIF of
            several images, under 10 pixels, or has more than MAX_PIXELS.
    """
    content = read_content(path)
    header = read_header(path, content)
    image_hw, bits = header.image_hw, None
    if content.startswith(_JPEG_START):
        _verify_jpeg(path, content)
    else:
        _load_by_pillow(path, content)  # OpenCV reads some files that are cut off
        decoded = decode_image(path, content)  # and fewer formats than Pillow
        image_hw = decoded.pixels.shape[:2]
        bits = decoded.bits if decoded.is_rescaled else None
    if min(image_hw) < MIN_SIDE:
        raise DatasetError(
            f"{path}: {image_hw[1]}x{image_hw[0]} pixels, must be at least {MIN_SIDE} on each side"
        )
    return ImageFacts(image_hw, hashlib.sha256(content).digest(), bits)


def _check_jpeg_size(path: Path, content: bytes) -> None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:  # OpenCV says what is wrong
        return
    _check_size(path, content, height, width)


def _check_size(path: Path, content: bytes, height: int, width: int) -> None:
    """Before decoders reserve memory and time for what a header claims."""
    if height * width > MAX_PIXELS:
        raise _too_large(path)
    if height * width > max(SMALL, MAX_PIXELS_PER_BYTE * len(content)):
        raise DatasetError(
            f"{path}: {width}x{height} pixels cannot be in {len(content)} bytes; it is damaged"
        )


def _too_large(path: Path) -> DatasetError:
    return DatasetError(
        f"{path}: more than {MAX_PIXELS / 1e6:.0f} million pixels; shrink it or cut it into tiles"
    )


def _by_opencv(path: Path, content: bytes, flags: int) -> np.typing.NDArray[np.generic]:
    """(H, W, 3) BGR pixels of the depth that the flags ask for."""
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DatasetError(f"{path}: cannot be decoded: {error.err}") from None
    if pixels is None:
        raise DatasetError(f"{path}: not an image that can be decoded")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:  # Pillow found another size
        raise _too_large(path)
    return np.asarray(pixels)


def _as_rgb(pixels: np.typing.NDArray[np.generic]) -> ImageArray:
    """8-bit BGR, which is overwritten. OpenCV decodes to RGB itself only since version 4.11."""
    bgr = np.asarray(pixels, np.uint8)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def _by_pillow(path: Path, content: bytes) -> ImageArray:
    """(H, W, 3) RGB, rotated as the EXIF orientation says."""
    try:
        with Image.open(BytesIO(content)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except PILLOW_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def _load_by_pillow(path: Path, content: bytes) -> None:
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except PILLOW_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def _with_8_bits(pixels: np.typing.NDArray[np.uint16]) -> DecodedImage:
    """16 bits as 8, by the range that the values use: cameras store 12 bits in files of 16."""
    largest = int(pixels.max(initial=0))
    bits = next(bits for bits in (8, 12, 16) if largest < 1 << bits)
    bits = bits if largest else 16
    return DecodedImage((pixels >> (bits - 8)).astype(np.uint8), bits, is_deep=True)


def _verify_jpeg(path: Path, content: bytes) -> None:
    """Decode all of a JPEG; what libjpeg would only repair silently is an error.

    Raises:
        DatasetError: it is cut off, or a part of it is missing or overwritten.
    """
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        kind = "CMYK" if colors in ("CMYK", "YCCK") else "GRAY"
        decode = functools.partial(
            simplejpeg.decode_jpeg, content, kind, min_height=height // 8, min_width=width // 8
        )
        try:
            decode(strict=True)
        except ValueError as error:
            if _is_damage(str(error)):
                raise
            decode(strict=False)
    except ValueError as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def _is_damage(warning: str) -> bool:
    """Whether a warning of libjpeg means that pixels are lost.

    Many cameras write odd headers, or a few bytes too many, reported by the same warnings.
    """
    extraneous = _EXTRANEOUS.search(warning)
    if extraneous is not None:
        return int(extraneous[1]) > MAX_EXTRANEOUS
    return not warning.startswith(_ODD_HEADERS)


def path_kind(path: Path) -> Literal["folder", "file"] | None:
    """What is there; None also where a name is too long or impossible, or access is denied.

    `Path.exists` and its kin raise OSError or ValueError for such paths.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"
