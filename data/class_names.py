"""Which classes a data set has: those its yaml lists, its json's categories, its xml's names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.coco_json import read_categories
from data.label_rules import UnreadableLabelsError
from utils.errors import ConfigError
from utils.logs import counted

logger = logging.getLogger(__name__)
MAX_NAMES_SHOWN = 20


class DataSetClasses(NamedTuple):
    """The classes of a data set, in class-id order.

    Attributes:
        names: of the classes.
        category_ids: COCO's numbers of them, or the class ids.
        category_names: what the first COCO json calls them, which the yaml may rename.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...] = ()


def listed_names(file: Path, names: object) -> tuple[str, ...] | None:
    """Class names from a yaml's list or mapping 0..n-1; None where it has none.

    Raises:
        ConfigError: it is neither, or a name is no text or given twice.
    """
    if names is None:
        return None
    if isinstance(names, Mapping):
        names = _with_integer_keys(names)
        for class_id in range(len(names)):
            if class_id not in names:
                raise ConfigError(
                    f"{file}: names has {len(names)} entries but none for class {class_id}; "
                    f"its keys must be the integers 0 to {len(names) - 1}"
                )
        names = [names[class_id] for class_id in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{file}: names is {names!r}, must be a list or a mapping 0: name, ...")
    first: dict[str, int] = {}
    for class_id, name in enumerate(names):
        # Yaml reads an unquoted `no` or `on` as a truth value.
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ConfigError(
                f"{file}: names[{class_id}] is {name!r}, must be text; put it in quotes"
            )
        if not str(name).strip():
            raise ConfigError(f"{file}: names[{class_id}] is {name!r}; each class must have a name")
        if first.setdefault(str(name), class_id) != class_id:
            raise ConfigError(
                f"{file}: names[{first[str(name)]}] and names[{class_id}] are both {name!r}; "
                "each class must have a name of its own"
            )
    return tuple(str(name) for name in names)


def _with_integer_keys(names: Mapping[Any, object]) -> Mapping[Any, object]:
    """Numbers in quotes, which programs write that keep their yaml as json, are numbers."""
    numbers = {int(key) if isinstance(key, str) and key.isdecimal() else key: name
               for key, name in names.items()}  # fmt: skip
    return numbers if len(numbers) == len(names) else names


def data_set_classes(
    file: Path,
    given: tuple[str, ...] | None,
    *,
    jsons: Sequence[Path],
    xml_folders: Sequence[Path],
    merged: bool,
) -> DataSetClasses:
    """The classes of a data set.

    Args:
        file: the data yaml, for messages.
        given: its names, if any.
        jsons: COCO jsons of all splits.
        xml_folders: folders of VOC xml files, if all of the data set's labels are such.
        merged: a split merges several sets, whose categories are matched by name.

    Raises:
        ConfigError: names are needed and missing, or contradict a json.
        DatasetError: a json is missing or wrong.
    """
    if jsons and not merged:
        categories = read_categories(jsons[0], given or ())
        names = _coco_names(file, given, jsons[0], categories)
        return DataSetClasses(names, tuple(categories), tuple(categories.values()))
    if jsons:
        class_names = given or _common_classes(file, jsons)
    elif given is not None:
        class_names = given
    elif xml_folders:
        class_names = _gathered(file, xml_folders)
    else:
        raise ConfigError(
            f"{file}: key 'names' is missing; list the class names (only COCO json and VOC xml "
            "may go without)"
        )
    return DataSetClasses(class_names, tuple(range(len(class_names))))


def check_count(file: Path, num_classes: object, class_names: tuple[str, ...]) -> None:
    """Refuse a yaml whose `nc` is not the number of its names.

    Raises:
        ConfigError: they differ.
    """
    if num_classes not in (None, len(class_names), str(len(class_names))):
        raise ConfigError(
            f"{file}: nc is {num_classes!r}, but names has {len(class_names)} entries; "
            "nc may be omitted"
        )


def _gathered(file: Path, folders: Iterable[Path]) -> tuple[str, ...]:
    """The names of all objects in folders of xml files, in alphabetical order."""
    from data.voc_xml import read_object_names  # loads a parser of xml

    found: set[str] = set()
    unreadable = ""  # why the first of them is
    count = 0
    for folder in sorted(set(folders)):
        for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() == ".xml"):
            count += 1
            try:
                found |= read_object_names(path)
            except UnreadableLabelsError as error:
                unreadable = unreadable or f" ({error})"
                continue  # is reported where its image is read
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise ConfigError(
            f"{file}: key 'names' is missing, and no object is named in the xml files of {where}"
            f"{unreadable}; list the class names, or correct the folder"
        )
    names = tuple(sorted(found))
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    logger.info("%s: %s gathered from %s: %s%s", file, counted(len(names), "class"),
                counted(count, "xml file"), ", ".join(names[:MAX_NAMES_SHOWN]), more)  # fmt: skip
    return names


def _common_classes(file: Path, jsons: Sequence[Path]) -> tuple[str, ...]:
    """The classes of merged COCO jsons, which must all have the same."""
    first = tuple(read_categories(jsons[0]).values())
    for other in jsons[1:]:
        found = tuple(read_categories(other).values())
        if found != first:
            raise ConfigError(
                f"{file}: key 'names' is missing; {jsons[0]} has {_first_of(first)}, {other} has "
                f"{_first_of(found)}: list the class names, by which they are then recognised"
            )
    return first


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _coco_names(
    file: Path,
    class_names: tuple[str, ...] | None,
    annotations: Path,
    categories: Mapping[int, str],
) -> tuple[str, ...]:
    """The names of a COCO json's categories, or the yaml's own if it gives some."""
    found, category_ids = tuple(categories.values()), tuple(categories)
    if class_names is None or class_names == found:
        return found
    if len(class_names) != len(found):
        raise ConfigError(
            f"{file}: names has {len(class_names)} entries, {annotations} has {len(found)} "
            "categories; omit names to use those of the json"
        )
    for class_id, name in enumerate(class_names):
        if name != found[class_id] and name in found:
            raise ConfigError(
                f"{file}: names[{class_id}] is {name!r}, but category {category_ids[class_id]} of "
                f"{annotations} is {found[class_id]!r}; names must be in ascending order of "
                "category id, or omitted"
            )
    return class_names
