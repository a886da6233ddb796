"""Where the content of two files or trees first differs, apart from what may differ.

Every function returns None for equal content, else one line that says where and what. Metadata
inside exported files (versions, dates, licence) is not content, nor are names of classes in the
code of a TorchScript file.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MEASURED = frozenset(
    {
        *("seconds", "images_per_second", "frames_per_second", "peak_memory_mb"),
        *("ms_per_image", "ms_per_frame", "latency_ms", "latency_ratio"),
        *("bytes", "made_with"),  # `bytes` counts the metadata of an exported file
    }
)
METADATA_FILES = frozenset({"metadata.json"})
_CLASS_NAME = re.compile(rb"__torch__[\w.]*(?: \w+(?='))?|(?<=class )\w+(?=\(Module\))")
_XML_METADATA = re.compile(rb"<rt_info>.*?</rt_info>", re.DOTALL)
_ARCHIVE_METADATA = frozenset({"config.txt", "serialization_id"})


def tree_difference(before: Any, after: Any, where: str = "", values: bool = True) -> str | None:
    """Compare mappings and sequences of tensors (bit by bit) and numbers.

    Strings are not compared: they hold paths, versions and messages. Below a key of MEASURED only
    the keys are.

    Args:
        before: anything that torch.load or json.loads returns.
        after: what should equal it.
        where: path of keys that led here.
        values: False compares keys only.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _mapping_difference(before, after, where, values)
    if _is_list(before) and _is_list(after):
        if len(before) != len(after):
            return f"{where}: {len(before)} entries, then {len(after)}" if values else None
        pairs = enumerate(zip(before, after, strict=True))
        found = (tree_difference(*pair, f"{where}[{index}]", values) for index, pair in pairs)
        return next((each for each in found if each), None)
    if not values:
        return None
    if type(before) is not type(after):
        return f"{where}: {type(before).__name__}, then {type(after).__name__}"
    if isinstance(before, Tensor):
        return _tensor_difference(before, after, where)
    if isinstance(before, str) or repr(before) == repr(after):  # repr: NaN equals itself
        return None
    return f"{where}: {before!r}, then {after!r}"


def parts_difference(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str | None:
    """Compare named parts: which are missing, else the first one with other bytes."""
    if before.keys() != after.keys():
        return _key_difference(before, after, "parts")
    changed = [name for name in before if before[name] != after[name]]
    if not changed:
        return None
    return f"{changed[0]}: other bytes ({len(changed)} of {len(before)} parts differ)"


def path_difference(before: Path, after: Path) -> str | None:
    """Compare two files by their kind, or two folders file by file."""
    missing = [path for path in (before, after) if not path.exists()]
    if missing:
        return f"{missing[0]} was not written"
    if before.is_dir():
        return _folder_difference(before, after)
    if before.suffix == ".pt":
        difference = tree_difference(_read_checkpoint(before), _read_checkpoint(after))
    else:
        difference = parts_difference(file_parts(before), file_parts(after))
    return f"{before.name}: {difference}" if difference else None


def file_parts(path: Path) -> dict[str, bytes]:
    """The content of a file in named parts, without its metadata."""
    if path.suffix == ".onnx":
        return onnx_parts(path.read_bytes())
    if path.suffix == ".torchscript":
        return torchscript_parts(path)
    if path.suffix == ".xml":
        return {"xml": _XML_METADATA.sub(b"", path.read_bytes())}
    if path.suffix == ".rknn":  # Rockchip's compiler writes memory addresses into it
        return {"length": str(path.stat().st_size).encode()}
    return {"file": path.read_bytes()}


def onnx_parts(content: bytes) -> dict[str, bytes]:
    """Nodes and initializers by name, and the rest of the model, without metadata_props."""
    import onnx

    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    graph = model.graph
    nodes = {f"node {i} {node.name}": node for i, node in enumerate(graph.node)}
    initializers = {f"initializer {each.name}": each for each in graph.initializer}
    parts = {
        name: each.SerializeToString(deterministic=True)
        for name, each in {**nodes, **initializers}.items()
    }
    del graph.node[:], graph.initializer[:]
    return {**parts, "rest of the model": model.SerializeToString(deterministic=True)}


def torchscript_parts(path: Path) -> dict[str, bytes]:
    """Members of the archive below its top folder; pickles as operations, code without names.

    Debugging information (lines of the source) is skipped.
    A class is named after its module and numbered by how many came before it, in the code, in
    the file that holds it and in pickles, where its length counts too.
    """
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.partition("/")[2]
            content = archive.read(member)
            if name.rpartition("/")[2] in _ARCHIVE_METADATA or name.endswith(".debug_pkl"):
                continue
            if name.endswith(".pkl"):
                operations = [(code.name, arg) for code, arg, _ in pickletools.genops(content)]
                parts[name] = _CLASS_NAME.sub(b"CLASS", repr(operations).encode())
            elif name.startswith("code/"):
                number = sum(key.startswith("code ") for key in parts)
                parts[f"code {number}"] = _CLASS_NAME.sub(b"CLASS", content)
            else:
                parts[name] = content
    return parts


def _mapping_difference(
    before: Mapping[Any, Any], after: Mapping[Any, Any], where: str, values: bool
) -> str | None:
    if before.keys() != after.keys():
        return _key_difference(before, after, where or "keys")
    for key in before:
        inner = f"{where}.{key}" if where else str(key)
        compared = values and key not in MEASURED
        if difference := tree_difference(before[key], after[key], inner, compared):
            return difference
    return None


def _key_difference(before: Mapping[Any, Any], after: Mapping[Any, Any], where: str) -> str:
    only_before = [str(key) for key in before if key not in after]
    only_after = [str(key) for key in after if key not in before]
    return f"{where}: only before {only_before[:3]}, only after {only_after[:3]}"


def _tensor_difference(before: Tensor, after: Tensor, where: str) -> str | None:
    kinds = [f"{each.dtype} {tuple(each.shape)}" for each in (before, after)]
    if kinds[0] != kinds[1]:
        return f"{where}: {kinds[0]}, then {kinds[1]}"
    first, second = (each.contiguous().reshape(-1).view(torch.uint8) for each in (before, after))
    if torch.equal(first, second):  # bytes: NaN equals itself, -0 does not equal 0
        return None
    largest = (before.double() - after.double()).abs().max().item()
    return f"{where}: other bits, largest difference {largest:.3g}"


def _folder_difference(before: Path, after: Path) -> str | None:
    names = [
        {
            path.relative_to(folder).as_posix(): b""
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in METADATA_FILES
        }
        for folder in (before, after)
    ]
    if names[0].keys() != names[1].keys():
        return _key_difference(names[0], names[1], before.name)
    found = (path_difference(before / name, after / name) for name in names[0])
    return next((each for each in found if each), None)


def _read_checkpoint(path: Path) -> Any:
    # Not through utils.checkpoint: neither checkout's reader may hide a difference.
    return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
