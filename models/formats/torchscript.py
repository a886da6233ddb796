"""TorchScript: the traced program itself, run by libtorch through PyTorch.

models/export/traced_file.py writes it, with the metadata in a file inside; files of YOLOv5 and
ultralytics are read too. Such a file is a program: run only files of people you trust. PyTorch is
imported when a file is opened.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from models.formats.format import Format, Preset
from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import TRACED_METADATA, NetworkMetadata
from models.runtimes.runner import Runtime
from utils.errors import CheckpointError, missing_torch
from utils.structures import FloatArray


class TorchScriptRunner:
    """A TorchScript file on a device."""

    def __init__(self, path: str | Path, *, device: str = "") -> None:
        """Open the file.

        Args:
            path: the file.
            device: as `--device` spells it.

        Raises:
            CheckpointError: it cannot be opened.
            ConfigError: the device is not available.
            MissingPackageError: PyTorch is not installed.
        """
        try:
            import torch  # other formats run where it is not installed

            from utils.device import choose_device
        except ModuleNotFoundError as error:
            raise missing_torch(path, error) from None
        self.path, self._torch = Path(path), torch
        self.device = choose_device(device)
        extra = {TRACED_METADATA: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch announces TorchScript's retirement
                self._network = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(self.path), map_location=self.device, _extra_files=extra
                )
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{path}: cannot be opened as TorchScript: {reason}") from None
        texts = _texts(self.path, extra[TRACED_METADATA])
        metadata = NetworkMetadata.from_texts(self.path, texts)
        self.class_names = metadata.class_names
        self.stride = metadata.stride
        batch, height, width = _input_sizes(self.path, texts)
        self.known_hw = metadata.known_hw
        self.suppresses = metadata.suppresses
        self.input_hw: tuple[int | None, int | None] = (height, width)
        self.batch_size: int | None = batch
        self._heads = Heads.choose(self.path, [("output0", (None, None, None))], metadata)

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        with self._torch.inference_mode():
            return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        try:
            answer = self._network(self._torch.from_numpy(images).to(self.device))
        except RuntimeError as error:  # what was traced for one size does not run at another
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(
                f"{self.path}: does not run on images {list(images.shape)}: {reason}; give the "
                "size it was exported with as --imgsz"
            ) from None
        decoded = answer[0] if isinstance(answer, tuple | list) else answer
        return self._heads.decode([decoded.float().cpu().numpy()])


def _texts(path: Path, content: str) -> dict[str, str]:
    """Key -> text of a file's metadata; earlier files of ours have JSON texts inside JSON.

    Raises:
        CheckpointError: it is not a JSON mapping.
    """
    try:
        stored = json.loads(content or "{}")
        pairs = stored.items()
    except (ValueError, AttributeError):
        raise CheckpointError(
            f"{path}: its {TRACED_METADATA} is {content[:80]!r}, expected a JSON mapping"
        ) from None
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in pairs}


def _input_sizes(path: Path, texts: Mapping[str, str]) -> tuple[int | None, int | None, int | None]:
    """Batch size, height and width; None where not said.

    YOLOv5 says `shape`; ultralytics and we say `imgsz`, one side or two, and `batch`.

    Raises:
        CheckpointError: they are no numbers.
    """
    try:
        given = {key: json.loads(texts[key]) for key in ("shape", "imgsz", "batch") if key in texts}
        batch, _, height, width = given.get("shape", [None] * 4)
        sides = given.get("imgsz", [height, width])
        height, width = (sides, sides) if isinstance(sides, int) else sides
        sizes = given.get("batch", batch), height, width
        if any(size is not None and (not isinstance(size, int) or size < 1) for size in sizes):
            raise ValueError("sizes are integers of at least 1")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the sizes in its {TRACED_METADATA} cannot be understood: {error}"
        ) from None
    return sizes


COREML = "coremltools converts the file of --include torchscript: see docs/deploy.md"
LIBTORCH = Runtime("libtorch", TorchScriptRunner)
FORMAT = Format(
    name="TorchScript",
    runtime=LIBTORCH,
    presets=(
        Preset(
            name="torchscript", description="libtorch", outputs="boxes", head="decoded",
            suffix=".torchscript", runtime=LIBTORCH, dynamic=False, traced=True,
        ),
    ),
    refused_flags=(
        ("--optimize", "TorchScript for phones is not offered; see docs/deploy.md"),
        ("--mlmodel", COREML),
    ),
    refused_presets=(
        ("coreml", COREML),
    ),
)  # fmt: skip
