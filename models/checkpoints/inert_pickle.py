"""Reads pickled checkpoints of YOLOv5 and its relatives without executing anything in them.

Such a file asks the unpickler to import and call classes. Every name it asks for must be on an
allow-list, and even then an inert stand-in is used that only stores its state. torch's restricted
unpickler reads the file. The result is a tree of stand-ins from which tensors and plain values are
taken by name.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import CheckpointError, first_line

# Names a detector checkpoint may mention. Stand-ins replace them, so none of them is ever run;
# the list exists so that a file which names anything else is refused before it is read.
_ALLOWED = re.compile(
    r"""(yolov5\.)?models\.(common|yolo|experimental)\.\w+
    |(yolov5\.)?utils\.\w+\.\w+
    |torch\.nn\.modules\.\w+\.\w+
    |numpy\.(_core|core)\.multiarray\.(_reconstruct|scalar)|numpy\.(dtype|ndarray)
    |_codecs\.encode
    |pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path
    |__builtin__\.set|builtins\.set
    |argparse\.Namespace""",
    re.VERBOSE,
)


class InertObject:
    """Stands in for a class or function a pickle names; stores its state and does nothing."""

    pickled_name = ""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> InertObject:
        """Ignore the arguments that the pickle passes."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Store a dictionary state as attributes; ignore any other state."""
        if isinstance(state, dict):
            self.__dict__.update(state)

    def child(self, name: str) -> Any:
        """A submodule by name, or None."""
        return self.__dict__.get("_modules", {}).get(name)

    @property
    def class_name(self) -> str:
        """`pickled_name` without its module."""
        return self.pickled_name.rpartition(".")[2]


def read_inert(path: Path) -> dict[str, Any]:
    """The top-level dictionary of a pickled checkpoint, objects as InertObject.

    Raises:
        CheckpointError: not a checkpoint, or it names something that is not allowed.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint (expected a .pt written by torch.save)"
        )
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: damaged checkpoint ({first_line(error)})") from None
    refused = sorted(name for name in names if not _ALLOWED.fullmatch(name))
    if refused:
        raise CheckpointError(
            f"{path}: refused, nothing was executed: it wants to call {', '.join(refused)}, "
            "which no detector checkpoint needs"
        )
    stand_ins: list[Any] = [
        (type("Inert", (InertObject,), {"pickled_name": name}), name) for name in names
    ]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        if isinstance(content, InertObject):
            kind = content.pickled_name
        raise CheckpointError(f"{path}: holds {kind}, expected a checkpoint")
    return content


def collect_tensors(module: InertObject, prefix: str = "") -> dict[str, Tensor]:
    """All parameters and buffers below a stand-in for a torch module, by dotted name."""
    state = module.__dict__
    tensors: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in state.get(kind, {}).items():
            if isinstance(value, Tensor):
                tensors[prefix + name] = value.detach()
    for name, child in state.get("_modules", {}).items():
        if isinstance(child, InertObject):
            tensors.update(collect_tensors(child, f"{prefix}{name}."))
    return tensors


def collect_attribute(module: InertObject, attribute: str) -> set[Any]:
    """The values an attribute takes among all modules below a stand-in."""
    values = {module.__dict__[attribute]} if attribute in module.__dict__ else set()
    for child in module.__dict__.get("_modules", {}).values():
        if isinstance(child, InertObject):
            values |= collect_attribute(child, attribute)
    return values
