"""Horizon and D-Robotics X3, X5: an ONNX file for hb_mapper, its configuration and PNG images.

The network takes RGB pixels; its raw maps are (1, H, W, channels), opset 11. Only the network was
run here, by onnxruntime.
"""

from __future__ import annotations

from pathlib import Path

from models.formats.format import NPU_OPERATORS, Format, NetworkFile, Preset
from models.formats.vendor_folder import NETWORK_IN_FOLDER, STALE, quoted, write_texts
from models.quantization.calibration_images import FOLDER as CALIBRATION
from models.quantization.calibration_images import write_images
from models.runtimes.network_metadata import INPUT
from utils.strict_yaml import write_yaml


def write_horizon(source: NetworkFile, folder: Path) -> None:
    """Write the files beside the network."""
    content = {
        "model_parameters": {
            "onnx_model": source.path.name,
            "march": "bernoulli2",
            "working_dir": "output",
            "output_model_file_prefix": source.path.stem,
        },
        "input_parameters": {
            "input_name": INPUT,
            "input_type_rt": "rgb",
            "input_layout_rt": "NHWC",
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
    write_yaml(folder / "config.yaml", content)
    if source.images is not None:
        write_images(folder, source.images)
    write_texts(
        source,
        folder,
        f"hb_mapper checker --model-type onnx --march bernoulli2 --model {quoted(source)[0]}",
        "hb_mapper makertbin --model-type onnx --config config.yaml",
        "# march: bernoulli2 is X3, bayes is J5, bayes-e is X5",
    )


FORMAT = Format(
    name="Horizon",
    suffixes=("_horizon_model",),
    runtime=NETWORK_IN_FOLDER,
    presets=(
        Preset(
            name="horizon", description="Horizon and D-Robotics X3, X5",
            outputs="raw maps (1, H, W, channels); `config.yaml`, images", head="raw",
            suffix="_horizon_model", runtime=NETWORK_IN_FOLDER, opset=11, opsets=range(11, 12),
            operators=NPU_OPERATORS | {"Transpose"}, dynamic=False, one_image=True,
            rows_last=True, is_folder=True, convert=write_horizon, keeps_onnx=True,
            takes_images=True, stale=STALE, not_run="Horizon's compiler",
        ),
    ),
)  # fmt: skip
