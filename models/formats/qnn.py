"""QNN: Qualcomm's simulator of its HTP, a second runtime of 8-bit ONNX files with zero points.

By onnxruntime's plug-in for QNN. Every operator must run on the simulated HTP.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.formats.format import Format, NetworkFile, Package, SecondRuntime
from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.runner import Runner
from utils.errors import CheckFailedError, MissingPackageError
from utils.structures import FloatArray

_NO_FALLBACK = "session.disable_cpu_ep_fallback"  # what the HTP cannot run is an error


class QnnRunner:
    """An ONNX file on the simulated HTP, in a process where the plug-in is registered.

    Args:
        path: the file; its sizes are fixed.
        devices: that the plug-in offers.

    Raises:
        CheckFailedError: QNN does not take the network, or not all of it.
    """

    def __init__(self, path: Path, devices: list[Any]) -> None:
        import onnxruntime
        import onnxruntime_qnn

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry(_NO_FALLBACK, "1")
        backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path()}
        options.add_provider_for_devices(devices, backend)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            reason = " ".join(str(error).split())[:300]
            raise CheckFailedError(f"{path.name}: QNN does not take it: {reason}") from None
        texts = self._session.get_modelmeta().custom_metadata_map
        metadata = NetworkMetadata.from_texts(path, texts)
        self.class_names, self.stride = metadata.class_names, metadata.stride
        self.known_hw = metadata.known_hw
        self.suppresses = metadata.suppresses
        given = self._session.get_inputs()[0]  # not kept: it would keep the session alive
        self._input_name = given.name
        batch, _, height, width = given.shape
        self.batch_size: int | None = batch
        self.input_hw: tuple[int | None, int | None] = (height, width)
        outputs = [(node.name, node.shape) for node in self._session.get_outputs()]
        self._heads = Heads.choose(path, outputs, metadata)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def close(self) -> None:
        """End the session, without which the plug-in cannot be taken away again."""
        del self._session

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        batch = np.ascontiguousarray(images, np.float32)
        answers = self._session.run(list(self._heads.outputs), {self._input_name: batch})
        return self._heads.decode(answers)


@contextmanager
def _opened(file: NetworkFile) -> Iterator[Runner]:
    with registered_plug_in() as devices:
        if not devices:
            raise CheckFailedError(f"{file.path.name}: QNN's plug-in offers no device here")
        runner = QnnRunner(file.path, devices)
        try:
            yield runner
        finally:
            runner.close()


@contextmanager
def registered_plug_in() -> Iterator[list[Any]]:
    """A region in which onnxruntime has the plug-in; gives the first device that it offers."""
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError:
        raise MissingPackageError(
            "QNN's simulator needs onnxruntime-qnn: pip install -r requirements-qnn.txt"
        ) from None
    name = onnxruntime_qnn.EP_NAME
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == name][:1]
    try:
        yield devices
    finally:
        devices.clear()  # they belong to the plug-in
        gc.collect()  # a session that a traceback still holds
        onnxruntime.unregister_execution_provider_library(name)


FORMAT = Format(
    name="QNN",
    second_runtime=SecondRuntime(
        "QNN's HTP simulator", _opened, package=Package("onnxruntime_qnn", "requirements-qnn.txt"),
        takes_8_bits=True,
    ),
)  # fmt: skip
