"""Where the images and labels of a split are: YOLO txt, COCO json, Pascal VOC xml, and mixtures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        split: the .txt file with one image's name per line; None for all images.
    """

    images: Path
    annotations: Path
    split: Path | None = None


PlainSplit = YoloSplit | CocoSplit | VocSplit


@dataclass(frozen=True, slots=True)
class MergedSplit:
    """Several data sets, of any kinds, as one.

    Attributes:
        parts: in the order of the yaml.
    """

    parts: tuple[PlainSplit, ...]


@dataclass(frozen=True, slots=True)
class SharedSplit:
    """A part of the images of one source, by a hash of their names (`data.held_out`).

    Attributes:
        source: all the images.
        shares: split name -> share of them, for the splits besides train.
        part: which split this is.
    """

    source: PlainSplit | MergedSplit
    shares: tuple[tuple[str, float], ...]
    part: str


SplitSpec = PlainSplit | MergedSplit | SharedSplit
