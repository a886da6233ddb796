"""TorchScript files: written by tracing, and run."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from models.runtimes.heads import Heads, in_batches
from models.runtimes.network_metadata import NetworkMetadata
from utils.device import choose_device
from utils.errors import CheckpointError
from utils.structures import FloatArray

METADATA_FILE = "config.txt"  # as YOLOv5 calls it


def write_torchscript(
    path: Path, network: nn.Module, example: torch.Tensor, metadata: Mapping[str, Any]
) -> None:
    """Trace a network whose input always has the shape of `example`.

    Source paths of this machine, which torch keeps for its error messages, are left out.
    """
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces TorchScript's retirement
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, example, check_trace=False
        )
        frozen = torch.jit.freeze(traced)
        with_paths = path.with_suffix(".traced")
        frozen.save(str(with_paths), _extra_files={METADATA_FILE: json.dumps(texts)})
    try:
        _copy_without_sources(with_paths, path)
    finally:
        with_paths.unlink()


def _copy_without_sources(source: Path, target: Path) -> None:
    """The same archive without debugging files, in one order and without times."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            if not name.endswith(".debug_pkl"):
                _, _, inside = name.partition("/")
                after.writestr(zipfile.ZipInfo(f"network/{inside}"), before.read(name))


class TorchScriptRunner:
    """A TorchScript file on a device.

    Such a file is a program: run only files of people you trust.

    Args:
        path: the file.
        device: as `--device` spells it.

    Raises:
        CheckpointError: it cannot be opened.
    """

    def __init__(self, path: str | Path, *, device: str = "") -> None:
        self.path = Path(path)
        self.device = choose_device(device)
        extra = {METADATA_FILE: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._network = torch.jit.load(  # type: ignore[no-untyped-call]
                    str(self.path), map_location=self.device, _extra_files=extra
                )
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{path}: cannot be opened as TorchScript: {reason}") from None
        stored = json.loads(extra[METADATA_FILE] or "{}")
        # YOLOv5 writes values as they are, we write texts.
        texts = {key: value if isinstance(value, str) else json.dumps(value)
                 for key, value in stored.items()}  # fmt: skip
        metadata = NetworkMetadata.from_texts(self.path, texts)
        self.class_names = metadata.class_names
        self.stride = max(metadata.strides)
        height, width = json.loads(texts["imgsz"]) if "imgsz" in texts else (None, None)
        self.input_hw: tuple[int | None, int | None] = (height, width)
        self.batch_size: int | None = json.loads(texts.get("batch", "null"))
        self._heads = Heads.choose(self.path, [("output0", (None, None, None))], metadata)

    @torch.inference_mode()
    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""
        return in_batches(self._run_once, images, self.batch_size)

    def _run_once(self, images: npt.NDArray[Any]) -> FloatArray:
        answer = self._network(torch.from_numpy(images).to(self.device))
        decoded = answer[0] if isinstance(answer, tuple | list) else answer
        return self._heads.decode([decoded.float().cpu().numpy()])
