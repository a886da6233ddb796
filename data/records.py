"""From a data set's files to the list of its images and labels, all checked."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.coco_json import list_coco_images
from data.dataset_spec import DatasetSpec
from data.image_facts import ImageFacts, ImageIndex
from data.label_rules import (
    LabelledImage,
    Listing,
    Problem,
    UnreadableLabelsError,
)
from data.labels import list_yolo_images
from data.scan_result import ScanResult, check_usable, download_hint
from data.split_spec import CocoSplit, MergedSplit, PlainSplit, SharedSplit, YoloSplit
from utils.errors import DatasetError
from utils.logs import Progress, counted
from utils.structures import ImageRecord, Targets

logger = logging.getLogger(__name__)
MAX_PROBLEMS_SHOWN = 20
MAX_THREADS = 16
MANY_WITHOUT_FILE = 0.1  # of the images: more suggest that the labels are in another folder
_CHUNK = 2048  # images handed to the threads at once, so that a large set needs no large queue


def read_records(
    spec: DatasetSpec,
    split: str,
    *,
    strict: bool = False,
    single_class: bool = False,
    outlines: bool = False,
    indexed: bool = True,
) -> tuple[ImageRecord, ...]:
    """The usable images of a split, after logging a summary and the problems.

    Args:
        spec: the data set.
        split: "train", "val" or "test".
        strict: make anything wrong with images or labels an error.
        single_class: take every object as class 0.
        outlines: keep the polygons of objects.
        indexed: decode no image that an earlier run found sound and that has not changed.

    Raises:
        DatasetError: files are missing, a class is beyond the names, no image is usable, or
            (with `strict`) anything is wrong.
    """
    index = ImageIndex(spec.path if indexed else None)
    result = scan_split(spec, split, single_class=single_class, outlines=outlines, index=index)
    index.save()
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
    _warn_about_labels(result, split)
    return result.records


def _warn_about_labels(result: ScanResult, split: str) -> None:
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


def scan_split(
    spec: DatasetSpec,
    split: str,
    *,
    single_class: bool = False,
    outlines: bool = False,
    index: ImageIndex | None = None,
) -> ScanResult:
    """Read and check every image and label of a split; polygons only with `outlines`.

    Images that `index` knows are not decoded.

    Raises:
        DatasetError: files are missing, or have two meanings.
    """
    listing = list_split(spec, split, single_class=single_class)
    images = listing.images
    records: list[ImageRecord] = []
    found = list(listing.problems)
    missing_labels: Path | None = None
    num_without_file = 0
    files: list[ImageFacts] = []
    checked = Progress(
        _check_all(images, index or ImageIndex(None)), len(images), f"reading {split}", "image"
    )
    with warnings.catch_warnings():
        # Pillow also warns about odd metadata; what makes an image unusable is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for image, (record, file, has_labels, its_problems) in zip(images, checked, strict=True):
            found.extend(its_problems)
            if record is not None and file is not None:
                files.append(file)
                record = _as_one_class(record) if single_class else record
                records.append(record if outlines else replace(record, outlines=()))
                num_without_file += not has_labels
                missing_labels = missing_labels or (None if has_labels else image.label_file)
    notes = [*_repeated(records, files), *_rescaled(records, files)]
    return ScanResult(tuple(records), (*notes, *found), num_without_file, missing_labels)


def list_split(spec: DatasetSpec, split: str, *, single_class: bool = False) -> Listing:
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
        listing = _list_source(spec, source.source, single_class)
    except DatasetError as error:
        raise DatasetError(f"{error}{download_hint(spec)}") from None
    from data.held_out import held_out_split  # most data sets have splits of their own

    chosen = zip(listing.images, held_out_split(listing.images, source.shares), strict=True)
    images = tuple(image for image, part in chosen if part == split)
    return Listing(images, listing.problems if split == "train" else ())


def _list_source(
    spec: DatasetSpec, source: PlainSplit | MergedSplit, single_class: bool
) -> Listing:
    """All images of a source, numbered from 0 where it merges several."""
    if not isinstance(source, MergedSplit):
        return _list_part(spec, source, single_class)
    parts = [_list_part(spec, part, single_class) for part in source.parts]
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
    from data.voc_split import list_voc_images  # loads a parser of xml

    return list_voc_images(part.images, part.annotations, part.split, class_names)


def _check_all(
    images: Sequence[LabelledImage], index: ImageIndex
) -> Iterator[tuple[ImageRecord | None, ImageFacts | None, bool, tuple[Problem, ...]]]:
    """Check images on several threads (decoding releases Python's lock), results in order."""
    check = functools.partial(_check_image, index=index)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), _CHUNK):
            yield from pool.map(check, images[start : start + _CHUNK])


def _check_image(
    image: LabelledImage, index: ImageIndex
) -> tuple[ImageRecord | None, ImageFacts | None, bool, tuple[Problem, ...]]:
    """Record and file of one image (None: skipped), whether it has labels, and its problems."""
    try:
        file = index.examine(image.path)
    except DatasetError as error:
        return None, None, False, (Problem("unreadable", f"{error}; image skipped"),)
    try:
        labels = image.read_labels(file.image_hw)
    except UnreadableLabelsError as error:
        return None, None, False, (Problem("unreadable", str(error)),)
    record = ImageRecord(
        path=image.path,
        image_hw=file.image_hw,
        targets=labels.targets,
        image_id=image.image_id,
        areas=labels.areas,
        crowd=labels.crowd,
        outlines=labels.outlines,
    )
    return record, file, labels.has_file, labels.problems


def _as_one_class(record: ImageRecord) -> ImageRecord:
    def as_class_0(targets: Targets) -> Targets:
        return Targets(targets.boxes, np.zeros_like(targets.class_ids))

    return replace(record, targets=as_class_0(record.targets), crowd=as_class_0(record.crowd))


def _repeated(records: Sequence[ImageRecord], files: Sequence[ImageFacts]) -> Iterator[Problem]:
    """Notes on images that are listed twice, and on copies under other names."""
    paths = Counter(record.path for record in records)
    again = [path for path, count in paths.items() if count > 1]
    if again:
        yield _note(
            f"{counted(len(again), 'image')} listed more than once and counted as often: "
            f"{_some([str(path) for path in again])}"
        )
    first: dict[bytes, Path] = {}
    copies = []
    for record, file in zip(records, files, strict=True):
        original = first.setdefault(file.digest, record.path)
        if original != record.path:
            copies.append(f"{record.path} = {original}")
    if copies:
        copied = counted(len(copies), "image")
        yield _note(f"{copied} with the content of another one: {_some(copies)}")


def _rescaled(records: Sequence[ImageRecord], files: Sequence[ImageFacts]) -> Iterator[Problem]:
    """Notes on images of 16 bits that use fewer."""
    paths: dict[int, list[str]] = {}
    for record, file in zip(records, files, strict=True):
        if file.bits is not None:
            paths.setdefault(file.bits, []).append(str(record.path))
    for bits, found in sorted(paths.items()):
        yield _note(
            f"{counted(len(found), 'image')} with {bits}-bit data in 16 bits, scaled by that "
            f"range: {_some(found)}"
        )


def _note(text: str) -> Problem:
    return Problem("noted", text)


def _some(entries: Sequence[str]) -> str:
    return ", ".join([*entries[:3], *(["..."] if len(entries) > 3 else [])])
