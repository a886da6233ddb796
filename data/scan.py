"""What reading a split found, what that depends on, and what of it is known from an earlier run."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.file_states import UNSETTLED, Evidence, FolderNames, State, find_states
from data.image_facts import ImageFacts, examine_image
from data.label_rules import LabelledImage, LabelSet, Listing, Problem
from data.record_table import RecordTable, TableRows
from data.scan_result import ScanResult
from utils.errors import DatasetError
from utils.logs import counted
from utils.structures import BoolArray, IntArray

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading a split found in I listed images and in F files, theirs and others.

    Attributes:
        folders: folder -> digest of the names in it.
        files: paths of what was read or looked for; some may be there twice.
        states: (F, 4) int64, their states before that.
        images: (I,) int64, index of each image among the files.
        label_files: (I,) int64, index of its label file; -1 where one file holds all labels.
        image_hws: (I, 2) int64 height and width; 0 of an image that cannot be read.
        digests: (I, 32) uint8, of the images' content.
        bits: (I,) int64, see ImageFacts; 0 for none.
        has_file: (I,) whether it has a label file.
        rows: (I,) int64, index of its record; -1 where it is skipped.
        records: of the other images.
        problems: index of the image (-1: of the whole split) and what is wrong.
        reading: see Listing.
    """

    folders: Mapping[str, str]
    files: Sequence[str]
    states: IntArray
    images: IntArray
    label_files: IntArray
    image_hws: IntArray
    digests: npt.NDArray[np.uint8]
    bits: IntArray
    has_file: BoolArray
    rows: IntArray
    records: RecordTable
    problems: Sequence[tuple[int, Problem]]
    reading: str

    def is_current(self) -> bool:
        """Whether reading the split again would find the same.

        Images that cannot be read are read again: the cause may have been another one.
        """
        if (self.states[:, 0] == UNSETTLED[0]).any():
            return False
        folders = self.folders.items()
        if any(FolderNames.read(folder).digest() != digest for folder, digest in folders):
            return False
        if not np.array_equal(find_states(self.files), self.states):
            return False
        return all(
            _fails_alike(Path(self.files[self.images[number]]), problem)
            for number, problem in self.problems
            if number >= 0 and not self.image_hws[number, 0]
        )

    def result(self) -> ScanResult:
        """What the run goes on with."""
        without = np.flatnonzero((self.rows >= 0) & ~self.has_file)
        first = Path(self.files[self.label_files[without[0]]]) if len(without) else None
        return ScanResult(
            self.records, tuple(problem for _, problem in self.problems), len(without), first
        )


def unreadable(error: DatasetError) -> Problem:
    """What is wrong with a split one of whose images cannot be read."""
    return Problem("unreadable", f"{error}; image skipped")


def _fails_alike(path: Path, problem: Problem) -> bool:
    try:
        examine_image(path)
    except DatasetError as error:
        return unreadable(error) == problem
    return False


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image of a split after it has been read.

    Attributes:
        image: as it was listed.
        state: of the image before it was read.
        label_state: of its label file before it was read; None where it has none of its own.
        facts: None where it cannot be read.
        labels: None where it is skipped.
        reason: why it is skipped.
    """

    image: LabelledImage
    state: State
    label_state: State | None
    facts: ImageFacts | None = None
    labels: LabelSet | None = None
    reason: Problem | None = None


class ScanRows:
    """A scan that grows by one image after the other."""

    def __init__(self, evidence: Evidence, *, outlines: bool, single_class: bool) -> None:
        self._evidence, self._folders = evidence, evidence.forget_names()
        self._records = TableRows(outlines=outlines, single_class=single_class)
        self._numbers = {
            name: array("q") for name in ("images", "label_files", "image_hws", "bits", "rows")
        }
        self._has_file = bytearray()
        self._digests = bytearray()
        self._problems: list[tuple[int, Problem]] = []

    def append(self, checked: CheckedImage) -> None:
        """The next image of the listing."""
        image, facts, labels = checked.image, checked.facts, checked.labels
        path, numbers = str(image.path), self._numbers
        index = len(numbers["images"])
        numbers["images"].append(self._evidence.add(path, checked.state))
        label_file = -1
        if image.label_file is not None and checked.label_state is not None:
            label_file = self._evidence.add(image.label_file, checked.label_state)
        numbers["label_files"].append(label_file)
        numbers["image_hws"].extend(facts.image_hw if facts else (0, 0))
        numbers["bits"].append((facts.bits if facts else 0) or 0)
        self._digests += facts.digest if facts else bytes(_DIGEST_BYTES)
        self._has_file.append(labels is None or labels.has_file)
        if facts is not None and labels is not None:
            numbers["rows"].append(len(self._records))
            self._records.append(path, image.image_id, facts.image_hw, labels)
            self._problems += [(index, problem) for problem in labels.problems]
        else:
            numbers["rows"].append(-1)
        if checked.reason is not None:
            self._problems.append((index, checked.reason))

    def scan(self, listing: Listing) -> Scan:
        """All of it, with what is wrong with the listing."""
        arrays = {name: np.array(each, np.int64) for name, each in self._numbers.items()}
        records = self._records.table()
        used = arrays["rows"] >= 0
        digests = np.frombuffer(self._digests, np.uint8).reshape(-1, _DIGEST_BYTES)
        notes = (
            *_repeated(records.paths, digests[used]),
            *_rescaled(records.paths, arrays["bits"][used]),
        )
        return Scan(
            folders=self._folders,
            files=self._evidence.files,
            states=np.array(self._evidence.states, np.int64).reshape(-1, 4),
            images=arrays["images"],
            label_files=arrays["label_files"],
            image_hws=arrays["image_hws"].reshape(-1, 2),
            digests=digests,
            bits=arrays["bits"],
            has_file=np.frombuffer(self._has_file, np.bool_),
            rows=arrays["rows"],
            records=records,
            problems=[
                *((-1, problem) for problem in (*notes, *listing.problems)),
                *self._problems,
            ],
            reading=listing.reading,
        )


class Known:
    """What earlier scans tell about images and label files that have not changed since.

    Args:
        scans: of the data set, the latest last, from which images are known.
        same: the one of the same split and settings, from which labels are known, too.
        reading: of the listing.
    """

    def __init__(self, scans: Sequence[Scan], same: Scan | None, reading: str) -> None:
        self._scans = scans
        self._images = {
            scan.files[file]: (number, row)
            for number, scan in enumerate(scans)
            for row, file in enumerate(scan.images.tolist())
            if scan.image_hws[row, 0]
        }
        self._same = same if same is not None and same.reading == reading else None
        self._labelled: dict[str, int] = {}
        self._problems: dict[int, list[Problem]] = {}
        if self._same is not None:
            labelled = np.flatnonzero((self._same.rows >= 0) & (self._same.label_files >= 0))
            files = self._same.images[labelled].tolist()
            self._labelled = {
                self._same.files[file]: row
                for row, file in zip(labelled.tolist(), files, strict=True)
            }
            for row, problem in self._same.problems:
                self._problems.setdefault(row, []).append(problem)

    def facts(self, path: str, state: State) -> ImageFacts | None:
        """Those of an image."""
        number, row = self._images.get(path, (0, -1))
        if row < 0 or state == UNSETTLED:
            return None
        scan = self._scans[number]
        if tuple(scan.states[scan.images[row]].tolist()) != state:
            return None
        height, width = scan.image_hws[row].tolist()
        return ImageFacts((height, width), scan.digests[row].tobytes(), int(scan.bits[row]) or None)

    def labels(self, path: str, state: State, file: str, label_state: State) -> LabelSet | None:
        """Those of an image and its label file."""
        scan, row = self._same, self._labelled.get(path, -1)
        if scan is None or row < 0 or scan.files[scan.label_files[row]] != file:
            return None
        if UNSETTLED in (state, label_state):
            return None
        both = scan.states[[scan.images[row], scan.label_files[row]]].tolist()
        if list(map(tuple, both)) != [state, label_state]:
            return None
        record = scan.records[int(scan.rows[row])]
        return LabelSet(
            targets=record.targets,
            areas=record.areas,
            crowd=record.crowd,
            outlines=record.outlines,
            problems=tuple(self._problems.get(row, ())),
            has_file=bool(scan.has_file[row]),
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
    """Notes on images of 16 bits that use fewer."""
    for bits in np.unique(used_bits[used_bits > 0]).tolist():
        found = [paths[row] for row in np.flatnonzero(used_bits == bits).tolist()]
        yield _note(
            f"{counted(len(found), 'image')} with {bits}-bit data in 16 bits, scaled by that "
            f"range: {_some(found)}"
        )


def _note(text: str) -> Problem:
    return Problem("noted", text)


def _some(entries: Sequence[str]) -> str:
    return ", ".join([*entries[:3], *(["..."] if len(entries) > 3 else [])])
