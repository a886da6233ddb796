"""A share of a data set's images held out for validation, the same one every time.

Which images these are depends on names and contents of the files and on their classes, on nothing
else: not on their folder, their order or a seed.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from data.image_file import read_content
from data.image_formats import read_header
from data.label_rules import LabelledImage, UnreadableLabelsError
from utils.errors import DatasetError
from utils.logs import Progress

REST = "train"  # holds what no other split does
Shares = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What decides which split an image goes to.

    Attributes:
        name: of the file, without its folder.
        digest: of its content; images of one content go to one split.
        classes: of the objects that it shows.
    """

    name: str
    digest: bytes
    classes: frozenset[int] = frozenset()


def held_out_split(images: Sequence[LabelledImage], shares: Shares) -> list[str]:
    """The split of each image; reads all files, but decodes no image.

    Args:
        images: of the whole data set.
        shares: split name -> share of the images, for the splits besides train.

    Raises:
        DatasetError: a class is beyond the names.
    """
    with ThreadPoolExecutor() as pool:
        found = pool.map(_candidate, images)
        return choose_splits(list(Progress(found, len(images), "splitting", "image")), shares)


def choose_splits(candidates: Sequence[Candidate], shares: Shares) -> list[str]:
    """The split of each candidate.

    Images of one content are a group. Groups are sorted into strata by the rarest class they show,
    and of each stratum those whose names have the smallest hashes are held out, so that each class
    is divided like the whole. The only group with a class stays in train.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, candidate in enumerate(candidates):
        groups[candidate.digest].append(index)
    split_of = dict.fromkeys(groups, REST)
    due = dict.fromkeys((name for name, _ in shares), 0.0)  # images that should be there by now
    for class_id, digests in _strata(candidates, groups):
        free = len(digests) - (class_id is not None)
        position = 0
        for name, share in shares:
            due[name] += share * len(digests)
            count = max(min(math.floor(due[name] + 0.5), free), 0)
            due[name] -= count
            free -= count
            for digest in digests[position : position + count]:
                split_of[digest] = name
            position += count
    _fill_empty(split_of, [name for name, _ in shares], _hashes(candidates, groups))
    return [split_of[candidate.digest] for candidate in candidates]


def _strata(
    candidates: Sequence[Candidate], groups: dict[bytes, list[int]]
) -> Iterator[tuple[int | None, list[bytes]]]:
    """A class and the groups whose rarest class it is, in the order of their hashes.

    Rare classes first: what rounding gives or takes is made up for in larger strata. None is the
    class of backgrounds, last.
    """
    classes = {
        digest: frozenset[int]().union(*(candidates[index].classes for index in members))
        for digest, members in groups.items()
    }
    counts = Counter(class_id for each in classes.values() for class_id in each)
    strata: dict[int | None, list[bytes]] = defaultdict(list)
    hashes = _hashes(candidates, groups)
    for digest in sorted(groups, key=lambda each: hashes[each]):
        rarest = min(classes[digest], key=lambda each: (counts[each], each), default=None)
        strata[rarest].append(digest)
    backgrounds = strata.pop(None, [])
    for class_id in sorted(strata, key=lambda each: (counts[each], each)):  # type: ignore[index]
        yield class_id, strata[class_id]
    yield None, backgrounds


def _hashes(
    candidates: Sequence[Candidate], groups: dict[bytes, list[int]]
) -> dict[bytes, tuple[bytes, bytes]]:
    """By what groups are sorted: the smallest hash of their names, then their content."""
    return {
        digest: (min(_hash(candidates[index].name) for index in members), digest)
        for digest, members in groups.items()
    }


def _hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


def _fill_empty(
    split_of: dict[bytes, str], names: Iterable[str], hashes: dict[bytes, tuple[bytes, bytes]]
) -> None:
    """Give a split that got nothing one group of train, if that keeps one."""
    for name in names:
        train = [digest for digest, split in split_of.items() if split == REST]
        if name not in split_of.values() and len(train) > 1:
            split_of[min(train, key=lambda each: hashes[each])] = name


def _candidate(image: LabelledImage) -> Candidate:
    """Of a file that cannot be read, its name alone decides: the scan reports it."""
    try:
        content = read_content(image.path)
        image_hw = read_header(image.path, content).image_hw
    except DatasetError:
        return Candidate(image.path.name, os.fsencode(image.path))
    digest = hashlib.sha256(content).digest()
    try:
        labels = image.read_labels(image_hw)
    except UnreadableLabelsError:
        return Candidate(image.path.name, digest)
    return Candidate(image.path.name, digest, frozenset(labels.targets.class_ids.tolist()))
