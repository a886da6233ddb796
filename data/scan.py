"""What reading a split found, what that depends on, and what of it is still true later."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.file_states import UNSETTLED, Evidence, FolderNames, State, find_states, settled_states
from data.findings import Findings, unreadable
from data.image_facts import ImageFacts, examine_image
from data.label_rules import Listing, Problem
from data.scan_result import ScanResult
from utils.errors import DatasetError
from utils.structures import IntArray


@dataclass(frozen=True, slots=True)
class ListedImages:
    """A listing and the states of its I images before any was read.

    Attributes:
        listing: the images.
        states: (I, 4) theirs.
        label_states: (I, 4) of their label files; UNSETTLED where one file holds all.
    """

    listing: Listing
    states: IntArray
    label_states: IntArray

    @classmethod
    def look(cls, listing: Listing) -> ListedImages:
        """As they are now."""
        states = settled_states(listing.paths)
        label_states = np.full_like(states, UNSETTLED[0])
        has_own = np.array([file is not None for file in listing.label_files], np.bool_)
        label_states[has_own] = settled_states([file for file in listing.label_files if file])
        return cls(listing, states, label_states)


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading a split found in I listed images, and F files that this depends on.

    Attributes:
        folders: folder -> digest of the names in it.
        files: paths of what was read or looked for, first the images; some may be there twice.
        states: (F, 4) int64, their states before that.
        label_files: (I,) int64, index of each image's label file among the files; -1 where one
            file holds all labels.
        reading: see Listing.
        found: in the images.
    """

    folders: Mapping[str, str]
    files: Sequence[str]
    states: IntArray
    label_files: IntArray
    reading: str
    found: Findings

    @classmethod
    def of(cls, listed: ListedImages, evidence: Evidence, found: Findings) -> Scan:
        """Of what was found in the images of a listing.

        Args:
            listed: the images.
            evidence: what the listing depends on.
            found: in them.
        """
        listing, used = listed.listing, np.flatnonzero(found.rows >= 0).tolist()
        records = dataclasses.replace(
            found.records,
            paths=[listing.paths[index] for index in used],
            image_ids=[listing.image_ids[index] for index in used],
        )
        found = dataclasses.replace(found, records=records)
        problems = [(-1, problem) for problem in (*found.notes(), *listing.problems)]
        has_own = np.array([file is not None for file in listing.label_files], np.bool_)
        return cls(
            folders=evidence.folders(),
            files=[*listing.paths, *filter(None, listing.label_files), *evidence.files],
            states=np.concatenate(
                [
                    listed.states,
                    listed.label_states[has_own],
                    np.array(evidence.states, np.int64).reshape(-1, 4),
                ]
            ),
            label_files=np.where(has_own, len(has_own) + np.cumsum(has_own) - 1, -1),
            reading=listing.reading,
            found=dataclasses.replace(found, problems=[*problems, *found.problems]),
        )

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
            _fails_alike(Path(self.files[index]), problem)
            for index, problem in self.found.problems
            if index >= 0 and self.found.facts(index) is None
        )

    def result(self) -> ScanResult:
        """What the run goes on with."""
        found = self.found
        without = np.flatnonzero((found.rows >= 0) & ~found.has_file)
        first = Path(self.files[self.label_files[without[0]]]) if len(without) else None
        problems = tuple(problem for _, problem in found.problems)
        return ScanResult(found.records, problems, len(without), first)

    def facts(self, paths: Collection[str]) -> dict[str, tuple[State, ImageFacts]]:
        """State and facts of those of some images that it knows."""
        known = {}
        for index, path in enumerate(self.files[: len(self.label_files)]):
            if path in paths and (facts := self.found.facts(index)) is not None:
                size, modified, changed, inode = self.states[index].tolist()
                known[path] = (size, modified, changed, inode), facts
        return known

    def match(self, listed: ListedImages) -> IntArray:
        """(I,) which of its images each listed one is, unchanged and not skipped; -1 for none."""
        listing = listed.listing
        index_of = {path: index for index, path in enumerate(self.files[: len(self.label_files)])}
        matches = np.array([index_of.get(path, -1) for path in listing.paths], np.int64)
        if self.reading != listing.reading:
            matches[:] = -1
        at = np.flatnonzero(matches >= 0)
        files = self.label_files[matches[at]]
        same = (self.found.rows[matches[at]] >= 0) & (files >= 0)
        for states, found in (
            (self.states[matches[at]], listed.states[at]),
            (self.states[files], listed.label_states[at]),
        ):
            same &= (states == found).all(1) & (found != UNSETTLED).all(1)
        same &= np.array(
            [
                self.files[file] == listing.label_files[index]
                for file, index in zip(files.tolist(), at.tolist(), strict=True)
            ],
            np.bool_,
        )
        matches[at[~same]] = -1
        return matches


def _fails_alike(path: Path, problem: Problem) -> bool:
    try:
        examine_image(path)
    except DatasetError as error:
        return unreadable(error) == problem
    return False
