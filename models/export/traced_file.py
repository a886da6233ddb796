"""Traced programs: what PyTorch recorded of a network's run on one input."""

from __future__ import annotations

import copy
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.runtimes.network_metadata import TRACED_METADATA


def write_traced(
    path: Path,
    network: nn.Module,
    input_shape: tuple[int, ...],
    values: Mapping[str, Any] | None,
) -> None:
    """Trace a network whose input always has one shape.

    A program for libtorch keeps its parameters, so that `.to(device)` and `.half()` convert them.
    One for a converter is frozen: its weights become constants.

    Source paths of this machine, which torch keeps for its error messages, are dropped.

    Args:
        path: file to write.
        network: in eval mode, on the CPU.
        input_shape: (B, 3, H, W).
        values: the metadata, key -> JSON value; None for a converter, which keeps it elsewhere.
    """
    network = copy.deepcopy(network).requires_grad_(False)  # programs that run it do not train
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces the retirement of tracing
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, torch.zeros(input_shape), check_trace=False
        )
        program = torch.jit.freeze(traced) if values is None else traced
        with_paths = path.with_suffix(".traced")
        program.save(str(with_paths), _extra_files={TRACED_METADATA: json.dumps(values or {})})
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
