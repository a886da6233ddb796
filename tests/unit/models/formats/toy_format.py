"""A format for tests alone: a gzip archive of the ONNX file, run by onnxruntime."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from models.formats.format import Format, NetworkFile, Preset
from models.runtimes.onnx_runner import OnnxRunner
from models.runtimes.runner import Runtime
from utils.errors import CheckpointError


def write_toy(source: NetworkFile, path: Path) -> None:
    """Compress an ONNX file."""
    path.write_bytes(gzip.compress(source.path.read_bytes(), mtime=0))


def open_toy(path: str | Path, *, device: str = "") -> OnnxRunner:
    """Unpack the ONNX file and open it.

    Raises:
        CheckpointError: it is no gzip archive.
    """
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "network.onnx"
        try:
            unpacked.write_bytes(gzip.decompress(Path(path).read_bytes()))
        except gzip.BadGzipFile as error:
            raise CheckpointError(f"{path}: is no toy file: {error}") from None
        return OnnxRunner(unpacked, device=device)


TOY = Runtime("toy runtime", open_toy)
FORMAT = Format(
    name="Toy",
    runtime=TOY,
    presets=(
        Preset(
            name="toy", description="tests", outputs="raw maps", head="raw", suffix=".toy",
            runtime=TOY, dynamic=False, convert=write_toy,
        ),
    ),
)  # fmt: skip
