"""8-bit ONNX files in the simulator of Qualcomm's HTP, by onnxruntime's plug-in for QNN."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from utils.errors import CheckFailedError, MissingPackageError
from utils.structures import FloatArray

_NO_FALLBACK = "session.disable_cpu_ep_fallback"  # what the HTP cannot run is an error


def is_installed() -> bool:
    """Whether the plug-in is here."""
    return importlib.util.find_spec("onnxruntime_qnn") is not None


class QnnRunner:
    """An ONNX file whose every operator runs on the simulated HTP.

    Args:
        path: the file; its sizes are fixed.

    Raises:
        CheckFailedError: QNN does not take the network, or not all of it.
        MissingPackageError: the plug-in is not installed.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        devices, options = _htp_devices(), onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry(_NO_FALLBACK, "1")
        import onnxruntime_qnn

        backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path()}
        options.add_provider_for_devices(devices, backend)
        if not devices:
            raise CheckFailedError(f"{path.name}: QNN's plug-in offers no device here")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            reason = " ".join(str(error).split())[:300]
            raise CheckFailedError(f"{path.name}: QNN does not take it: {reason}") from None
        texts = self._session.get_modelmeta().custom_metadata_map
        metadata = NetworkMetadata.from_texts(path, texts)
        self.class_names, self.stride = metadata.class_names, max(metadata.strides)
        self._input = self._session.get_inputs()[0]
        batch, _, height, width = self._input.shape
        self.batch_size: int | None = batch
        self.input_hw: tuple[int | None, int | None] = (height, width)
        outputs = [(node.name, node.shape) for node in self._session.get_outputs()]
        self._heads = Heads.choose(path, outputs, metadata)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        batch = np.ascontiguousarray(images, np.float32)
        answers = self._session.run(list(self._heads.outputs), {self._input.name: batch})
        return self._heads.decode(answers)


@functools.cache  # onnxruntime takes a plug-in once per process
def _htp_devices() -> tuple[Any, ...]:
    """The first device that the plug-in offers."""
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError:
        raise MissingPackageError(
            "QNN's simulator needs onnxruntime-qnn: pip install -r requirements-qnn.txt"
        ) from None
    name = onnxruntime_qnn.EP_NAME
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    return tuple(each for each in onnxruntime.get_ep_devices() if each.ep_name == name)[:1]
