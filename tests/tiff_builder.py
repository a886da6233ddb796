"""TIFF files of any kind of number, without compression."""

from __future__ import annotations

import struct

import numpy as np

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS = 256, 257, 258, 259, 262, 273
_ORIENTATION, _CHANNELS, _ROWS, _BYTES, _PLANES, _EXTRA, _NUMBERS = (
    274,
    277,
    278,
    279,
    284,
    338,
    339,
)
_NUMBER_KINDS = {"u": 1, "i": 2, "f": 3, "c": 6}
_SHORT, _LONG = 3, 4
_CONTENT_AT = 512  # behind the directory, so that a file is cut off in its pixels


def tiff_of(
    pixels: np.ndarray, *, orientation: int = 1, planes: bool = False, order: str = "<"
) -> bytes:
    """A file of (H, W) or (H, W, C) numbers, RGB where there are three or four.

    Args:
        pixels: the numbers.
        orientation: how the image is to be turned, as EXIF numbers it.
        planes: all of a channel, then all of the next.
        order: `<` or `>`, of bytes.
    """
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, channels = pixels.shape
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    content = stored.astype(pixels.dtype.newbyteorder(order)).tobytes()
    num_strips = channels if planes else 1
    plane_bytes = len(content) // num_strips
    extra = channels - (3 if channels >= 3 else 1)
    tags = [
        (_WIDTH, _LONG, [width]),
        (_HEIGHT, _LONG, [height]),
        (_BITS, _SHORT, [8 * pixels.itemsize] * channels),
        (_COMPRESSION, _SHORT, [1]),
        (_PHOTOMETRIC, _SHORT, [2 if channels >= 3 else 1]),
        (_STRIPS, _LONG, [_CONTENT_AT + index * plane_bytes for index in range(num_strips)]),
        (_ORIENTATION, _SHORT, [orientation]),
        (_CHANNELS, _SHORT, [channels]),
        (_ROWS, _LONG, [height]),
        (_BYTES, _LONG, [plane_bytes] * num_strips),
        (_PLANES, _SHORT, [2 if planes else 1]),
        *([(_EXTRA, _SHORT, [0] * extra)] if extra else []),
        (_NUMBERS, _SHORT, [_NUMBER_KINDS[pixels.dtype.kind]] * channels),
    ]
    lists_at = 8 + 2 + 12 * len(tags) + 4
    entries, lists = b"", b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(packed) > 4:
            entries += struct.pack(f"{order}I", lists_at + len(lists))
            lists += packed
        else:
            entries += packed.ljust(4, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return (header + entries + bytes(4) + lists).ljust(_CONTENT_AT, b"\0") + content
