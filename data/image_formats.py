"""Image files of all kinds but JPEG: their headers, which Pillow reads, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.decoded_image import (
    DecodedImage,
    check_size,
    decode_deep,
    rgb_by_opencv,
    too_large,
)
from data.decoder_errors import DECODER_ERRORS
from data.file_suffixes import UNREADABLE_SUFFIXES
from data.heif_file import START_BYTES, heif_pixels, is_heif, open_heif
from data.tiff_pages import TIFF_STARTS, TiffPage, put_first, tiff_pages
from data.tiff_samples import decode_tiff
from utils.errors import DatasetError
from utils.structures import ImageArray

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


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes of an image file say.

    Attributes:
        kind: Pillow's name of the format.
        image_hw: height and width after EXIF orientation.
        by_pillow: Pillow reads it, whose name it is; else another library does.
    """

    kind: str
    image_hw: tuple[int, int]
    by_pillow: bool = True


def decode_by_header(path: Path, content: bytes) -> DecodedImage:
    """The pixels of a file's content of any kind; `path` is named in messages.

    Raises:
        DatasetError: it is too large, of a format that cannot be read, cut off, or not an image.
    """
    kind = read_header(path, content).kind
    if kind == "HEIF":
        return DecodedImage(heif_pixels(path, _only_heif(path, content)))
    if kind in _PILLOW_FORMATS:
        return DecodedImage(_by_pillow(path, content))
    if kind == "TIFF":
        content, page = _page_first(path, content)
        if page is not None:
            return decode_tiff(path, content, page)
    if kind in DEEP_FORMATS:
        return decode_deep(path, content)
    return DecodedImage(rgb_by_opencv(path, content))


def read_header(path: Path, content: bytes) -> ImageHeader:
    """Format and size of an image, before any of it is decoded.

    Raises:
        DatasetError: it has too many pixels, is one of several in its file, or of a format that
            cannot be read.
    """
    if is_heif(content[:START_BYTES]):
        width, height = _only_heif(path, content).size
        return ImageHeader("HEIF", (height, width), by_pillow=False)
    by_pillow = True
    try:
        with Image.open(BytesIO(content)) as image:
            kind, (width, height) = image.format or "", image.size
            if kind in ANIMATED_FORMATS and num_images(image) > 1:
                raise _several(path, kind)
            if kind == "PNG":  # its orientation may stand behind pixels, which are then decoded
                check_size(path, len(content), height, width)
            # Pillow rotates TIFF itself; everything else it leaves as stored.
            rotated = kind != "TIFF" and _orientation(image) in _ROTATED_90
    except UnidentifiedImageError:
        by_pillow = False
        kind, width, height, rotated = _unusual_tiff(content)
    except Image.DecompressionBombError:
        raise too_large(path) from None
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
    _check_kind(path, content, kind)
    if kind == "TIFF" and (page_first := _page_first(path, content)[0]) is not content:
        return read_header(path, page_first)
    check_size(path, len(content), height, width)
    image_hw = (width, height) if rotated else (height, width)
    return ImageHeader(kind, image_hw, by_pillow)


def _unusual_tiff(content: bytes) -> tuple[str, int, int, bool]:
    """What `read_header` asks of an image, for a TIFF with numbers that Pillow does not know."""
    pages = tiff_pages(BytesIO(content)).pages if content.startswith(TIFF_STARTS) else ()
    if not pages or pages[0].has_usual_samples:
        return "", 0, 0, False
    height, width = pages[0].image_hw
    return "TIFF", width, height, pages[0].orientation in _ROTATED_90


def _orientation(image: Image.Image) -> object:
    """By EXIF; of a JPEG Pillow asks XMP, too, but OpenCV, which decodes it, does not."""
    if image.format not in ("JPEG", "MPO"):
        return image.getexif().get(_EXIF_ORIENTATION)
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif.get(_EXIF_ORIENTATION)


def _check_kind(path: Path, content: bytes, kind: str) -> None:
    suffix = path.suffix.lower()
    if content[4:12] in _AVIF_STARTS and ".avif" not in Image.registered_extensions():
        raise DatasetError(f"{path}: AVIF needs Pillow 11.3 or newer; or save it as JPEG or PNG")
    if suffix in UNREADABLE_SUFFIXES and kind not in _ORDINARY_FORMATS:
        raise DatasetError(f"{path}: {suffix} files cannot be read; save it as JPEG or PNG")
    if kind not in _FORMATS:
        raise DatasetError(f"{path}: not an image that can be decoded")


def known_animated_formats() -> tuple[str, ...]:
    """Those that this Pillow knows; it opens nothing if it is asked for one that it does not."""
    has_avif = find_spec("PIL.AvifImagePlugin") is not None  # Pillow 11.3
    return tuple(ANIMATED_FORMATS if has_avif else ANIMATED_FORMATS - {"AVIF"})


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


def _page_first(path: Path, content: bytes) -> tuple[bytes, TiffPage | None]:
    """The content of a TIFF of one page, with it first where a preview comes before it; the page.

    None where it has no page that its tags describe.
    """
    found = tiff_pages(BytesIO(content))
    if len(found.pages) > 1:
        raise _several(path, "TIFF")
    page = found.pages[0] if found.pages else None
    if page is None or page.offset == found.start:
        return content, page
    changed = bytearray(content)
    put_first(changed, page)
    return bytes(changed), page


def _by_pillow(path: Path, content: bytes) -> ImageArray:
    """(H, W, 3) RGB, rotated as the EXIF orientation says."""
    try:
        with Image.open(BytesIO(content)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None
