"""INT8 ONNX files: post-training quantization with onnxruntime, and the loss of each layer.

Weights become signed 8-bit numbers, activations those of a scheme (qdq_scheme), written as pairs of
QuantizeLinear and DequantizeLinear. The head's convolutions stay in float32, so that boxes and
scores never share a scale.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.formats.onnx import output_nodes
from models.quantization.calibration_images import Images
from models.quantization.qdq_scheme import U8S8, QdqScheme
from models.runtimes.network_metadata import INPUT
from utils.errors import MissingPackageError
from utils.structures import FloatArray

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}  # as onnxruntime
# Of models.quantization.techniques, in the order in which none undoes another.
TECHNIQUES = ("equalize", "mixed", "bias", "train")
OPSET_OF_16_BITS, IR_OF_16_BITS = 21, 10
PERCENTILE = 99.999  # of the observed values: outliers beyond it are clipped
WORST_LAYERS = 10
WIDENS_SCALES = "1.20.1"  # of onnxruntime
MIN_OBJECTNESS_VALUES = 16  # fewer mean that a scale has swallowed the scores


@dataclass(frozen=True, slots=True)
class Layer:
    """One tensor's signal-to-quantization-noise ratio in decibels."""

    name: str
    sqnr_db: float


def quantize(
    source: Path,
    target: Path,
    images: Images,
    method: str,
    scheme: QdqScheme = U8S8,
    keep_float: Collection[str] = (),
) -> None:
    """Write the INT8 version of a float32 file that ends in raw maps.

    Args:
        source: the float32 file, opset 13 or later.
        target: where to write.
        images: to calibrate on: prepared as for detection, without augmentation.
        method: one of METHODS: how the range of an activation is chosen.
        scheme: integer types, symmetry and granularity.
        keep_float: names of nodes that stay in float32.

    Raises:
        MissingPackageError: this onnxruntime cannot write the file's biases.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=target.parent) as folder, _quietly():
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        keep_float = [*output_nodes(prepared), *keep_float]
        with np.errstate(invalid="ignore"):  # _check_biases finds numbers that wrapped around
            _quantize_prepared(prepared, written, images, method, scheme, keep_float)
        _check_biases(written)
        _remove_provenance(written, source)
        written.replace(target)


def _quantize_prepared(
    source: Path,
    target: Path,
    images: Images,
    method: str,
    scheme: QdqScheme,
    keep_float: Sequence[str],
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    numbers = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8, "u16": QuantType.QUInt16}
    options: dict[str, Any] = {
        "ActivationSymmetric": scheme.symmetric,
        "QuantizeBias": scheme.rounded_bias,
    }
    if method == "percentile":
        options["CalibPercentile"] = PERCENTILE
    quantize_static(
        str(source),
        str(target),
        _reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=scheme.per_channel,
        activation_type=numbers[scheme.activations],
        weight_type=QuantType.QInt8,
        reduce_range=scheme.reduce_range,
        nodes_to_exclude=list(keep_float),
        calibrate_method=CalibrationMethod[METHODS[method]],
        extra_options=options,
    )


def worst_layers(source: Path, quantized: Path, images: Images) -> list[Layer]:
    """The layers with the lowest signal-to-noise ratio, worst first, at most WORST_LAYERS.

    Args:
        source: the float32 file.
        quantized: the INT8 file made from it.
        images: a few; both networks run on them.
    """
    from onnxruntime import GraphOptimizationLevel, SessionOptions
    from onnxruntime.quantization import qdq_loss_debug

    rounded = SessionOptions()  # and nothing else: sums in float32 on every processor
    rounded.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(dir=quantized.parent) as folder, _quietly():
        found = []
        for file in (source, quantized):
            augmented = Path(folder) / file.name
            qdq_loss_debug.modify_model_output_intermediate_tensors(str(file), str(augmented))
            found.append(qdq_loss_debug.collect_activations(
                str(augmented), _reader(images), rounded))  # fmt: skip
        pairs = qdq_loss_debug.create_activation_matching(found[1], found[0])
        ratios = qdq_loss_debug.compute_activation_error(pairs)
    layers = [Layer(name, float(ratio["xmodel_err"])) for name, ratio in ratios.items()]
    finite = [layer for layer in layers if math.isfinite(layer.sqnr_db)]
    return sorted(finite, key=lambda layer: layer.sqnr_db)[:WORST_LAYERS]


def objectness_values(decoded: Iterable[FloatArray]) -> int:
    """The number of distinct objectness values in (B, N, 5 + C) predictions."""
    return len(np.unique(np.concatenate([each[..., 4].ravel() for each in decoded])))


def _reader(images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the images to onnxruntime's calibrator."""

        def __init__(self) -> None:
            self._images: Iterator[FloatArray] = iter(images())

        def get_next(self) -> Mapping[str, FloatArray] | None:
            """The next image by input name; None after the last."""
            image = next(self._images, None)
            return None if image is None else {INPUT: image}

    return Reader()


def _check_biases(path: Path) -> None:
    """Find biases beyond 32 bits: where weights are almost 0, so is the scale of their bias.

    Newer versions of onnxruntime give such weights a larger scale.
    """
    import onnx
    import onnxruntime

    limits, graph = np.iinfo(np.int32), onnx.load(str(path)).graph
    rounded = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for tensor in graph.initializer:
        if tensor.name in rounded and tensor.data_type == onnx.TensorProto.INT32:
            values = onnx.numpy_helper.to_array(tensor)
            if np.isin(values, (limits.min, limits.max)).any():
                raise MissingPackageError(
                    f"{tensor.name}: 32 bits do not hold it as onnxruntime "
                    f"{onnxruntime.__version__} rounds it: "
                    f"pip install 'onnxruntime>={WIDENS_SCALES}'"
                )


def _remove_provenance(path: Path, source: Path) -> None:
    """Remove paths and the quantizer's notes, so that equal input gives equal bytes.

    16-bit pairs need opset 21: the quantizer raises the file to it, but not its IR version.
    """
    import onnx

    model, original = onnx.load(str(path)), onnx.load(str(source), load_external_data=False)
    model.producer_name, model.producer_version, model.doc_string = "reparam-yolov5", "", ""
    used = {node.domain for node in model.graph.node}
    for entry in reversed(range(len(model.opset_import))):
        if model.opset_import[entry].domain not in used:
            del model.opset_import[entry]
    opset = next(each.version for each in model.opset_import if each.domain == "")
    model.ir_version = IR_OF_16_BITS if opset >= OPSET_OF_16_BITS else original.ir_version
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    for node in model.graph.node:
        node.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the advice that onnxruntime's quantizer logs and prints within the block."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger().setLevel(level)
