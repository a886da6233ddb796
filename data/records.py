"""From a data set's files to the list of its images and labels, all checked."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.coco_json import list_coco_images
from data.dataset_spec import CocoSplit, DatasetSpec, MergedSplit, PlainSplit, YoloSplit
from data.image_file import verify_image
from data.label_rules import (
    LabelledImage,
    Listing,
    Problem,
    ProblemKind,
    UnreadableLabelsError,
)
from data.labels import list_yolo_images
from data.voc_split import list_voc_images
from utils.errors import DatasetError
from utils.logs import Progress
from utils.structures import ImageRecord, Targets

logger = logging.getLogger(__name__)
MAX_PROBLEMS_SHOWN = 20
MAX_THREADS = 16
MANY_WITHOUT_FILE = 0.1  # of the images: more suggest that the labels are in another folder
_CHUNK = 2048  # images handed to the threads at once, so that a large set needs no large queue


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The images of a split and the problems found in it.

    Attributes:
        records: the usable images, in the order of their listing.
        problems: what was skipped, dropped or clipped, in the same order.
        num_without_file: how many of the records have no label file.
        missing_labels: where the label file of the first of them was looked for.
    """

    records: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...]
    num_without_file: int
    missing_labels: Path | None = None

    def count(self, kind: ProblemKind) -> int:
        """How many rows or files have problems of one kind."""
        return sum(problem.count for problem in self.problems if problem.kind == kind)

    def summary(self) -> str:
        """Numbers of images, objects, backgrounds and problems in one line."""
        num_objects = sum(len(record.targets) for record in self.records)
        num_backgrounds = sum(
            len(record.targets) + len(record.crowd) == 0 for record in self.records
        )
        num_crowds = sum(len(record.crowd) for record in self.records)
        crowds = f"{num_crowds} crowd regions, " if num_crowds else ""
        more = ", ".join(
            f"{count} {what}"
            for count, what in (
                (self.count("repaired"), "repaired"),
                (self.count("unknown_class"), "of unknown classes"),
                (self.count("orphan"), "label files without an image"),
            )
            if count
        )
        return (
            f"{len(self.records)} images, {num_objects} objects, {crowds}{num_backgrounds} "
            f"backgrounds ({self.num_without_file} without a label file), "
            f"{self.count('unreadable')} images "
            f"skipped, label rows: {self.count('dropped')} dropped, "
            f"{self.count('clipped')} clipped, {self.count('duplicate')} duplicates removed"
            f"{', ' if more else ''}{more}"
        )

    def wrong(self) -> tuple[Problem, ...]:
        """The problems with what the split uses: without notes and label files without image."""
        return tuple(each for each in self.problems if each.kind not in ("noted", "orphan"))


def read_records(
    spec: DatasetSpec,
    split: str,
    *,
    strict: bool = False,
    single_class: bool = False,
    outlines: bool = False,
) -> tuple[ImageRecord, ...]:
    """The usable images of a split, after logging a summary and the problems.

    Args:
        spec: the data set.
        split: "train", "val" or "test".
        strict: make anything wrong with images or labels an error.
        single_class: take every object as class 0.
        outlines: keep the polygons of objects.

    Raises:
        DatasetError: files are missing, a class is beyond the names, no image is usable, or
            (with `strict`) anything is wrong.
    """
    result = scan_split(spec, split, single_class=single_class, outlines=outlines)
    logger.info("%s %s: %s", spec.name, split, result.summary())
    for problem in result.problems[:MAX_PROBLEMS_SHOWN]:
        logger.warning("  %s", problem.text)
    if len(result.problems) > MAX_PROBLEMS_SHOWN:
        logger.warning("  ... and %d more", len(result.problems) - MAX_PROBLEMS_SHOWN)
    wrong = result.wrong()
    if strict and wrong:
        raise DatasetError(f"{wrong[0].text} (strict; {len(wrong)} such in {split})")
    unknown = [problem for problem in wrong if problem.kind == "unknown_class"]
    if unknown:
        more = f" (and {len(unknown) - 1} more like it in {split})" if len(unknown) > 1 else ""
        raise DatasetError(f"{unknown[0].text}{more}")
    check_usable(spec, split, result)
    without, total = result.num_without_file, len(result.records)
    if not any(len(record.targets) for record in result.records):
        logger.warning(
            "  no object is labelled in %s: nothing can be learned from it, and AP on it is 0",
            split,
        )
    elif without > MANY_WITHOUT_FILE * total:
        logger.warning(
            "  %d of the %d images of %s have no label file and are taken as backgrounds",
            without,
            total,
            split,
        )
    return result.records


def check_usable(spec: DatasetSpec, split: str, result: ScanResult) -> None:
    """Refuse a split that nothing can be learned from, or in which AP would mean nothing.

    Raises:
        DatasetError: no image is usable; or no label file is found, or nothing but crowd regions
            (unless the yaml says `background_only: true`).
    """
    if not result.records:
        reason = (
            f": {result.problems[0].text}" if result.problems else f" ({_location(spec, split)})"
        )
        raise DatasetError(f"{spec.name}: no usable image in {split}{reason}{_hint(spec)}")
    if spec.background_only:
        return
    num_crowds = sum(len(record.crowd) for record in result.records)
    if num_crowds and not any(len(record.targets) for record in result.records):
        raise DatasetError(
            f"{spec.name}: all {num_crowds} labels of {split} are crowd regions, which are not "
            "learned and in which detections do not count; set iscrowd (COCO) or difficult (VOC) "
            "to 0 where a label is one object"
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


def scan_split(
    spec: DatasetSpec, split: str, *, single_class: bool = False, outlines: bool = False
) -> ScanResult:
    """Read and check every image and label of a split; polygons only with `outlines`.

    Raises:
        DatasetError: files are missing, or have two meanings.
    """
    listing = _list_images(spec, split, single_class)
    images = listing.images
    records: list[ImageRecord] = []
    found = list(listing.problems)
    missing_labels: Path | None = None
    num_without_file = 0
    checked = Progress(_check_all(images), len(images), f"reading {split}", "image")
    with warnings.catch_warnings():
        # Pillow also warns about odd metadata; what makes an image unusable is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for image, (record, has_file, its_problems) in zip(images, checked, strict=True):
            found.extend(its_problems)
            if record is not None:
                record = _as_one_class(record) if single_class else record
                records.append(record if outlines else replace(record, outlines=()))
                num_without_file += not has_file
                missing_labels = missing_labels or (None if has_file else image.label_file)
    return ScanResult(tuple(records), tuple(found), num_without_file, missing_labels)


def _list_images(spec: DatasetSpec, split: str, single_class: bool) -> Listing:
    """The images that a split lists, before any is opened, and problems of the list."""
    if split not in spec.splits:
        known = ", ".join(spec.splits)
        raise DatasetError(f"{spec.name}: has no split {split!r} (it has {known})")
    source = spec.splits[split]
    try:
        if not isinstance(source, MergedSplit):
            return _list_part(spec, source, single_class)
        parts = [_list_part(spec, part, single_class) for part in source.parts]
    except DatasetError as error:
        raise DatasetError(f"{error}{_hint(spec)}") from None
    listed = [image for part in parts for image in part.images]
    numbered = (replace(image, image_id=number) for number, image in enumerate(listed))
    return Listing(tuple(numbered), tuple(problem for part in parts for problem in part.problems))


def _list_part(spec: DatasetSpec, part: PlainSplit, single_class: bool) -> Listing:
    class_names = None if single_class else spec.class_names
    if isinstance(part, YoloSplit):
        return list_yolo_images(part.images, class_names)
    if isinstance(part, CocoSplit):
        names = spec.category_names or spec.class_names
        categories = dict(zip(spec.category_ids, names, strict=True))
        classes = spec.class_names if spec.is_merged else categories
        return list_coco_images(part.images, part.annotations, classes)
    return list_voc_images(part.images, part.annotations, part.split, class_names)


def _check_all(
    images: Sequence[LabelledImage],
) -> Iterator[tuple[ImageRecord | None, bool, tuple[Problem, ...]]]:
    """Check images on several threads (decoding releases Python's lock), results in order."""
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), _CHUNK):
            yield from pool.map(_check_image, images[start : start + _CHUNK])


def _check_image(
    image: LabelledImage,
) -> tuple[ImageRecord | None, bool, tuple[Problem, ...]]:
    """The record of one image (None: skipped), whether it has labels, and its problems."""
    try:
        image_hw = verify_image(image.path)
    except DatasetError as error:
        return None, False, (Problem("unreadable", f"{error}; image skipped"),)
    try:
        labels = image.read_labels(image_hw)
    except UnreadableLabelsError as error:
        return None, False, (Problem("unreadable", str(error)),)
    record = ImageRecord(
        path=image.path,
        image_hw=image_hw,
        targets=labels.targets,
        image_id=image.image_id,
        areas=labels.areas,
        crowd=labels.crowd,
        outlines=labels.outlines,
    )
    return record, labels.has_file, labels.problems


def _as_one_class(record: ImageRecord) -> ImageRecord:
    def as_class_0(targets: Targets) -> Targets:
        return Targets(targets.boxes, np.zeros_like(targets.class_ids))

    return replace(record, targets=as_class_0(record.targets), crowd=as_class_0(record.crowd))


def _hint(spec: DatasetSpec) -> str:
    """The yaml's download key in brackets, empty if it has none."""
    if spec.download is None:
        return ""
    first, *more = spec.download.strip().splitlines() or [""]
    return f" (the yaml's download key, not executed here: {first}{' ...' if more else ''})"
