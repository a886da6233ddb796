"""What reading a split has found, labels without images too, and whether it can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset_spec import DatasetSpec
from data.file_states import Evidence
from data.label_rules import Problem, ProblemKind
from data.listing import stem
from data.record_table import RecordTable
from data.split_spec import MergedSplit, PlainSplit, SharedSplit, YoloSplit
from utils.errors import DatasetError
from utils.logs import counted


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The images of a split and the problems found in it.

    Attributes:
        records: the usable images, in the order of their listing.
        problems: what was skipped, dropped or clipped, in the same order.
        num_without_file: how many of the records have no label file.
        missing_labels: where the label file of the first of them was looked for.
    """

    records: RecordTable
    problems: tuple[Problem, ...]
    num_without_file: int
    missing_labels: Path | None = None

    def count(self, kind: ProblemKind) -> int:
        """How many rows or files have problems of one kind."""
        return sum(problem.count for problem in self.problems if problem.kind == kind)

    def summary(self) -> str:
        """Numbers of images and objects, and of what else there is, in one line."""
        records = self.records
        without = f" ({self.num_without_file} without a label file)" * bool(self.num_without_file)
        found = (
            (len(records.crowd_ids), "crowd region", ""),
            (records.num_backgrounds, "background", without),
            (self.count("unreadable"), "image", " skipped"),
            (self.count("dropped"), "label row", " dropped"),
            (self.count("clipped"), "label row", " clipped"),
            (self.count("duplicate"), "duplicate label row", " removed"),
            (self.count("repaired"), "value", " repaired"),
            (self.count("unknown_class"), "label row", " of unknown classes"),
            (self.count("orphan"), "label file", " without an image"),
        )
        entries = [counted(len(records), "image"), counted(len(records.boxes), "object")]
        entries += [counted(count, noun) + rest for count, noun, rest in found if count]
        return ", ".join(entries)

    def wrong(self) -> tuple[Problem, ...]:
        """The problems with what the split uses: without notes and label files without image."""
        return tuple(each for each in self.problems if each.kind not in ("noted", "orphan"))


def check_usable(spec: DatasetSpec, split: str, result: ScanResult) -> None:
    """Refuse a split that nothing can be learned from, or in which AP would mean nothing.

    Raises:
        DatasetError: no image is usable; or no label file is found, or nothing but crowd regions,
            or nothing but rows that are dropped (unless the yaml says `background_only: true`).
    """
    if not result.records:
        reason = (
            f": {result.problems[0].text}" if result.problems else f" ({_location(spec, split)})"
        )
        raise DatasetError(f"{spec.name}: no usable image in {split}{reason}{download_hint(spec)}")
    if spec.background_only:
        return
    num_crowds = len(result.records.crowd_ids)
    if num_crowds and not len(result.records.boxes):
        raise DatasetError(
            f"{spec.name}: {split} has {counted(num_crowds, 'crowd region')} and no object; crowd "
            "regions are not learned, and in them detections do not count; set iscrowd (COCO) or "
            "difficult (VOC) to 0 where a label is one object"
        )
    dropped = [problem for problem in result.problems if problem.kind == "dropped"]
    if dropped and not len(result.records.boxes):
        raise DatasetError(
            f"{spec.name}: no label row of {split} can be used, "
            f"{counted(result.count('dropped'), 'row')} dropped; the first: {dropped[0].text}"
        )
    if result.num_without_file == len(result.records):
        raise DatasetError(
            f"{spec.name}: none of the {len(result.records)} images of {split} has a label file; "
            f"{result.missing_labels} was looked for first. {_other_labels(result)}If these images "
            "show background only, write background_only: true in the data yaml"
        )


def _location(spec: DatasetSpec, split: str) -> str:
    """Where a split's images were looked for."""
    source = spec.splits[split]
    source = source.source if isinstance(source, SharedSplit) else source
    parts = source.parts if isinstance(source, MergedSplit) else (source,)
    found = [path for part in parts for path in _image_paths(part)]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"none is listed in {found[0]}{more}"


def _image_paths(part: PlainSplit) -> tuple[Path, ...]:
    return part.images if isinstance(part, YoloSplit) else (part.images,)


def _other_labels(result: ScanResult) -> str:
    """A hint at labels of another format beside those looked for, empty if there are none."""
    folders = {result.records[0].path.parent}
    folders |= set() if result.missing_labels is None else {result.missing_labels.parent}
    forms = {".xml": "annotations: ...} (Pascal VOC)", ".json": "annotations: FILE} (COCO)"}
    for suffix, form in forms.items():
        found = next((path for folder in folders for path in folder.glob(f"*{suffix}")), None)
        if found is not None and (result.missing_labels or found).suffix != suffix:
            return f"{found} is there: did you mean {{images: ..., {form}? "
    return ""


def download_hint(spec: DatasetSpec) -> str:
    """The yaml's download key in brackets, empty if it has none."""
    if spec.download is None:
        return ""
    first, *more = spec.download.strip().splitlines() or [""]
    return f" (the yaml's download key, not executed here: {first}{' ...' if more else ''})"


MIN_NUMBERS = 5  # of a row; other .txt files beside images hold class names or notes


def find_orphans(
    images: Sequence[str], label_files: Sequence[str], evidence: Evidence
) -> list[Problem]:
    """One problem for each folder that has YOLO label files without an image.

    A label file whose image is in the folder but not in the list is none.

    Args:
        images: paths of images.
        label_files: theirs.
        evidence: is told what was looked at.
    """
    image_folders: dict[str, set[str]] = {}  # here a folder is what the paths in it begin with
    expected = set(label_files)
    for image, file in zip(images, label_files, strict=True):
        start, end = (path[: path.rfind(os.sep) + 1] for path in (image, file))
        image_folders.setdefault(end, set()).add(start)
    problems = []
    for start in sorted(image_folders, key=Path):
        folder = Path(start)
        unclaimed = sorted(
            name
            for name in _files(folder, evidence)
            if name.lower().endswith(".txt") and start + name not in expected
        )
        if not unclaimed:
            continue
        claimed = {
            stem(name)
            for source in image_folders[start]
            for name in _files(Path(source), evidence)
            if not name.lower().endswith(".txt")
        }
        claimed -= {stem(path[len(start) :]) for path in expected if path.startswith(start)}
        orphans = [name for name in unclaimed if stem(name) not in claimed]
        orphans = [name for name in orphans if _has_row(folder / name, evidence)]
        problems += [orphan_problem(folder, orphans)] if orphans else []
    return problems


def orphan_problem(folder: Path, names: list[str]) -> Problem:
    """The problem of label files in a folder, at least one."""
    text = f"{folder}: {counted(len(names), 'label file')} without an image (the first: {names[0]})"
    return Problem("orphan", text, len(names))


def _files(folder: Path, evidence: Evidence) -> Iterator[str]:
    """Names in a folder, hidden ones and folders skipped; none where it is missing."""
    return (name for name in evidence.folder(folder).files if not name.startswith("."))


def _has_row(path: Path, evidence: Evidence) -> bool:
    """Whether the first line of a file is that of a label file."""
    evidence.note(path)
    try:
        with path.open("rb") as file:
            columns = file.readline(4096).split()
        return len([float(column) for column in columns]) >= MIN_NUMBERS
    except (OSError, ValueError):
        return False
