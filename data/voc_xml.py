"""Pascal VOC xml labels, read in location.

VOC counts pixels from 1 and both ends belong to the box: `xmin` 1, `xmax` 10 is a box 10 px wide at
the left edge, so x1 = xmin - 1 and x2 = xmax.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from data.label_rules import (
    Box,
    LabelSet,
    Problem,
    ProblemKind,
    UnreadableLabelsError,
    check_box,
    make_label_set,
    make_targets,
    no_labels,
)
from utils.errors import suggest

_DIFFICULT = {"0": False, "0.0": False, "": False, "1": True, "1.0": True, "false": False,
              "true": True, "no": False, "yes": True, "unspecified": False}  # fmt: skip
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][\w.-]*)["']""", re.ASCII)
_NOT_EXPATS = frozenset(  # it reads UTF-8, UTF-16 and encodings of one byte a letter
    {"gbk", "gb2312", "gb18030", "big5", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"}
)
EDGES = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = ("annotation", "object")


@dataclass(slots=True)
class _VocObject:
    """One <object> as written: tag -> text, and the line it starts in."""

    line: int
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _VocFile:
    objects: list[_VocObject] = field(default_factory=list)
    size: dict[str, str] = field(default_factory=dict)


def read_voc_file(
    path: Path, image_hw: tuple[int, int], *, class_names: tuple[str, ...] | None
) -> LabelSet:
    """The labels of one image; objects marked difficult become crowd regions.

    A missing file means that the image shows background only.

    Raises:
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
        name = item.texts.get("name", "")
        if class_names is not None and name not in class_names:
            message = f"name is {name!r}, must be one of names{suggest(name, class_names)}"
            problems.append(Problem("unknown_class", f"{location}: {message}"))
            continue
        class_id = 0 if class_names is None else class_names.index(name)
        box, kind, message = _read_box(item.texts, image_hw)
        if kind is not None:
            problems.append(Problem(kind, f"{location}: {message}"))
        if box is None:
            continue
        difficult = _DIFFICULT[_difficult(item.texts)]
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
    encoding = _multi_byte_encoding(content)
    parser = expat.ParserCreate("utf-8" if encoding else None)
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
        parser.Parse(content.decode(encoding).encode() if encoding else content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the others: unknown encodings
        raise UnreadableLabelsError(f"{path}: not valid xml: {error}; image skipped") from None
    return parsed


def _multi_byte_encoding(content: bytes) -> str | None:
    """The encoding that a file declares, if it is one that expat does not read."""
    declared = _DECLARED.match(content)
    name = declared[1].decode() if declared else ""
    return name if name.lower().replace("-", "_") in _NOT_EXPATS else None


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


def _difficult(texts: dict[str, str]) -> str:
    return texts.get("difficult", "").casefold()


def _read_box(
    texts: dict[str, str], image_hw: tuple[int, int]
) -> tuple[Box | None, ProblemKind | None, str]:
    """`check_box` on the object's edges; a file that counts from 0 is one pixel off, no more."""
    found = " ".join(texts.get(edge, "?") for edge in EDGES)
    try:
        x1, y1, x2, y2 = (float(texts[edge]) for edge in EDGES)
    except (KeyError, ValueError):
        rule = "must be four numbers"
        return None, "dropped", f"{' '.join(EDGES)} is {found}, {rule}; row dropped"
    if _difficult(texts) not in _DIFFICULT:
        return None, "dropped", f"difficult is {_difficult(texts)!r}, must be 0 or 1; row dropped"
    if x2 <= x1 or y2 <= y1:
        rule = "must have xmax > xmin and ymax > ymin"
        return None, "dropped", f"{' '.join(EDGES)} is {found}, {rule}; row dropped"
    height, width = image_hw
    return check_box((x1 - 1, y1 - 1, x2, y2), (width, height), 0.0, one_pixel=True)
