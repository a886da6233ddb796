"""What YOLOv5's `model(images)` gives, with boxes that were found here; pandas is optional."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.boxes import xyxy_to_cxcywh
from utils.detect.frame_detections import FrameDetections
from utils.detect.output import DetectionOutput
from utils.detect.output_options import OutputOptions
from utils.detect.pipeline import Found
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import count_by_name
from utils.errors import ConfigError
from utils.run_folder import make_run_folder
from utils.structures import FloatArray, ImageArray

if TYPE_CHECKING:
    import pandas


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
        window = PreviewWindow("show()")
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
        if not isinstance(save_dir, str | os.PathLike):
            raise ConfigError(f"save_dir={save_dir!r}: expected the path of a folder")
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
