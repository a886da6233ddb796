"""Horizon and D-Robotics X3, X5: an ONNX file for hb_mapper, configurations and PNG images.

The compiled network takes RGB pixels, or NV12 camera frames as X5's examples do; its raw maps are
(1, H, W, channels), opset 11. Only the network was run here, by onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.formats.format import NPU_OPERATORS, Format, NetworkFile, Preset
from models.formats.vendor_folder import NETWORK_IN_FOLDER, STALE, quoted, write_texts
from models.quantization.calibration_images import FOLDER as CALIBRATION
from models.quantization.calibration_images import write_images
from models.runtimes.network_metadata import INPUT
from utils.strict_yaml import write_yaml

RGB_CONFIG, NV12_CONFIG = "config.yaml", "config_nv12.yaml"
X3, X5 = "bernoulli2", "bayes-e"


def write_horizon(source: NetworkFile, folder: Path) -> None:
    """Write the files beside the network: a configuration for RGB pixels, one for NV12 frames."""
    rgb = {"input_type_rt": "rgb", "input_layout_rt": "NHWC"}
    write_yaml(folder / RGB_CONFIG, _configuration(source, X3, rgb))
    write_yaml(folder / NV12_CONFIG, _configuration(source, X5, {"input_type_rt": "nv12"}))
    if source.images is not None:
        write_images(folder, source.images)
    name = quoted(source)[0]
    write_texts(
        source,
        folder,
        *(f"hb_mapper checker --model-type onnx --march {march} --model {name}"
          for march in (X3, X5)),
        f"hb_mapper makertbin --model-type onnx --config {RGB_CONFIG}",
        f"hb_mapper makertbin --model-type onnx --config {NV12_CONFIG}",
        f"# {RGB_CONFIG} is for X3 and RGB pixels, as metadata.json says; {NV12_CONFIG} is for X5, "
        "whose runtime takes NV12 frames",
        f"# march: {X3} is X3, bayes is J5, {X5} is X5",
    )  # fmt: skip


def _configuration(source: NetworkFile, march: str, given: Mapping[str, str]) -> dict[str, Any]:
    """What hb_mapper reads, for one chip and the pixels given at run time."""
    return {
        "model_parameters": {
            "onnx_model": source.path.name,
            "march": march,
            "working_dir": "output",
            "output_model_file_prefix": source.path.stem,
        },
        "input_parameters": {
            "input_name": INPUT,
            **given,
            "input_type_train": "rgb",
            "input_layout_train": "NCHW",
            "norm_type": "data_scale",
            "scale_value": 1 / 255,
        },
        "calibration_parameters": {
            "cal_data_dir": CALIBRATION,
            "preprocess_on": True,
            "calibration_type": "default",
        },
        "compiler_parameters": {"compile_mode": "latency", "optimize_level": "O3"},
    }


FORMAT = Format(
    name="Horizon",
    runtime=NETWORK_IN_FOLDER,
    presets=(
        Preset(
            name="horizon", description="Horizon and D-Robotics X3, X5",
            outputs="raw maps (1, H, W, channels); `config.yaml`, `config_nv12.yaml`, images",
            head="raw", suffix="_horizon_model", runtime=NETWORK_IN_FOLDER, opset=11,
            opsets=range(11, 12), operators=NPU_OPERATORS | {"Transpose"}, dynamic=False,
            one_image=True,
            rows_last=True, is_folder=True, convert=write_horizon, keeps_onnx=True,
            takes_images=True, stale=STALE, not_run="Horizon's compiler",
        ),
    ),
)  # fmt: skip
