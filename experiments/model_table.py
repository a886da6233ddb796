"""Every shipped model yaml in numbers: `python -m experiments.model_table` writes docs/models.md.

Sizes are those of the network as it is. Presets and ONNX nodes depend on rows and activations, not
on channels: they are found out on a narrow network of the same rows, with random weights, in some
ten minutes; what was found is kept in the folder of `--runs`, where the same command goes on.
`--sizes-only` keeps what the document has of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.conversion.deploy import to_deploy
from models.export.exported_file import planned_files, write_file
from models.export.parity import check_float_errors, errors_of
from models.export.request import ExportConfig
from models.formats.format import Preset
from models.formats.presets import PRESETS
from models.network.detector import (
    Detector,
    block_counts,
    build_model,
    count_parameters,
    network_gflops,
)
from models.network.model_spec import SPECS_FOLDER, ModelSpec
from models.reparam.algebra import BatchNorm
from utils.checkpoint import Checkpoint
from utils.errors import CheckFailedError
from utils.logs import configure_logging
from utils.output_files import write_json, write_text

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "models.md"
CLASSES = 3
PLAIN = ("ConvBNAct", "ConvAct")  # of a network that is not re-parameterizable
# Parameters in millions and GFLOPs at 640, as ultralytics' README and yamls print them.
PUBLISHED = {
    "yolov5n": (1.9, 4.5), "yolov5s": (7.2, 16.5), "yolov5m": (21.2, 49.0),
    "yolov5l": (46.5, 109.1), "yolov5x": (86.7, 205.7),
    "yolov5n6": (3.2, 4.6), "yolov5s6": (12.6, 16.8), "yolov5m6": (35.7, 50.0),
    "yolov5l6": (76.8, 111.4), "yolov5x6": (140.7, 209.8),
}  # fmt: skip
REPVGG_ARTICLE = "2.75 times the FLOPs and 1.85 times the parameters"


@dataclass(frozen=True, slots=True)
class Sizes:
    """A network in train form and in deploy form: parameters, and GFLOPs of one 640x640 image."""

    parameters: tuple[int, int]
    gflops: tuple[float, float]
    strides: tuple[int, ...]
    blocks: dict[str, int]

    @classmethod
    def of(cls, spec: ModelSpec) -> Sizes:
        """By our count; no memory is allocated."""
        with torch.device("meta"):
            model = build_model(spec).eval()
        forms = (model, to_deploy(model))
        return cls(
            (count_parameters(forms[0]), count_parameters(forms[1])),
            (network_gflops(forms[0]), network_gflops(forms[1])),
            model.strides,
            block_counts(model),
        )

    def columns(self, name: str) -> list[str]:
        """Of the table: levels, parameters, GFLOPs, published figures, blocks."""
        first, last = (stride.bit_length() - 1 for stride in (self.strides[0], self.strides[-1]))
        published = PUBLISHED.get(name)
        blocks = [f"{n} {kind}" for kind, n in self.blocks.items() if kind not in PLAIN]
        return [
            f"P{first}-P{last}",
            _both(*(f"{number / 1e6:.2f}" for number in self.parameters)),
            _both(*(f"{number:.1f}" for number in self.gflops)),
            f"{published[0]} / {published[1]}" if published else "",
            ", ".join(blocks),
        ]


def _both(train: str, deploy: str) -> str:
    return train if train == deploy else f"{train} / {deploy}"


def narrow(spec: ModelSpec) -> ModelSpec:
    """The same rows and activation with few channels, few repeats and few classes."""
    return spec.replaced(
        num_classes=CLASSES, width_multiple=0.125, depth_multiple=0.33, anchors_from_data=False
    )


def random_detector(spec: ModelSpec) -> Detector:
    """In train form and eval mode, with random weights and statistics; it finds objects."""
    torch.manual_seed(0)
    model = build_model(spec).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    for conv in model.head.m:
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.normal_(conv.weight, std=0.4)
    return model


def export_checked(detector: Detector, preset: str, folder: Path) -> int:
    """Write a network in deploy form as a file and compare it with PyTorch.

    Returns:
        How many ONNX nodes the file has; 0 where it is none.

    Raises:
        CheckFailedError: the network has operators that the preset does not take, or the file
            computes something else.
    """
    names = tuple(f"class {index}" for index in range(detector.spec.num_classes))
    checkpoint = Checkpoint("deploy", detector.spec.to_yaml(), names, detector.state_dict())
    config = ExportConfig(weights="model.pt", preset=(preset,), imgsz=(detector.stride * 2,))
    (planned,) = planned_files(config, checkpoint, detector)
    request = planned.request
    path = folder / planned.output.name
    if request.preset.is_folder:
        path.mkdir(exist_ok=True)
    written = write_file(path, request)
    rng = np.random.default_rng(0)
    images = rng.random((1, 3, *request.sizes.input_hw), np.float32)
    errors = errors_of(written.runner, request, [images])
    check_float_errors(errors, request.preset.tolerance, request.preset.runtime.name)
    return sum(written.operators.values())


def is_compared(preset: Preset) -> bool:
    """Whether a preset needs neither images nor a vendor's program."""
    return preset.quantization is None and not preset.takes_images and not preset.find_toolkit


def passed_presets(detector: Detector) -> tuple[str, ...]:
    """The presets that `is_compared`, of which this network's file is right; in deploy form."""
    passed = []
    for name in (name for name, preset in PRESETS.items() if is_compared(preset)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                export_checked(detector, name, Path(folder))
            except CheckFailedError as error:
                logger.info("%s: %s: %s", detector.spec.name, name, error)
                continue
        passed.append(name)
    return tuple(passed)


def onnx_nodes(detector: Detector) -> int:
    """Nodes of the preset `onnx`."""
    with tempfile.TemporaryDirectory() as folder:
        return export_checked(detector, "onnx", Path(folder))


def shipped() -> list[str]:
    """The shipped yamls without suffix, in alphabetical order."""
    return sorted(path.stem for path in SPECS_FOLDER.glob("*.yaml"))


class KnownExports:
    """What a document says of ONNX nodes and presets."""

    def __init__(self, text: str) -> None:
        self._rows = documented(text)

    def columns(self, spec: ModelSpec) -> list[str]:
        """Of the table; where the document lacks the yaml they say so."""
        return self._rows.get(Path(spec.name).stem, [])[5:] or ["not run", "not run"]


def documented(text: str) -> dict[str, list[str]]:
    """Yaml -> columns of its row in a document."""
    rows = [line for line in text.splitlines() if re.match(r"\| `[\w-]+` \| P\d-P\d ", line)]
    return {row.split("`")[1]: [each.strip() for each in row.split("|")[2:-1]] for row in rows}


class Exports:
    """What is found by exporting; networks of one graph are exported once, and kept in a file."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        found = json.loads(kept.read_text()) if kept.exists() else {"presets": {}, "nodes": {}}
        self._presets: dict[str, list[str]] = found["presets"]
        self._nodes: dict[str, int] = found["nodes"]

    def columns(self, spec: ModelSpec) -> list[str]:
        """Of the table: ONNX nodes at the yaml's depth, presets."""
        shallow = to_deploy(random_detector(narrow(spec)))
        deep = narrow(spec).replaced(depth_multiple=spec.depth_multiple)
        as_deep = to_deploy(random_detector(deep))
        if _graph(shallow) not in self._presets:
            self._presets[_graph(shallow)] = list(passed_presets(shallow))
            self._keep()
        if _graph(as_deep) not in self._nodes:
            self._nodes[_graph(as_deep)] = onnx_nodes(as_deep)
            self._keep()
        passed = _presets_text(self._presets[_graph(shallow)])
        return [str(self._nodes[_graph(as_deep)]), passed]

    def _keep(self) -> None:
        write_json(self._kept, {"presets": self._presets, "nodes": self._nodes})


def _graph(detector: Detector) -> str:
    """Every module, and what each layer reads."""
    return f"{detector.layers} {[layer.sources for layer in detector.spec.layers]}"


def _presets_text(passed: Sequence[str]) -> str:
    compared = [name for name, preset in PRESETS.items() if is_compared(preset)]
    missing = [f"`{name}`" for name in compared if name not in passed]
    return f"all but {', '.join(missing)}" if missing else "all"


def ratio_line(name: str, sizes: Callable[[str], Sizes]) -> str:
    """One network's size in units of repyolov5s."""
    small, large = sizes("repyolov5s"), sizes(name)
    deploy = large.gflops[1] / small.gflops[1], large.parameters[1] / small.parameters[1]
    train = large.gflops[0] / small.gflops[0], large.parameters[0] / small.parameters[0]
    return f"| `{name}` | {deploy[0]:.2f} | {deploy[1]:.2f} | {train[0]:.2f} | {train[1]:.2f} |"


def document(exports: Exports | KnownExports) -> str:
    """The content of docs/models.md."""
    rows: list[str] = []
    sizes: dict[str, Sizes] = {}
    for name in shipped():
        logger.info("%s", name)
        spec = ModelSpec.from_file(f"{name}.yaml")
        sizes[name] = Sizes.of(spec)
        columns = [*sizes[name].columns(name), *exports.columns(spec)]
        rows.append(f"| `{name}` | {' | '.join(columns)} |")
    compared = ", ".join(f"`{name}`" for name, preset in PRESETS.items() if is_compared(preset))
    ratios = [ratio_line(name, sizes.__getitem__) for name in shipped()
              if name.startswith(("yolov5-repvgg", "yolov5-orepa"))]  # fmt: skip
    return _TEXT.format(
        rows="\n".join(rows), compared=compared, ratios="\n".join(ratios), article=REPVGG_ARTICLE
    )


_TEXT = """# Model yamls

Written by `python -m experiments.model_table`. Parameters (millions) and GFLOPs (2 x multiply-adds
of convolutions and matrix products, one 640x640 image, 80 classes) are those of the train form / of
the deploy form, or one number where both are equal. Published are ultralytics' parameters / GFLOPs,
by their counter. Blocks are those that conversion folds, besides convolution and norm. ONNX nodes
are those of the preset `onnx`. Presets are those whose file computes what PyTorch does, of
{compared}; 8-bit files are made from the graph of `npu`.

| yaml | levels | parameters | GFLOPs | published | blocks | ONNX nodes | presets |
|---|---|---|---|---|---|---|---|
{rows}

## RepVGG backbones

The article that RepYOLOv5 comes from first tried a RepVGG-A1 backbone, and found
{article} of its later network. Sizes in units of repyolov5s:

| yaml | GFLOPs, deploy | parameters, deploy | GFLOPs, train | parameters, train |
|---|---|---|---|---|
{ratios}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="file to write")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "model_table", help="kept")
    parser.add_argument("--sizes-only", action="store_true", help="export nothing")
    given = parser.parse_args(argv)
    configure_logging()
    exports: Exports | KnownExports = Exports(given.runs / "exports.json")
    if given.sizes_only:
        before = given.output.read_text(encoding="utf-8") if given.output.exists() else ""
        exports = KnownExports(before)
    write_text(given.output, document(exports))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
