"""Quantization techniques that may bring back AP that an 8-bit ONNX file lost.

Each makes a new file from the best so far. Their order is that of TECHNIQUES: `equalize` and
`mixed` round anew, `bias` corrects what was rounded, and `train` starts from all of it.

`equalize` changes the float32 network, `mixed` leaves the worst layers in float32 (slower), `bias`
changes biases alone, `train` changes all numbers of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from models.export.exported_file import FileRequest, float_request, write_file
from models.export.onnx_file import NEWEST_OPSET
from models.formats.format import QuantizedNetwork
from models.quantization.bias_correction import correct_biases
from models.quantization.calibration import Calibration, Candidate
from models.quantization.equalization import equalized
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantization_training import QuantizationTraining, train_quantized
from models.quantization.quantized_graph import QuantizedGraph
from models.quantization.quantized_onnx import quantize
from models.quantization.sensitivity import layer_nodes, sensitivities
from models.runtimes.onnx_runner import OnnxRunner

FLOAT_SHARE = 0.1  # of the convolutions that `mixed` leaves in float32


def apply_technique(
    technique: str,
    best: Candidate,
    request: FileRequest,
    scheme: QdqScheme,
    calibration: Calibration,
) -> Candidate:
    """The file after one technique, beside the best one.

    Args:
        technique: of TECHNIQUES.
        best: the file to start from, and its float32 file.
        request: what file is wanted.
        scheme: the integers of the file.
        calibration: what it is made and evaluated with.

    Raises:
        ConfigError: the technique is not for this network.
    """
    name = f"{best.name}, {technique}"
    target = best.file.with_name(f"{name}.onnx")
    changed = _MAKERS[technique](best, target, request, scheme, calibration)
    runner = OnnxRunner(target, device="cpu")
    return replace(
        changed, name=name, file=target, network=QuantizedNetwork(runner),
        evaluated=calibration.evaluate(runner),
    )  # fmt: skip


def _equalize(
    best: Candidate, target: Path, request: FileRequest, scheme: QdqScheme, calibration: Calibration
) -> Candidate:
    """Weights of like range in all channels (see equalization)."""
    detector, _ = equalized(best.detector)
    source = target.with_name(f"float, {target.name}")
    opset = min(request.opset, NEWEST_OPSET)
    write_file(source, float_request(replace(request, detector=detector, opset=opset)))
    quantize(source, target, calibration.images, best.method, scheme)
    return replace(best, detector=detector, source=source)


def _mixed(
    best: Candidate, target: Path, _: FileRequest, scheme: QdqScheme, calibration: Calibration
) -> Candidate:
    """The layers that lose most alone stay in float32 (models.quantization.sensitivity)."""
    images = calibration.images
    layers = sensitivities(best.source, images, calibration.sample_images, best.method, scheme)
    worst = layers[: max(1, round(FLOAT_SHARE * len(layers)))]
    nodes = [node for layer in worst for node in layer_nodes(best.source, layer.name)]
    quantize(best.source, target, images, best.method, scheme, nodes)
    return best


def _bias(
    best: Candidate, target: Path, _: FileRequest, __: QdqScheme, calibration: Calibration
) -> Candidate:
    """Mean errors of channels are subtracted (models.quantization.bias_correction)."""
    correct_biases(best.source, best.file, target, calibration.images)
    return best


def _train(
    best: Candidate, target: Path, _: FileRequest, __: QdqScheme, calibration: Calibration
) -> Candidate:
    """A short training with the float32 network as teacher (see quantization_training)."""
    graph = QuantizedGraph.read(best.file, best.source)
    settings = QuantizationTraining(epochs=calibration.epochs)
    train_quantized(graph, best.detector, calibration.batches, settings)
    graph.write(target)
    return best


_Technique = Callable[[Candidate, Path, FileRequest, QdqScheme, Calibration], Candidate]
_MAKERS: Mapping[str, _Technique] = {
    "equalize": _equalize,
    "mixed": _mixed,
    "bias": _bias,
    "train": _train,
}
