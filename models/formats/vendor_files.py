"""What vendors' compilers want beside a network: templates, of which none was run here.

Every folder holds the network, `metadata.json` for programs that read the result, and, where the
compiler calibrates and there are images, those images letterboxed as the network sees them.
Pixels go from 0-255 to the network's 0-1 inside the compiled network: nothing else may divide them
again, and `metadata.json` says so.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.quantization.calibration_images import FOLDER as CALIBRATION
from models.quantization.calibration_images import Images, pack, write_array, write_images
from models.runtimes.sidecar import of_compiled, write_metadata
from utils.strict_yaml import write_yaml

COMMANDS = "commands.txt"
CALIBRATED = ("hailo", "horizon", "axera")  # vendors whose compiler wants images
STALE = (CALIBRATION, "calibration.npy", "calibration.tar")  # of an export before


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """What goes beside which network.

    Attributes:
        network: the ONNX file, in the folder to write to.
        end_nodes: names of the nodes that make its outputs.
        metadata: key -> value of the file.
        images: to calibrate on; None where there are none.
    """

    network: Path
    end_nodes: Sequence[str]
    metadata: Mapping[str, Any]
    images: Images | None

    @property
    def folder(self) -> Path:
        """Where to write."""
        return self.network.parent

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self.metadata["imgsz"]
        return height, width


def write_vendor_files(vendor: str, request: VendorRequest) -> None:
    """Write the files of VENDORS[vendor] and the metadata."""
    write_metadata(request.folder, of_compiled(request.metadata))
    VENDORS[vendor](request)


def _hailo(request: VendorRequest) -> None:
    """Boxes are decoded and suppressed by Hailo's runtime, from the anchors in nms.json."""
    height, width = request.input_hw
    levels = zip(request.metadata["anchors"], request.metadata["stride"], request.end_nodes,
                 strict=True)  # fmt: skip
    decoders = [
        {
            "name": f"bbox_decoder_{stride}",
            "w": anchors[0::2],
            "h": anchors[1::2],
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
        "classes": request.metadata["nc"],
        "regression_length": 4,
        "background_removal": False,
        "bbox_decoders": decoders,
    }
    (request.folder / "nms.json").write_text(json.dumps(content, indent=1) + "\n")
    (request.folder / "model_script.alls").write_text(
        "normalization1 = normalization([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])\n"
        "change_output_activation(sigmoid)\n"
        'nms_postprocess("nms.json", meta_arch=yolov5, engine=cpu)\n'
    )
    if request.images is not None:
        write_array(request.folder / "calibration.npy", request.images)
    name, stem = _quoted(request)
    _write_commands(
        request,
        f"hailo parser onnx {name} --hw-arch hailo8 --end-node-names "
        + " ".join(request.end_nodes),
        f"hailo optimize {stem}.har --hw-arch hailo8 --calib-set-path calibration.npy "
        "--model-script model_script.alls",
        f"hailo compiler {stem}_optimized.har --hw-arch hailo8",
        "# nms.json names layers as the ONNX file does; if the parser renames them, put its names "
        "into encoded_layer",
    )  # fmt: skip


def _horizon(request: VendorRequest) -> None:
    """The network takes RGB pixels; its maps are (1, H, W, channels)."""
    content = {
        "model_parameters": {
            "onnx_model": request.network.name,
            "march": "bernoulli2",
            "working_dir": "output",
            "output_model_file_prefix": request.network.stem,
        },
        "input_parameters": {
            "input_name": "images",
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
    write_yaml(request.folder / "config.yaml", content)
    if request.images is not None:
        write_images(request.folder, request.images)
    _write_commands(
        request,
        f"hb_mapper checker --model-type onnx --march bernoulli2 --model {_quoted(request)[0]}",
        "hb_mapper makertbin --model-type onnx --config config.yaml",
        "# march: bernoulli2 is X3, bayes is J5, bayes-e is X5",
    )


def _ascend(request: VendorRequest) -> None:
    """AIPP turns RGB pixels into the network's input."""
    height, width = request.input_hw
    scale = "\n".join(f"    var_reci_chn_{channel}: {1 / 255:.10f}" for channel in range(3))
    (request.folder / "aipp.cfg").write_text(
        "aipp_op {\n"
        "    aipp_mode: static\n"
        "    related_input_rank: 0\n"
        "    input_format: RGB888_U8\n"
        f"    src_image_size_w: {width}\n"
        f"    src_image_size_h: {height}\n"
        "    csc_switch: false\n"
        "    rbuv_swap_switch: false\n"
        f"{scale}\n"
        "}\n"
    )
    batch, (name, stem) = request.metadata["batch"], _quoted(request)
    _write_commands(
        request,
        f"atc --framework=5 --model={name} --output={stem} "
        f'--input_shape="images:{batch},3,{height},{width}" --insert_op_conf=aipp.cfg '
        "--soc_version=Ascend310P3",
    )


def _axera(request: VendorRequest) -> None:
    """The network takes RGB pixels: the tool does not swap channels."""
    names: list[str] = []
    if request.images is not None:
        with tempfile.TemporaryDirectory(dir=request.folder) as folder:
            names = write_images(Path(folder), request.images)
            pack(request.folder / "calibration.tar", Path(folder), names)
    content = {
        "model_type": "ONNX",
        "target_hardware": "AX650",
        "npu_mode": "NPU1",
        "quant": {
            "input_configs": [
                {
                    "tensor_name": "images",
                    "calibration_dataset": "calibration.tar",
                    "calibration_size": len(names),
                    "calibration_mean": [0, 0, 0],
                    "calibration_std": [255, 255, 255],
                }
            ],
            "calibration_method": "MinMax",
        },
        "input_processors": [
            {
                "tensor_name": "images",
                "tensor_format": "RGB",
                "src_format": "RGB",
                "src_dtype": "U8",
                "src_layout": "NHWC",
            }
        ],
        "compiler": {"check": 0},
    }
    (request.folder / "config.json").write_text(json.dumps(content, indent=1) + "\n")
    _write_commands(
        request,
        f"pulsar2 build --input {_quoted(request)[0]} --config config.json --output_dir output",
    )


VENDORS: Mapping[str, Callable[[VendorRequest], None]] = {
    "hailo": _hailo,
    "horizon": _horizon,
    "ascend": _ascend,
    "axera": _axera,
}


def _quoted(request: VendorRequest) -> tuple[str, str]:
    """The network's file name, and that without suffix, as a shell takes them."""
    return shlex.quote(request.network.name), shlex.quote(request.network.stem)


def _write_commands(request: VendorRequest, *lines: str) -> None:
    if request.images is None and request.metadata["head"] == "raw":
        lines = (*lines, "# written without --data: calibrate on images of your own")
    (request.folder / COMMANDS).write_text("\n".join(lines) + "\n", encoding="utf-8")
