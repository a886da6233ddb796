"""YOLOv5's object for programs written for it, with YOLOv5's numbers; nothing is downloaded.

model = torch.hub.load("path/of/this/folder", "custom", "best.pt", source="local")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from data.given_images import GivenImage, given_frames
from detect import load_detector
from utils.detect.hub_results import HubResults
from utils.detect.pipeline import STAGES, Found, FrameDetector, StageClock, in_order, prepared
from utils.detect_config import DetectConfig, given_classes
from utils.errors import CheckpointError, ConfigError
from utils.flag_values import check_values
from utils.letterbox import Letterbox, check_area, round_up_to_stride
from utils.structures import FittedFrame, FloatArray, Frame

dependencies = ["torch", "numpy", "cv2", "PIL", "yaml"]  # torch.hub looks whether they are here
HUB_SIZE = 640  # what YOLOv5's object takes where a call gives no size
PRETRAINED = (True, 3, 80)  # pretrained, channels, classes: YOLOv5's defaults


def custom(
    path: str | Path,
    autoshape: bool = True,
    _verbose: bool = True,
    device: str | int | torch.device | None = None,
) -> HubModel:
    """A network in a file, called as YOLOv5's.

    Boxes are YOLOv5's, which may lie up to a pixel beside the exact ones of `load_detector`.

    Args:
        path: a checkpoint (.pt) or an exported file.
        autoshape: must be True: the network alone is for `train.py`.
        _verbose: as in YOLOv5; nothing is printed in either case.
        device: as of `load_detector`, or torch's.

    Raises:
        UserError: the file cannot be read.
    """
    if not autoshape:
        raise ConfigError(
            "autoshape=False: the network without pre- and postprocessing is not handed out; "
            "train it with train.py --weights"
        )
    return HubModel(str(path), _device_flag(device))


class HubModel:
    """What `torch.hub.load` gives; another attribute than these is refused.

    Attributes:
        conf: detections score above this.
        iou: boxes of a class that overlap more than this are one object.
        classes: only these class ids; None for all.
        agnostic: boxes suppress each other across classes.
        multi_label: a box counts once for every class above `conf`.
        max_det: at most this many per image.
        amp: must be False.
        names: class id -> name; a list of names does, too.
        stride: of the network.
    """

    __slots__ = ("_finder", "_weights", "agnostic", "amp", "classes", "conf", "iou", "max_det",
                 "multi_label", "names", "stride")  # fmt: skip

    def __init__(self, weights: str, device: str) -> None:
        self._weights, self._finder = weights, load_detector(weights, device=device).finder
        rules = self._finder.rules
        self.conf, self.iou = rules.score_threshold, rules.iou_threshold
        self.classes: int | Sequence[int] | None = None
        self.max_det, self.agnostic, self.multi_label = rules.max_detections, False, False
        self.amp = False
        self.names: dict[int, str] | Sequence[str] = dict(enumerate(self._finder.class_names))
        self.stride = self._finder.network.stride

    def __call__(
        self,
        ims: GivenImage | Sequence[GivenImage],
        size: int | Sequence[int] = HUB_SIZE,
        augment: bool = False,
        profile: bool = False,
    ) -> HubResults:
        """Find objects.

        Args:
            ims: paths, addresses, RGB arrays (height, width, 3), PIL images; one or several.
            size: the longer side of the network input in pixels; a file exported for one size
                takes that.
            augment: must be False.
            profile: as in YOLOv5; times are always taken.

        Raises:
            UserError: an image cannot be read, or a value is out of its range.
        """
        if augment:
            raise ConfigError("augment=True: not by torch.hub; take load_detector(weights, "
                              "augment=True) from detect.py")  # fmt: skip
        if self.amp:
            raise ConfigError("amp=True: not by torch.hub; take load_detector(weights, half=True) "
                              "from detect.py")  # fmt: skip
        names = self._named()
        images = list(ims) if isinstance(ims, list | tuple) else [ims]
        frames = [
            replace(frame, path=frame.path.with_suffix(".jpg"))  # what YOLOv5 saves it as
            for frame in given_frames(images, bgr=False, count=len(images))  # type: ignore[arg-type]
        ]
        finder, clock = self._tuned(), StageClock(STAGES)
        batches = prepared(_one_size(finder, frames, size), clock)
        found = [each for each in in_order(finder.find(batches, clock)) if isinstance(each, Found)]
        return HubResults(found, names, clock.milliseconds_per(len(frames)))

    def _named(self) -> dict[int, str]:
        """The names by class id, in that order, as the attribute has them now."""
        if not isinstance(self.names, Mapping | list | tuple):
            raise ConfigError(
                f"names={self.names!r}: expected names by class id, or a list of them"
            )
        names = dict(self.names if isinstance(self.names, Mapping) else enumerate(self.names))
        ids = range(len(self._finder.class_names))
        unnamed = [str(each) for each in ids if each not in names]
        if unnamed:
            raise ConfigError(f"names: has none for class {', '.join(unnamed)}")
        return {each: names[each] for each in ids}

    def _tuned(self) -> FrameDetector:
        """With the rules that the attributes ask for now."""
        given = DetectConfig(
            conf_thres=self.conf, iou_thres=self.iou, max_det=self.max_det,
            classes=given_classes(self.classes), agnostic_nms=self.agnostic,
        )  # fmt: skip
        check_values(given)
        if not isinstance(self.multi_label, bool):
            raise ConfigError(f"multi_label={self.multi_label!r}: must be True or False")
        return replace(self._finder, rules=replace(given.rules, multi_label=self.multi_label))

    def to(self, device: str | int | torch.device) -> HubModel:
        """The network on another device; its settings stay."""
        self._finder = load_detector(self._weights, device=_device_flag(device)).finder
        return self

    def cpu(self) -> HubModel:
        """See `to`."""
        return self.to("cpu")

    def cuda(self, device: int = 0) -> HubModel:
        """See `to`."""
        return self.to(device)

    def eval(self) -> HubModel:
        """Itself: it is never in training mode."""
        return self


class _Yolov5Letterbox(Letterbox):
    """Boxes go back as YOLOv5 computes them, from unrounded padding: up to a pixel beside ours."""

    __slots__ = ()

    def undo_boxes(self, boxes: FloatArray, *, clip: bool = True) -> FloatArray:
        """(N, 4) xyxy in pixels of the network input -> pixels of the original."""
        height, width = self.original_hw
        scale = min(self.input_hw[0] / height, self.input_hw[1] / width)
        pad = [(self.input_hw[1] - width * scale) / 2, (self.input_hw[0] - height * scale) / 2]
        original = (boxes - np.array(pad * 2, np.float32)) / np.float32(scale)
        limits = np.array([width, height] * 2, np.float32) if clip else np.inf
        return np.asarray(np.clip(original, 0 if clip else -np.inf, limits), np.float32)


def _one_size(
    finder: FrameDetector, frames: Sequence[Frame], size: int | Sequence[int]
) -> Iterator[list[FittedFrame]]:
    """The frames as YOLOv5 batches them: of the smallest one size that all fit into.

    Each keeps its proportions, with the longer side of `size` pixels.
    """
    sides = list(size) if isinstance(size, Sequence) else [size]
    if not sides or not all(
        isinstance(side, Integral) and side is not True and side >= 1 for side in sides
    ):
        raise ConfigError(f"size={size!r}: expected pixels, at least 1")
    longest = max(sides)
    input_hw = finder.size.limit_hw
    if finder.size.stride is not None and frames:
        fitting = [[int(side * longest / max(frame.image_hw)) for side in frame.image_hw]
                   for frame in frames]  # fmt: skip
        height, width = (
            round_up_to_stride(max(each), finder.size.stride) for each in zip(*fitting, strict=True)
        )
        input_hw = height, width
        check_area(input_hw, f"size={size!r}")
    fitted = [FittedFrame(number, frame, _Yolov5Letterbox.fit(frame.image_hw, input_hw))
              for number, frame in enumerate(frames)]  # fmt: skip
    at_once = finder.network.batch_size or max(len(frames), 1)
    for start in range(0, len(fitted), at_once):
        yield fitted[start : start + at_once]


def _device_flag(device: str | int | torch.device | None) -> str:
    """As `--device` has it: None and torch's devices as text."""
    return "" if device is None else str(device)


def _official(
    name: str, options: tuple[bool, int, int], autoshape: bool, device: str | int | None
) -> HubModel:
    """YOLOv5's own weights, from a file in the working folder.

    Args:
        name: of the file, without `.pt`.
        options: `pretrained`, `channels` and `classes`, of which only YOLOv5's defaults are here.
        autoshape: see `custom`.
        device: see `custom`.

    Raises:
        CheckpointError: there is no such file.
        ConfigError: other options.
    """
    if options != PRETRAINED:
        raise ConfigError(
            f"{name}: pretrained, channels, classes = {options}: only weights that know what to "
            f"find are handed out; for others: train.py --cfg {name}.yaml"
        )
    path = Path(f"{name}.pt")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file in {Path.cwd()}, and nothing is ever downloaded; put YOLOv5's "
            f"{path} there, or name a file: torch.hub.load(..., 'custom', '/path/of/{path}')"
        )
    return custom(path, autoshape, device=device)


def yolov5n(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5n.pt` in the working folder; see `custom`."""
    return _official("yolov5n", (pretrained, channels, classes), autoshape, device)


def yolov5s(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5s.pt` in the working folder; see `custom`."""
    return _official("yolov5s", (pretrained, channels, classes), autoshape, device)


def yolov5m(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5m.pt` in the working folder; see `custom`."""
    return _official("yolov5m", (pretrained, channels, classes), autoshape, device)


def yolov5l(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5l.pt` in the working folder; see `custom`."""
    return _official("yolov5l", (pretrained, channels, classes), autoshape, device)


def yolov5x(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5x.pt` in the working folder; see `custom`."""
    return _official("yolov5x", (pretrained, channels, classes), autoshape, device)


def yolov5n6(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5n6.pt` in the working folder; see `custom`."""
    return _official("yolov5n6", (pretrained, channels, classes), autoshape, device)


def yolov5s6(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5s6.pt` in the working folder; see `custom`."""
    return _official("yolov5s6", (pretrained, channels, classes), autoshape, device)


def yolov5m6(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5m6.pt` in the working folder; see `custom`."""
    return _official("yolov5m6", (pretrained, channels, classes), autoshape, device)


def yolov5l6(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5l6.pt` in the working folder; see `custom`."""
    return _official("yolov5l6", (pretrained, channels, classes), autoshape, device)


def yolov5x6(
    pretrained: bool = True, channels: int = 3, classes: int = 80, autoshape: bool = True,
    _verbose: bool = True, device: str | int | None = None,
) -> HubModel:  # fmt: skip
    """`yolov5x6.pt` in the working folder; see `custom`."""
    return _official("yolov5x6", (pretrained, channels, classes), autoshape, device)
