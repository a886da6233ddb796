"""Image files read as pixels."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from data.decoder_errors import DECODER_ERRORS
from data.file_suffixes import UNREADABLE_SUFFIXES
from data.heif_file import heif_pixels, is_heif, open_heif
from data.tiff_pages import TIFF_STARTS, put_first, tiff_pages
from utils.errors import DatasetError
from utils.structures import ImageArray

MAX_PIXELS = 178_956_970  # where Pillow stops; decoded they take half a gigabyte
MAX_PIXELS_PER_BYTE = 10_000  # of a file; compressed more, only an empty image can be
SMALL = 1_000_000  # pixels that any file may claim
START_BYTES = 4096  # of a file, that tell its format
_WEBP_ANIMATION = 2  # a bit of the 21st byte
_BOXES, _BRANDS_END = b"ftyp", 64  # how AVIF and HEIF files begin, and where the brands end
DEEP_FORMATS = frozenset({"JPEG2000", "PNG", "PPM", "TIFF"})  # may have 16 bits
_PILLOW_FORMATS = frozenset({"AVIF", "GIF", "WEBP"})  # OpenCV's builds differ in these
ANIMATED_FORMATS = frozenset({"AVIF", "GIF", "PNG", "WEBP"})  # not MPO: its second is a preview
_AVIF_STARTS = (b"ftypavif", b"ftypavis")  # from the fifth byte on
_ORDINARY_FORMATS = frozenset({"BMP", "JPEG", "MPO", "PNG", "WEBP"})
# Nothing else is opened: to load an EPS Pillow starts Ghostscript, and of kinds that only OpenCV
# knows nobody asks the size before gigabytes are reserved.
_FORMATS = DEEP_FORMATS | _PILLOW_FORMATS | _ORDINARY_FORMATS | {"DIB"}
_EXIF_ORIENTATION = 0x0112
_ROTATED_90 = frozenset({5, 6, 7, 8})  # orientations that swap height and width
JPEG_START = b"\xff\xd8\xff"
SHRINK_FACTORS = {
    1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}  # fmt: skip


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
    return _as_rgb(_by_opencv(path, content, SHRINK_FACTORS[factor]))


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
        return DecodedImage(_as_rgb(_by_opencv(path, content, cv2.IMREAD_COLOR)))
    kind = read_header(path, content).kind
    if kind == "HEIF":
        return DecodedImage(heif_pixels(path, _only_heif(path, content)))
    if kind in _PILLOW_FORMATS:
        return DecodedImage(_by_pillow(path, content))
    if kind == "TIFF":
        content = _page_first(path, content)
    if kind in DEEP_FORMATS:
        return decode_deep(path, content)
    return DecodedImage(_as_rgb(_by_opencv(path, content, cv2.IMREAD_COLOR)))


def decode_deep(path: Path, content: bytes | bytearray) -> DecodedImage:
    """As `decode_image`, of a format whose images may have 16 bits; of a TIFF its first page.

    Raises:
        DatasetError: it cannot be decoded.
    """
    pixels = _by_opencv(path, content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype == np.uint16:
        return with_8_bits(np.asarray(pixels[..., ::-1], np.uint16))
    if pixels.dtype == np.uint8:
        return DecodedImage(_as_rgb(pixels))
    return DecodedImage(_as_rgb(_by_opencv(path, content, cv2.IMREAD_COLOR)))


def read_header(path: Path, content: bytes) -> ImageHeader:
    """Format and size of an image, before any of it is decoded.

    Raises:
        DatasetError: it has too many pixels, is one of several in its file, or of a format that
            cannot be read.
    """
    if content[4:8] == _BOXES and is_heif(content[:START_BYTES]):
        width, height = _only_heif(path, content).size
        return ImageHeader("HEIF", (height, width))
    try:
        with Image.open(BytesIO(content)) as image:
            kind, (width, height) = image.format or "", image.size
            if kind in ANIMATED_FORMATS and num_images(image) > 1:
                raise _several(path, kind)
            if (
                kind == "PNG"
            ):  # whose orientation may stand behind the pixels, which are then decoded
                check_size(path, len(content), height, width)
            # Pillow rotates TIFF itself; everything else it leaves as stored.
            rotated = kind != "TIFF" and image.getexif().get(_EXIF_ORIENTATION) in _ROTATED_90
    except UnidentifiedImageError:
        kind, width, height, rotated = "", 0, 0, False
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    _check_kind(path, content, kind)
    if kind == "TIFF" and (page_first := _page_first(path, content)) is not content:
        return read_header(path, page_first)
    check_size(path, len(content), height, width)
    return ImageHeader(kind, (width, height) if rotated else (height, width))


def _check_kind(path: Path, content: bytes, kind: str) -> None:
    suffix = path.suffix.lower()
    if content[4:12] in _AVIF_STARTS and ".avif" not in Image.registered_extensions():
        raise DatasetError(f"{path}: AVIF needs Pillow 11.3 or newer; or save it as JPEG or PNG")
    if suffix in UNREADABLE_SUFFIXES and kind not in _ORDINARY_FORMATS:
        raise DatasetError(f"{path}: {suffix} files cannot be read; save it as JPEG or PNG")
    if kind not in _FORMATS:
        raise DatasetError(f"{path}: not an image that can be decoded")


def num_images(image: Image.Image) -> int:
    """How many images an opened file shows, one after the other; open it anew to read them.

    The first one of an APNG may be there for programs that know no APNG. Of a damaged GIF the last
    one counted is broken.
    """
    try:
        count = int(getattr(image, "n_frames", 1))
    except DECODER_ERRORS:
        count = image.tell() + 2
    return count - bool(getattr(image, "default_image", False))


def may_have_several(path: Path) -> bool:
    """Whether the beginning of a file allows several images in it, as that of a JPEG does not."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except (OSError, ValueError):
        return False
    if start.startswith(JPEG_START):
        return False
    if start.startswith(b"RIFF"):
        return start[12:16] == b"VP8X" and len(start) > 20 and bool(start[20] & _WEBP_ANIMATION)
    if start.startswith(b"\x89PNG"):
        before, found, _ = start.partition(b"IDAT")
        return not found or b"acTL" in before
    if start[4:8] == _BOXES:
        return b"avis" in start[8:_BRANDS_END] or is_heif(start)
    return start.startswith((*TIFF_STARTS, b"GIF8"))


def _check_jpeg_size(path: Path, content: bytes) -> None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:  # OpenCV says what is wrong
        return
    check_size(path, len(content), height, width)


def check_size(path: Path, num_bytes: int, height: int, width: int) -> None:
    """Before decoders reserve memory and time for what a header claims.

    Raises:
        DatasetError: so many pixels are refused, or cannot be in a file of so many bytes.
    """
    if height * width > MAX_PIXELS:
        raise _too_large(path)
    if height * width > max(SMALL, MAX_PIXELS_PER_BYTE * num_bytes):
        raise DatasetError(
            f"{path}: {width}x{height} pixels cannot be in {num_bytes} bytes; it is damaged"
        )


def _too_large(path: Path) -> DatasetError:
    return DatasetError(
        f"{path}: more than {MAX_PIXELS / 1e6:.0f} million pixels; shrink it or cut it into tiles"
    )


def _several(path: Path, kind: str) -> DatasetError:
    article = "an" if kind == "AVIF" else "a"
    return DatasetError(f"{path}: {article} {kind} of several images; save the one meant as PNG")


def _only_heif(path: Path, content: bytes) -> Any:
    """The opened image of a file that has one, of a size that may be decoded."""
    images = open_heif(path, content)
    if len(images) != 1:
        raise _several(path, "HEIF")
    width, height = images[0].size
    check_size(path, len(content), height, width)
    return images[0]


def _page_first(path: Path, content: bytes) -> bytes:
    """The content of a TIFF of one page; where a preview comes before it, with the page first."""
    found = tiff_pages(BytesIO(content))
    if len(found.pages) > 1:
        raise _several(path, "TIFF")
    if not found.pages or found.pages[0].offset == found.start:
        return content
    changed = bytearray(content)
    put_first(changed, found.pages[0])
    return bytes(changed)


def _by_opencv(path: Path, content: bytes | bytearray, flags: int) -> np.typing.NDArray[np.generic]:
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
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


def with_8_bits(pixels: np.typing.NDArray[np.uint16]) -> DecodedImage:
    """16 bits as 8, by the range that the values use: cameras store 12 bits in files of 16."""
    largest = int(pixels.max(initial=0))
    bits = next(bits for bits in (8, 12, 16) if largest < 1 << bits)
    bits = bits if largest else 16
    return DecodedImage((pixels >> (bits - 8)).astype(np.uint8), bits, is_deep=True)


def path_kind(path: Path) -> Literal["folder", "file"] | None:
    """What is there; None also where a name is too long or impossible, or access is denied.

    `Path.exists` and its kin raise OSError or ValueError for such paths.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"
