"""Latency of INT8 files relative to float32: `python -m experiments.int8_speed`.

The networks have random weights and are calibrated on noise: latency does not depend on weights.
Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.training_runs import REPORTS, machine_line
from models.conversion.deploy import to_deploy
from models.export.exported_file import FileRequest, write_file
from models.formats.presets import PRESETS
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from models.quantization.quantized_onnx import quantize
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import open_session
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray
from utils.timing import seconds_in_turn

IMAGE_SIZE, THREADS, IMAGES = 640, 2, 4
NETWORKS = tuple(
    (f"yolov5{size}.yaml", activation)
    for size in ("n", "s")
    for activation in ("SiLU", "LeakyReLU(0.1)")
)


def write_both(cfg: str, activation: str, folder: Path, images: list[FloatArray]) -> list[Path]:
    """Write a float32 file that ends in raw maps, and the INT8 file made from it."""
    torch.manual_seed(0)
    spec = ModelSpec.from_file(cfg).replaced(activation=activation)
    detector = to_deploy(build_model(spec).eval())
    sizes, opset = InputSizes((IMAGE_SIZE, IMAGE_SIZE)), PRESETS["qdq-u8"].opset
    metadata = FileMetadata(("thing",), detector.strides, spec.anchors, sizes, "raw", opset)
    request = FileRequest(
        PRESETS["qdq-u8"],
        detector,
        sizes,
        opset,
        PostprocessConfig(),
        metadata,
    )
    files = [folder / "float32.onnx", folder / "int8.onnx"]
    write_file(files[0], request)
    quantize(files[0], files[1], lambda: iter(images), "minmax")
    return files


def network_alone(path: Path, image: FloatArray) -> Callable[[], Any]:
    """A function that runs a file on THREADS threads, without decoding its maps."""
    session = open_session(str(path), threads=THREADS)
    return partial(session.run, None, {INPUT: image})


def main() -> None:
    """Measure all networks and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPORTS)
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    shape = (1, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = [rng.random(shape, np.float32) for _ in range(IMAGES)]
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# INT8 against float32, {date}",
        "",
        f"Preset `qdq-u8` (U8S8, per channel) in onnxruntime, {IMAGE_SIZE} px, batch 1, {THREADS} "
        "threads, the network alone; random weights. Medians of runs in turn.",
        "",
        f"{machine_line()} Made by `python -m experiments.int8_speed`.",
        "",
        "| network | float32, ms | INT8, ms | times as fast |",
        "|---|---|---|---|",
    ]
    for cfg, activation in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            files = write_both(cfg, activation, Path(folder), images)
            functions = {path.stem: network_alone(path, images[0]) for path in files}
            found = seconds_in_turn(functions)
        pairs = zip(found["float32"], found["int8"], strict=True)
        times = statistics.median(slow / fast for slow, fast in pairs)
        slow, fast = (statistics.median(found[name]) * 1e3 for name in ("float32", "int8"))
        name = cfg.removesuffix(".yaml")
        lines.append(f"| {name}, {activation} | {slow:.1f} | {fast:.1f} | {times:.2f} |")
    (out / f"int8_speed_cpu_{date}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
