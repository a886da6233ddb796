"""The same ONNX file in other runtimes than onnxruntime, where they are installed."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.export.sizes import Sizes
from models.formats import qnn as qnn_runner
from models.formats.openvino import OpenVinoRunner
from models.formats.presets import Preset
from models.formats.qnn import QnnRunner
from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.runner import Runner
from utils.errors import CheckFailedError, CheckpointError
from utils.structures import FloatArray

NEWEST_OF_OPENCV_4 = 12  # opset
logger = logging.getLogger(__name__)


def second_runtimes(
    path: Path, preset: Preset, sizes: Sizes, opset: int, metadata: Mapping[str, Any]
) -> dict[str, Runner]:
    """Every other runtime that a file is for and that is installed here, by its name.

    Float32 files are opened by OpenVINO, and those of older opsets by OpenCV; 8-bit ones of the
    forms that Qualcomm's HTP takes by QNN's simulator of it.

    Raises:
        CheckFailedError: one does not take the file.
    """
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    found: dict[str, Runner] = {}
    if preset.form is not None and not preset.form.symmetric and qnn_runner.is_installed():
        found["QNN's HTP simulator"] = QnnRunner(path)
    if preset.quantized or preset.half:
        return found
    if importlib.util.find_spec("openvino") is None:
        logger.info("openvino is not installed: %s was not opened there", path.name)
    else:
        with _refusal_said("OpenVINO", path):
            found["OpenVINO"] = OpenVinoRunner(path, texts=texts)
    if opset <= NEWEST_OF_OPENCV_4 and not sizes.dynamic and not preset.rows_last:
        with _refusal_said("OpenCV", path):
            found["OpenCV"] = OpenCvRunner(path, sizes, texts)
    return found


@contextmanager
def _refusal_said(runtime: str, path: Path) -> Iterator[None]:
    """A region in which a runtime's own error becomes ours.

    Raises:
        CheckFailedError: it does not take the file.
    """
    try:
        yield
    except (CheckpointError, RuntimeError, cv2.error) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckFailedError(f"{path.name}: {runtime} does not take it: {reason}") from None


class OpenCvRunner:
    """An ONNX file of fixed sizes in OpenCV's DNN module.

    Args:
        path: the file.
        sizes: what it takes.
        texts: its metadata, which OpenCV does not read.
    """

    def __init__(self, path: Path, sizes: Sizes, texts: Mapping[str, str]) -> None:
        metadata = NetworkMetadata.from_texts(path, texts)
        self.class_names = metadata.class_names
        self.stride = max(metadata.strides)
        self.input_hw: tuple[int | None, int | None] = sizes.input_hw
        self.batch_size: int | None = sizes.batch_size
        self._network = cv2.dnn.readNetFromONNX(str(path))
        names = self._network.getUnconnectedOutLayersNames()
        rank = 3 if metadata.head in ("decoded", "e2e") else 4
        self._heads = Heads.choose(path, [(name, (None,) * rank) for name in names], metadata)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        self._network.setInput(np.ascontiguousarray(images))
        return self._heads.decode(self._network.forward(list(self._heads.outputs)))
