"""What a listing looked at: files, by what changes when they do, and the names in folders."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path

import numpy as np

from utils.structures import IntArray

State = tuple[int, int, int, int]  # size, times of the last change of content and state, inode
MISSING: State = (-1, -1, -1, -1)
UNSETTLED: State = (-2, -2, -2, -2)  # equals no state that is found
_CHUNK = 4096  # files
_INODES = 1 << 63
SETTLED_NS = 2_000_000_000  # since the last change: FAT's clock ticks every two seconds


def settled_states(paths: Sequence[str]) -> IntArray:
    """(N, 4) states of files that are then read, by which later changes can be told.

    A file changed in the last moments has none: it might change again within a tick of the clock.
    """
    now = time.time_ns()
    states = find_states(paths)
    states[states[:, 1:3].max(1, initial=0) > now - SETTLED_NS] = UNSETTLED
    return states


def find_states(paths: Sequence[str]) -> IntArray:
    """(N, 4) states of files as they are now."""
    fields = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
    found = np.empty((len(paths), 4), np.int64)
    for start in range(0, len(paths), _CHUNK):
        some = paths[start : start + _CHUNK]
        try:
            states = _as_rows(map(fields, map(os.stat, some)), len(some))
        except (OSError, ValueError, OverflowError):  # one is missing, or has a large number
            states = _as_rows(map(_state, some), len(some))
        found[start : start + len(some)] = states
    return found


def _as_rows(states: Iterable[State], count: int) -> IntArray:
    return np.fromiter(chain.from_iterable(states), np.int64, 4 * count).reshape(-1, 4)


def _state(path: str | Path) -> State:
    stat = os.stat  # in half the time of a Path's
    try:
        found = stat(path)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return MISSING
    inode = found.st_ino % _INODES  # some systems give numbers of 64 bits
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, inode


@dataclass(frozen=True, slots=True)
class FolderNames:
    """What is in a folder, in the order of the file system.

    Attributes:
        identity: device and inode; None where it cannot be read.
        files: names of files, and of links that lead to none; reading a pipe would never end.
        folders: name -> whether it is a link.
    """

    identity: tuple[int, int] | None
    files: Sequence[str] = ()
    folders: Sequence[tuple[str, bool]] = ()

    @classmethod
    def read(cls, folder: str) -> FolderNames:
        """Those of a folder; none where it cannot be read."""
        files: list[str] = []
        folders: list[tuple[str, bool]] = []
        try:
            found = Path(folder).stat()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        folders.append((entry.name, entry.is_symlink()))
                    elif entry.is_symlink() or entry.is_file():
                        files.append(entry.name)
        except (OSError, ValueError):  # ValueError: a name with a NUL
            return cls(None)
        return cls((found.st_dev, found.st_ino), files, folders)

    def digest(self) -> str:
        """Of all but the device, whose number may change when the machine starts anew."""
        inode = None if self.identity is None else self.identity[1]
        names = "\0".join((*self.files, repr((inode, *self.folders))))
        return hashlib.sha256(os.fsencode(names)).hexdigest()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def start_of_paths(folder: str) -> str:
    """What the paths in a folder begin with; nothing for the working directory, as in `Path`."""
    return str(Path(folder, "x"))[:-1]


@dataclass(slots=True)
class Evidence:
    """What a listing depends on besides the data yaml.

    A file is noted before it is read, so that what was read is never older than its state.

    Attributes:
        files: their paths.
        states: of each.
    """

    files: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    _folders: dict[str, FolderNames] = field(default_factory=dict)

    def note(self, *files: str | Path) -> None:
        """Files that are read, or looked for, next."""
        paths = list(map(str, files))
        self.files += paths
        self.states += map(tuple, settled_states(paths).tolist())

    def folder(self, path: str | Path) -> FolderNames:
        """What is in a folder, read once."""
        path = str(path)
        if path not in self._folders:
            self._folders[path] = FolderNames.read(path)
        return self._folders[path]

    def note_tree(self, folder: Path) -> None:
        """A folder that is searched next, and all folders in it; links are not followed."""
        waiting = [str(folder)]
        while waiting:
            parent = waiting.pop()
            prefix = start_of_paths(parent)
            waiting += [prefix + name for name, link in self.folder(parent).folders if not link]

    def folders(self) -> dict[str, str]:
        """Folder -> digest of the names in it."""
        return {path: names.digest() for path, names in self._folders.items()}
