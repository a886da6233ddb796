"""Reads pickled checkpoints of YOLOv5 and its relatives without executing anything in them.

Such a file asks the unpickler to import and call classes. Every name it asks for must be on an
allow-list, and even then an inert stand-in is used that only stores its state. torch's restricted
unpickler reads the file. The result is a tree of stand-ins from which tensors and plain values are
taken by name.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.checkpoint import is_plain
from utils.checkpoint_archive import checked_names, is_archive
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


# yolov5x6 has 700 modules in 7 levels. A pickle that refers to itself has no end.
MAX_MODULES = 20_000
MAX_DEPTH = 32
# Of plain data: a model yaml has 200 values in 4 levels, the classes of Objects365 are 365 names.
MAX_VALUES = 50_000
MAX_LEVELS = 8
MAX_TEXT = 10_000


shown = reprlib.repr  # of any value a pickle may hold, however long or deep


class UnreadableError(Exception):
    """What an attribute says cannot be written in a yaml; the message is `NAME is VALUE, ...`."""


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

    def attribute(self, name: str) -> Any:
        """The value the pickle gives an attribute, or None."""
        return self.__dict__.get(name)

    @property
    def children(self) -> dict[str, InertObject]:
        """The submodules by name, in the order in which they run; empty for other objects."""
        modules = self.__dict__.get("_modules")
        if not isinstance(modules, dict):
            return {}
        return {str(name): each for name, each in modules.items() if isinstance(each, InertObject)}

    def child(self, name: str) -> InertObject | None:
        """A submodule by name, or None."""
        return self.children.get(name)

    @property
    def class_name(self) -> str:
        """`pickled_name` without its module."""
        return self.pickled_name.rpartition(".")[2]


def read_inert(path: Path, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The top-level dictionary of a pickled checkpoint, objects as InertObject.

    Args:
        path: the file.
        names: the result of `checked_names`, where it is known already.

    Raises:
        CheckpointError: not a checkpoint, or it names something that is not allowed.
    """
    if not is_archive(path):
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint (expected a .pt written by torch.save)"
        )
    if names is None:
        names = checked_names(path)
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


def walk(module: InertObject, where: str) -> Iterator[tuple[str, InertObject]]:
    """A stand-in and all modules below it, each with its dotted name; `where` names the file.

    Raises:
        CheckpointError: too many or too deep, as where a module is its own descendant.
    """
    pending = [("", module)]
    count = 0
    while pending:
        name, each = pending.pop()
        count += 1
        if count > MAX_MODULES or name.count(".") > MAX_DEPTH:
            raise CheckpointError(
                f"{where}: its network has more than {MAX_MODULES} modules, or more than "
                f"{MAX_DEPTH} levels of them"
            )
        yield name, each
        below = [(f"{name}.{child}" if name else child, m) for child, m in each.children.items()]
        pending.extend(reversed(below))


def integer(module: InertObject | None, attribute: str) -> int:
    """An attribute that is an integer, or the same integer along both axes.

    Raises:
        UnreadableError: it is something else, or there is no such module.
    """
    value = module.attribute(attribute) if module else None
    if isinstance(value, tuple | list) and {type(each) for each in value} <= {int, float}:
        value = value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise UnreadableError(f"{attribute} is {shown(value)}, supported: an integer for both axes")
    return value


def collect_tensors(module: InertObject, where: str) -> dict[str, Tensor]:
    """All parameters and buffers below a stand-in for a torch module, by dotted name.

    Raises:
        CheckpointError: one of them is not a plain tensor, or its elements are not all in the file.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, each in walk(module, where):
        for kind in ("_parameters", "_buffers"):
            state = each.attribute(kind)
            for name, value in state.items() if isinstance(state, dict) else ():
                if isinstance(value, Tensor):
                    full_name = f"{prefix}.{name}" if prefix else str(name)
                    tensors[full_name] = _plain_tensor(f"{where}: {full_name}", value)
    return tensors


def plain_value(value: object, where: str) -> Any:
    """A copy of numbers, text, lists and mappings, as yaml has them; `where` names the value.

    Raises:
        CheckpointError: something else is in it, or more than a model yaml has.
    """
    return _plain_copy(value, where, [MAX_VALUES], 0)


def _plain_copy(value: object, where: str, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_LEVELS or (isinstance(value, str) and len(value) > MAX_TEXT):
        raise CheckpointError(
            f"{where} has more than {MAX_VALUES} values, {MAX_LEVELS} levels, or {MAX_TEXT} letters"
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain_copy(each, where, left, depth + 1) for each in value]
    if isinstance(value, dict):
        return {
            _plain_copy(key, where, left, MAX_LEVELS): _plain_copy(each, where, left, depth + 1)
            for key, each in value.items()
        }
    raise CheckpointError(f"{where} holds {type(value).__name__}, expected numbers and text")


def _plain_tensor(name: str, tensor: Tensor) -> Tensor:
    """A tensor as it is, without gradient, if its storage holds every element of it."""
    if not is_plain(tensor):
        raise CheckpointError(f"{name} is not a plain tensor with all its elements in the file")
    return tensor.detach()
