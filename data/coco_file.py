"""A COCO json as people have it: what has one meaning is repaired and counted, two are refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.file_states import Evidence
from data.label_rules import Problem
from utils.errors import DatasetError, hint_at
from utils.path_kind import path_kind

Entry = dict[str, Any]
ROOT_ID = 0
MAX_EXACT_FLOAT = 2**53  # above it, neighbouring integers are one float
_INTEGER_TEXT = re.compile(r"\s*-?[0-9]{1,40}\s*")
_FLAGS = {0: False, 1: True, "0": False, "1": True, "": False, None: False}


@dataclass(slots=True)
class Repairs:
    """What was repaired in one file: rule -> how often, and the first case."""

    file: Path
    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, rule: str, case: str) -> None:
        """Count a case; `rule` continues a sentence that starts with the number of cases."""
        count, first = self.found.get(rule, (0, case))
        self.found[rule] = count + 1, first

    def problems(self) -> list[Problem]:
        """One line for each rule."""
        return [
            Problem("repaired", f"{self.file}: {count} {rule} (the first: {first})", count)
            for rule, (count, first) in self.found.items()
        ]


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An entry of "images".

    Attributes:
        image_id: its number, of any size.
        path: the file.
        stated_hw: height and width as far as the json knows them.
    """

    image_id: int
    path: Path
    stated_hw: tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Categories:
    """The classes of a json.

    Attributes:
        names: category id -> name, ids ascending.
        root: the id of a category that only groups the others, as Roboflow writes it.
    """

    names: Mapping[int, str]
    root: int | None

    def without_root(self, wanted: Sequence[str]) -> dict[int, str]:
        """The classes; the group is one only where its name is wanted."""
        keeps = self.root is None or self.names[self.root] in wanted
        return {id_: name for id_, name in self.names.items() if keeps or id_ != self.root}


def read_coco_json(file: Path) -> dict[str, list[Entry]]:
    """The three lists of a COCO instances file.

    Raises:
        DatasetError: the file is missing, or not a COCO json.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file{hint_at(file)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: cannot be read as json: {error}") from None
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(
                f"{file}: must have a list of objects under {key!r} (COCO instances)"
            )
    return dict(content)


def make_categories(content: Mapping[str, Sequence[Entry]], repairs: Repairs) -> Categories:
    """The categories of a json.

    Raises:
        DatasetError: an id or a name is missing, an id stands for two names, or there are none.
    """
    names: dict[int, str] = {}
    for category in content["categories"]:
        category_id, name = to_integer(category.get("id")), category.get("name")
        if category_id is None or not isinstance(name, str):
            raise DatasetError(
                f"{repairs.file}: category {category!r} must have an integer 'id' and a text 'name'"
            )
        if names.get(category_id, name) != name:
            raise DatasetError(
                f"{repairs.file}: category id {category_id} is given twice, as "
                f"{names[category_id]!r} and as {name!r}"
            )
        if category_id in names:
            repairs.add("categories are written twice; taken once", f"{category_id}: {name!r}")
        _count_text(repairs, "category ids", category["id"])
        names[category_id] = name
    if not names:
        raise DatasetError(f"{repairs.file}: 'categories' is empty, must name the classes")
    return Categories(dict(sorted(names.items())), _root(content))


def _root(content: Mapping[str, Sequence[Entry]]) -> int | None:
    """The id of Roboflow's first category, which no annotation has and which groups the others."""
    categories = content["categories"]
    found = [
        category
        for category in categories
        if to_integer(category["id"]) == ROOT_ID
        and category.get("supercategory") in (None, "", "none")
    ]
    others = [category for category in categories if to_integer(category["id"]) != ROOT_ID]
    if len(found) != 1 or not others:
        return None
    if any(other.get("supercategory") != found[0]["name"] for other in others):
        return None
    used = any(to_integer(each.get("category_id")) == ROOT_ID for each in content["annotations"])
    return None if used else ROOT_ID


def make_images(
    folder: Path, entries: Sequence[Entry], repairs: Repairs, evidence: Evidence
) -> list[CocoImage]:
    """The images of a json, ids ascending and different.

    Args:
        folder: what `file_name` is relative to.
        entries: of "images".
        repairs: receives what is repaired.
        evidence: is told what was looked at.

    Raises:
        DatasetError: an id or a file name is missing, or an id names two files.
    """
    images: dict[int, CocoImage] = {}
    for entry in entries:
        image = _make_image(folder, entry, repairs, evidence)
        known = images.setdefault(image.image_id, image)
        if known.path != image.path:
            raise DatasetError(
                f"{repairs.file}: image id {image.image_id} is both {str(known.path)!r} and "
                f"{str(image.path)!r}; give each image an id of its own"
            )
        if known is not image:
            repairs.add("images are written twice; taken once", f"id {image.image_id}")
    return [images[image_id] for image_id in sorted(images)]


def _make_image(folder: Path, entry: Entry, repairs: Repairs, evidence: Evidence) -> CocoImage:
    image_id, name = to_integer(entry.get("id")), _to_file_name(entry.get("file_name"))
    if image_id is None or name is None:
        raise DatasetError(
            f"{repairs.file}: image {entry!r} must have an integer 'id' and a text 'file_name'"
        )
    _count_text(repairs, "image ids", entry["id"])
    path = folder / name
    if "\\" in name:
        evidence.note(path)
        if path_kind(path) is None:
            repairs.add("file names have backslashes; read as folders", repr(name))
            path = folder / name.replace("\\", "/")
    sides = tuple(entry.get(key) for key in ("height", "width"))
    height, width = (to_positive(side) for side in sides)
    if any(_is_unusual(entry, key) for key in ("height", "width")):
        rule = "images have no number above 0 as height or width; text is read, others are ignored"
        repairs.add(rule, f"image {image_id}: height {sides[0]!r}, width {sides[1]!r}")
    return CocoImage(image_id, path, (height, width))


def _to_file_name(value: object) -> str | None:
    """A text that can name a file: without NUL and what UTF-8 cannot write; None otherwise."""
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _is_unusual(entry: Entry, key: str) -> bool:
    """Whether a key is there, but not as a number above 0."""
    return key in entry and (isinstance(entry[key], str) or to_positive(entry[key]) is None)


def group_by_image(
    images: Sequence[CocoImage], annotations: Sequence[Entry], repairs: Repairs
) -> tuple[dict[int, list[Entry]], list[Problem]]:
    """Image id -> its annotations, and the annotations without an image."""
    of_image: dict[int, list[Entry]] = {image.image_id: [] for image in images}
    strays: list[Problem] = []
    for annotation in annotations:
        found = annotation.get("image_id")
        image_id = to_integer(found)
        if image_id is None or image_id not in of_image:
            message = f"image_id is {found!r}, must be one of 'images'; row dropped"
            name = f"annotation {annotation.get('id')}"
            strays.append(Problem("dropped", f"{repairs.file}: {name}: {message}"))
            continue
        _count_text(repairs, "annotations' image ids", found)
        of_image[image_id].append(annotation)
        if "area" in annotation and _is_unusual(annotation, "area"):
            rule = "annotations have no number above 0 as area; text is read, else the box's taken"
            repairs.add(rule, f"annotation {annotation.get('id')}: {annotation['area']!r}")
        if isinstance(annotation.get("iscrowd"), str):
            rule = "annotations have iscrowd as text; read as a number"
            repairs.add(rule, f"annotation {annotation.get('id')}: {annotation['iscrowd']!r}")
    return of_image, strays


def join_same_files(
    images: Sequence[CocoImage], of_image: Mapping[int, Sequence[Entry]], repairs: Repairs
) -> list[CocoImage]:
    """The images with each file once: that of the first id that has annotations.

    Raises:
        DatasetError: a file has different annotations under two ids.
    """
    of_path: dict[Path, list[CocoImage]] = {}
    for image in images:
        of_path.setdefault(image.path, []).append(image)
    kept = []
    for path, same in of_path.items():
        labelled = [image for image in same if of_image[image.image_id]]
        first, *others = labelled or same
        kept.append(first)
        ids = ", ".join(str(image.image_id) for image in same)
        if any(_rows(of_image[one.image_id]) != _rows(of_image[first.image_id]) for one in others):
            raise DatasetError(
                f"{repairs.file}: {path} is listed under the image ids {ids}, whose annotations "
                "differ; list each file once, with all its annotations"
            )
        if len(same) > 1:
            repairs.add("files are listed under several image ids; taken once", f"{path}: {ids}")
    return sorted(kept, key=lambda image: image.image_id)


def _rows(annotations: Sequence[Entry]) -> list[str]:
    """What annotations say, whatever their own ids."""
    keys = ("category_id", "bbox", "iscrowd")
    return sorted(repr([annotation.get(key) for key in keys]) for annotation in annotations)


def to_integer(value: object) -> int | None:
    """An id: an integer of any size, also as text or as an exact float; None otherwise."""
    if type(value) is int:  # nearly always
        return value
    if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_FLOAT:
        return int(value)
    return None


def to_positive(value: object) -> float | None:
    """A finite number above 0, also as text; None otherwise."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def to_flag(value: object) -> bool | None:
    """0 or 1, also as text, truth value or null; None otherwise."""
    return _FLAGS.get(value) if isinstance(value, int | float | str | None) else None


def _count_text(repairs: Repairs, what: str, value: object) -> None:
    if not isinstance(value, int):
        repairs.add(f"{what} are not written as integers; read as integers", repr(value))
