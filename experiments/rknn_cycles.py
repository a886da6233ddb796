"""Cycles of our networks by Rockchip's compiler: `python -m experiments.rknn_cycles`.

Compiles networks with random weights for the RK3588 (cycles do not depend on weights) and adds up
the compiler's own table of layers. Needs the toolkit: `make rknn`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from data.synthetic.scenes import draw_scene
from experiments.training_runs import REPORTS, machine_line
from models.conversion.deploy import to_deploy
from models.export.exported_file import FileRequest, network_file, write_file
from models.formats.npu_layers import NpuLayers
from models.formats.presets import PRESETS
from models.formats.rknn import PLATFORM, compile_rknn
from models.formats.rknn_layers import off_npu
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from utils.letterbox import network_input
from utils.output_files import write_text
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray

IMAGE_SIZE, IMAGES = 320, 4
NETWORKS = (
    ("yolov5n.yaml", "SiLU"),
    ("yolov5n.yaml", "ReLU"),
    ("repyolov5n.yaml", "LeakyReLU(0.1)"),
    ("repyolov5n-npu.yaml", "ReLU"),
    ("yolov5s.yaml", "SiLU"),
    ("yolov5s.yaml", "ReLU"),
    ("repyolov5s.yaml", "LeakyReLU(0.1)"),
    ("repyolov5s-npu.yaml", "ReLU"),
)


def drawn_images() -> list[FloatArray]:
    """IMAGES drawn images (1, 3, H, W) in 0-1 to calibrate on."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, (IMAGE_SIZE, IMAGE_SIZE))[0] for _ in range(IMAGES)]
    return [network_input([scene]) for scene in scenes]


def compiled_layers(cfg: str, activation: str) -> NpuLayers:
    """The compiler's table of one network."""
    torch.manual_seed(0)
    spec = ModelSpec.from_file(cfg).replaced(activation=activation)
    detector = to_deploy(build_model(spec).eval())
    preset = PRESETS["npu"]
    sizes, images = InputSizes((IMAGE_SIZE, IMAGE_SIZE)), drawn_images()
    metadata = FileMetadata(
        ("thing",), detector.strides, spec.anchors, sizes, preset.head, preset.opset
    )
    request = FileRequest(
        preset, detector, sizes, preset.opset, PostprocessConfig(), metadata,
        images=lambda: iter(images),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "compiled"
        write_file(source, request)
        target.mkdir()
        compiled = compile_rknn(network_file(source, request), target)
    return compiled.npu_layers or NpuLayers(())


def main() -> None:
    """Compile all networks and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPORTS)
    out = parser.parse_args().out
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# Rockchip's compiler, {date}",
        "",
        f"rknn-toolkit2 2.5.0, {PLATFORM}, 8 bits, {IMAGE_SIZE} px, 80 classes, random weights. "
        "Cycles are the compiler's own estimate, which counts convolutions alone (several "
        "operators that it fuses into one cost nothing more); no board was measured. All layers "
        "but the ends are on the NPU where the last column is 0.",
        "",
        f"{machine_line()} Made by `python -m experiments.rknn_cycles`.",
        "",
        "| network | cycles | of which first layer | layers | read and written, MB | off the NPU |",
        "|---|---|---|---|---|---|",
    ]
    for cfg, activation in NETWORKS:
        layers = compiled_layers(cfg, activation)
        cycles = layers.cycles
        first = next(layer.cycles for layer in layers.layers if layer.cycles)
        megabytes = sum(layer.kilobytes for layer in layers.layers) / 1024
        lines.append(
            f"| {cfg.removesuffix('.yaml')}, {activation} | {cycles:,} | {first / cycles:.0%} | "
            f"{len(layers.layers)} | {megabytes:.1f} | {len(off_npu(layers))} |"
        )
    write_text(out / f"rknn_cycles_{date}.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
