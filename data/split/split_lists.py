"""Files that hold a split: lists of images, of VOC names, or COCO jsons, and the yaml of them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.dataset_spec import DatasetSpec
from data.label_rules import LabelledImage
from data.records import list_split
from data.split_spec import CocoSplit, MergedSplit, PlainSplit, SharedSplit, VocSplit
from utils.errors import ConfigError, DatasetError
from utils.logs import counted
from utils.output_files import atomic_path, write_json
from utils.strict_yaml import write_yaml

logger = logging.getLogger(__name__)


def write_split(spec: DatasetSpec, folder: Path) -> dict[str, int]:
    """Write a list for each part of a divided data set, and `<name>.yaml` that names them.

    Args:
        spec: one whose train is divided (SharedSplit).
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        Split name -> number of images.

    Raises:
        ConfigError: the data set merges several.
        DatasetError: no image of a part is there.
    """
    yaml: dict[str, Any] = {"path": str(folder.absolute())}
    counts = {}
    for name, split in spec.splits.items():
        if not isinstance(split, SharedSplit):
            logger.warning("%s: its %s is no share of train and is skipped", spec.name, name)
            continue
        if isinstance(split.source, MergedSplit):
            raise ConfigError(
                f"{spec.name}: merges several data sets, of which no list can be written; the "
                "yaml can say `val: 0.2` without one"
            )
        images = list_split(spec, name).images
        _check_some_exist(spec.name, name, images)
        counts[name] = len(images)
        yaml[name] = _write_part(folder, name, split.source, images)
    yaml["names"] = list(spec.class_names)
    if spec.background_only:
        yaml["background_only"] = True
    write_yaml(folder / f"{spec.name}.yaml", yaml)
    return counts


def _check_some_exist(dataset: str, name: str, images: Sequence[LabelledImage]) -> None:
    """Of a part of which files are missing.

    Raises:
        DatasetError: all of them are, as where a list has names without a folder or suffix.
    """
    missing = [image.path for image in images if not image.path.is_file()]
    if not missing:
        return
    text = f"{dataset}: {len(missing)} of {counted(len(images), 'image')} in {name}"
    text += f" {'is' if len(missing) == 1 else 'are'} not there, such as {missing[0]}"
    if len(missing) == len(images):
        raise DatasetError(f"{text}; check the paths that train has")
    logger.warning("%s", text)


def _write_part(
    folder: Path, name: str, source: PlainSplit, images: Sequence[LabelledImage]
) -> str | dict[str, str]:
    """Write the list of one part; returns what the yaml says of it."""
    if isinstance(source, CocoSplit):
        annotations = folder / f"{name}.json"
        chosen = {str(image.image_id) for image in images}
        write_json(annotations, _select_images(source.annotations, chosen))
        return {
            "images": str(source.images.absolute()),
            "annotations": str(annotations.absolute()),
        }
    file = folder / f"{name}.txt"
    if isinstance(source, VocSplit):
        names = [image.path.relative_to(source.images).as_posix() for image in images]
        _write_lines(file, names)
        return {
            "images": str(source.images.absolute()),
            "annotations": str(source.annotations.absolute()),
            "split": str(file.absolute()),
        }
    _write_lines(file, [str(image.path.absolute()) for image in images])
    return str(file.absolute())


def _select_images(file: Path, image_ids: set[str]) -> dict[str, Any]:
    """The content of a COCO json, of its images only these and their annotations."""
    content = dict(json.loads(file.read_bytes()))
    images = [image for image in content["images"] if str(image.get("id")) in image_ids]
    ids = {str(image.get("id")) for image in images}
    annotations = [each for each in content["annotations"] if str(each.get("image_id")) in ids]
    return {**content, "images": images, "annotations": annotations}


def _write_lines(file: Path, names: Sequence[str]) -> None:
    """File names byte for byte as they are, of which not all are UTF-8."""
    with atomic_path(file) as temporary:
        temporary.write_bytes(b"".join(os.fsencode(name) + b"\n" for name in names))
