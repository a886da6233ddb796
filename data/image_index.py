"""What was found out about images, kept between runs, so that a second run decodes none of them.

A SQLite file per data set in the user's cache folder, never beside the images. An entry counts
only for the file it was made from: the same path, size, inode, and times of the last change of
content and of state. A file changed in the last moments is not entered: it might change again
within one tick of the clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from pathlib import Path

import cv2
import PIL

from data.image_file import ImageFacts, examine_image

logger = logging.getLogger(__name__)
RULES = 1  # of examine_image; another number makes all entries worthless
SETTLED_NS = 2_000_000_000  # since the last change: FAT's clock ticks every two seconds
WAIT_SECONDS = 10.0  # for another run that writes the same file
_TABLE = (
    "CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, state TEXT, rules TEXT, "
    "height INTEGER, width INTEGER, digest BLOB, bits INTEGER) WITHOUT ROWID"
)


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
        if self._file is not None and self._file.exists():
            self._read(self._file)

    def examine(self, path: Path) -> ImageFacts:
        """As `examine_image`.

        Raises:
            DatasetError: as `examine_image`; what cannot be read is examined anew every time.
        """
        key, state = os.fsencode(path.absolute()), _state(path)
        known = self._known.get(key)
        if state is not None and known is not None and known[0] == state:
            return known[1]
        facts = examine_image(path)
        # Looked at again: the file may have been written while it was read.
        if state is not None and state == _state(path) and _is_settled(path):
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


def _state(path: Path) -> str | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _is_settled(path: Path) -> bool:
    found = path.stat()
    return time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED_NS
