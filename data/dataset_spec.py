"""Data yamls: which images and labels a data set has, and what its classes are called."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.coco_json import read_categories
from utils.errors import ConfigError
from utils.strict_yaml import check_keys, find_shipped, read_yaml

logger = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "datasets"
SPLIT_NAMES = ("train", "val", "test")
SINGLE_CLASS_NAMES = ("object", "item")  # what --single-cls calls the one class: here, in YOLOv5


@dataclass(frozen=True, slots=True)
class YoloSplit:
    """Images with YOLO text labels.

    Attributes:
        images: folders of images, .txt files that list images, or both.
    """

    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class CocoSplit:
    """Images with COCO json labels.

    Attributes:
        images: the folder of the images.
        annotations: the `instances_*.json`.
    """

    images: Path
    annotations: Path


@dataclass(frozen=True, slots=True)
class VocSplit:
    """Images with Pascal VOC xml labels.

    Attributes:
        images: the folder of the images.
        annotations: the folder of the xml files.
        split: the .txt file with one image's name (no suffix) per line.
    """

    images: Path
    annotations: Path
    split: Path


PlainSplit = YoloSplit | CocoSplit | VocSplit


@dataclass(frozen=True, slots=True)
class MergedSplit:
    """Several data sets, of any kinds, as one.

    Attributes:
        parts: in the order of the yaml.
    """

    parts: tuple[PlainSplit, ...]


SplitSpec = PlainSplit | MergedSplit


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """The content of a data yaml.

    Attributes:
        name: the yaml's name without suffix.
        path: the folder everything lies in.
        class_names: name of each class id.
        category_ids: COCO category id of each class id (the class id itself without COCO json, and
            where data sets are merged, which may number their categories differently).
        splits: "train", "val" and perhaps "test".
        download: the yaml's hint where to get the data; shown to the user, never executed.
    """

    name: str
    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    splits: Mapping[str, SplitSpec]
    download: str | None

    def classes(self, *, single: bool = False) -> tuple[str, ...]:
        """The class names, or one word for all of them."""
        return SINGLE_CLASS_NAMES[:1] if single else self.class_names

    def as_one_class(self, weights: str, known: Sequence[str], *, asked: bool) -> bool:
        """Whether a network is evaluated with all classes as one: asked for, or trained so.

        Args:
            weights: its file, for messages.
            known: names of the classes it knows; empty where the file does not say.
            asked: `--single-cls` is given.

        Raises:
            ConfigError: it knows another number of classes.
        """
        if asked or not known or len(known) == len(self.class_names):
            return asked
        if len(known) == 1 and known[0] in SINGLE_CLASS_NAMES:
            logger.info("%s was trained with --single-cls: all classes count as one", weights)
            return True
        raise ConfigError(
            f"{weights} knows {len(known)} classes, {self.path} names "
            f"{len(self.class_names)}; give the data set it was trained for"
        )

    def category_ids_of(self, split_name: str) -> tuple[int, ...]:
        """The COCO category of each class id in one split's own json.

        Raises:
            ConfigError: a class that the json does not have.
        """
        split = self.splits[split_name]
        if not self.is_merged or not isinstance(split, CocoSplit):
            return self.category_ids
        of_name = {name: number for number, name in read_categories(split.annotations).items()}
        for name in self.class_names:
            if name not in of_name:
                raise ConfigError(
                    f"{split.annotations}: has no category {name!r}, so detections of it cannot be "
                    "written for this json; omit --save-json"
                )
        return tuple(of_name[name] for name in self.class_names)

    @property
    def is_merged(self) -> bool:
        """Whether a split merges several, whose COCO categories are matched by name."""
        return any(isinstance(split, MergedSplit) for split in self.splits.values())


def load_dataset_spec(name_or_path: str | Path) -> DatasetSpec:
    """Read a data yaml, given by path or by the name of a shipped one.

    Images need not be there yet; the COCO json of a data set that has one must be.

    Raises:
        ConfigError: the yaml is wrong; the message names the file and the key.
        DatasetError: a COCO json is missing or wrong.
    """
    file = find_shipped(name_or_path, SHIPPED)
    content = read_yaml(file)
    optional = ["path", "test", "names", "nc", "download", "roboflow"]
    check_keys(str(file), content, ["train", "val"], optional)
    root, bases = _folders(file, content.get("path"))
    splits = {
        name: _read_split(f"{file}: {name}", content[name], bases)
        for name in SPLIT_NAMES
        if name != "test" or content.get("test") is not None
    }
    download = content.get("download")
    class_names = _read_names(file, content.get("names"))
    # val's json comes first because it is smaller than train's and has the same categories
    ordered = [splits[name] for name in ("val", "train", "test") if name in splits]
    jsons = [part.annotations for part in _parts_of(ordered) if isinstance(part, CocoSplit)]
    merged = any(isinstance(split, MergedSplit) for split in ordered)
    if jsons and merged:
        class_names = class_names or _common_classes(file, jsons)
        category_ids = tuple(range(len(class_names)))
    elif jsons:
        class_names, category_ids = _coco_classes(file, class_names, jsons[0])
    elif class_names is None:
        raise ConfigError(
            f"{file}: key 'names' is missing; list the class names (only COCO json may go without)"
        )
    else:
        category_ids = tuple(range(len(class_names)))
    _check_count(file, content.get("nc"), class_names)
    return DatasetSpec(
        name=file.stem,
        path=root,
        class_names=class_names,
        category_ids=category_ids,
        splits=splits,
        download=None if download is None else str(download),
    )


def _folders(file: Path, path: object) -> tuple[Path, tuple[Path, ...]]:
    """The data set's folder, and the folders in which its relative paths are looked up."""
    if path is None:  # as older yamls and Roboflow's exports are written
        return file.parent, (file.parent, Path.cwd())
    if not isinstance(path, str):
        raise ConfigError(f"{file}: path is {path!r}, must be a folder")
    candidates = (file.parent / path, Path.cwd() / path)
    root = next((folder for folder in candidates if folder.is_dir()), candidates[-1])
    return root, (root,)


def _read_split(where: str, value: object, bases: tuple[Path, ...]) -> SplitSpec:
    """Parse a folder, a list of folders, a mapping, or a list with mappings."""
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        parts = [_read_split(f"{where}[{index}]", part, bases) for index, part in enumerate(value)]
        return MergedSplit(tuple(_parts_of(parts)))
    if isinstance(value, Mapping):
        check_keys(where, value, ["images", "annotations"], ["split"])
        for key, path in value.items():
            if not isinstance(path, str):
                raise ConfigError(f"{where}: {key} is {path!r}, must be a path")
        located = {key: _locate(str(path), bases) for key, path in value.items()}
        return VocSplit(**located) if "split" in located else CocoSplit(**located)
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError(
            f"{where} is {value!r}, must be a folder, a list of folders, a .txt file, or "
            "{images, annotations} (COCO json) or {images, annotations, split} (VOC xml), or a "
            "list of these"
        )
    return YoloSplit(tuple(_locate(str(path), bases) for path in paths))


def _parts_of(splits: Iterable[SplitSpec]) -> list[PlainSplit]:
    """The plain splits that these are made of."""
    return [
        part
        for split in splits
        for part in (split.parts if isinstance(split, MergedSplit) else (split,))
    ]


def _locate(path: str, bases: tuple[Path, ...]) -> Path:
    """The first candidate that exists; the first candidate if none does.

    Roboflow writes `../train/images` for a folder beside the yaml, and YOLOv5 forgives that.
    """
    relative = [path, path.removeprefix("../")] if path.startswith("../") else [path]
    candidates = [base / each for base in bases for each in relative]
    return next((each for each in candidates if each.exists()), candidates[0])


def _read_names(file: Path, names: object) -> tuple[str, ...] | None:
    """Class names from a list or from a mapping 0..n-1; None where the yaml has none."""
    if names is None:
        return None
    if isinstance(names, Mapping):
        for class_id in range(len(names)):
            if class_id not in names:
                raise ConfigError(
                    f"{file}: names has {len(names)} entries but none for class {class_id}; "
                    f"its keys must be the integers 0 to {len(names) - 1}"
                )
        names = [names[class_id] for class_id in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{file}: names is {names!r}, must be a list or a mapping 0: name, ...")
    for class_id, name in enumerate(names):
        # Yaml reads an unquoted `no` or `on` as a truth value.
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ConfigError(
                f"{file}: names[{class_id}] is {name!r}, must be text; put it in quotes"
            )
    return tuple(str(name) for name in names)


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


def _coco_classes(
    file: Path, class_names: tuple[str, ...] | None, annotations: Path
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids of a COCO json, under the yaml's own names if it gives some."""
    categories = read_categories(annotations)
    found, category_ids = tuple(categories.values()), tuple(categories)
    if class_names is None or class_names == found:
        return found, category_ids
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
    return class_names, category_ids


def _check_count(file: Path, num_classes: Any, class_names: tuple[str, ...]) -> None:
    if num_classes is not None and num_classes != len(class_names):
        raise ConfigError(
            f"{file}: nc is {num_classes!r}, but names has {len(class_names)} entries; "
            "nc may be omitted"
        )
