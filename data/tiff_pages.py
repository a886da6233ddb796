"""Where the pages of a TIFF begin, so that any of them can be handed to a decoder as its first.

OpenCV keeps all bits of an image and reads only the first one of a file's content; Pillow reads
any page, of 16-bit color eight bits.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are those of BigTIFF
MAX_PAGES = 1_000_000
_WIDTH, _HEIGHT, _KIND, _OLD_KIND = 256, 257, 254, 255  # tags
_REDUCED, _MASK = 1, 4  # bits of `_KIND`: a smaller copy, a transparency mask of another page
_OLD_REDUCED = 2  # value of `_OLD_KIND`
_ORIENTATION, _BITS, _CHANNELS, _PLANES, _NUMBERS = 274, 258, 277, 284, 339
_USED = {_WIDTH, _HEIGHT, _KIND, _OLD_KIND, _ORIENTATION, _BITS, _CHANNELS, _PLANES, _NUMBERS}
_NUMBER_KINDS = {2: "int", 3: "float", 5: "complex int", 6: "complex"}  # others are uint
_FORMS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of numbers that tags use here


@dataclass(frozen=True, slots=True)
class TiffPage:
    """One image of a file.

    Attributes:
        index: among all images of the file, previews and masks included, from 0.
        offset: of its directory, in bytes.
        image_hw: height and width as stored.
        orientation: how it is turned for viewing, as EXIF numbers it.
        sample_kind: of a number of a pixel, as numpy names it: `uint8`, `float32`.
        channels: numbers of a pixel.
        has_planes: the numbers of a channel are together, not those of a pixel.
    """

    index: int
    offset: int
    image_hw: tuple[int, int]
    orientation: int = 1
    sample_kind: str = "uint8"
    channels: int = 1
    has_planes: bool = False

    @property
    def has_usual_samples(self) -> bool:
        """Whether its numbers are of 16 bits at most, without sign."""
        return self.sample_kind.startswith("uint") and int(self.sample_kind[4:]) <= 16

    @classmethod
    def of(cls, index: int, offset: int, tags: dict[int, int]) -> TiffPage:
        """As its tags describe it, of which height and width are there."""
        numbers = _NUMBER_KINDS.get(tags.get(_NUMBERS, 1), "uint")
        channels = tags.get(_CHANNELS, 1)
        return cls(
            index,
            offset,
            image_hw=(tags[_HEIGHT], tags[_WIDTH]),
            orientation=tags.get(_ORIENTATION, 1),
            sample_kind=f"{numbers}{tags.get(_BITS, 1)}",
            channels=channels,
            has_planes=channels > 1 and tags.get(_PLANES) == 2,
        )


@dataclass(frozen=True, slots=True)
class TiffPages:
    """The images of a file, without previews and masks.

    Attributes:
        start: where the directory of the first image, preview or mask is, in bytes.
        pages: in their order.
        is_cut: there are more, behind the end of the file.
    """

    start: int
    pages: tuple[TiffPage, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file writes numbers, and the sizes of its parts in bytes."""

    order: str
    is_big: bool

    @property
    def pointer(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def entry_bytes(self) -> int:
        return 20 if self.is_big else 12

    @property
    def first_pointer(self) -> int:
        """Where the header says where the first page's directory is."""
        return 8 if self.is_big else 4

    @classmethod
    def of(cls, start: bytes) -> _Layout:
        return cls("<" if start[:1] == b"I" else ">", b"+" in start[2:4])


def tiff_pages(file: BinaryIO) -> TiffPages:
    """The pages of an opened TIFF; only their directories are read.

    A chain of pages that leads back to itself ends there.
    """
    file.seek(0)
    layout = _Layout.of(file.read(4))
    size = file.seek(0, os.SEEK_END)
    start = offset = _number(file, layout.first_pointer, layout.pointer) or 0
    pages, visited = list[TiffPage](), set[int]()
    while offset and offset not in visited and len(visited) < MAX_PAGES:
        visited.add(offset)
        count = _number(file, offset, layout.count)
        entries = offset + struct.calcsize(layout.count)
        length = (count or 0) * layout.entry_bytes
        if count is None or entries + length > size:
            return TiffPages(start, tuple(pages), is_cut=True)
        tags = _tags(file, file.read(length), layout)
        if _is_page(tags):
            pages.append(TiffPage.of(len(visited) - 1, offset, tags))
        following = _number(file, entries + length, layout.pointer)
        if following is None:
            return TiffPages(start, tuple(pages), is_cut=True)
        offset = following
    return TiffPages(start, tuple(pages), is_cut=False)


def put_first(content: bytearray, page: TiffPage) -> None:
    """Make a page the first one of a file's content, in place."""
    layout = _Layout.of(bytes(content[:4]))
    struct.pack_into(layout.pointer, content, layout.first_pointer, page.offset)


def _is_page(tags: dict[int, int]) -> bool:
    is_other = tags.get(_KIND, 0) & (_REDUCED | _MASK) or tags.get(_OLD_KIND) == _OLD_REDUCED
    return not is_other and bool(tags.get(_HEIGHT)) and bool(tags.get(_WIDTH))


def _tags(file: BinaryIO, entries: bytes, layout: _Layout) -> dict[int, int]:
    """Those of the tags used here whose value is a number; of several numbers the first."""
    tags = {}
    for at in range(0, len(entries), layout.entry_bytes):
        tag, kind = struct.unpack_from(f"{layout.order}HH", entries, at)
        form = _FORMS.get(kind)
        if tag not in _USED or form is None:
            continue
        (count,) = struct.unpack_from(layout.pointer, entries, at + 4)
        value_at = at + 4 + struct.calcsize(layout.pointer)
        if max(count, 1) * struct.calcsize(form) <= struct.calcsize(layout.pointer):
            (tags[tag],) = struct.unpack_from(layout.order + form, entries, value_at)
        else:
            (elsewhere,) = struct.unpack_from(layout.pointer, entries, value_at)
            if (value := _number(file, elsewhere, layout.order + form)) is not None:
                tags[tag] = value
    return tags


def _number(file: BinaryIO, offset: int, form: str) -> int | None:
    """A number of the file; None behind its end."""
    try:
        file.seek(offset)
        content = file.read(struct.calcsize(form))
    except (OSError, ValueError, OverflowError):  # an offset of 2**63 and more
        return None
    if len(content) < struct.calcsize(form):
        return None
    number: int = struct.unpack(form, content)[0]
    return number
