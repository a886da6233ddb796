"""The tools that turn a float32 ONNX file into an 8-bit file, one per kind of file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from models.formats.nncf_file import PRESETS as NNCF_PRESETS
from models.formats.nncf_file import quantize_openvino
from models.formats.openvino import OpenVinoRunner, write_openvino
from models.formats.presets import Preset, QdqForm
from models.formats.rknn import write_rknn
from models.formats.rknn_layers import NpuLayer, off_npu
from models.quantization.calibration_images import Images
from models.quantization.quantized_onnx import METHODS, quantize
from models.runtimes.runner import OnnxRunner, Runner
from utils.errors import CheckFailedError


@dataclass(frozen=True, slots=True)
class Trial:
    """An 8-bit file that was just written.

    Attributes:
        runner: runs it.
        tested_in: the runtime that `runner` is.
        facts: what else the report should say.
    """

    runner: Runner
    tested_in: str
    facts: dict[str, Any] = field(default_factory=dict)


class Quantizer(Protocol):
    """Makes one kind of 8-bit file."""

    @property
    def methods(self) -> Sequence[str]:
        """Calibrations to try."""

    def make(self, source: Path, place: Path, images: Images, method: str) -> Trial:
        """Write `place`, a file or a folder that is there, from a float32 ONNX file."""


@dataclass(frozen=True, slots=True)
class OnnxQuantizer:
    """ONNX files with pairs of QuantizeLinear and DequantizeLinear."""

    form: QdqForm
    methods: Sequence[str] = METHODS

    def make(self, source: Path, place: Path, images: Images, method: str) -> Trial:
        """By onnxruntime."""
        quantize(source, place, images, method, self.form)
        return Trial(OnnxRunner(place, device="cpu"), "onnxruntime")


@dataclass(frozen=True, slots=True)
class OpenVinoQuantizer:
    """OpenVINO's own 8 bits."""

    name: str
    metadata: dict[str, Any]
    methods: Sequence[str] = NNCF_PRESETS

    def make(self, source: Path, place: Path, images: Images, method: str) -> Trial:
        """By NNCF."""
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            floats = Path(folder)
            write_openvino(floats, source, "float", self.metadata, halved=False)
            quantize_openvino(floats / "float.xml", place / f"{self.name}.xml", images, method)
        return Trial(OpenVinoRunner(place), "OpenVINO")


@dataclass(frozen=True, slots=True)
class RknnQuantizer:
    """Rockchip's files."""

    metadata: dict[str, Any]
    methods: Sequence[str] = ("normal",)

    def make(self, source: Path, place: Path, images: Images, method: str) -> Trial:
        """By Rockchip's compiler, whose layers must be on the NPU.

        Raises:
            CheckFailedError: one is not.
        """
        del method  # there is one
        runner, layers = write_rknn(place, source, images, self.metadata)
        if elsewhere := off_npu(layers):
            raise CheckFailedError(
                f"{len(elsewhere)} layers do not run on the NPU ({', '.join(elsewhere[:3])}); "
                "no file is left behind"
            )
        return Trial(runner, "rknn-toolkit2's simulator", {"npu": _npu_facts(layers)})


def quantizer_of(
    preset: Preset, name: str, metadata: dict[str, Any], methods: Sequence[str]
) -> Quantizer:
    """The tool for a preset that computes in 8 bits.

    Args:
        preset: the kind of file.
        name: stem of files in a folder.
        metadata: key -> value, of the file.
        methods: calibrations to try, where there is a choice.
    """
    if preset.form is not None:
        return OnnxQuantizer(preset.form, methods)
    if preset.kind == "openvino":
        return OpenVinoQuantizer(name, metadata)
    return RknnQuantizer(metadata)


def move_into(place: Path, made: Path) -> None:
    """Put a file, or what is in a folder, where it is wanted."""
    if made.is_file():
        shutil.copyfile(made, place)
        return
    for each in made.iterdir():
        shutil.move(each, place / each.name)


def _npu_facts(layers: Sequence[NpuLayer]) -> dict[str, Any]:
    """What the compiler says of all layers."""
    return {
        "layers": len(layers),
        "cycles": sum(layer.cycles for layer in layers),
        "read_and_written_mb": round(sum(layer.kilobytes for layer in layers) / 1024, 2),
        "table": [
            {"operator": layer.operator, "target": layer.target, "cycles": layer.cycles,
             "kilobytes": layer.kilobytes, "name": layer.name}
            for layer in layers
        ],
    }  # fmt: skip
