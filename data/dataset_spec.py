"""Data yamls: which images and labels a data set has, and what its classes are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.class_names import check_count, data_set_classes, listed_names
from data.coco_json import read_categories
from data.datasets import DATASETS_FOLDER
from data.split_spec import (
    CocoSplit,
    MergedSplit,
    PlainSplit,
    SharedSplit,
    SplitSpec,
    VocSplit,
    YoloSplit,
)
from utils.class_order import classes_that_differ
from utils.errors import ConfigError, close_to
from utils.logs import counted
from utils.path_kind import path_kind
from utils.strict_mapping import check_keys
from utils.strict_yaml import find_shipped, read_yaml

logger = logging.getLogger(__name__)
SPLIT_NAMES = ("train", "val", "test")
HELD_OUT = ("val", "test")  # may be shares of train
_OPTIONAL = ("path", "test", "names", "nc", "download", "roboflow", "background_only")
# Keys that other tools write. Others are noted too, unless they look like a slip in a known one.
_OTHER_TOOLS = frozenset(
    {"author", "channels", "colors", "contributor", "date", "description", "flip_idx", "info"}
    | {"kpt_names", "kpt_shape", "license", "links", "masks", "minival", "task", "type", "types"}
    | {"source", "url", "version", "year", "yaml_file"}
)
SINGLE_CLASS_NAMES = ("object", "item")  # what --single-cls calls the one class: here, in YOLOv5


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
        category_names: what the first COCO json calls the classes, which `names` may rename.
        background_only: a split without any label file is no mistake.
    """

    name: str
    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    splits: Mapping[str, SplitSpec]
    download: str | None
    category_names: tuple[str, ...] = ()
    background_only: bool = False

    def classes(self, *, single: bool = False) -> tuple[str, ...]:
        """The class names, or one word for all of them."""
        return SINGLE_CLASS_NAMES[:1] if single else self.class_names

    def as_one_class(self, weights: str, known: Sequence[str], *, asked: bool) -> bool:
        """Whether a network is evaluated with all classes as one: asked for, or trained so.

        Logged where it knows as many classes, of other names.

        Args:
            weights: its file, for messages.
            known: names of the classes it knows; empty where the file does not say.
            asked: `--single-cls` is given.

        Raises:
            ConfigError: it knows another number of classes.
        """
        if asked or not known:
            return asked
        if len(known) == len(self.class_names):
            if other := classes_that_differ(known, self.class_names):
                logger.warning("%s was trained on other classes (%s); right if they were renamed, "
                               "else the data yaml may have the wrong order",
                               weights, other)  # fmt: skip
            return False
        if len(known) == 1 and known[0] in SINGLE_CLASS_NAMES:
            logger.info("%s was trained with --single-cls: all classes count as one", weights)
            return True
        raise ConfigError(
            f"{weights} knows {counted(len(known), 'class')}, {self.path} names "
            f"{len(self.class_names)}; give the data set it was trained for"
        )

    def category_ids_of(self, split_name: str) -> tuple[int, ...]:
        """The COCO category of each class id in one split's own json.

        Raises:
            ConfigError: a class that the json does not have.
        """
        split = _source(self.splits[split_name])
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

    def is_coco(self, split_name: str) -> bool:
        """Whether the images of a split have the numbers of one COCO json."""
        return isinstance(_source(self.splits[split_name]), CocoSplit)

    @property
    def is_merged(self) -> bool:
        """Whether a split merges several, whose COCO categories are matched by name."""
        return any(isinstance(_source(split), MergedSplit) for split in self.splits.values())

    @property
    def splits_to_scan(self) -> tuple[str, ...]:
        """All splits but a test split whose files are missing: it matters when it is asked for."""
        return tuple(name for name in self.splits if name != "test" or _exists(self.splits[name]))


def check_data_yaml(name_or_path: str | Path) -> None:
    """Find mistakes that a data yaml alone shows, without a look at images and annotations.

    Raises:
        ConfigError: the yaml is wrong; the message names the file and the key.
    """
    file, content, _ = _read(name_or_path)
    _, bases = _folders(file, content.get("path"))
    _read_splits(file, content, bases)
    if names := listed_names(file, content.get("names")):
        check_count(file, content.get("nc"), names)


def load_dataset_spec(
    name_or_path: str | Path, shares: Mapping[str, float] | None = None
) -> DatasetSpec:
    """Read a data yaml, given by path or by the name of a shipped one.

    Images need not be there yet; the COCO json of a data set that has one must be.

    Args:
        name_or_path: the yaml.
        shares: stand for its `val` and `test`: the share of `train` that each holds.

    Raises:
        ConfigError: the yaml is wrong; the message names the file and the key.
        DatasetError: a COCO json is missing or wrong.
    """
    file, content, noted = _read(name_or_path, shares)
    if noted:
        logger.info("%s: keys that are not used: %s", file, ", ".join(map(str, noted)))
    root, bases = _folders(file, content.get("path"))
    splits = _read_splits(file, content, bases)
    # val's json comes first because it is smaller than train's and has the same categories
    ordered = [splits[name] for name in ("val", "train", "test") if name in splits]
    if "test" in splits and not _exists(splits["test"]):
        ordered.pop()
    parts = _parts_of(ordered)
    only_xml = all(isinstance(part, VocSplit) for part in parts)
    classes = data_set_classes(
        file,
        listed_names(file, content.get("names")),
        jsons=[part.annotations for part in parts if isinstance(part, CocoSplit)],
        xml_folders=[part.annotations for part in parts if isinstance(part, VocSplit)]
        if only_xml
        else [],
        merged=any(isinstance(_source(split), MergedSplit) for split in ordered),
    )
    check_count(file, content.get("nc"), classes.names)
    download = content.get("download")
    return DatasetSpec(
        name=file.stem,
        path=root,
        class_names=classes.names,
        category_ids=classes.category_ids,
        splits=splits,
        download=None if download is None else str(download),
        category_names=classes.category_names,
        background_only=_is_background_only(file, content.get("background_only", False)),
    )


def _is_background_only(file: Path, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{file}: background_only is {value!r}, must be true or false")
    return value


def _read(
    name_or_path: str | Path, shares: Mapping[str, float] | None = None
) -> tuple[Path, dict[str, Any], list[Any]]:
    """The yaml's file, its content, and the keys in it that are for other tools."""
    file = find_shipped(name_or_path, DATASETS_FOLDER)
    content = {**read_yaml(file), **(shares or {})}
    return file, content, _checked_top_keys(file, content)


def _checked_top_keys(file: Path, content: Mapping[str, Any]) -> list[Any]:
    """Refuse missing keys and slips in known ones; returns what other tools wrote."""
    known = ("train", "val", *_OPTIONAL)
    others = [key for key in content if key not in known]
    noted = [key for key in others if key in _OTHER_TOOLS or not close_to(str(key), known)]
    checked = {key: value for key, value in content.items() if key not in noted}
    if "train" in content and "val" not in content and len(noted) == len(others):
        raise ConfigError(
            f"{file}: key 'val' is missing; `val: 0.2` takes a fifth of the images of train"
        )
    check_keys(str(file), checked, ["train", "val"], _OPTIONAL)
    return noted


def _folders(file: Path, path: object) -> tuple[Path, tuple[Path, ...]]:
    """The data set's folder, and the folders in which its relative paths are looked up."""
    if path is None:  # as older yamls and Roboflow's exports are written
        return file.parent, (file.parent, Path.cwd())
    if not isinstance(path, str):
        raise ConfigError(f"{file}: path is {path!r}, must be a folder")
    path = _expanded(path)
    candidates = (file.parent / path, Path.cwd() / path)
    root = next((folder for folder in candidates if path_kind(folder) == "folder"), candidates[-1])
    return root, (root,)


def _read_splits(
    file: Path, content: Mapping[str, Any], bases: tuple[Path, ...]
) -> dict[str, SplitSpec]:
    given = {name: content[name] for name in SPLIT_NAMES if content.get(name) is not None}
    given.update({name: content[name] for name in ("train", "val") if name in content})
    shares = [  # by way of text, since an integer can be too large for a float
        (name, float(str(given.pop(name))))
        for name in HELD_OUT
        if type(given.get(name)) in (int, float)
    ]
    splits: dict[str, SplitSpec] = {
        name: _read_split(f"{file}: {name}", given[name], bases) for name in given
    }
    for name, share in shares:
        if not 0 < share < 1 or sum(each for _, each in shares) >= 1:
            raise ConfigError(
                f"{file}: {name} is {share:g}; a share of train must be above 0, all of them "
                "together below 1"
            )
    if shares:
        source = splits["train"]
        for name in ("train", *(name for name, _ in shares)):
            splits[name] = SharedSplit(source, tuple(shares), name)  # type: ignore[arg-type]
    return {name: splits[name] for name in SPLIT_NAMES if name in splits}


def _read_split(where: str, value: object, bases: tuple[Path, ...]) -> PlainSplit | MergedSplit:
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
        is_voc = "split" in located or located["annotations"].suffix.lower() != ".json"
        return VocSplit(**located) if is_voc else CocoSplit(**located)
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError(
            f"{where} is {value!r}, must be a folder, a list of folders, a .txt file, or "
            "{images, annotations} (COCO json) or {images, annotations, split} (VOC xml), or a "
            "list of these"
        )
    return YoloSplit(tuple(_locate(str(path), bases) for path in paths))


def _source(split: SplitSpec) -> PlainSplit | MergedSplit:
    return split.source if isinstance(split, SharedSplit) else split


def _parts_of(splits: Iterable[SplitSpec]) -> list[PlainSplit]:
    """The plain splits that these are made of."""
    parts: list[PlainSplit] = []
    for split in splits:
        source = _source(split)
        parts += source.parts if isinstance(source, MergedSplit) else (source,)
    return parts


def _exists(split: SplitSpec) -> bool:
    """Whether all files and folders that it names are there."""
    for part in _parts_of([split]):
        if isinstance(part, YoloSplit):
            paths = [*part.images]
        else:
            paths = [part.images, part.annotations]
            paths += [part.split] if isinstance(part, VocSplit) and part.split else []
        if not all(path_kind(path) for path in paths):
            return False
    return True


def _locate(path: str, bases: tuple[Path, ...]) -> Path:
    """The first candidate that exists; the first candidate if none does.

    Roboflow writes `../train/images` for a folder beside the yaml, and YOLOv5 forgives that.
    """
    path = _expanded(path)
    relative = [path, path.removeprefix("../")] if path.startswith("../") else [path]
    candidates = [base / each for base in bases for each in relative]
    return next((each for each in candidates if path_kind(each)), candidates[0])


def _expanded(path: str) -> str:
    """`~` and environment variables (`$DATA`, `${DATA}`) replaced by what they stand for."""
    path = os.path.expandvars(path)
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path
