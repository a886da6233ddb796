"""YOLOv5's object for programs written for it, without a network.

model = torch.hub.load("path/of/this/folder", "custom", "best.pt", source="local")
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.given_images import GivenImage, given_frames
from data.sources import FittedFrame
from detect import Detector, find, load_detector, prepared
from utils.boxes import xyxy_to_cxcywh
from utils.detect.frame_detections import FrameDetections
from utils.detect.output import DetectionOutput, OutputOptions
from utils.detect.pipeline import Found, in_order
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import DetectionLog, count_by_name
from utils.errors import ConfigError
from utils.letterbox import InputSize, round_up_to_stride
from utils.output_files import make_run_folder
from utils.structures import FloatArray, Frame, ImageArray

if TYPE_CHECKING:
    import pandas

dependencies = ["torch", "numpy", "cv2", "PIL", "yaml"]  # torch.hub looks whether they are here


def custom(
    path: str | Path,
    autoshape: bool = True,
    _verbose: bool = True,
    device: str | torch.device | None = None,
) -> HubModel:
    """A network in a file, called as YOLOv5's.

    Args:
        path: a checkpoint (.pt) or an exported file.
        autoshape: must be True: the network alone is for `train.py`.
        _verbose: as in YOLOv5; nothing is printed in either case.
        device: cpu, a GPU number, `cuda:0`, mps; None for the best there is.

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
        names: class id -> name.
        stride: of the network.
    """

    __slots__ = ("_detector", "_weights", "agnostic", "classes", "conf", "iou", "max_det",
                 "multi_label", "names", "stride")  # fmt: skip

    def __init__(self, weights: str, device: str) -> None:
        self._weights, self._detector = weights, load_detector(weights, device=device)
        rules = self._detector.rules
        self.conf, self.iou = rules.score_threshold, rules.iou_threshold
        self.classes: Sequence[int] | None = None
        self.max_det, self.agnostic, self.multi_label = rules.max_detections, False, False
        self.names = dict(enumerate(self._detector.class_names))
        self.stride = self._detector.runner.stride

    def __call__(
        self,
        ims: GivenImage | Sequence[GivenImage],
        size: int | Sequence[int] | None = None,
        augment: bool = False,
        profile: bool = False,
    ) -> HubResults:
        """Find objects.

        Args:
            ims: paths, addresses, RGB arrays (height, width, 3), PIL images; one or several.
            size: the longer side of the network input in pixels; None as the network was made.
            augment: must be False.
            profile: as in YOLOv5; times are always taken.

        Raises:
            UserError: an image cannot be read, or a value is out of its range.
        """
        if augment:
            raise ConfigError("augment=True: there is no test-time augmentation; a larger size "
                              "finds smaller objects")  # fmt: skip
        images = list(ims) if isinstance(ims, list | tuple) else [ims]
        frames = list(given_frames(images, bgr=False, count=len(images)))  # type: ignore[arg-type]
        detector = self._tuned()
        log = DetectionLog(detector.class_names, 1, strict=True)
        batches = _one_size(detector, frames, size)
        found = in_order(find(detector.runner, prepared(batches, log.clock), detector.rules, log))
        return HubResults([each for each in found if isinstance(each, Found)],
                          self.names, log.clock.milliseconds_per(len(frames)))  # fmt: skip

    def _tuned(self) -> Detector:
        classes = None if self.classes is None else tuple(self.classes)
        rules = replace(
            self._detector.rules, score_threshold=self.conf, iou_threshold=self.iou,
            classes=classes, class_agnostic=self.agnostic, multi_label=self.multi_label,
            max_detections=self.max_det,
        )  # fmt: skip
        return replace(self._detector, rules=rules)

    def to(self, device: str | torch.device) -> HubModel:
        """The network on another device; its settings stay."""
        self._detector = load_detector(self._weights, device=_device_flag(device))
        return self

    def eval(self) -> HubModel:
        """Itself: it is never in training mode."""
        return self


class HubResults:
    """Results as YOLOv5 gives them; lists have one entry per image.

    Attributes:
        ims: (H, W, 3) uint8 RGB; with boxes on them after `render`.
        pred: (N, 6) float32 tensors: xyxy in pixels of the image, score, class id.
        xyxy: the same as `pred`.
        xywh: (N, 6) centre, width and height instead of corners.
        xyxyn: `xyxy` with boxes as fractions of the image.
        xywhn: `xywh` with boxes as fractions of the image.
        names: class id -> name.
        files: names of the files.
        n: how many images.
        t: milliseconds per image of preprocessing, inference and postprocessing.
        s: shape of the network input.
    """

    def __init__(
        self, found: Sequence[Found], names: dict[int, str], milliseconds: dict[str, float]
    ) -> None:
        class_names = tuple(names.values())
        self._found = [FrameDetections(each.frame, each.detections, class_names) for each in found]
        self.ims: list[ImageArray] = [each.image for each in self._found]
        self.names, self.n = names, len(found)
        self.files = [each.frame.path.name for each in found]
        self.t = tuple(milliseconds[name] for name in ("preprocess", "inference", "postprocess"))
        self.s = (self.n, 3, *found[0].input_hw) if found else (0, 3, 0, 0)
        self.xyxy = [_rows(each, each.boxes) for each in self._found]
        self.xywh = [_rows(each, xyxy_to_cxcywh(each.boxes)) for each in self._found]
        self.xyxyn = [_as_fractions(*pair) for pair in zip(self.xyxy, self._found, strict=True)]
        self.xywhn = [_as_fractions(*pair) for pair in zip(self.xywh, self._found, strict=True)]
        self.pred = self.xyxy

    def __len__(self) -> int:
        """The number of images."""
        return self.n

    def __str__(self) -> str:
        """A line per image and one of times."""
        lines = [
            f"image {number}/{self.n}: {found.image.shape[0]}x{found.image.shape[1]} "
            f"{count_by_name(found.class_ids, found.class_names) or '(no detections)'}"
            for number, found in enumerate(self._found, 1)
        ]
        before, inference, after = self.t
        speed = f"{before:.1f}ms pre-process, {inference:.1f}ms inference, {after:.1f}ms NMS"
        return "\n".join([*lines, f"Speed: {speed} per image at shape {self.s}"])

    def print(self) -> None:
        """Write the results as text to standard output."""
        sys.stdout.write(f"{self}\n")

    def pandas(self) -> BoxTables:
        """Tables with a column for each number.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        corners = [found.to_pandas() for found in self._found]
        return BoxTables(
            xyxy=corners,
            xyxyn=_tables(corners, self.xyxyn, ("xmin", "ymin", "xmax", "ymax")),
            xywh=_tables(corners, self.xywh, ("xcenter", "ycenter", "width", "height")),
            xywhn=_tables(corners, self.xywhn, ("xcenter", "ycenter", "width", "height")),
        )

    def tolist(self) -> list[HubResults]:
        """Results of one image each."""
        singles = []
        for index in range(self.n):
            one = copy(self)
            one.n, one.s = 1, (1, *self.s[1:])
            for name in ("_found", "ims", "files", "xyxy", "xywh", "xyxyn", "xywhn", "pred"):
                setattr(one, name, getattr(self, name)[index : index + 1])
            singles.append(one)
        return singles

    def render(self, labels: bool = True) -> list[ImageArray]:
        """The images with boxes on them, RGB; `ims` becomes them."""
        self.ims = [found.draw(hide_labels=not labels) for found in self._found]
        return self.ims

    def show(self, labels: bool = True) -> None:
        """Show image after image in a window; a key goes on, `q` ends.

        Raises:
            ConfigError: there is no screen.
        """
        window = PreviewWindow()
        for image in self.render(labels):
            if not window.show(image, is_video=False):
                return

    def save(
        self, labels: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False
    ) -> Path:
        """Write the images with boxes on them; the folder, a new one unless `exist_ok`."""
        return self._write(OutputOptions(hide_labels=not labels), save_dir, exist_ok)

    def crop(
        self, save: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False
    ) -> list[dict[str, Any]]:
        """Each detection as box, conf, cls, label and `im` (blue, green, red), the worst first.

        Args:
            save: also write them to `crops/<class>/`, in a new folder unless `exist_ok`.
            save_dir: that folder.
            exist_ok: an existing one is used again.
        """
        if save:
            self._write(OutputOptions(images=False, crops=True), save_dir, exist_ok)
        return [
            {
                "box": list(row[:4]),
                "conf": row[4],
                "cls": row[5],
                "label": f"{name} {row[4]:.2f}",
                "im": np.ascontiguousarray(crop[..., ::-1]),
            }
            for found, rows in zip(self._found, self.xyxy, strict=True)
            for row, name, crop in reversed(
                list(zip(rows, found.names, found.crops(), strict=True))
            )
        ]

    def _write(self, options: OutputOptions, save_dir: str | Path, exist_ok: bool) -> Path:
        first = Path(save_dir)
        folder = make_run_folder(first.parent, first.name, exist_ok=exist_ok)
        with DetectionOutput(folder, tuple(self.names.values()), options) as output:
            for found in self._found:
                output.write(found.frame, found.detections)
        return folder


class BoxTables(NamedTuple):  # a dataclass looks for its module, which torch.hub does not register
    """Detections as pandas tables, one per image; the columns are YOLOv5's.

    Attributes:
        xyxy: corners in pixels.
        xyxyn: corners as fractions of the image.
        xywh: centre, width and height in pixels.
        xywhn: centre, width and height as fractions of the image.
    """

    xyxy: list[pandas.DataFrame]
    xyxyn: list[pandas.DataFrame]
    xywh: list[pandas.DataFrame]
    xywhn: list[pandas.DataFrame]


def _one_size(
    detector: Detector, frames: Sequence[Frame], size: int | Sequence[int] | None
) -> Iterator[list[FittedFrame]]:
    """The frames as YOLOv5 batches them: of the smallest one size that all fit into.

    Each keeps its proportions, with the longer side of `size` pixels.
    """
    runner, input_size = detector.runner, detector.size
    if runner.input_hw == (None, None) and frames:
        longest = _long_side(input_size.limit_hw if size is None else size)
        sides = [[int(side * longest / max(frame.image_hw)) for side in frame.image_hw]
                 for frame in frames]  # fmt: skip
        height, width = (
            round_up_to_stride(max(each), runner.stride) for each in zip(*sides, strict=True)
        )
        input_size = InputSize((height, width), None)
    fitted = [FittedFrame(number, frame, input_size.letterbox(frame.image_hw))
              for number, frame in enumerate(frames)]  # fmt: skip
    at_once = runner.batch_size or max(len(frames), 1)
    for start in range(0, len(fitted), at_once):
        yield fitted[start : start + at_once]


def _long_side(size: int | Sequence[int]) -> int:
    longest = size if isinstance(size, int) else max(size)
    if longest < 1:
        raise ConfigError(f"size={size}: expected pixels, at least 1")
    return longest


def _device_flag(device: str | torch.device | None) -> str:
    """`cuda:0` -> `0`, as `--device` spells it."""
    text = "" if device is None else str(device)
    return text.removeprefix("cuda:") if text != "cuda" else "0"


def _rows(found: FrameDetections, boxes: FloatArray) -> Tensor:
    return torch.from_numpy(
        np.column_stack([boxes, found.scores, found.class_ids]).astype(np.float32)
    )


def _as_fractions(rows: Tensor, found: FrameDetections) -> Tensor:
    height, width = found.image.shape[:2]
    return rows / torch.tensor([width, height, width, height, 1, 1], dtype=torch.float32)


def _tables(
    corners: Sequence[pandas.DataFrame], rows: Sequence[Tensor], columns: Sequence[str]
) -> list[pandas.DataFrame]:
    """The tables with other boxes in their first four columns."""
    tables = []
    for table, each in zip(corners, rows, strict=True):
        renamed = table.rename(columns=dict(zip(table.columns[:4], columns, strict=True)))
        tables.append(renamed.assign(**dict(zip(columns, each.numpy().T, strict=False))))
    return tables
