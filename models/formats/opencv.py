"""OpenCV's DNN module: an ONNX file for it, and a second runtime of other ONNX files.

Up to 4.x it reads opset 12 at most, fixed sizes, and no Split. The file is run by onnxruntime and
compared in OpenCV, which reads no metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.formats.format import Format, NetworkFile, Preset, SecondRuntime
from models.runtimes.heads import Heads, in_batches
from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.onnx_runner import ONNXRUNTIME
from models.runtimes.runner import Runner
from utils.errors import CheckpointError
from utils.structures import FloatArray

NEWEST_OPSET = 12  # of OpenCV 4
BATCHES = cv2.__version__[:4] != "4.6."  # which stops at several images per run


class OpenCvRunner:
    """An ONNX file of fixed sizes in OpenCV's DNN module.

    Args:
        path: the file.
        sizes: what it takes.
        texts: its metadata, which OpenCV does not read.

    Raises:
        CheckpointError: OpenCV does not read the file.
    """

    def __init__(self, path: Path, sizes: InputSizes, texts: Mapping[str, str]) -> None:
        metadata = NetworkMetadata.from_texts(path, texts)
        self.class_names = metadata.class_names
        self.stride = metadata.stride
        self.known_hw = metadata.known_hw
        self.suppresses = metadata.suppresses
        self.input_hw: tuple[int | None, int | None] = sizes.input_hw
        self.batch_size: int | None = sizes.batch_size
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise CheckpointError(f"{path}: OpenCV cannot read it: {error}") from None
        names = self._network.getUnconnectedOutLayersNames()
        rank = 4 if metadata.head in ("raw", "sigmoid") else 3
        self._heads = Heads.choose(path, [(name, (None,) * rank) for name in names], metadata)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        self._network.setInput(np.ascontiguousarray(images))
        return self._heads.decode(self._network.forward(list(self._heads.outputs)))


@contextmanager
def _opened(file: NetworkFile) -> Iterator[Runner]:
    yield OpenCvRunner(file.path, file.sizes, file.metadata.as_texts())


FORMAT = Format(
    name="OpenCV",
    presets=(
        Preset(
            name="opencv4", description="OpenCV's DNN module, 4.x too",
            outputs="boxes; nothing is split", head="decoded", suffix="-opencv4.onnx",
            runtime=ONNXRUNTIME, opset=NEWEST_OPSET, opsets=range(NEWEST_OPSET, NEWEST_OPSET + 1),
            forbidden=frozenset(("BatchNormalization", "Split")), dynamic=False,
        ),
    ),
    second_runtime=SecondRuntime(
        "OpenCV", _opened, newest_opset=NEWEST_OPSET, dynamic=False, rows_last=False,
        batches=BATCHES,
    ),
)  # fmt: skip
