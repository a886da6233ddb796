"""COCO json labels (`instances_*.json`), read in location."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.label_rules import (
    Box,
    LabelledImage,
    LabelSet,
    Problem,
    ProblemKind,
    UnreadableLabelsError,
    check_box,
    make_label_set,
    make_outline,
    make_targets,
)
from utils.errors import DatasetError
from utils.structures import Outline

ROUNDING_PIXELS = 0.02  # boxes are written with two decimals, corner and size


def read_categories(file: Path) -> dict[int, str]:
    """Category id -> name, in ascending order of id.

    Raises:
        DatasetError: the file is missing, or not a COCO json.
    """
    return _categories(file, _read_json(file))


def list_coco_images(
    folder: Path, file: Path, classes: Mapping[int, str] | Sequence[str]
) -> tuple[tuple[LabelledImage, ...], tuple[Problem, ...]]:
    """The images a COCO json lists, sorted by their COCO id, and annotations without an image.

    Args:
        folder: the folder that `file_name` is relative to.
        file: the json.
        classes: category id -> name, in the order of the class ids; or the names alone, by which
            the json's categories are then recognised, whatever their ids.

    Raises:
        DatasetError: the json is missing or malformed, its categories contradict `classes`, or
            an annotation's category is not among them.
    """
    content = _read_json(file)
    if isinstance(classes, Mapping):
        _check_categories(file, content, classes)
        class_of = {category_id: class_id for class_id, category_id in enumerate(classes)}
    else:
        class_of = _classes_by_name(file, content, classes)
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        category_id = annotation.get("category_id")
        if category_id not in class_of:
            raise DatasetError(
                f"{file}: annotation {annotation.get('id')}: category_id is {category_id!r}, but "
                f"the data set's categories are {_shorten(class_of)}; fix the label or "
                "list the category in every json"
            )
        of_image[annotation.get("image_id")].append(annotation)
    images = []
    for image in sorted(content["images"], key=functools.partial(_image_id, file)):
        reader = functools.partial(
            _read_annotations, file, image, of_image.pop(image["id"], []), class_of
        )
        images.append(LabelledImage(folder / image["file_name"], image["id"], reader))
    strays = [
        Problem(
            "dropped",
            f"{file}: annotation {annotation.get('id')}: image_id is {image_id!r}, must be one of "
            "'images'; row dropped",
        )
        for image_id, annotations in of_image.items()
        for annotation in annotations
    ]
    return tuple(images), tuple(strays)


def _read_annotations(
    file: Path,
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    class_of: dict[int, int],
    image_hw: tuple[int, int],
) -> LabelSet:
    """The labels of one image, whose size must be the json's."""
    stated_hw = (image.get("height", image_hw[0]), image.get("width", image_hw[1]))
    if stated_hw != image_hw:
        raise UnreadableLabelsError(
            f"{file}: image {image['id']} ({image['file_name']}): size is "
            f"{stated_hw[1]}x{stated_hw[0]}, but the image's is {image_hw[1]}x{image_hw[0]}; "
            "image skipped"
        )
    boxes: list[Box] = []
    areas: list[float] = []
    crowd_boxes: list[Box] = []
    class_ids: list[int] = []
    crowd_ids: list[int] = []
    outlines: list[Outline] = []
    problems: list[Problem] = []
    for annotation in annotations:
        box, kind, message = _read_box(annotation, image_hw)
        if kind is not None:
            name = f"annotation {annotation.get('id')} ({image['file_name']})"
            problems.append(Problem(kind, f"{file}: {name}: {message}"))
        if box is None:
            continue
        class_id = class_of[annotation["category_id"]]
        if annotation.get("iscrowd"):
            crowd_boxes.append(box)
            crowd_ids.append(class_id)
        else:
            boxes.append(box)
            areas.append(_area(annotation))
            class_ids.append(class_id)
            outlines.append(_outline(annotation.get("segmentation")))
    crowd = make_targets(crowd_boxes, crowd_ids)
    return make_label_set(boxes, class_ids, problems, areas=areas, crowd=crowd, outlines=outlines)


def _read_box(
    annotation: dict[str, Any], image_hw: tuple[int, int]
) -> tuple[Box | None, ProblemKind | None, str]:
    """`check_box` on an annotation's corner and size, in pixels."""
    try:
        x, y, box_width, box_height = (float(number) for number in annotation["bbox"])
        _area(annotation)
    except (KeyError, TypeError, ValueError):
        found = annotation.get("bbox")
        return None, "dropped", f"bbox is {found!r}, must be [x, y, width, height]; row dropped"
    height, width = image_hw
    corners = (x, y, x + box_width, y + box_height)
    return check_box(corners, (width, height), ROUNDING_PIXELS / min(image_hw))


def _area(annotation: dict[str, Any]) -> float:
    """The stated area in pixels, or that of the box."""
    _, _, width, height = annotation["bbox"]
    return float(annotation.get("area", float(width) * float(height)))


def _outline(segmentation: object) -> Outline:
    """The polygons of an object; none for a run-length mask or a malformed entry."""
    polygons = segmentation if isinstance(segmentation, list) else []
    return make_outline(
        polygon
        for polygon in polygons
        if isinstance(polygon, list) and all(isinstance(number, int | float) for number in polygon)
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{file}: no such file") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read as json: {error}") from None
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(
                f"{file}: must have a list of objects under {key!r} (COCO instances)"
            )
    return dict(content)


def _categories(file: Path, content: dict[str, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for category in content["categories"]:
        category_id, name = category.get("id"), category.get("name")
        if not isinstance(category_id, int) or not isinstance(name, str):
            raise DatasetError(
                f"{file}: category {category!r} must have an integer 'id' and a text 'name'"
            )
        if category_id in categories:
            raise DatasetError(f"{file}: category id {category_id} is given twice")
        categories[category_id] = name
    if not categories:
        raise DatasetError(f"{file}: 'categories' is empty, must name the classes")
    return dict(sorted(categories.items()))


def _check_categories(file: Path, content: dict[str, Any], categories: Mapping[int, str]) -> None:
    """Refuse a json in which an id stands for another known class (a renamed class is fine)."""
    known = set(categories.values())
    for category_id, name in _categories(file, content).items():
        if name in known and name != categories.get(category_id, name):
            raise DatasetError(
                f"{file}: category {category_id} is {name!r}, but it is "
                f"{categories[category_id]!r} in the data set's other files; ids must agree"
            )


def _classes_by_name(
    file: Path, content: dict[str, Any], class_names: Sequence[str]
) -> dict[int, int]:
    """Category id -> class id."""
    class_of = {}
    for category_id, name in _categories(file, content).items():
        if name not in class_names:
            raise DatasetError(
                f"{file}: category {category_id} is {name!r}, which is not among the data set's "
                f"names ({_shorten(class_names)}); add it to names"
            )
        class_of[category_id] = class_names.index(name)
    return class_of


def _image_id(file: Path, image: dict[str, Any]) -> int:
    image_id = image.get("id")
    if not isinstance(image_id, int) or not isinstance(image.get("file_name"), str):
        raise DatasetError(
            f"{file}: image {image!r} must have an integer 'id' and a text 'file_name'"
        )
    return image_id


def _shorten(entries: Iterable[int | str]) -> str:
    names = [str(entry) for entry in entries]
    return ", ".join(names if len(names) <= 10 else [*names[:9], "...", names[-1]])
