"""Which images and xml files a Pascal VOC split has, in the layouts that tools write.

The xml files are in a folder of their own, which mirrors the images' sub-folders or is flat, or lie
beside the images (Roboflow). A split file names images with or without suffix and folder;
without a split file, all images of the folder are meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.file_states import Evidence
from data.file_suffixes import LISTED_SUFFIXES
from data.label_rules import LabelSet, Listing, Problem
from data.listing import read_lines
from data.scan_result import orphan_problem
from data.voc_xml import read_voc_file
from utils.errors import DatasetError, hint_at
from utils.path_kind import path_kind

_XML = frozenset({".xml"})
_CLASS_FILE_LINE = re.compile(r"(.+?)\s+(-1|0|1)")  # `000005 -1`, as in VOC's per-class lists


def list_voc_images(
    images: Path,
    annotations: Path,
    split: Path | None,
    class_names: tuple[str, ...] | None,
    evidence: Evidence | None = None,
) -> Listing:
    """The images of a VOC split, sorted by path, numbered from 0.

    Args:
        images: the folder of the images.
        annotations: the folder of the xml files.
        split: one name per line; None for all images.
        class_names: the names objects may have; None takes every name as class 0.
        evidence: is told what was looked at.

    Raises:
        DatasetError: the split file or a folder is missing, or a line names two images.
    """
    evidence = evidence or Evidence()
    for folder in (images, annotations):
        if path_kind(folder) != "folder":
            raise DatasetError(f"{folder}: no such folder{hint_at(folder)}")
        evidence.note_tree(folder)
    known = _KnownImages.search(images, evidence)
    problems: list[Problem] = []
    if split is None:
        listed = list(known.files)
    else:
        evidence.note(split)
        listed, problems = _named_images(known, split)
    xmls = _XmlFiles(
        frozenset(_search(annotations, _XML, evidence)),
        Counter(file.stem for file in known.files),
    )
    orphans = xmls.orphans(known.files)
    problems += [orphan_problem(annotations, orphans)] if orphans else []
    listed.sort()
    files = [annotations / xmls.of(image) for image in listed]

    def read_labels(index: int, image_hw: tuple[int, int]) -> LabelSet:
        return read_voc_file(files[index], image_hw, class_names=class_names)

    return Listing(
        [str(images / image) for image in listed],
        range(len(listed)),
        [str(file) for file in files],
        read_labels,
        tuple(problems),
    )


def _named_images(known: _KnownImages, split: Path) -> tuple[list[PurePosixPath], list[Problem]]:
    """The images that the lines of a file name, each once."""
    named = [known.find(line, split) for line in read_lines(split)]
    listed = list(dict.fromkeys(named))
    again = len(named) - len(listed)
    if not again:
        return listed, []
    ((first, _),) = Counter(named).most_common(1)
    text = f"{again} lines name an image again ({first}, ...); taken once"
    return listed, [Problem("duplicate", f"{split}: {text}", again)]


def _search(folder: Path, suffixes: frozenset[str], evidence: Evidence) -> Iterator[PurePosixPath]:
    """Files of these suffixes in a folder and its sub-folders, relative to it, hidden ones not."""
    for path in sorted(folder.rglob("*")):
        relative = PurePosixPath(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in suffixes or hidden:
            continue
        if path.is_file():
            yield relative
        else:
            evidence.note(path)  # a link to nothing may lead to a file later


@dataclass(frozen=True, slots=True)
class _KnownImages:
    """The image files of a folder.

    Attributes:
        folder: of the images.
        files: relative to it, sorted.
        index: what a split file may call an image (its path, or the same without suffix) -> files.
    """

    folder: Path
    files: tuple[PurePosixPath, ...]
    index: Mapping[PurePosixPath, Sequence[PurePosixPath]]

    @classmethod
    def search(cls, folder: Path, evidence: Evidence) -> _KnownImages:
        """Those in a folder and its sub-folders."""
        files = tuple(_search(folder, LISTED_SUFFIXES, evidence))
        index: dict[PurePosixPath, list[PurePosixPath]] = {}
        for file in files:
            index.setdefault(file.with_suffix(""), []).append(file)
        return cls(folder, files, {**index, **{file: [file] for file in files}})

    def find(self, line: str, split: Path) -> PurePosixPath:
        """The image that a line of a split file names; one that is missing is named as it would be.

        Raises:
            DatasetError: two images have this name.
        """
        match = _CLASS_FILE_LINE.fullmatch(line)
        names = [line] if match is None else [line, match[1]]
        for entry in (reading for name in names for reading in self._readings(name)):
            found = self.index.get(entry, ())
            if len(found) > 1:
                raise DatasetError(
                    f"{split}: {line!r} names both {found[0]} and {found[1]}; write the suffix"
                )
            if found:
                return found[0]
        entry = self._readings(names[-1])[-1]
        # A missing image gets VOC's usual suffix, and is then reported as missing.
        has_suffix = entry.suffix.lower() in LISTED_SUFFIXES
        return entry if has_suffix else PurePosixPath(f"{entry}.jpg")

    def _readings(self, name: str) -> list[PurePosixPath]:
        """A name as it is, and without the folders that lead to the images (`JPEGImages/a`)."""
        entry = PurePosixPath(name.replace("\0", "").replace("\\", "/"))
        readings = [entry]
        for count in range(1, len(entry.parts)):
            if self.folder.absolute().parts[-count:] == entry.parts[:count]:
                readings.append(PurePosixPath(*entry.parts[count:]))
        return readings


@dataclass(frozen=True, slots=True)
class _XmlFiles:
    """The xml files of a folder.

    Attributes:
        files: relative to it.
        stems: how many images have a name without suffix, whatever their folders.
    """

    files: frozenset[PurePosixPath]
    stems: Counter[str]

    def of(self, image: PurePosixPath) -> PurePosixPath:
        """Where the labels of an image are, or would be."""
        mirrored, flat = image.with_suffix(".xml"), PurePosixPath(f"{image.stem}.xml")
        candidates = [mirrored, PurePosixPath(f"{image}.xml")]
        # Images of one name in two folders cannot both have the one file.
        candidates += [flat] if self.stems[image.stem] == 1 else []
        candidates += [file.with_suffix(".XML") for file in candidates]
        return next((file for file in candidates if file in self.files), mirrored)

    def orphans(self, images: Sequence[PurePosixPath]) -> list[str]:
        """Xml files that belong to none of the images, sorted."""
        return sorted(str(file) for file in self.files - {self.of(image) for image in images})
