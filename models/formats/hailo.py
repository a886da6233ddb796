"""Hailo-8, -10, -15: an ONNX file with raw maps, and files for Hailo's Dataflow Compiler.

Boxes are decoded and suppressed by Hailo's runtime, from the anchors in nms.json. The compiler
calibrates on an array of images. Its parser renames layers (`conv55`), which only the parsed file
knows: commands.txt has a command that prints the new names. Only the network was run here, by
onnxruntime.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from models.formats.format import NPU_OPERATORS, Format, NetworkFile, Preset
from models.formats.onnx import NPU_OPSETS, output_nodes
from models.formats.vendor_folder import (
    CALIBRATION_ARRAY,
    NETWORK_IN_FOLDER,
    STALE,
    quoted,
    write_texts,
)
from models.quantization.calibration_images import write_array

_PRINT_NAMES = (
    "import sys; from hailo_sdk_client import ClientRunner; "
    "model = ClientRunner(har=sys.argv[1]).get_hn_model(); "
    "print([layer.name for layer in model.get_real_output_layers()])"
)


def write_hailo(source: NetworkFile, folder: Path) -> None:
    """Write the files beside the network."""
    end_nodes = output_nodes(source.path)
    levels = zip(source.metadata.strides, end_nodes, strict=True)
    _write_suppression(source, folder / "nms.json", end_nodes)
    (folder / "model_script.alls").write_text(
        "normalization1 = normalization([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])\n"
        "change_output_activation(sigmoid)\n"
        'nms_postprocess("nms.json", meta_arch=yolov5, engine=cpu)\n'
    )
    if source.images is not None:
        write_array(folder / CALIBRATION_ARRAY, source.images)
    name, stem = quoted(source)
    write_texts(
        source,
        folder,
        f"hailo parser onnx {name} --hw-arch hailo8 --end-node-names " + " ".join(end_nodes),
        "# The parser renames layers. This prints its names of the outputs:",
        f"python -c {shlex.quote(_PRINT_NAMES)} {stem}.har",
        "# Put them into encoded_layer of nms.json, which has the ONNX file's: "
        + ", ".join(f"stride {stride} is {node}" for stride, node in levels),
        f"hailo optimize {stem}.har --hw-arch hailo8 --calib-set-path {CALIBRATION_ARRAY} "
        "--model-script model_script.alls",
        f"hailo compiler {stem}_optimized.har --hw-arch hailo8",
    )


def _write_suppression(source: NetworkFile, path: Path, end_nodes: list[str]) -> None:
    """How the runtime decodes and suppresses."""
    metadata, (height, width) = source.metadata, source.sizes.input_hw
    levels = zip(metadata.anchors, metadata.strides, end_nodes, strict=True)
    decoders = [
        {
            "name": f"bbox_decoder_{stride}",
            "w": list(anchors[0::2]),
            "h": list(anchors[1::2]),
            "stride": stride,
            "encoded_layer": node,
        }
        for anchors, stride, node in levels
    ]
    content = {
        "nms_scores_th": 0.25,
        "nms_iou_th": 0.45,
        "image_dims": [height, width],
        "max_proposals_per_class": 100,
        "classes": len(metadata.class_names),
        "regression_length": 4,
        "background_removal": False,
        "bbox_decoders": decoders,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


FORMAT = Format(
    name="Hailo",
    runtime=NETWORK_IN_FOLDER,
    presets=(
        Preset(
            name="hailo", description="Hailo-8, -10, -15",
            outputs="raw maps; `nms.json`, model script, calibration array", head="raw",
            suffix="_hailo_model", runtime=NETWORK_IN_FOLDER, opset=11, opsets=NPU_OPSETS,
            operators=NPU_OPERATORS, dynamic=False, one_image=True, is_folder=True,
            convert=write_hailo, keeps_onnx=True, takes_images=True, stale=STALE,
            not_run="Hailo's compiler",
        ),
    ),
)  # fmt: skip
