"""The zip archive that torch.save writes, checked before torch reads it.

torch believes what the archive and its pickle claim: it decompresses an entry of any size, reads as
many bytes of a storage as the pickle asks for even where the entry has fewer, and calls a few
classes that allocate what they are told to. All of that can be seen without unpickling anything.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.errors import CheckpointError, first_line

# A checkpoint is stored uncompressed; a file that somebody zipped again stays below this factor.
MAX_EXPANSION = 4
MAX_PICKLE_BYTES = 32 * 2**20  # the largest YOLOv5 checkpoint with its optimizer has 2 MiB
# A tuple as a key of a dictionary is hashed level by level, which ends the process where there are
# too many of them, and takes for ever where each level holds the one below it twice.
MAX_TUPLE_SIZE = 2000
# Bytes of one element, by the name of the storage class.
_ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "Untyped": 1,
}  # fmt: skip
# What torch's restricted unpickler would call, though no detector checkpoint needs it: these
# allocate as much as their arguments say, or build tensors that are not plain arrays.
_REFUSED = re.compile(
    r"(builtins|__builtin__)\.(bytearray|complex)|collections\.Counter"
    r"|torch\.(\w+\.)*\w*Tensor"
    r"|torch\._tensor\.\w+"
    r"|torch\._utils\.(?!_rebuild_tensor_v2$|_rebuild_parameter$|_rebuild_parameter_with_state$)\w+"
)
_STORAGE = re.compile(r"torch\.(?:storage\.)?(\w+)Storage")
_CONSTANTS = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINUNICODE"}


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that a pickle asks for, as `module.name`."""

    name: str


@dataclass(frozen=True, slots=True)
class _Tuple:
    """A tuple of a pickle; `size` counts the values in it at all levels."""

    items: tuple[Any, ...]
    size: int


def is_archive(path: Path) -> bool:
    """Whether a file ends as a zip archive does; it may be damaged."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # where its end contradicts itself
        return True


def entry_names(path: Path) -> list[str]:
    """The names of the entries of a zip archive.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: damaged checkpoint ({first_line(error)})") from None


def checked_names(path: Path) -> tuple[str, ...]:
    """What the pickle of an archive asks for beside what torch allows; the archive is checked.

    Takes as long as reading a small checkpoint does, so it is asked once.

    Raises:
        CheckpointError: as `check_archive`.
    """
    check_archive(path)
    try:
        return tuple(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: damaged checkpoint ({first_line(error)})") from None


def check_archive(path: Path) -> None:
    """Refuse an archive that claims more than it holds, or that is damaged.

    Raises:
        CheckpointError: not an archive of torch.save, damaged, larger than it may be, or its
            storages claim bytes that are not there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _entry_sizes(path, archive.infolist())
            name = _pickle_name(path, sizes)
            content = archive.read(name)
        _check_pickle(path, content, sizes, name.removesuffix("data.pkl"))
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: damaged checkpoint ({first_line(error)})") from None


def _entry_sizes(path: Path, entries: list[zipfile.ZipInfo]) -> dict[str, int]:
    """Name of each entry -> bytes it claims after decompression."""
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len({name.lower() for name in sizes}) < len(entries):  # readers choose differently
        raise CheckpointError(f"{path}: damaged checkpoint (two entries have one name)")
    claimed, held = sum(sizes.values()), path.stat().st_size
    if claimed > MAX_EXPANSION * held:
        raise CheckpointError(
            f"{path}: its entries claim {claimed} bytes, but the file has {held}; "
            "torch.save stores a checkpoint uncompressed"
        )
    return sizes


def _pickle_name(path: Path, sizes: dict[str, int]) -> str:
    """The entry that describes the content; it decides what a file is.

    Raises:
        CheckpointError: there is not exactly one, or it is too large to be one.
    """
    names = [name for name in sizes if name.endswith("data.pkl")]
    if len(names) != 1:
        raise CheckpointError(
            f"{path}: damaged checkpoint (it has {len(names)} entries data.pkl, expected one)"
        )
    if sizes[names[0]] > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path}: {names[0]} has {sizes[names[0]]} bytes, at most {MAX_PICKLE_BYTES} are read"
        )
    return names[0]


def _check_pickle(path: Path, content: bytes, sizes: dict[str, int], folder: str) -> None:
    refused = set()
    for item in _names_and_storages(content):
        if isinstance(item, _Global):
            if _REFUSED.fullmatch(item.name):
                refused.add(item.name)
            continue
        key, claimed = _storage(path, item)
        held = sizes.get(f"{folder}data/{key}", 0)
        if claimed > held:
            raise CheckpointError(
                f"{path}: damaged checkpoint (storage {key!r} claims {claimed} bytes, has {held})"
            )
    if refused:
        raise CheckpointError(
            f"{path}: refused, nothing was executed: it wants to call {', '.join(sorted(refused))}"
            ", which no detector checkpoint needs"
        )


def _storage(path: Path, item: object) -> tuple[str, int]:
    """Key and claimed bytes of a storage, from the tuple by which a pickle refers to it."""
    match item:
        case _Tuple(items=("storage", _Global(name=name), str(key), str(), int(count))):
            kind = _STORAGE.fullmatch(name)
            if kind and kind[1] in _ITEM_BYTES and count >= 0:
                return key, count * _ITEM_BYTES[kind[1]]
    raise CheckpointError(f"{path}: damaged checkpoint (a storage is described wrongly)")


def _names_and_storages(content: bytes) -> Iterator[Any]:
    """Every name a pickle asks for, and every tuple by which it refers to a storage.

    Follows the stack of the unpickler; constants, names and tuples are known, the rest is None.

    Raises:
        ValueError: an operation takes more from the stack than there is, or a tuple is too large.
    """
    memo: dict[object, Any] = {}
    stack: list[Any] = []
    marks: list[list[Any]] = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "MARK":
            marks.append(stack)
            stack = []
            continue
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
            continue
        taken = [kind.name for kind in opcode.stack_before]
        items: list[Any] = []
        if "mark" in taken:
            items, stack = stack, marks.pop()
            taken = taken[: taken.index("mark")]
        if len(taken) > len(stack):
            raise ValueError(f"{opcode.name} finds too little on the stack")
        items = stack[len(stack) - len(taken) :] + items
        del stack[len(stack) - len(taken) :]
        value = _value(opcode.name, argument, items, memo)
        if isinstance(value, _Global):
            yield value
        if opcode.name == "BINPERSID":
            yield items[0]
        stack += [value] * len(opcode.stack_after)


def _value(name: str, argument: Any, items: list[Any], memo: dict[object, Any]) -> Any:
    """What an operation of a pickle leaves on the stack, where that is known."""
    if name == "GLOBAL":
        return _Global(str(argument).replace(" ", "."))
    if name in _CONSTANTS:
        return argument
    if name in ("BINGET", "LONG_BINGET"):
        return memo[argument]
    if name.endswith("TUPLE") or name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = 1 + sum(item.size if isinstance(item, _Tuple) else 1 for item in items)
        if size > MAX_TUPLE_SIZE:
            raise ValueError(f"a tuple of more than {MAX_TUPLE_SIZE} values")
        return _Tuple(tuple(items), size)
    return None
