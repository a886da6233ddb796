"""From a data set's files to the list of its images and labels, all checked."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data.coco_json import list_coco_images
from data.dataset_spec import DatasetSpec
from data.file_states import UNSETTLED, Evidence
from data.findings import CheckedImage, FindingRows, unreadable
from data.image_facts import examine_image
from data.label_rules import Listing, Problem, UnreadableLabelsError
from data.labels import list_yolo_images
from data.record_table import RecordTable
from data.scan import ListedImages, Scan
from data.scan_index import Facts, ScanIndex
from data.scan_result import ScanResult, check_usable, download_hint
from data.split_spec import CocoSplit, MergedSplit, PlainSplit, SharedSplit, YoloSplit
from utils.errors import DatasetError
from utils.logs import Progress

logger = logging.getLogger(__name__)
MAX_PROBLEMS_SHOWN = 20
MAX_THREADS = 16
MANY_WITHOUT_FILE = 0.1  # of the images: more suggest that the labels are in another folder
QUICK_SECONDS = 200e-6  # for an image and its labels: one thread checks more than several then
_PART = 32  # images that a thread checks before it asks for others
_PARTS_AHEAD = 64  # handed to the threads at once, so that a large set needs no large queue


def read_records(
    spec: DatasetSpec,
    split: str,
    *,
    strict: bool = False,
    single_class: bool = False,
    outlines: bool = False,
    indexed: bool = True,
) -> RecordTable:
    """The usable images of a split, after logging a summary and the problems.

    Args:
        spec: the data set.
        split: "train", "val" or "test".
        strict: make anything wrong with images or labels an error.
        single_class: take every object as class 0.
        outlines: keep the polygons of objects.
        indexed: read only what has changed since an earlier run.

    Raises:
        DatasetError: files are missing, a class is beyond the names, no image is usable, or
            (with `strict`) anything is wrong.
    """
    index = ScanIndex(spec.path if indexed else None)
    result = scan_split(spec, split, single_class=single_class, outlines=outlines, index=index)
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
    if not len(result.records.boxes):
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
    index: ScanIndex | None = None,
) -> ScanResult:
    """Read and check every image and label of a split; polygons only with `outlines`.

    What `index` knows and has not changed is not read; what is read is kept in it.

    Raises:
        DatasetError: files are missing, or have two meanings.
    """
    index = index or ScanIndex(None)
    classes = None if single_class else spec.class_names
    categories = spec.category_names, spec.category_ids, spec.is_merged
    key = repr((spec.splits.get(split), classes, categories, outlines))
    scan = index.find(key)
    if scan is None or not scan.is_current():
        evidence = Evidence()
        listing = list_split(spec, split, evidence, single_class=single_class)
        rows = FindingRows(outlines=outlines, single_class=single_class)
        scan = _read(listing, evidence, rows, known=scan, index=index, title=f"reading {split}")
        index.keep(key, scan)
    return scan.result()


def list_split(
    spec: DatasetSpec,
    split: str,
    evidence: Evidence | None = None,
    *,
    single_class: bool = False,
) -> Listing:
    """The images of a split, before any is decoded, and problems of the list.

    Args:
        spec: the data set.
        split: one of its splits.
        evidence: is told what was looked at.
        single_class: take every object as class 0.

    Raises:
        DatasetError: there is no such split, or files are missing.
    """
    if split not in spec.splits:
        known = ", ".join(spec.splits)
        raise DatasetError(f"{spec.name}: has no split {split!r} (it has {known})")
    source, evidence = spec.splits[split], evidence or Evidence()
    try:
        if not isinstance(source, SharedSplit):
            return _list_source(spec, source, evidence, single_class)
        listing = _list_source(spec, source.source, evidence, single_class)
    except DatasetError as error:
        raise DatasetError(f"{error} ({split} of {spec.name}){download_hint(spec)}") from None
    from data.held_out import held_out_split  # most data sets have splits of their own

    # All of them decide which are in this one.
    evidence.note(*listing.paths, *filter(None, listing.label_files))
    parts = held_out_split(listing.images, source.shares)
    chosen = [index for index, part in enumerate(parts) if part == split]
    return listing.select(chosen, listing.problems if split == "train" else ())


def _list_source(
    spec: DatasetSpec, source: PlainSplit | MergedSplit, evidence: Evidence, single_class: bool
) -> Listing:
    """All images of a source, numbered from 0 where it merges several."""
    if not isinstance(source, MergedSplit):
        return _list_part(spec, source, evidence, single_class)
    return Listing.merge([_list_part(spec, part, evidence, single_class) for part in source.parts])


def _list_part(
    spec: DatasetSpec, part: PlainSplit, evidence: Evidence, single_class: bool
) -> Listing:
    class_names = None if single_class else spec.class_names
    if isinstance(part, YoloSplit):
        return list_yolo_images(part.images, class_names, evidence)
    if isinstance(part, CocoSplit):
        names = spec.category_names or spec.class_names
        categories = dict(zip(spec.category_ids, names, strict=True))
        classes = spec.class_names if spec.is_merged else categories
        return list_coco_images(part.images, part.annotations, classes, evidence)
    from data.voc_split import list_voc_images  # loads a parser of xml

    return list_voc_images(part.images, part.annotations, part.split, class_names, evidence)


def _read(
    listing: Listing,
    evidence: Evidence,
    rows: FindingRows,
    *,
    known: Scan | None,
    index: ScanIndex,
    title: str,
) -> Scan:
    """Read the images and labels of a listing, as far as they are not known."""
    listed, matches = ListedImages.look(listing), np.full(len(listing.paths), -1)
    if known is not None:
        matches = known.match(listed)
    unknown: list[int] = np.flatnonzero(matches < 0).tolist()
    facts = index.facts({listing.paths[number] for number in unknown})
    checked = Progress(_check_all(listed, unknown, facts), len(unknown), title, "image")
    with warnings.catch_warnings():
        # Pillow also warns about odd metadata; what makes an image unusable is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for number, image in zip(unknown, checked, strict=True):
            rows.append(listing.paths[number], listing.image_ids[number], image)
            if image.try_again:
                listed.label_states[number] = UNSETTLED
    found = rows.findings()
    if known is not None:
        matches[unknown] = len(known.label_files) + np.arange(len(unknown))
        found = known.found.join(found).take(matches)
    return Scan.of(listed, evidence, found)


def _check_all(
    listed: ListedImages, numbers: Sequence[int], facts: Facts
) -> Iterator[CheckedImage]:
    """Check images, in order, on several threads where that is faster.

    Decoding and waiting for files release Python's lock. Threads that do so for moments only lose
    more time by waiting for each other.
    """

    def check(part: Sequence[int]) -> list[CheckedImage]:
        return [_check_image(listed, number, facts) for number in part]

    parts = [numbers[start : start + _PART] for start in range(0, len(numbers), _PART)]
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(parts), _PARTS_AHEAD):
            first, *others = parts[start : start + _PARTS_AHEAD]
            began = time.perf_counter()
            checked = check(first)
            is_quick = time.perf_counter() - began < QUICK_SECONDS * len(first)
            yield from checked
            for checked in map(check, others) if is_quick else pool.map(check, others):
                yield from checked


def _check_image(listed: ListedImages, number: int, known: Facts) -> CheckedImage:
    """Read an image, unless its facts are known, and its labels."""
    path = listed.listing.paths[number]
    state, facts = known.get(path, (UNSETTLED, None))
    try:
        if facts is None or state == UNSETTLED or list(state) != listed.states[number].tolist():
            facts = examine_image(Path(path))
    except DatasetError as error:
        return CheckedImage(reason=unreadable(error))
    try:
        labels = listed.listing.read_labels(number, facts.image_hw)
    except UnreadableLabelsError as error:
        # An error of the system says nothing about the content.
        of_system = isinstance(error.__context__, OSError)
        return CheckedImage(facts, None, Problem("unreadable", str(error)), of_system)
    return CheckedImage(facts, labels)
