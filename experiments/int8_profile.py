"""Where an 8-bit network loses time on a CPU: `python -m experiments.int8_profile`.

onnxruntime's profiler gives the time of each node of the optimized graph: integer operators,
conversions between integers and floats, and float islands between two conversions. Then the same
network is quantized in other ways, which take turns. Random weights, on which time does not depend.
Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.int8_speed import IMAGE_SIZE, IMAGES, THREADS, write_files
from experiments.training_runs import REPORTS, machine_line
from models.quantization.qdq_scheme import U8S8
from models.quantization.quantized_onnx import quantize
from models.runtimes.network_metadata import INPUT
from models.runtimes.onnx_runner import CPU, EXACT_SUMS, open_session
from utils.machine import may_lack_vnni
from utils.output_files import write_text
from utils.structures import FloatArray
from utils.timing import seconds_in_turn

RUNS = 20  # that are profiled, after one that is not
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
INTEGER_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")
MOVES = frozenset(
    {"Transpose", "ReorderInput", "ReorderOutput", "Reshape", "Slice", "Split"}
    | {"Resize", "Upsample", "MaxPool", "NhwcMaxPool"}  # of integers or floats alike
)
NETWORKS = (("yolov5n.yaml", "SiLU"), ("yolov5n.yaml", "LeakyReLU(0.1)"))
CLEAN_UP = {"session.enable_quant_qdq_cleanup": "1"}
# What stays in float32, by ONNX operator; the head always does.
KEPT = {
    "all but the head in 8 bits": (),
    "SiLU in float32": ("Sigmoid", "Mul"),
    "Concat in float32": ("Concat",),
    "MaxPool and Resize in float32": ("MaxPool", "Resize"),
    "sums of shortcuts in float32": ("Add",),
    "convolutions alone in 8 bits": (
        *("Sigmoid", "Mul", "LeakyRelu", "Concat", "MaxPool", "Resize", "Add"),
    ),
}
AS_EXPORTED = "all but the head in 8 bits"


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Of all nodes of one operator.

    Attributes:
        nodes: how many.
        ms: milliseconds of one run.
    """

    nodes: int
    ms: float


def kind_of(operator: str) -> str:
    """What a node of the optimized graph is: integer, conversion, move (no arithmetic), float."""
    if operator in CONVERSIONS:
        return "conversion"
    if operator.startswith(INTEGER_PREFIXES):
        return "integer"
    return "move" if operator in MOVES else "float"


def operator_times(events: Sequence[Mapping[str, Any]], runs: int) -> dict[str, OperatorTime]:
    """Time per operator, the longest first, from a profile of so many runs.

    Args:
        events: of the profile, whose times are microseconds.
        runs: the last ones, which count; one more before them does not.
    """
    nodes = [event for event in events if event.get("cat") == "Node"]
    nodes = [event for event in nodes if str(event["name"]).endswith("_kernel_time")]
    # One after the other, the same ones in every run.
    counted = nodes[len(nodes) // (runs + 1) :]
    ms: dict[str, float] = defaultdict(float)
    number = Counter[str]()
    for event in counted:
        operator = event["args"]["op_name"]
        ms[operator] += float(event["dur"]) / 1e3 / runs
        number[operator] += 1
    longest = sorted(ms, key=lambda name: -ms[name])
    return {name: OperatorTime(number[name] // runs, ms[name]) for name in longest}


def profiling_session(path: Path, profile: Path) -> Any:
    """A file on THREADS threads, profiled, that sums as `open_session` lets files sum."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    if may_lack_vnni():
        options.add_session_config_entry(EXACT_SUMS, "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), options, [CPU])


def profiled(path: Path, image: FloatArray, folder: Path) -> dict[str, OperatorTime]:
    """`operator_times` of a file."""
    session = profiling_session(path, folder / path.stem)
    for _ in range(RUNS + 1):
        session.run(None, {INPUT: image})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return operator_times(events, RUNS)


def nodes_with(path: Path, operators: Collection[str]) -> list[str]:
    """Names of a file's nodes of these operators."""
    import onnx

    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type in operators]


def variant_times(
    source: Path, exported: Path, images: Sequence[FloatArray], folder: Path
) -> dict[str, list[float]]:
    """Seconds of the float32 file and of every way to quantize it, in turn."""
    opened = partial(open_session, threads=THREADS)
    cleaned_up = opened(str(exported), config=CLEAN_UP)
    sessions = {
        "float32": opened(str(source)), f"{AS_EXPORTED}, pairs cleaned up": cleaned_up,
    }  # fmt: skip
    for number, (name, operators) in enumerate(KEPT.items()):
        kept = nodes_with(source, operators)
        if operators and not kept:
            continue
        path = exported
        if kept:
            path = folder / f"variant{number}.onnx"
            quantize(source, path, lambda: iter(images), "minmax", keep_float=kept)
        sessions[name] = opened(str(path))
    return seconds_in_turn(
        {name: lambda each=each: each.run(None, {INPUT: images[0]})  # type: ignore[misc]
         for name, each in sessions.items()}
    )  # fmt: skip


def profile_lines(
    before: Mapping[str, OperatorTime], after: Mapping[str, OperatorTime]
) -> list[str]:
    """Tables of the operators of both files, and of their kinds."""
    lines = ["| kind | float32, ms | INT8, ms |", "|---|---|---|"]
    for kind in ("integer", "conversion", "move", "float"):
        cells = [sum(each.ms for name, each in found.items() if kind_of(name) == kind)
                 for found in (before, after)]  # fmt: skip
        lines.append(f"| {kind} | {cells[0]:.2f} | {cells[1]:.2f} |")
    lines += ["", "| operator | kind | float32: nodes, ms | INT8: nodes, ms |", "|---|---|---|---|"]
    for name in {**after, **before}:
        texts = [f"{found[name].nodes}, {found[name].ms:.2f}" if name in found else ""
                 for found in (before, after)]  # fmt: skip
        lines.append(f"| {name} | {kind_of(name)} | {texts[0]} | {texts[1]} |")
    return lines


def variant_lines(found: Mapping[str, Sequence[float]]) -> list[str]:
    """A table of the ways to quantize, ratios taken within rounds."""
    lines = ["| quantized | ms | times as fast as float32 |", "|---|---|---|"]
    for name, seconds in found.items():
        ratios = [slow / fast for slow, fast in zip(found["float32"], seconds, strict=True)]
        times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {statistics.median(seconds) * 1e3:.1f} | {times} |")
    return lines


def main() -> None:
    """Profile all networks and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPORTS)
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    shape = (1, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = [rng.random(shape, np.float32) for _ in range(IMAGES)]
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# Where 8 bits lose time, {date}", "",
        f"Preset `qdq-u8` in onnxruntime, {IMAGE_SIZE} px, batch 1, {THREADS} threads, the network "
        f"alone; random weights. Times of nodes are means of {RUNS} profiled runs.", "",
        f"{machine_line()} Made by `python -m experiments.int8_profile`.",
    ]  # fmt: skip
    for cfg, activation in NETWORKS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            files = write_files(cfg, activation, folder, images, {AS_EXPORTED: U8S8})
            source, exported = files.values()
            before, after = (profiled(path, images[0], folder) for path in (source, exported))
            variants = variant_times(source, exported, images, folder)
        lines += ["", f"## {cfg.removesuffix('.yaml')}, {activation}", ""]
        lines += [*profile_lines(before, after), "", *variant_lines(variants)]
    write_text(out / f"int8_profile_cpu_{date}.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
