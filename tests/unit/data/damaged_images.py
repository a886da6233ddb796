"""Small image files of every kind, and seeded damage to them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from tests.unit.data.builders import noise

HW = (48, 64)
SIDES = (0, 1, 3000, 13_377, 13_378, 30_000, 65_535, 2**24, 2**31 - 1, 2**32 - 1)


def good_files() -> dict[str, bytes]:
    """Contents by a name that ends with the format's suffix."""
    pixels = noise(HW)
    image = Image.fromarray(pixels)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    deep = pixels.astype(np.uint16) * 257
    return {
        "rgb.jpg": _pillow(image, "JPEG"),
        "progressive.jpg": _pillow(image, "JPEG", progressive=True, exif=exif),
        "gray.jpeg": _pillow(image.convert("L"), "JPEG"),
        "cmyk.jpg": _pillow(image.convert("CMYK"), "JPEG"),
        "two.mpo": _pillow(image, "MPO", save_all=True, append_images=[image]),
        "rgb.png": _pillow(image, "PNG", exif=exif),
        "rgba.png": _pillow(image.convert("RGBA"), "PNG"),
        "palette.png": _pillow(image.convert("P"), "PNG", transparency=3),
        "bits.png": _pillow(image.convert("1"), "PNG"),
        "deep.png": _opencv(".png", deep),
        "lossy.webp": _pillow(image, "WEBP", exif=exif),
        "lossless.webp": _pillow(image.convert("RGBA"), "WEBP", lossless=True),
        "rgb.bmp": _pillow(image, "BMP"),
        "palette.bmp": _pillow(image.convert("P"), "BMP"),
        "plain.tif": _pillow(image, "TIFF"),
        "lzw.tif": _pillow(image, "TIFF", compression="tiff_lzw"),
        "deflate.tiff": _pillow(image.convert("P"), "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": _pillow(image, "TIFF", compression="jpeg"),
        "cmyk.tif": _pillow(image.convert("CMYK"), "TIFF", compression="packbits"),
        "deep.tif": _opencv(".tif", deep),
        "floats.tif": _pillow(image.convert("F"), "TIFF"),
        "palette.gif": _pillow(image.convert("P"), "GIF"),
        "several.gif": _pillow(image, "GIF", save_all=True, append_images=[turned]),
        "several.tif": _pillow(image, "TIFF", save_all=True, append_images=[turned, image]),
        "several.webp": _pillow(image, "WEBP", save_all=True, append_images=[turned, image]),
        "several.png": _pillow(image, "PNG", save_all=True, append_images=[turned, image]),
        **_avif_files(image, turned),
        "rgb.jp2": _pillow(image, "JPEG2000"),
        "deep.jp2": _opencv(".jp2", deep),
        "stream.j2k": _pillow(image, "JPEG2000", no_jp2=True),
        "rgb.ppm": _pillow(image, "PPM"),
        "deep.ppm": _opencv(".ppm", deep),
        "gray.pgm": _pillow(image.convert("L"), "PPM"),
        "bits.pbm": _pillow(image.convert("1"), "PPM"),
    }


def _avif_files(image: Image.Image, turned: Image.Image) -> dict[str, bytes]:
    """None before Pillow 11.3, which neither reads nor writes it."""
    if ".avif" not in Image.registered_extensions():
        return {}
    return {
        "several.avif": _pillow(image, "AVIF", save_all=True, append_images=[turned, image]),
        "rgb.avif": _pillow(image, "AVIF"),
    }


def _pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _opencv(suffix: str, pixels: np.ndarray) -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    return content.tobytes()


def damaged(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three kinds of damage, one after the other."""
    for _ in range(rng.integers(1, 4)):
        if content:
            content = DAMAGES[rng.integers(len(DAMAGES))](content, other, rng)
    return content


def truncated(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def bits_flipped(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 64))):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def header_overwritten(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 8))):
        changed[rng.integers(min(200, len(changed)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(changed)


def spliced(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The start of one file and the rest of another."""
    point = int(rng.integers(min(len(content), len(other)) + 1))
    return other[:point] + content[point:]


def piece_moved(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A piece is missing, repeated, or of another file."""
    start, end = sorted(int(point) for point in rng.integers(len(content) + 1, size=2))
    end = min(end, start + 300)
    pieces = (b"", content[start:end] * 3, other[start:end], rng.bytes(end - start))
    return content[:start] + pieces[rng.integers(len(pieces))] + content[end:]


def size_claimed(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Height, width or both say something else, wherever they stand."""
    return claim(content, *(int(side) for side in rng.choice(SIDES, 2)))


def claim(content: bytes, height: int, width: int) -> bytes:
    """The file with other sizes in its header, as binary numbers or as text; checksums fit."""
    changed = bytearray(content[:700])
    order = "<" if content[:2] in (b"BM", b"II", b"GI", b"RI") else ">"
    for old, new in ((HW[0], height), (HW[1], width)):
        for form in (order + "I", order + "H"):
            value = struct.pack(form, new % 256 ** struct.calcsize(form))
            position = changed.find(struct.pack(form, old), 2)
            if position >= 0:
                changed[position : position + len(value)] = value
                break
    if content[:1] == b"P":  # 64 48: text
        changed = bytearray(content[:700].replace(b"64 48", b"%d %d" % (width, height)))
    if content.startswith(b"\x89PNG"):
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
    return bytes(changed) + content[700:]


Damage = Callable[[bytes, bytes, np.random.Generator], bytes]
DAMAGES: tuple[Damage, ...] = (
    truncated, bits_flipped, header_overwritten, spliced, piece_moved, size_claimed
)  # fmt: skip
