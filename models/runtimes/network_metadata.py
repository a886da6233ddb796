"""What an exported file says about its network: class names, strides, anchors, kind of head.

What export.py writes is in `models.runtimes.file_metadata`; this is what runtimes read. JSON and
Python literals are read, neither is evaluated.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import CheckpointError

INPUT = "images"  # name of an exported network's input
DEFAULT_STRIDES = (8, 16, 32)  # of every P5 network
MAX_CLASSES = 100_000  # a file that claims more would fill the memory with names
TRACED_METADATA = "config.txt"  # file inside a traced program; YOLOv5 calls it so too


@dataclass(frozen=True, slots=True)
class NetworkMetadata:
    """The metadata that running a file needs.

    Attributes:
        class_names: name of each class; empty where the file does not say.
        strides: input pixels per cell, finest level first (YOLOv5's files give only the largest).
        anchors: per level the (width, height) of its anchors in input pixels; None where not said.
        head: `decoded` (boxes), `raw` (logits, one map per level), `sigmoid` (the same after the
            sigmoid), `scores` (boxes as columns, class scores without objectness), `best` (rows of
            corners, best score and its class), `e2e` (the same after suppression).
        rows_last: raw maps are (B, H, W, channels).
        known_hw: height and width it was exported with; None where the file does not say.
        stride: sides of images are multiples of it.
    """

    class_names: tuple[str, ...]
    strides: tuple[int, ...]
    anchors: tuple[tuple[tuple[float, float], ...], ...] | None
    head: str
    rows_last: bool = False
    known_hw: tuple[int, int] | None = None
    stride: int = DEFAULT_STRIDES[-1]

    @property
    def suppresses(self) -> bool:
        """Whether the file drops boxes itself."""
        return self.head == "e2e"

    @classmethod
    def from_texts(cls, path: Path, texts: Mapping[str, str]) -> NetworkMetadata:
        """Read the key -> text mapping of a file.

        Args:
            path: the file, for messages.
            texts: its metadata; unknown keys are left alone, all keys may be missing.

        Raises:
            CheckpointError: a text that cannot be understood.
        """
        # Earlier files of ours have the list under `stride`.
        multiples = _value(path, texts, "stride", _as_strides) or ()
        strides = _value(path, texts, "strides", _as_strides) or multiples or DEFAULT_STRIDES
        return cls(
            class_names=_class_names(_value(path, texts, "names", _as_names)),
            strides=strides,
            anchors=_value(path, texts, "anchors", _as_anchors),
            head=_head(path, texts),
            rows_last=_value(path, texts, "maps", str) == "NHWC",
            known_hw=_value(path, texts, "imgsz", _as_hw),
            stride=max(multiples or strides),
        )


def _head(path: Path, texts: Mapping[str, str]) -> str:
    """The kind of head; ultralytics' files name a task, and their layer as the head.

    Raises:
        CheckpointError: a network for another task.
    """
    head = _value(path, texts, "head", str)
    task = _value(path, texts, "task", str)
    if task is None or (head is not None and head.islower()):  # as ours are written
        return head or "decoded"
    if task != "detect":
        raise CheckpointError(f"{path}: a network for {task}, expected one for detect")
    suppresses = (_value(path, texts, "args", dict) or {}).get("nms")
    return "e2e" if suppresses or _value(path, texts, "end2end", bool) else "scores"


def _class_names(by_id: dict[int, str] | None) -> tuple[str, ...]:
    if not by_id:
        return ()
    return tuple(by_id.get(class_id, f"class {class_id}") for class_id in range(max(by_id) + 1))


def _as_names(value: Any) -> dict[int, str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(_as_list(value))
    names = {int(class_id): str(name) for class_id, name in pairs}
    if not all(0 <= class_id < MAX_CLASSES for class_id in names):
        raise ValueError(f"expected class ids from 0 to {MAX_CLASSES - 1}")
    return names


def _as_strides(value: Any) -> tuple[int, ...]:
    strides = tuple(int(stride) for stride in (value if isinstance(value, list) else [value]))
    if any(stride < 1 for stride in strides):
        raise ValueError("expected numbers of at least 1")
    return strides


def _as_hw(value: Any) -> tuple[int, int]:
    """One side, or height and width (ultralytics' files have either)."""
    sides = value if isinstance(value, list | tuple) else [value]
    height, width = (int(sides[0]), int(sides[-1])) if sides else (0, 0)
    if min(height, width) < 1:
        raise ValueError("expected numbers of at least 1")
    return height, width


def _as_anchors(value: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    return tuple(
        tuple((float(width), float(height)) for width, height in _pairs(_as_list(level)))
        for level in _as_list(value)
    )


def _pairs(level: list[Any]) -> list[Any]:
    """`[10, 13, 16, 30]` (YOLOv5's yaml) and `[[10, 13], [16, 30]]` mean the same."""
    if level and not isinstance(level[0], list):
        return [level[i : i + 2] for i in range(0, len(level), 2)]
    return level


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return value


def _value(path: Path, texts: Mapping[str, str], key: str, convert: Any) -> Any:
    """The converted value of one key; None where it is missing."""
    text = texts.get(key)
    if text is None:
        return None
    try:
        return convert(_parse(text))
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path}: metadata {key!r} is {text[:80]!r}, which cannot be understood: {error}"
        ) from None


def _parse(text: str) -> Any:
    """JSON, else a Python literal, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
