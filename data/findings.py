"""What was found in the images of a split and in their label files."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.image_facts import ImageFacts
from data.label_rules import LabelSet, Problem
from data.record_table import RecordTable, TableRows
from utils.errors import DatasetError
from utils.logs import counted
from utils.structures import BoolArray, IntArray

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What was found in an image and in its label file.

    Attributes:
        facts: None where the image cannot be read.
        labels: None where it is skipped.
        reason: why it is skipped.
        try_again: the label file may be as it should be.
    """

    facts: ImageFacts | None = None
    labels: LabelSet | None = None
    reason: Problem | None = None
    try_again: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found in I images.

    Attributes:
        image_hws: (I, 2) int64 height and width; 0 of an image that cannot be read.
        digests: (I, 32) uint8, of the images' content.
        bits: (I,) int64, see ImageFacts; 0 for none.
        has_file: (I,) whether it has a label file.
        rows: (I,) int64, index of its record; -1 where it is skipped.
        records: of the other images.
        problems: index of the image (-1: of the whole split) and what is wrong.
    """

    image_hws: IntArray
    digests: npt.NDArray[np.uint8]
    bits: IntArray
    has_file: BoolArray
    rows: IntArray
    records: RecordTable
    problems: Sequence[tuple[int, Problem]]

    def facts(self, index: int) -> ImageFacts | None:
        """Of one image; None if it cannot be read."""
        height, width = self.image_hws[index].tolist()
        if not height:
            return None
        digest, bits = self.digests[index].tobytes(), int(self.bits[index])
        return ImageFacts((height, width), digest, bits or None)

    def notes(self) -> Iterator[Problem]:
        """What is not wrong with the images that are used, but may surprise."""
        used = self.rows >= 0
        yield from _repeated(self.records.paths, self.digests[used])
        yield from _rescaled(self.records.paths, self.bits[used])

    def join(self, other: Findings) -> Findings:
        """Those in these images and in others, without the problems of the whole split."""
        rows = np.where(other.rows < 0, -1, other.rows + len(self.records))
        count = len(self.rows)
        return Findings(
            np.concatenate([self.image_hws, other.image_hws]),
            np.concatenate([self.digests, other.digests]),
            np.concatenate([self.bits, other.bits]),
            np.concatenate([self.has_file, other.has_file]),
            np.concatenate([self.rows, rows]),
            self.records.join(other.records),
            [
                *(each for each in self.problems if each[0] >= 0),
                *((index + count, problem) for index, problem in other.problems),
            ],
        )

    def take(self, order: IntArray) -> Findings:
        """Those in some of the images."""
        rows = self.rows[order]
        used = rows >= 0
        positions: dict[int, list[int]] = {index: [] for index, _ in self.problems}
        for position, index in enumerate(order.tolist()):
            if index in positions:
                positions[index].append(position)
        problems = [
            (position, problem) for index, problem in self.problems for position in positions[index]
        ]
        return Findings(
            self.image_hws[order],
            self.digests[order],
            self.bits[order],
            self.has_file[order],
            np.where(used, np.cumsum(used) - 1, -1),
            self.records.take(rows[used]),
            sorted(problems, key=lambda each: each[0]),
        )


def unreadable(error: DatasetError) -> Problem:
    """What is wrong with a split one of whose images cannot be read."""
    return Problem("unreadable", f"{error}; image skipped")


class FindingRows:
    """Findings that grow by one image after the other.

    Args:
        outlines: keep the polygons of objects.
        single_class: take every object as class 0.
    """

    def __init__(self, *, outlines: bool, single_class: bool) -> None:
        self._records = TableRows(outlines=outlines, single_class=single_class)
        self._image_hws, self._bits, self._rows = array("q"), array("q"), array("q")
        self._has_file, self._digests = bytearray(), bytearray()
        self._problems: list[tuple[int, Problem]] = []

    def append(self, path: str, image_id: int, checked: CheckedImage) -> None:
        """The next image."""
        index, facts, labels = len(self._rows), checked.facts, checked.labels
        self._image_hws.extend(facts.image_hw if facts else (0, 0))
        self._bits.append((facts.bits if facts else 0) or 0)
        self._digests += facts.digest if facts else bytes(_DIGEST_BYTES)
        self._has_file.append(labels is None or labels.has_file)
        self._rows.append(-1 if labels is None else len(self._records))
        if facts is not None and labels is not None:
            self._records.append(path, image_id, facts.image_hw, labels)
            self._problems += [(index, problem) for problem in labels.problems]
        if checked.reason is not None:
            self._problems.append((index, checked.reason))

    def findings(self) -> Findings:
        """All of them."""
        return Findings(
            np.array(self._image_hws, np.int64).reshape(-1, 2),
            np.frombuffer(self._digests, np.uint8).reshape(-1, _DIGEST_BYTES),
            np.array(self._bits, np.int64),
            np.frombuffer(self._has_file, np.bool_),
            np.array(self._rows, np.int64),
            self._records.table(),
            self._problems,
        )


def _repeated(paths: Sequence[str], digests: npt.NDArray[np.uint8]) -> Iterator[Problem]:
    """Notes on images that are listed twice, and on copies under other names."""
    if len(set(paths)) < len(paths):
        again = [path for path, count in Counter(paths).items() if count > 1]
        yield _note(
            f"{counted(len(again), 'image')} listed more than once and counted as often: "
            f"{_some(again)}"
        )
    if len(np.unique(digests.view(f"S{_DIGEST_BYTES}"))) == len(paths):
        return
    first: dict[bytes, str] = {}
    copies = []
    for path, digest in zip(paths, map(bytes, digests), strict=True):
        original = first.setdefault(digest, path)
        if original != path:
            copies.append(f"{path} = {original}")
    if copies:
        copied = counted(len(copies), "image")
        yield _note(f"{copied} with the content of another one: {_some(copies)}")


def _rescaled(paths: Sequence[str], used_bits: IntArray) -> Iterator[Problem]:
    """Notes on images of 16 bits or more that use fewer."""
    for bits in np.unique(used_bits[used_bits > 0]).tolist():
        found = [paths[row] for row in np.flatnonzero(used_bits == bits).tolist()]
        yield _note(
            f"{counted(len(found), 'image')} with {bits}-bit data in 16 bits or more, scaled by "
            f"that range: {_some(found)}"
        )


def _note(text: str) -> Problem:
    return Problem("noted", text)


def _some(entries: Sequence[str]) -> str:
    return ", ".join([*entries[:3], *(["..."] if len(entries) > 3 else [])])
