"""Latency of INT8 files relative to float32: `python -m experiments.int8_speed`.

The networks have random weights and are calibrated on noise: latency does not depend on weights.
Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from models.quantization.qdq_scheme import U8S8, QdqScheme
from models.quantization.quantized_onnx import quantize
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import open_session
from utils.machine import may_lack_vnni
from utils.output_files import write_text
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray
from utils.timing import seconds_in_turn

IMAGE_SIZE, THREADS, IMAGES = 640, 2, 4
FLOAT = "float32"
SCHEMES = {"8 bits": U8S8, "weights of 7 bits": QdqScheme(reduce_range=True)}
NETWORKS = tuple(
    (f"yolov5{size}.yaml", activation)
    for size in ("n", "s")
    for activation in ("SiLU", "LeakyReLU(0.1)")
)


def write_files(
    cfg: str,
    activation: str,
    folder: Path,
    images: Sequence[FloatArray],
    schemes: Mapping[str, QdqScheme],
) -> dict[str, Path]:
    """Write a float32 file that ends in raw maps, and one of each scheme; by what they are."""
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
    files = {FLOAT: folder / "float32.onnx"}
    write_file(files[FLOAT], request)
    for number, (name, scheme) in enumerate(schemes.items()):
        files[name] = folder / f"{number}.onnx"
        quantize(files[FLOAT], files[name], lambda: iter(images), "minmax", scheme)
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
    date, lacks_vnni = time.strftime("%Y-%m-%d"), may_lack_vnni()
    columns = "".join(f" {name}, ms | times as fast |" for name in SCHEMES)
    lines = [
        f"# 8 bits against float32{' without VNNI' * lacks_vnni}, {date}",
        "",
        f"Preset `qdq-u8` (U8S8, per channel), also with `--reduce-range`, in onnxruntime, "
        f"{IMAGE_SIZE} px, batch 1, {THREADS} threads, the network alone; random weights. Medians "
        f"of runs in turn. The processor {'lacks' if lacks_vnni else 'has'} VNNI; sums of products "
        "are in 32 bits.",
        "",
        f"{machine_line()} Made by `python -m experiments.int8_speed`.",
        "",
        f"| network | {FLOAT}, ms |{columns}",
        f"|---|---|{'---|' * 2 * len(SCHEMES)}",
    ]
    for cfg, activation in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            files = write_files(cfg, activation, Path(folder), images, SCHEMES)
            found = seconds_in_turn(
                {name: network_alone(path, images[0]) for name, path in files.items()}
            )
        cells = "".join(f" {_ms(found[name])} | {_times(found, name)} |" for name in SCHEMES)
        name = cfg.removesuffix(".yaml")
        lines.append(f"| {name}, {activation} | {_ms(found[FLOAT])} |{cells}")
    topic = "_without_vnni" * lacks_vnni
    write_text(out / f"int8_speed{topic}_cpu_{date}.md", "\n".join(lines) + "\n")


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f}"


def _times(found: Mapping[str, Sequence[float]], name: str) -> str:
    """How many times as fast as float32; median over the rounds."""
    pairs = zip(found[FLOAT], found[name], strict=True)
    return f"{statistics.median(slow / fast for slow, fast in pairs):.2f}"


if __name__ == "__main__":
    main()
