"""Names of a run's outputs: two source files never get the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from utils.output_files import short_stem
from utils.structures import Frame, NamedFile

logger = logging.getLogger(__name__)

MAX_RENAMED_SAID = 10


class OutputNames:
    """A name for the files of each source file, so that no two write over each other.

    The first `a.jpg` is called `a`, the next file of that stem (another folder, another suffix)
    `a_2`. A video's frames are called `a_1`, `a_2`, ...; those names are kept free for them.
    Named in the order of the whole source, a file has the same name in any part of it.
    """

    def __init__(self, files: Sequence[NamedFile] = ()) -> None:
        """Name the files that are known in advance; a stream gets its name with its first frame."""
        self._names: dict[int, str] = {}
        self._last_numbers: dict[str, int] = {}
        self._owners: dict[str, NamedFile] = {}
        self._numbered: set[str] = set()  # the parts before `_1`, `_2`, ... of names
        self._num_renamed = 0
        for file in files:
            self._claim(file)
        if self._num_renamed > MAX_RENAMED_SAID:
            logger.info("%d files are called so; progress.jsonl tells which", self._num_renamed)

    def __contains__(self, name: str) -> bool:
        """Whether a file has this name."""
        return name.casefold() in self._owners

    def of(self, frame: Frame) -> str:
        """The name for the file (or stream) that this frame comes from."""
        if frame.position not in self._names:
            self._claim(frame)
        return self._names[frame.position]

    def _claim(self, file: NamedFile) -> None:
        stem = name = short_stem(file.path.stem)
        number = self._last_numbers.get(stem, 1)  # the ones before it are taken
        while self._clashes(name.casefold(), file):
            number += 1
            name = f"{stem}_{number}"
        self._last_numbers[stem] = number
        self._names[file.position], self._owners[name.casefold()] = name, file
        before, _, last = name.casefold().rpartition("_")
        if last.isdigit() and not file.is_video:
            self._numbered.add(before)
        if name == file.path.stem:
            return
        self._num_renamed += 1
        if self._num_renamed <= MAX_RENAMED_SAID:
            why = f"{stem} was taken" if name != stem else "its name is too long"
            logger.info("%s: its files are called %s, %s", file.path, name, why)

    def _clashes(self, name: str, file: NamedFile) -> bool:
        if name in self._owners:
            return True
        if name in self._numbered and file.is_video:
            return True
        video, _, number = name.rpartition("_")
        owner = self._owners.get(video) if number.isdigit() else None
        return owner is not None and owner.is_video and not file.is_video
