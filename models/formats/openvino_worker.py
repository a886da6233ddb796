"""OpenVINO's INT8 quantization in a process of its own: `python -m models.formats.openvino_worker`.

NNCF and OpenVINO report their use to Intel through a package
that they do without where it is missing; for this process it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from utils.letterbox import network_input


def quantize(model_file: Path, images_file: Path, method: str, target: Path) -> None:
    """Write the 8-bit form of an OpenVINO file.

    Args:
        model_file: .xml of a network with one input (B, 3, H, W) in 0-1.
        images_file: .npy, (N, H, W, 3) uint8 RGB, to calibrate on.
        method: NNCF's preset `performance` (activations symmetric) or `mixed` (not).
        target: .xml to write.
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(str(model_file))
    batch_size = model.input(0).get_shape()[0]
    images = np.load(images_file, allow_pickle=False)

    def one_batch(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.repeat(network_input([image]), batch_size, 0)

    heads = [output.get_node().input_value(0).get_node() for output in model.outputs]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(images), one_batch),
        preset=nncf.QuantizationPreset(method),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=[_convolution_before(node) for node in heads]),
    )
    openvino.save_model(quantized, str(target), compress_to_fp16=False)


def _convolution_before(node: object) -> str:
    """The name of the head's convolution: boxes and scores must not share a scale."""
    while node.get_type_name() != "Convolution":  # type: ignore[attr-defined]
        node = node.input_value(0).get_node()  # type: ignore[attr-defined]
    name: str = node.get_friendly_name()  # type: ignore[attr-defined]
    return name


if __name__ == "__main__":
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # bars its import
    quantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
