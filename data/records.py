"""From a data set's files to the list of its images and labels, all checked."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.coco_json import list_coco_images
from data.dataset_spec import (
    CocoSplit,
    DatasetSpec,
    MergedSplit,
    PlainSplit,
    SharedSplit,
    YoloSplit,
)
from data.held_out import held_out_split
from data.image_file import ImageFacts, examine_image
from data.label_rules import LabelledImage, Problem, ProblemKind, UnreadableLabelsError
from data.labels import list_yolo_images
from data.voc_xml import list_voc_images
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
        notes: what is unusual in the split as a whole, and no mistake for sure.
    """

    records: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...]
    num_without_file: int
    notes: tuple[str, ...] = ()

    def count(self, kind: ProblemKind) -> int:
        """The number of problems of one kind."""
        return sum(problem.kind == kind for problem in self.problems)

    def summary(self) -> str:
        """Numbers of images, objects, backgrounds and problems in one line."""
        num_objects = sum(len(record.targets) for record in self.records)
        num_backgrounds = sum(
            len(record.targets) + len(record.crowd) == 0 for record in self.records
        )
        return (
            f"{len(self.records)} images, {num_objects} objects, {num_backgrounds} backgrounds "
            f"({self.num_without_file} without a label file), {self.count('unreadable')} images "
            f"skipped, label rows: {self.count('dropped')} dropped, "
            f"{self.count('clipped')} clipped, {self.count('duplicate')} duplicates removed"
        )


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
    for note in result.notes:
        logger.warning("  %s", note)
    if strict and result.problems:
        raise DatasetError(
            f"{result.problems[0].text} (strict; {len(result.problems)} such in {split})"
        )
    if not result.records:
        reason = f": {result.problems[0].text}" if result.problems else " (none is listed)"
        raise DatasetError(f"{spec.name}: no usable image in {split}{reason}{_hint(spec)}")
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


def scan_split(
    spec: DatasetSpec, split: str, *, single_class: bool = False, outlines: bool = False
) -> ScanResult:
    """Read and check every image and label of a split; polygons only with `outlines`.

    Raises:
        DatasetError: files are missing, or a class is beyond the names.
    """
    images, problems = list_split(spec, split, single_class=single_class)
    records: list[ImageRecord] = []
    found = list(problems)
    num_without_file = 0
    all_facts: list[ImageFacts] = []
    checked = Progress(_check_all(images), len(images), f"reading {split}", "image")
    with warnings.catch_warnings():
        # Pillow also warns about odd metadata; what makes an image unusable is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for record, facts, has_file, its_problems in checked:
            found.extend(its_problems)
            if record is not None and facts is not None:
                all_facts.append(facts)
                record = _as_one_class(record) if single_class else record
                records.append(record if outlines else replace(record, outlines=()))
                num_without_file += not has_file
    notes = (*_repeated(records, all_facts), *_rescaled(records, all_facts))
    return ScanResult(tuple(records), tuple(found), num_without_file, notes)


def list_split(
    spec: DatasetSpec, split: str, *, single_class: bool = False
) -> tuple[tuple[LabelledImage, ...], tuple[Problem, ...]]:
    """The images of a split, before any is decoded, and problems of the list.

    Raises:
        DatasetError: there is no such split, or files are missing.
    """
    if split not in spec.splits:
        known = ", ".join(spec.splits)
        raise DatasetError(f"{spec.name}: has no split {split!r} (it has {known})")
    source = spec.splits[split]
    try:
        if not isinstance(source, SharedSplit):
            return _list_source(spec, source, single_class)
        images, problems = _list_source(spec, source.source, single_class)
    except DatasetError as error:
        raise DatasetError(f"{error}{_hint(spec)}") from None
    chosen = held_out_split(images, source.shares)
    of_split = (image for image, part in zip(images, chosen, strict=True) if part == split)
    return tuple(of_split), problems if split == "train" else ()


def _list_source(
    spec: DatasetSpec, source: PlainSplit | MergedSplit, single_class: bool
) -> tuple[tuple[LabelledImage, ...], tuple[Problem, ...]]:
    """All images of a source, numbered from 0 where it merges several."""
    if not isinstance(source, MergedSplit):
        return _list_part(spec, source, single_class)
    parts = [_list_part(spec, part, single_class) for part in source.parts]
    listed = [image for images, _ in parts for image in images]
    numbered = (replace(image, image_id=number) for number, image in enumerate(listed))
    return tuple(numbered), tuple(problem for _, problems in parts for problem in problems)


def _list_part(
    spec: DatasetSpec, part: PlainSplit, single_class: bool
) -> tuple[tuple[LabelledImage, ...], tuple[Problem, ...]]:
    class_names = None if single_class else spec.class_names
    if isinstance(part, YoloSplit):
        return list_yolo_images(part.images, class_names), ()
    if isinstance(part, CocoSplit):
        categories = dict(zip(spec.category_ids, spec.class_names, strict=True))
        classes = spec.class_names if spec.is_merged else categories
        return list_coco_images(part.images, part.annotations, classes)
    return list_voc_images(part.images, part.annotations, part.split, class_names), ()


def _check_all(
    images: Sequence[LabelledImage],
) -> Iterator[tuple[ImageRecord | None, ImageFacts | None, bool, tuple[Problem, ...]]]:
    """Check images on several threads (decoding releases Python's lock), results in order."""
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), _CHUNK):
            yield from pool.map(_check_image, images[start : start + _CHUNK])


def _check_image(
    image: LabelledImage,
) -> tuple[ImageRecord | None, ImageFacts | None, bool, tuple[Problem, ...]]:
    """Record and file of one image (None: skipped), whether it has labels, and its problems."""
    try:
        facts = examine_image(image.path)
    except DatasetError as error:
        return None, None, False, (Problem("unreadable", f"{error}; image skipped"),)
    try:
        labels = image.read_labels(facts.image_hw)
    except UnreadableLabelsError as error:
        return None, None, False, (Problem("unreadable", str(error)),)
    record = ImageRecord(
        path=image.path,
        image_hw=facts.image_hw,
        targets=labels.targets,
        image_id=image.image_id,
        areas=labels.areas,
        crowd=labels.crowd,
        outlines=labels.outlines,
    )
    return record, facts, labels.has_file, labels.problems


def _as_one_class(record: ImageRecord) -> ImageRecord:
    def as_class_0(targets: Targets) -> Targets:
        return Targets(targets.boxes, np.zeros_like(targets.class_ids))

    return replace(record, targets=as_class_0(record.targets), crowd=as_class_0(record.crowd))


def _repeated(records: Sequence[ImageRecord], facts: Sequence[ImageFacts]) -> Iterator[str]:
    """A line on images that are listed twice, and one on copies under other names."""
    paths = Counter(record.path for record in records)
    again = [path for path, count in paths.items() if count > 1]
    if again:
        yield (
            f"{len(again)} images are listed more than once and count as often: "
            f"{_some([str(path) for path in again])}"
        )
    first: dict[bytes, Path] = {}
    copies = []
    for record, fact in zip(records, facts, strict=True):
        original = first.setdefault(fact.digest, record.path)
        if original != record.path:
            copies.append(f"{record.path} = {original}")
    if copies:
        yield f"{len(copies)} images are copies of others: {_some(copies)}"


def _rescaled(records: Sequence[ImageRecord], facts: Sequence[ImageFacts]) -> Iterator[str]:
    """A line on images of 16 bits that use fewer."""
    counts = Counter(fact.bits for fact in facts if fact.bits is not None)
    for bits, count in sorted(counts.items()):
        first = next(
            record.path for record, fact in zip(records, facts, strict=True) if fact.bits == bits
        )
        yield (
            f"{count} images hold {bits}-bit data in 16-bit files and are scaled by that range: "
            f"{first}{', ...' if count > 1 else ''}"
        )


def _some(entries: Sequence[str]) -> str:
    return ", ".join([*entries[:3], *(["..."] if len(entries) > 3 else [])])


def _hint(spec: DatasetSpec) -> str:
    """The yaml's download key in brackets, empty if it has none."""
    if spec.download is None:
        return ""
    first, *more = spec.download.strip().splitlines() or [""]
    return f" (the yaml's download key, not executed here: {first}{' ...' if more else ''})"
