"""Pascal VOC xml labels, read in location.

VOC counts pixels from 1 and both ends belong to the box: `xmin` 1, `xmax` 10 is a box 10 px wide at
the left edge, so x1 = xmin - 1 and x2 = xmax.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from data.image_file import LISTED_SUFFIXES
from data.label_rules import (
    Box,
    LabelledImage,
    LabelSet,
    Problem,
    ProblemKind,
    UnreadableLabelsError,
    check_box,
    make_label_set,
    make_targets,
    no_labels,
)
from data.listing import read_lines
from utils.errors import DatasetError
from utils.strict_yaml import suggest

EDGES = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = ("annotation", "object")
_CLASS_FILE_LINE = re.compile(r"(.+?)\s+(-1|0|1)")  # `000005 -1`, as in VOC's per-class lists


@dataclass(slots=True)
class _VocObject:
    """One <object> as written: tag -> text, and the line it starts in."""

    line: int
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _VocFile:
    objects: list[_VocObject] = field(default_factory=list)
    size: dict[str, str] = field(default_factory=dict)


def list_voc_images(
    images: Path, annotations: Path, split: Path | None, class_names: tuple[str, ...] | None
) -> tuple[LabelledImage, ...]:
    """The images a VOC split file names, sorted by path, numbered from 0.

    Args:
        images: the folder of the images.
        annotations: the folder of the xml files.
        split: one name per line, without suffix; None for all images of the folder.
        class_names: the names objects may have; None takes every name as class 0.

    Raises:
        DatasetError: the split file or a folder is missing.
    """
    for folder in (images, annotations):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
    files = {path.stem: path for path in images.iterdir() if path.suffix.lower() in LISTED_SUFFIXES}
    stems = [*files] if split is None else [_stem(line, files.keys()) for line in read_lines(split)]
    # A missing image gets VOC's usual suffix, and is then reported as missing.
    paths = sorted(files.get(stem, images / f"{stem}.jpg") for stem in stems)
    return tuple(
        LabelledImage(
            path,
            image_id,
            functools.partial(
                read_voc_file, annotations / f"{path.stem}.xml", class_names=class_names
            ),
        )
        for image_id, path in enumerate(paths)
    )


def read_voc_file(
    path: Path, image_hw: tuple[int, int], *, class_names: tuple[str, ...] | None
) -> LabelSet:
    """The labels of one image; objects marked difficult become crowd regions.

    A missing file means that the image shows background only.

    Raises:
        DatasetError: an object's name is not among `class_names`.
        UnreadableLabelsError: the file is no xml, declares a document type (which could make
            entities explode), or belongs to an image of another size.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return no_labels()
    except OSError as error:
        raise UnreadableLabelsError(f"{path}: cannot be read: {error}; image skipped") from None
    parsed = _parse(path, content)
    _check_size(path, parsed.size, image_hw)
    rows: dict[tuple[int, Box, bool], int] = {}  # class, box, difficult -> line it came first
    problems: list[Problem] = []
    for item in parsed.objects:
        location = f"{path}:{item.line}"
        class_id = _class_id(location, item.texts.get("name", ""), class_names)
        box, kind, message = _read_box(item.texts, image_hw)
        if kind is not None:
            problems.append(Problem(kind, f"{location}: {message}"))
        if box is None:
            continue
        difficult = item.texts.get("difficult", "0") not in ("0", "")
        first = rows.setdefault((class_id, box, difficult), item.line)
        if first != item.line:
            message = f"same object as in line {first}; duplicate removed"
            problems.append(Problem("duplicate", f"{location}: {message}"))
    crowd = [(box, class_id) for class_id, box, difficult in rows if difficult]
    return make_label_set(
        [box for _, box, difficult in rows if not difficult],
        [class_id for class_id, _, difficult in rows if not difficult],
        problems,
        crowd=make_targets([box for box, _ in crowd], [class_id for _, class_id in crowd]),
    )


def read_object_names(path: Path) -> set[str]:
    """The class names in one xml file.

    Raises:
        UnreadableLabelsError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableLabelsError(f"{path}: cannot be read: {error}") from None
    return {item.texts["name"] for item in _parse(path, content).objects if "name" in item.texts}


def _parse(path: Path, content: bytes) -> _VocFile:
    parsed = _VocFile()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    trail: list[str] = []

    def refuse(*_: object) -> NoReturn:
        raise UnreadableLabelsError(
            f"{path}:{parser.CurrentLineNumber}: document types and entities are not allowed in "
            "label files; image skipped"
        )

    def open_tag(tag: str, _: dict[str, str]) -> None:
        trail.append(tag)
        if tuple(trail) == _OBJECT:
            parsed.objects.append(_VocObject(parser.CurrentLineNumber))

    def close_tag(_: str) -> None:
        trail.pop()

    def text(content: str) -> None:
        if not content.strip():
            return
        if tuple(trail[:-1]) == ("annotation", "size"):
            parsed.size[trail[-1]] = content.strip()
        # Parts of an object (a person's head) have boxes of their own, one level deeper.
        elif tuple(trail[:-1]) in (_OBJECT, (*_OBJECT, "bndbox")):
            parsed.objects[-1].texts[trail[-1]] = content.strip()

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = open_tag
    parser.EndElementHandler = close_tag
    parser.CharacterDataHandler = text
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UnreadableLabelsError(f"{path}: not valid xml: {error}; image skipped") from None
    return parsed


def _check_size(path: Path, size: dict[str, str], image_hw: tuple[int, int]) -> None:
    """Refuse labels made for an image of another size; some tools write 0 for unknown."""
    written = (size.get("height", "0"), size.get("width", "0"))
    try:
        stated = tuple(float(side) for side in written)
    except ValueError:
        stated = (math.nan, math.nan)
    if 0 not in stated and stated != image_hw:
        raise UnreadableLabelsError(
            f"{path}: size is {written[1]}x{written[0]}, but the image's is "
            f"{image_hw[1]}x{image_hw[0]}; image skipped"
        )


def _class_id(location: str, name: str, class_names: tuple[str, ...] | None) -> int:
    if class_names is None:
        return 0
    if name not in class_names:
        raise DatasetError(
            f"{location}: name is {name!r}, must be one of names{suggest(name, class_names)}"
        )
    return class_names.index(name)


def _read_box(
    texts: dict[str, str], image_hw: tuple[int, int]
) -> tuple[Box | None, ProblemKind | None, str]:
    """check_box on the object's edges; a VOC file that counts from 0 is one pixel off, no more."""
    found = " ".join(texts.get(edge, "?") for edge in EDGES)
    try:
        x1, y1, x2, y2 = (float(texts[edge]) for edge in EDGES)
    except (KeyError, ValueError):
        rule = "must be four numbers"
        return None, "dropped", f"{' '.join(EDGES)} is {found}, {rule}; row dropped"
    if x2 <= x1 or y2 <= y1:
        rule = "must have xmax > xmin and ymax > ymin"
        return None, "dropped", f"{' '.join(EDGES)} is {found}, {rule}; row dropped"
    height, width = image_hw
    return check_box((x1 - 1, y1 - 1, x2, y2), (width, height), 0.0)


def _stem(line: str, known: Container[str]) -> str:
    """The image's name in a line of a split file; `photo 1` may be a name or a class list's."""
    match = _CLASS_FILE_LINE.fullmatch(line)
    return line if match is None or line in known else match[1]
