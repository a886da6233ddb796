"""What export.py writes about a network into its file, or beside it.

The keys `stride` and `names` have the form that readers of YOLOv5's and ultralytics' files
evaluate: the largest stride, and a Python dict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from models.runtimes.input_sizes import InputSizes

_PIXELS_DIVIDED_INSIDE = {"layout": "NHWC", "dtype": "uint8", "range": [0, 255]}


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata that export.py writes into a file, or beside it.

    Attributes:
        class_names: in class-id order.
        strides: input pixels per cell, finest level first.
        anchors: per level width, height, width, height, ... in input pixels.
        sizes: of the input.
        head: `decoded`, `raw`, `sigmoid`, `scores`, `best` or `e2e` (NetworkMetadata says what each
            is).
        rows_last: raw maps are (B, H, W, channels).
        activation: as the model yaml spells it.
        precision: of the computation, e.g. `float32`.
        opset: of the ONNX file it was made from.
        torch_version: that wrote it.
        compiled: the file takes uint8 pixels (B, H, W, 3) and divides them by 255 itself.
        color: order of the pixels' channels.
        platform: the chip it was compiled for; empty where it runs anywhere.
        license: of the weights; empty where it is not known.
        stride: sides of images are multiples of it; 0 is the largest of `strides`.
    """

    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    anchors: tuple[tuple[float, ...], ...]
    sizes: InputSizes
    head: str
    opset: int
    rows_last: bool = False
    activation: str = "SiLU"
    precision: str = "float32"
    torch_version: str = ""
    compiled: bool = False
    color: str = "RGB"
    platform: str = ""
    license: str = ""
    stride: int = 0

    def as_values(self) -> dict[str, Any]:
        """Key -> value, in the order in which files have them; `names` maps class ids to names."""
        given = {
            "layout": "NCHW",
            "color": self.color,
            "range": [0, 1],
            "pad": 114,
            "letterbox": "centred",
            **(_PIXELS_DIVIDED_INSIDE if self.compiled else {}),
        }
        values: dict[str, Any] = {
            "names": dict(enumerate(self.class_names)),
            "nc": len(self.class_names),
            "stride": self.stride or max(self.strides),
            "strides": list(self.strides),
            "anchors": [list(level) for level in self.anchors],
            "imgsz": list(self.sizes.input_hw),
            "batch": self.sizes.batch_size,
            "dynamic": list(self.sizes.dynamic),
            "head": self.head,
            # Named where the file is of the kind that the programs which ask for it read.
            **({"task": "detect"} if self.head == "scores" else {}),
            "maps": "NHWC" if self.rows_last else "NCHW",
            "input": given,
            "activation": self.activation,
            "precision": self.precision,
            "opset": self.opset,
            "torch": self.torch_version,
        }
        known = {"platform": self.platform, "license": self.license}
        return values | {key: value for key, value in known.items() if value}

    def as_texts(self) -> dict[str, str]:
        """Key -> text, for formats whose metadata are texts.

        Texts stay as they are, `names` becomes a Python literal (JSON has no integer keys), and
        everything else JSON.
        """
        values = self.as_values()
        texts = {key: value if isinstance(value, str) else json.dumps(value)
                 for key, value in values.items()}  # fmt: skip
        return {**texts, "names": repr(values["names"])}
