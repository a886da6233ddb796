"""Axera AX650, AX630C: an ONNX file with raw maps for Pulsar2, its configuration, images in a tar.

The configuration is that of YOLOv5s in Axera's documents: the compiled network takes the BGR pixels
that their sample gives it, and its maps are (1, H, W, channels), which the sample walks through.
Only the network was run here, by onnxruntime.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.formats.format import NPU_OPERATORS, Format, NetworkFile, Preset
from models.formats.onnx import NPU_OPSETS, output_names
from models.formats.vendor_folder import (
    CALIBRATION_ARCHIVE,
    NETWORK_IN_FOLDER,
    STALE,
    quoted,
    write_texts,
)
from models.quantization.calibration_images import pack, write_images
from models.runtimes.network_metadata import INPUT


def write_axera(source: NetworkFile, folder: Path) -> None:
    """Write the files beside the network."""
    names: list[str] = []
    if source.images is not None:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            names = write_images(Path(temporary), source.images)
            pack(folder / CALIBRATION_ARCHIVE, Path(temporary), names)
    configuration = _configuration(len(names), output_names(source.path))
    (folder / "config.json").write_text(json.dumps(configuration, indent=1) + "\n")
    build = f"pulsar2 build --input {quoted(source)[0]} --config config.json --output_dir output"
    write_texts(
        replace(source, metadata=replace(source.metadata, color="BGR", rows_last=True)),
        folder,
        f"{build} --target_hardware AX650",
        f"{build} --target_hardware AX620E  # for AX630C, AX631, AX620Q",
        "# Axera's sample has anchors and number of classes as constants: metadata.json has yours",
    )


def _configuration(num_images: int, outputs: list[str]) -> dict[str, Any]:
    """What the tool reads; flags of its command line go before it."""
    return {
        "model_type": "ONNX",
        "target_hardware": "AX650",
        "npu_mode": "NPU1",
        "quant": {
            "input_configs": [
                {
                    "tensor_name": INPUT,
                    "calibration_dataset": CALIBRATION_ARCHIVE,
                    "calibration_size": num_images,
                    "calibration_mean": [0, 0, 0],
                    "calibration_std": [255, 255, 255],
                }
            ],
            "calibration_method": "MinMax",
        },
        "input_processors": [
            {
                "tensor_name": INPUT,
                "tensor_format": "RGB",
                "src_format": "BGR",
                "src_dtype": "U8",
                "src_layout": "NHWC",
            }
        ],
        "output_processors": [{"tensor_name": name, "dst_perm": [0, 2, 3, 1]} for name in outputs],
        "compiler": {"check": 0},
    }


FORMAT = Format(
    name="Axera",
    runtime=NETWORK_IN_FOLDER,
    presets=(
        Preset(
            name="axera", description="Axera AX650, AX630C",
            outputs="raw maps; `config.json`, images in a tar", head="raw",
            suffix="_axera_model", runtime=NETWORK_IN_FOLDER, opset=12, opsets=NPU_OPSETS,
            operators=NPU_OPERATORS, dynamic=False, one_image=True, is_folder=True,
            convert=write_axera, keeps_onnx=True, takes_images=True, stale=STALE,
            not_run="Axera's Pulsar2",
        ),
    ),
)  # fmt: skip
