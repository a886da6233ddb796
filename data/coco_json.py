"""COCO json labels (`instances_*.json`), read in location."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.coco_file import (
    Categories,
    CocoImage,
    Entry,
    Repairs,
    group_by_image,
    join_same_files,
    make_categories,
    make_images,
    read_coco_json,
    to_flag,
    to_integer,
    to_positive,
)
from data.file_states import Evidence
from data.label_rules import (
    Box,
    LabelSet,
    Listing,
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
MANY_CROWDS = 0.5  # of the annotations: more suggest a tool that writes masks as crowd regions
MAX_AREA = 1e10  # square pixels: COCO's largest
MAX_CORNER = 1e9  # pixels; what is further away, infinite or NaN is no corner


def read_categories(file: Path, class_names: Sequence[str] = ()) -> dict[int, str]:
    """Category id -> name, in ascending order of id.

    Args:
        file: the json.
        class_names: the yaml's; a category that only groups the others is one where they have it.

    Raises:
        DatasetError: the file is missing or not a COCO json, or (unless `class_names` name them)
            two categories have one name.
    """
    categories = make_categories(read_coco_json(file), Repairs(file)).without_root(class_names)
    first: dict[str, int] = {}
    for category_id, name in categories.items():
        if not class_names and first.setdefault(name, category_id) != category_id:
            raise DatasetError(
                f"{file}: categories {first[name]} and {category_id} are both {name!r}; rename "
                "one, or give names in the data yaml"
            )
    return categories


def list_coco_images(
    folder: Path,
    file: Path,
    classes: Mapping[int, str] | Sequence[str],
    evidence: Evidence | None = None,
) -> Listing:
    """The images a COCO json lists, sorted by their COCO id, and what is wrong with the json.

    Args:
        folder: the folder that `file_name` is relative to.
        file: the json.
        classes: category id -> name in the data set's first json, in the order of the class ids; or
            the names alone, by which the json's categories are then recognised, whatever their ids.
        evidence: is told what was looked at.

    Raises:
        DatasetError: the json is missing or malformed, its categories contradict `classes`, or
            it has two meanings.
    """
    evidence = evidence or Evidence()
    evidence.note(file)
    content, repairs = read_coco_json(file), Repairs(file)
    categories = make_categories(content, repairs)
    if isinstance(classes, Mapping):
        _check_categories(file, categories, classes)
        class_of = {category_id: class_id for class_id, category_id in enumerate(classes)}
    else:
        names = categories.names.items()
        class_of = {id_: classes.index(name) for id_, name in names if name in classes}
    entries = make_images(folder, content["images"], repairs, evidence)
    of_image, strays = group_by_image(entries, content["annotations"], repairs)
    images = join_same_files(entries, of_image, repairs)
    unknown = _unknown_categories(file, content, categories, class_of)
    notes = _notes(file, content, categories, class_of)

    def read_labels(index: int, image_hw: tuple[int, int]) -> LabelSet:
        annotations = of_image[images[index].image_id]
        return _read_annotations(file, images[index], annotations, class_of, image_hw)

    return Listing(
        [str(image.path) for image in images],
        [image.image_id for image in images],
        [None] * len(images),
        read_labels,
        (*repairs.problems(), *notes, *unknown, *strays),
    )


def _check_categories(file: Path, categories: Categories, known: Mapping[int, str]) -> None:
    """Refuse a json in which an id stands for another class than in the data set's first json."""
    for category_id, name in categories.names.items():
        other = known.get(category_id, name)
        if name.strip().casefold() != other.strip().casefold():
            raise DatasetError(
                f"{file}: category {category_id} is {name!r}, but it is {other!r} in the data "
                "set's other files; ids must agree"
            )


def _unknown_categories(
    file: Path,
    content: Mapping[str, Sequence[Entry]],
    categories: Categories,
    class_of: Mapping[int, int],
) -> list[Problem]:
    """One problem for each category that annotations have and the data set has not."""
    found: dict[str, tuple[int, str]] = {}
    for annotation in content["annotations"]:
        category_id = to_integer(annotation.get("category_id"))
        if category_id is not None and category_id in class_of:
            continue
        name = None if category_id is None else categories.names.get(category_id)
        shown = repr(annotation.get("category_id")) + ("" if name is None else f" ({name!r})")
        count, first = found.get(shown, (0, str(annotation.get("id"))))
        found[shown] = count + 1, first
    known = [categories.names.get(category_id, category_id) for category_id in class_of]
    return [
        Problem(
            "unknown_class",
            f"{file}: annotation {first}{f' and {count - 1} more' if count > 1 else ''}: "
            f"category_id is {shown}, but the data set's categories are {_shorten(class_of)} "
            f"({_shorten(known)}); fix the label, or list the category in every json and in names",
            count,
        )
        for shown, (count, first) in found.items()
    ]


def _notes(
    file: Path,
    content: Mapping[str, Sequence[Entry]],
    categories: Categories,
    class_of: Mapping[int, int],
) -> list[Problem]:
    """What is not wrong, but may surprise."""
    notes = []
    if categories.root is not None and categories.root not in class_of:
        message = (
            f"category {categories.root} ({categories.names[categories.root]!r}) only groups the "
            "others and has no annotations; it is no class"
        )
        notes.append(Problem("noted", f"{file}: {message}"))
    total = len(content["annotations"])
    crowds = sum(to_flag(each.get("iscrowd")) is True for each in content["annotations"])
    if crowds > MANY_CROWDS * total:
        message = (
            f"{crowds} of {total} annotations are crowd regions (iscrowd: 1), which are not "
            "learned and in which detections do not count; CVAT writes masks so: set iscrowd to 0 "
            "where an annotation is one object"
        )
        notes.append(Problem("noted", f"{file}: {message}", crowds))
    return notes


def _read_annotations(
    file: Path,
    image: CocoImage,
    annotations: Sequence[Entry],
    class_of: Mapping[int, int],
    image_hw: tuple[int, int],
) -> LabelSet:
    """The labels of one image, whose size must be the json's as far as that is known."""
    height, width = image.stated_hw
    if height not in (None, image_hw[0]) or width not in (None, image_hw[1]):
        stated = "x".join("?" if side is None else f"{side:g}" for side in (width, height))
        raise UnreadableLabelsError(
            f"{file}: image {image.image_id} ({image.path.name}): size is {stated}, but the "
            f"image's is {image_hw[1]}x{image_hw[0]}; image skipped"
        )
    boxes: list[Box] = []
    areas: list[float] = []
    crowd_boxes: list[Box] = []
    class_ids: list[int] = []
    crowd_ids: list[int] = []
    outlines: list[Outline] = []
    problems: list[Problem] = []
    for annotation in annotations:
        category_id = to_integer(annotation.get("category_id"))
        if category_id is None or category_id not in class_of:
            continue  # reported once for each category
        class_id = class_of[category_id]
        box, kind, message = _read_box(annotation, image_hw)
        if kind is not None:
            name = f"annotation {annotation.get('id')} ({image.path.name})"
            problems.append(Problem(kind, f"{file}: {name}: {message}"))
        if box is None:
            continue
        if to_flag(annotation.get("iscrowd")):
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
    annotation: Entry, image_hw: tuple[int, int]
) -> tuple[Box | None, ProblemKind | None, str]:
    """`check_box` on an annotation's corner and size, in pixels."""
    found = annotation.get("bbox")
    try:
        if not isinstance(found, list):
            raise TypeError
        x, y, box_width, box_height = (float(number) for number in found)
    except (TypeError, ValueError, OverflowError):
        return None, "dropped", f"bbox is {found!r}, must be [x, y, width, height]; row dropped"
    if to_flag(annotation.get("iscrowd")) is None:
        message = f"iscrowd is {annotation.get('iscrowd')!r}, must be 0 or 1; row dropped"
        return None, "dropped", message
    height, width = image_hw
    corners = (x, y, x + box_width, y + box_height)
    return check_box(corners, (width, height), ROUNDING_PIXELS / min(image_hw), one_pixel=True)


def _area(annotation: Entry) -> float:
    """The stated area in square pixels, or that of the box."""
    _, _, width, height = annotation["bbox"]
    stated = to_positive(annotation.get("area"))
    return float(width) * float(height) if stated is None or stated > MAX_AREA else stated


def _outline(segmentation: object) -> Outline:
    """The polygons of an object; none for a run-length mask or a malformed entry."""
    polygons = segmentation if isinstance(segmentation, list) else []
    return make_outline(polygon for polygon in polygons if _is_polygon(polygon))


def _is_polygon(polygon: Any) -> bool:
    return isinstance(polygon, list) and all(
        isinstance(number, int | float) and abs(number) < MAX_CORNER for number in polygon
    )


def _shorten(entries: Iterable[int | str]) -> str:
    names = [str(entry) for entry in entries]
    return ", ".join(names if len(names) <= 10 else [*names[:9], "...", names[-1]])
