"""Whether the whole of an image file can be read, and what is then known of it; kept between runs.

The index is a SQLite file per data set in the user's cache folder, never beside the images. An
entry counts only for the file it was made from: the same path, size, inode, and times of the last
change of content and of state. A file changed in the last moments is not entered: it might change
again within one tick of the clock.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import PIL
import simplejpeg
from PIL import Image

from data.decoder_errors import DECODER_ERRORS
from data.image_file import JPEG_START, decode_image, path_kind, read_content
from data.image_formats import read_header
from utils.errors import DatasetError

logger = logging.getLogger(__name__)
MIN_SIDE = 10  # pixels; smaller images show nothing that can be detected
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_ODD_HEADERS = ("Invalid SOS parameters", "Unknown Adobe color transform", "Warning: unknown JFIF")
MAX_EXTRANEOUS = 1000  # bytes between parts of a JPEG that still are no loss
RULES = 1  # of examine_image; another number makes all entries worthless
SETTLED_NS = 2_000_000_000  # since the last change: FAT's clock ticks every two seconds
WAIT_SECONDS = 10.0  # for another run that writes the same file
_TABLE = (
    "CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, state TEXT, rules TEXT, "
    "height INTEGER, width INTEGER, digest BLOB, bits INTEGER) WITHOUT ROWID"
)


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


def examine_image(path: Path) -> ImageFacts:
    """Size and digest of an image, once the whole file has been decoded.

    What passes can be read by `read_image` later. JPEG is decoded at 1/8 scale, which reads every
    byte of it and costs less.

    Raises:
        DatasetError: the file is missing, empty, cut off, corrupt inside, not an image, one of
            several images, under 10 pixels, or has more than MAX_PIXELS.
    """
    content = read_content(path)
    header = read_header(path, content)
    image_hw, bits = header.image_hw, None
    if content.startswith(JPEG_START):
        _verify_jpeg(path, content)
    else:
        if header.kind != "HEIF":
            _load_by_pillow(path, content)  # OpenCV reads some files that are cut off
        decoded = decode_image(path, content)  # and fewer formats than Pillow
        image_hw = decoded.pixels.shape[:2]
        bits = decoded.bits if decoded.is_rescaled else None
    if min(image_hw) < MIN_SIDE:
        raise DatasetError(
            f"{path}: {image_hw[1]}x{image_hw[0]} pixels, must be at least {MIN_SIDE} on each side"
        )
    return ImageFacts(image_hw, hashlib.sha256(content).digest(), bits)


def _load_by_pillow(path: Path, content: bytes) -> None:
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except DECODER_ERRORS as error:
        raise DatasetError(f"{path}: cannot be decoded: {error}") from None


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
            decode_image(path, content)  # OpenCV refuses some of these
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


def user_cache_folder() -> Path:
    """Where programs keep what they can make again: `$XDG_CACHE_HOME`, or as the system has it."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(given or Path.home() / ".cache") / "reparam-yolov5"


class ImageIndex:
    """Facts of a data set's images: known ones at once, the others by examining them.

    Threads may share one. A cache folder that cannot be read or written, or that another run
    keeps locked, costs time and nothing else.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read what is known.

        Args:
            folder: of the data set; None knows and keeps nothing.
        """
        self._file: Path | None = None
        self._known: dict[bytes, tuple[str, ImageFacts]] = {}
        self._new: dict[bytes, tuple[str, ImageFacts]] = {}
        self._rules = f"{RULES} OpenCV {cv2.__version__} Pillow {PIL.__version__}"
        if folder is None:
            return
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
        with contextlib.suppress(RuntimeError):  # there is no home folder
            self._file = user_cache_folder() / "images" / f"{name}.sqlite"
        if self._file is not None and path_kind(self._file) == "file":
            self._read(self._file)

    def examine(self, path: Path) -> ImageFacts:
        """As `examine_image`.

        Raises:
            DatasetError: as `examine_image`; what cannot be read is examined anew every time.
        """
        key, (state, changed) = os.fsencode(path.absolute()), _state(path)
        known = self._known.get(key)
        if known is not None and known[0] == state:
            return known[1]
        facts = examine_image(path)
        # Looked at again: the file may have been written while it was read.
        if state == _state(path)[0] and time.time_ns() - changed > SETTLED_NS:
            self._new[key] = state, facts
        return facts

    def save(self) -> None:
        """Keep what was examined."""
        if self._file is None or not self._new:
            return
        rows = [
            (key, state, self._rules, *facts.image_hw, facts.digest, facts.bits)
            for key, (state, facts) in self._new.items()
        ]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._open(self._file)) as database, database:
                database.execute(_TABLE)
                database.executemany("REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            logger.info(
                "%s: not written (%s); images are checked anew next time", self._file, error
            )
            return
        self._known.update(self._new)
        self._new = {}

    def _read(self, file: Path) -> None:
        query = "SELECT path, state, height, width, digest, bits FROM images WHERE rules = ?"
        try:
            with contextlib.closing(self._open(file)) as database:
                for path, state, height, width, digest, bits in database.execute(
                    query, (self._rules,)
                ):
                    self._known[path] = state, ImageFacts((height, width), digest, bits)
        except sqlite3.DatabaseError as error:
            self._known = {}
            logger.info("%s: cannot be read (%s); images are checked anew", file, error)
            if not isinstance(error, sqlite3.OperationalError):  # damaged, not merely locked
                file.unlink(missing_ok=True)

    def _open(self, file: Path) -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=WAIT_SECONDS)


def _state(path: Path) -> tuple[str, int]:
    """What changes when a file does, and when it last did, in ns; empty where there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return "", 0
    state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    return state, max(found.st_mtime_ns, found.st_ctime_ns)
