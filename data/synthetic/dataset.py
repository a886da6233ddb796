"""Writes the drawn data set in YOLO's layout.

Each image has a random generator of its own, seeded by (seed, split, number): the same arguments
give the same bytes, and more images do not change the first ones.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.synthetic import cells, shapes
from data.synthetic.clip import clip_hw, draw_frames, write_clip
from data.synthetic.scenes import draw_scene
from utils.boxes import xyxy_to_cxcywh
from utils.errors import ConfigError, DatasetError
from utils.logs import Progress
from utils.output_files import write_json
from utils.path_kind import path_kind
from utils.strict_yaml import write_yaml
from utils.structures import ImageArray, Targets

MARKER = "synthetic.json"  # marks a folder that this module wrote; lists the files in it
CLIP = "unseen.mp4"
SPLITS = ("train", "val", "unseen")
NUM_UNSEEN = 12
VAL_SHARE = 5  # one image in five is for validation
MIN_IMAGES, MIN_SIZE = 5, 64
JPEG_QUALITY = 92
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be drawn.

    Attributes:
        class_names: in class-id order.
        image: one image, RGB uint8, of a height and width, and the objects in it.
        frames: those of a clip.
    """

    class_names: tuple[str, ...]
    image: Callable[[np.random.Generator, tuple[int, int]], tuple[ImageArray, Targets]]
    frames: Callable[[np.random.Generator, tuple[int, int]], Iterator[ImageArray]]


KINDS = {
    "shapes": Kind(shapes.CLASS_NAMES, draw_scene, draw_frames),
    "cells": Kind(cells.CLASS_NAMES, cells.draw_smear, cells.draw_slide),
}


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """What to draw.

    Attributes:
        images: labelled images, training and validation together.
        size: long side of the images in pixels.
        seed: the same seed gives the same bytes.
        kind: one of KINDS.
    """

    images: int = 240
    size: int = 320
    seed: int = 0
    kind: str = "shapes"

    def __post_init__(self) -> None:
        if self.images < MIN_IMAGES:
            raise ConfigError(f"--images {self.images}: at least {MIN_IMAGES} are needed")
        if self.size < MIN_SIZE:
            raise ConfigError(f"--size {self.size}: must be at least {MIN_SIZE} pixels")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: must not be negative")
        if self.kind not in KINDS:
            raise ConfigError(f"--kind {self.kind}: must be one of {', '.join(KINDS)}")


def write_dataset(folder: Path, config: SyntheticConfig) -> Path:
    """Draw images, labels, data.yaml, and unlabelled images and a clip to try a detector on.

    Args:
        folder: new, empty, or made by this function before (then what it made is replaced).
        config: what to draw.

    Returns:
        The data yaml.

    Raises:
        DatasetError: the folder holds something that this function did not write.
    """
    names = _names_per_split(config.images)
    _clear_own_files(folder)
    files = [
        *(f"images/{split}/{name}.jpg" for split in SPLITS for name in names[split]),
        *(f"labels/{split}/{name}.txt" for split in ("train", "val") for name in names[split]),
        *("data.yaml", CLIP),
    ]
    # First of all, so that a run cut short leaves a folder that the next one may clear.
    write_json(folder / MARKER, {"made_by": "data.synthetic", "files": files})
    _write_images(folder, config, names)
    kind = KINDS[config.kind]
    frames = kind.frames(np.random.default_rng([config.seed, len(SPLITS)]), clip_hw(config.size))
    write_clip(folder / CLIP, frames, config.size)
    write_yaml(
        folder / "data.yaml",
        {
            "path": ".",
            "train": "images/train",
            "val": "images/val",
            "names": dict(enumerate(kind.class_names)),
        },
    )
    logger.info(
        "%s: %d images to train, %d to validate, %d and a clip to try",
        folder,
        *(len(names[split]) for split in SPLITS),
    )
    return folder / "data.yaml"


def label_text(targets: Targets, image_hw: tuple[int, int]) -> str:
    """YOLO's rows, `class cx cy w h` as shares of the image; empty without objects."""
    height, width = image_hw
    norm = xyxy_to_cxcywh(targets.boxes) / np.array([width, height, width, height], np.float32)
    return "".join(
        f"{class_id} {' '.join(f'{value:.6f}' for value in row)}\n"
        for class_id, row in zip(targets.class_ids, norm, strict=True)
    )


def _names_per_split(images: int) -> dict[str, list[str]]:
    num_val = images // VAL_SHARE
    counts = {"train": images - num_val, "val": num_val, "unseen": NUM_UNSEEN}
    return {split: [f"{number:05d}" for number in range(counts[split])] for split in SPLITS}


def _write_images(folder: Path, config: SyntheticConfig, names: dict[str, list[str]]) -> None:
    for kind in ("images", "labels"):
        for split in SPLITS if kind == "images" else ("train", "val"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
    work = [(split, number) for split in SPLITS for number in range(len(names[split]))]
    for split, number in Progress(work, len(work), "drawing", "image"):
        generator = np.random.default_rng([config.seed, SPLITS.index(split), number])
        image, targets = KINDS[config.kind].image(generator, _image_hw(generator, config.size))
        _write_jpeg(folder / "images" / split / f"{names[split][number]}.jpg", image)
        if split != "unseen":
            text = label_text(targets, (image.shape[0], image.shape[1]))
            (folder / "labels" / split / f"{names[split][number]}.txt").write_text(text)


def _image_hw(generator: np.random.Generator, size: int) -> tuple[int, int]:
    """Square, landscape or portrait (4:3), at random."""
    shapes = ((size, size), (size * 3 // 4, size), (size, size * 3 // 4))
    return shapes[generator.integers(len(shapes))]


def _write_jpeg(path: Path, image: ImageArray) -> None:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    path.write_bytes(encoded.tobytes())  # cv2.imwrite hides errors and some paths confuse it


def _clear_own_files(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    if path_kind(folder) is None or (folder.is_dir() and not any(folder.iterdir())):
        return
    marker = folder / MARKER
    if not marker.is_file():
        raise DatasetError(
            f"{folder}: exists and was not made by data.synthetic (it has no {MARKER}); "
            "name a new or an empty folder"
        )
    for name in _files_made(marker):
        (folder / name).unlink(missing_ok=True)


def _files_made(marker: Path) -> Iterable[str]:
    """The list in the marker; names that lead out of the folder are refused."""
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{marker}: cannot be read ({error}); remove the folder") from None
    for name in files:
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DatasetError(f"{marker}: {name!r} is not a file of this folder")
    return list(files)
