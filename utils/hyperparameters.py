"""The hyper-parameters of a training run, with YOLOv5's names and defaults (hyp.scratch-low)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from utils.shared_fields import shared_fields
from utils.strict_yaml import find_shipped, read_yaml, to_dataclass

PartT = TypeVar("PartT")
HYPS_FOLDER = Path(__file__).parents[1] / "data" / "hyps"


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """One hyper-parameter yaml.

    Attributes:
        lr0: initial learning rate.
        lrf: final learning rate as a fraction of lr0.
        momentum: SGD momentum, or Adam's beta1.
        weight_decay: for a nominal batch of 64.
        warmup_epochs: length of the warm-up (at least 100 batches).
        warmup_momentum: momentum at its start.
        warmup_bias_lr: learning rate of biases at its start.
        box: gain of the box term.
        cls: gain of the class term.
        cls_pw: weight of positive class targets.
        obj: gain of the objectness term.
        obj_pw: weight of positive objectness targets.
        iou_t: kept because YOLOv5's yamls have it; nothing uses it, there or here.
        anchor_t: largest factor between object and anchor side.
        fl_gamma: focal exponent, 0 for plain cross-entropy.
        hsv_h: largest hue change, as a fraction.
        hsv_s: largest saturation change, as a fraction.
        hsv_v: largest brightness change, as a fraction.
        degrees: largest rotation, in degrees.
        translate: largest shift, as a fraction of the image.
        scale: largest scale change, as a fraction.
        shear: largest shear, in degrees.
        perspective: largest perspective term (0 to 0.001).
        flipud: probability of an upside-down flip.
        fliplr: probability of a left-right flip.
        mosaic: probability of four images in one.
        mixup: probability of blending two mosaics.
        copy_paste: probability of pasting segments.
        distill: gain of what `--teacher` adds to the loss.
    """

    lr0: float = 0.01
    lrf: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 0.0005
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1
    box: float = 0.05
    cls: float = 0.5
    cls_pw: float = 1.0
    obj: float = 1.0
    obj_pw: float = 1.0
    iou_t: float = 0.2
    anchor_t: float = 4.0
    fl_gamma: float = 0.0
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    perspective: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.5
    mosaic: float = 1.0
    mixup: float = 0.0
    copy_paste: float = 0.0
    distill: float = 1.0

    @classmethod
    def from_file(cls, name: str | Path) -> Hyperparameters:
        """The hyper-parameters in a yaml, looked up here, then among the shipped ones.

        Raises:
            ConfigError: no such file, an unknown key, or a value of the wrong kind.
        """
        path = find_shipped(name, HYPS_FOLDER)
        return to_dataclass(str(name), read_yaml(path), cls)

    def part(self, target: type[PartT], **others: Any) -> PartT:
        """The fields that `target` (a dataclass) shares with these, plus `others`."""
        return shared_fields(self, target, **others)
