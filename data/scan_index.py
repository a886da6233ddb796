"""Scans of a data set's splits, kept between runs in the user's cache folder.

Each data set has a SQLite file, never beside its images, with the latest scans, one for each split
and each way to read it. A scan is in several parts, each the content of a `.npy` file, of which
nothing is unpickled, and its checksum.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL

from data.file_states import State
from data.findings import Findings
from data.image_facts import RULES, ImageFacts
from data.label_rules import Problem
from data.record_table import RecordTable
from data.scan import Scan
from utils.path_kind import path_kind

logger = logging.getLogger(__name__)
Facts = Mapping[str, tuple[State, ImageFacts]]  # of images by their paths
WAIT_SECONDS = 10.0  # for another run that writes the same file
MAX_SCANS = 16  # of a data set; those that have not been written for longest go first
_TABLE = (
    "CREATE TABLE IF NOT EXISTS parts "
    "(key TEXT, rules TEXT, name TEXT, checksum INTEGER, content BLOB)"
)
_SELECT = "SELECT key, name, checksum, content FROM parts"
_INSERT = "INSERT INTO parts VALUES (?, ?, ?, ?, ?)"
_DELETE_OLD = (
    "DELETE FROM parts WHERE key NOT IN "
    "(SELECT key FROM parts GROUP BY key ORDER BY max(rowid) DESC LIMIT ?)"
)
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError)


def user_cache_folder() -> Path:
    """Where programs keep what they can make again: `$XDG_CACHE_HOME`, or as the system has it."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(given or Path.home() / ".cache") / "reparam-yolov5"


class ScanIndex:
    """The scans of a data set that earlier runs made.

    A cache folder that cannot be read or written, or that another run keeps locked, costs time and
    nothing else.

    Args:
        folder: of the data set; None knows and keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file: Path | None = None
        self._rules = f"{RULES} OpenCV {cv2.__version__} Pillow {PIL.__version__}"
        if folder is None:
            return
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
        with contextlib.suppress(RuntimeError):  # there is no home folder
            self._file = user_cache_folder() / "data_sets" / f"{name}.sqlite"

    def find(self, key: str) -> Scan | None:
        """The scan of a split and a way to read it, perhaps outdated."""
        found = self._read(f"{_SELECT} WHERE key = ? AND rules = ?", _digest(key), self._rules)
        return found[0] if found else None

    def facts(self, paths: Set[str]) -> Facts:
        """What is known of images, whatever the split and the way to read it."""
        found: dict[str, tuple[State, ImageFacts]] = {}
        if paths:
            for scan in self._read(f"{_SELECT} WHERE rules = ? ORDER BY rowid", self._rules):
                found.update(scan.facts(paths))
        return found

    def keep(self, key: str, scan: Scan) -> None:
        """Replace the scan of a split and a way to read it."""
        if self._file is None:
            return
        digest = _digest(key)
        parts = ((digest, self._rules, *part) for part in _encode(scan))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._open(self._file)) as database, database:
                database.execute("PRAGMA page_size = 65536")  # large ones are read faster
                database.execute(_TABLE)
                database.execute("DELETE FROM parts WHERE key = ?", (digest,))
                database.executemany(_INSERT, parts)
                database.execute(_DELETE_OLD, (MAX_SCANS,))
        except (OSError, sqlite3.Error) as error:
            logger.info("%s: not written (%s); files are read anew next time", self._file, error)

    def _read(self, query: str, *values: str) -> list[Scan]:
        file = self._file
        if file is None or path_kind(file) != "file":
            return []
        try:
            with contextlib.closing(self._open(file)) as database:
                scans = itertools.groupby(database.execute(query, values), lambda row: row[0])
                return [_decode(part[1:] for part in parts) for _, parts in scans]
        except (sqlite3.Error, *_DAMAGE) as error:
            logger.info("%s: cannot be read (%s); files are read anew", file, error)
            if not isinstance(error, sqlite3.OperationalError):  # damaged, not merely locked
                with contextlib.suppress(OSError):
                    file.unlink()
            return []

    def _open(self, file: Path) -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=WAIT_SECONDS)


def _digest(key: str) -> str:
    """Of a key, and of the code that reads labels, whose changes need no other number than this."""
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace"))
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


Part = tuple[str, int, bytes | memoryview]  # name, checksum and content
_DERIVED = ("records.image_hws",)  # the findings have them


def _encode(scan: Scan) -> Iterator[Part]:
    texts = {
        "folders": scan.folders,
        "image_ids": [*scan.found.records.image_ids],
        "problems": [(index, *dataclasses.astuple(each)) for index, each in scan.found.problems],
        "reading": scan.reading,
    }
    yield _part("texts", np.frombuffer(json.dumps(texts).encode("ascii"), np.uint8))
    yield _part("files", np.frombuffer(os.fsencode("\0".join([*scan.files, ""])), np.uint8))
    holders: dict[str, Any] = {"": scan, "found": scan.found, "records": scan.found.records}
    for prefix, holder in holders.items():
        for field in dataclasses.fields(holder):
            array, name = getattr(holder, field.name), f"{prefix}.{field.name}"
            if isinstance(array, np.ndarray) and name not in _DERIVED:
                yield _part(name, array)


def _part(name: str, array: npt.NDArray[Any]) -> Part:
    content = BytesIO()
    np.save(content, array)
    return name, zlib.crc32(content.getbuffer()), content.getbuffer()


def _decode(parts: Iterable[Part]) -> Scan:
    """The scan of its parts.

    Raises:
        ValueError, KeyError, TypeError, EOFError: something is damaged.
    """
    holders: dict[str, dict[str, Any]] = {"": {}, "found": {}, "records": {}}
    for part, checksum, content in parts:
        if zlib.crc32(content) != checksum:
            raise ValueError(f"{part} is damaged")
        prefix, _, name = part.rpartition(".")
        holders[prefix][name] = np.load(BytesIO(content))
    of_scan, of_images, of_records = holders.values()
    texts = json.loads(of_scan.pop("texts").tobytes())
    files = os.fsdecode(of_scan.pop("files").tobytes()).split("\0")[:-1]
    used = np.flatnonzero(of_images["rows"] >= 0)
    records = RecordTable(
        paths=[files[index] for index in used.tolist()],
        image_ids=texts["image_ids"],
        image_hws=of_images["image_hws"][used],
        **of_records,
    )
    problems = [(index, Problem(*problem)) for index, *problem in texts["problems"]]
    found = Findings(records=records, problems=problems, **of_images)
    return Scan(
        folders=texts["folders"], files=files, reading=texts["reading"], found=found, **of_scan
    )
