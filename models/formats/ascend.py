"""Huawei Ascend 310: an ONNX file with raw maps for ATC, and the configuration of AIPP.

AIPP turns RGB pixels into the network's input; the compiler does not calibrate. Only the network
was run here, by onnxruntime.
"""

from __future__ import annotations

from pathlib import Path

from models.formats.format import NPU_OPERATORS, Format, NetworkFile, Preset
from models.formats.onnx import NPU_OPSETS
from models.formats.vendor_folder import NETWORK_IN_FOLDER, STALE, quoted, write_texts
from models.runtimes.network_metadata import INPUT


def write_ascend(source: NetworkFile, folder: Path) -> None:
    """Write the files beside the network."""
    height, width = source.sizes.input_hw
    scale = "\n".join(f"    var_reci_chn_{channel}: {1 / 255:.10f}" for channel in range(3))
    (folder / "aipp.cfg").write_text(
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
    name, stem = quoted(source)
    write_texts(
        source,
        folder,
        f"atc --framework=5 --model={name} --output={stem} "
        f'--input_shape="{INPUT}:{source.sizes.batch_size},3,{height},{width}" '
        "--insert_op_conf=aipp.cfg --soc_version=Ascend310",
        "# --soc_version: Ascend and the name that `npu-smi info` shows on the device "
        "(310, 310P3, 310B4, ...)",
    )


FORMAT = Format(
    name="Ascend",
    runtime=NETWORK_IN_FOLDER,
    presets=(
        Preset(
            name="ascend", description="Huawei Ascend 310", outputs="raw maps; `aipp.cfg`",
            head="raw", suffix="_ascend_model", runtime=NETWORK_IN_FOLDER, opset=11,
            opsets=NPU_OPSETS, operators=NPU_OPERATORS, dynamic=False, is_folder=True,
            convert=write_ascend, keeps_onnx=True, stale=STALE, not_run="Huawei's ATC",
        ),
    ),
)  # fmt: skip
