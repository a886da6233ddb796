"""Scans of a data set's splits, kept between runs in the user's cache folder.

Each data set has a SQLite file, never beside its images, with the latest scans, one for each split
and each way to read it. A scan is a `.npz` file's content, of which nothing is unpickled and every
part has a checksum.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import sqlite3
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from data.image_facts import RULES
from data.image_file import path_kind
from data.label_rules import Problem
from data.record_table import RecordTable
from data.scan import Scan

logger = logging.getLogger(__name__)
WAIT_SECONDS = 10.0  # for another run that writes the same file
MAX_SCANS = 16  # of a data set; those that have not been written for longest go first
_TABLE = (
    "CREATE TABLE IF NOT EXISTS scans "
    "(number INTEGER PRIMARY KEY, key TEXT UNIQUE, rules TEXT, content BLOB)"
)
_DELETE = (
    "DELETE FROM scans WHERE number NOT IN (SELECT number FROM scans ORDER BY number DESC LIMIT ?)"
)
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


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
        query = "SELECT content FROM scans WHERE key = ? AND rules = ?"
        return next(iter(self._read(query, _digest(key), self._rules)), None)

    def all(self) -> list[Scan]:
        """Those of all splits and ways to read them, the latest last."""
        return self._read("SELECT content FROM scans WHERE rules = ? ORDER BY number", self._rules)

    def keep(self, key: str, scan: Scan) -> None:
        """Replace the scan of a split and a way to read it."""
        if self._file is None:
            return
        row = (_digest(key), self._rules, _encode(scan))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._open(self._file)) as database, database:
                database.execute(_TABLE)
                database.execute("REPLACE INTO scans (key, rules, content) VALUES (?, ?, ?)", row)
                database.execute(_DELETE, (MAX_SCANS,))
        except (OSError, sqlite3.Error) as error:
            logger.info("%s: not written (%s); files are read anew next time", self._file, error)

    def _read(self, query: str, *values: str) -> list[Scan]:
        file = self._file
        if file is None or path_kind(file) != "file":
            return []
        try:
            with contextlib.closing(self._open(file)) as database:
                return [_decode(content) for (content,) in database.execute(query, values)]
        except (sqlite3.Error, *_DAMAGE) as error:
            logger.info("%s: cannot be read (%s); files are read anew", file, error)
            if not isinstance(error, sqlite3.OperationalError):  # damaged, not merely locked
                with contextlib.suppress(OSError):
                    file.unlink()
            return []

    def _open(self, file: Path) -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=WAIT_SECONDS)


def _digest(key: str) -> str:
    """Of a key and of the code that reads labels, so that no change of the one needs the other."""
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace"))
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


_PREFIX = "record_"  # of the names of a table's arrays


def _encode(scan: Scan) -> memoryview:
    texts = {
        "folders": scan.folders,
        "image_ids": scan.records.image_ids,
        "problems": [
            (row, problem.kind, problem.text, problem.count) for row, problem in scan.problems
        ],
        "reading": scan.reading,
    }
    arrays: dict[str, Any] = {
        "texts": np.frombuffer(json.dumps(texts).encode("ascii"), np.uint8),
        "files": np.frombuffer(os.fsencode("\0".join([*scan.files, ""])), np.uint8),
        **_arrays(scan),
        **{_PREFIX + name: array for name, array in _arrays(scan.records).items()},
    }
    del arrays[f"{_PREFIX}image_hws"]  # the scan has them
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getbuffer()


def _arrays(holder: Scan | RecordTable) -> dict[str, Any]:
    values = {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _decode(content: bytes) -> Scan:
    with np.load(BytesIO(content)) as found:
        arrays = dict(found)
    texts = json.loads(arrays.pop("texts").tobytes())
    files = os.fsdecode(arrays.pop("files").tobytes()).split("\0")[:-1]
    of_records = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_PREFIX)}
    used = arrays["rows"] >= 0
    records = RecordTable(
        paths=[files[file] for file in arrays["images"][used].tolist()],
        image_ids=texts["image_ids"],
        image_hws=arrays["image_hws"][used],
        **{name.removeprefix(_PREFIX): array for name, array in of_records.items()},
    )
    problems = [(row, Problem(*problem)) for row, *problem in texts["problems"]]
    return Scan(
        folders=texts["folders"], files=files, records=records, problems=problems,
        reading=texts["reading"], **arrays,
    )  # fmt: skip
