"""Our checkpoint files: plain tensors and JSON metadata, without pickled classes.

A file is one dictionary written by torch.save that loads with `weights_only=True`. Only this module
calls torch.save, and only this module and `models.checkpoints.inert_pickle` call torch.load.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from utils.checkpoint_archive import checked_names, entry_names, is_archive
from utils.errors import CheckpointError, first_line, missing_weights
from utils.output_files import atomic_path
from utils.path_kind import path_kind

FORMAT = "reparam-yolov5"
EXPORTED_SUFFIXES = frozenset({".onnx", ".engine", ".torchscript", ".tflite", ".rknn", ".mlmodel"})
SCHEMA_VERSION = 1
_BEFORE_ARCHIVES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch's older files begin
MAX_IMAGE_SIZE = 65_536  # no network is trained on larger images


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything one weights file holds.

    Attributes:
        form: "train" (branches and norms) or "deploy" (one convolution with bias each).
        spec: the architecture as a yaml mapping (ModelSpec.to_yaml).
        class_names: in class-id order.
        weights: state dict of the network, float32.
        image_size: side of the square images it was trained on, in pixels; None where that is not
            known.
        ema_weights: state dict of the averaged network, where training saved it separately.
        training: optimizer state and progress, for `--resume`; None in finished files.
        config: the settings of the run that made it.
        metrics: AP, AP50 and the like of its best epoch.
        made_with: versions of torch and Python that wrote it.
        name: what errors call it, the path of its file.
    """

    form: Literal["train", "deploy"]
    spec: dict[str, Any]
    class_names: tuple[str, ...]
    weights: dict[str, Tensor]
    image_size: int | None = None
    ema_weights: dict[str, Tensor] | None = None
    training: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    name: str = field(default="checkpoint", compare=False)

    @property
    def best_weights(self) -> dict[str, Tensor]:
        """The weights to use for inference: the averaged ones where there are any."""
        return self.weights if self.ema_weights is None else self.ema_weights

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width of the images it was trained on; None where not known."""
        return None if self.image_size is None else (self.image_size, self.image_size)

    def for_inference(self) -> Checkpoint:
        """A copy with the best weights only, without what `--resume` needs."""
        return replace(self, weights=self.best_weights, ema_weights=None, training=None)


def license_of(checkpoint: Checkpoint) -> str:
    """The licence of its weights; empty where it is not known."""
    return str(checkpoint.config.get("license") or "")


def save_checkpoint(
    path: Path, checkpoint: Checkpoint, beside: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint atomically; `made_with` is set to the present versions.

    Args:
        path: the file.
        checkpoint: what `load_checkpoint` reads.
        beside: plain values and tensors under keys of their own, for other programs.
    """
    metadata = {
        "form": checkpoint.form,
        "spec": checkpoint.spec,
        "class_names": list(checkpoint.class_names),
        "image_size": checkpoint.image_size,
        "config": checkpoint.config,
        "metrics": checkpoint.metrics,
        "made_with": {"torch": torch.__version__, "python": platform.python_version()},
    }
    content = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "metadata": json.dumps(metadata, default=str),
        "weights": _on_cpu(checkpoint.weights),
        "ema_weights": None if checkpoint.ema_weights is None else _on_cpu(checkpoint.ema_weights),
        "training": checkpoint.training,
        **(beside or {}),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides that the disk is full
                raise error.__context__ from None
            raise


def is_native(path: Path) -> bool:
    """Whether a PyTorch file names no pickled classes, as our checkpoints do not.

    Raises:
        CheckpointError: no such file, or it is not a PyTorch checkpoint.
    """
    return not _pickled_classes(path)


def _pickled_classes(path: Path) -> tuple[str, ...]:
    """The classes and functions that a PyTorch file asks for beside those that torch allows.

    Raises:
        CheckpointError: no such file, or it is not a PyTorch checkpoint.
    """
    kind = path_kind(path)
    if kind is None:
        raise missing_weights(path)
    if kind == "folder":
        raise CheckpointError(f"{path}: is a folder, expected a weights file")
    if path.suffix.lower() in EXPORTED_SUFFIXES:
        raise CheckpointError(
            f"{path}: an exported file, not a checkpoint; give the .pt it was made from"
        )
    if not is_archive(path):
        raise CheckpointError(f"{path}: not a PyTorch checkpoint ({_describe(path)})")
    if any(name.endswith("/constants.pkl") for name in entry_names(path)):
        raise CheckpointError(
            f"{path}: a TorchScript file, which can be run, not trained or converted; give the "
            ".pt checkpoint it was made from"
        )
    return checked_names(path)


class OnlyWeightsError(CheckpointError):
    """A PyTorch file that is no checkpoint of ours, such as the state dict of a classifier."""


class PickledClassesError(CheckpointError):
    """A checkpoint of YOLOv5's kind.

    Attributes:
        names: the classes and functions it asks for, of a file that is checked.
    """

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one of our own files.

    Raises:
        OnlyWeightsError: of another format.
        PickledClassesError: of YOLOv5's.
        CheckpointError: missing, damaged, or of a newer schema version.
    """
    if names := _pickled_classes(path):
        raise PickledClassesError(f"{path}: holds pickled classes, not our format", names)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
        raise CheckpointError(f"{path}: damaged checkpoint ({first_line(error)})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise OnlyWeightsError(
            f"{path}: holds weights without their architecture, so no network can be built; "
            "give a checkpoint written by train.py or convert.py"
        )
    try:
        return _from_content(path, content)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({error!r})") from None


def _from_content(path: Path, content: dict[str, Any]) -> Checkpoint:
    if content["schema_version"] > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: schema {content['schema_version']} is newer than {SCHEMA_VERSION}, "
            "which this version reads; update the program"
        )
    metadata = json.loads(content["metadata"])
    if metadata["form"] not in ("train", "deploy"):
        raise ValueError(f"form is {metadata['form']!r}")
    for key in ("spec", "config", "metrics", "made_with"):
        _expect(metadata, key, dict)
    _expect(metadata, "class_names", list)
    _expect(metadata, "image_size", int | None)
    _check_metadata(metadata)
    _expect(content, "training", dict | None)
    _check_weights(content, "weights", dict)
    _check_weights(content, "ema_weights", dict | None)
    return Checkpoint(
        form=metadata["form"],
        spec=metadata["spec"],
        class_names=tuple(metadata["class_names"]),
        weights=content["weights"],
        image_size=metadata["image_size"],
        ema_weights=content["ema_weights"],
        training=content["training"],
        config=metadata["config"],
        metrics=metadata["metrics"],
        made_with=metadata["made_with"],
        name=str(path),
    )


def _expect(content: dict[str, Any], key: str, kind: Any) -> None:
    if not isinstance(content[key], kind):
        raise TypeError(f"{key} is {type(content[key]).__name__}")


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Refuse class names that are none or not as many as the network has, and impossible sizes.

    Raises:
        ValueError: naming the key and its value.
    """
    names, num_classes = metadata["class_names"], metadata["spec"].get("nc")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("class_names holds something else than text")
    if num_classes is not None and len(names) != num_classes:
        raise ValueError(f"{len(names)} class_names, but the network has {num_classes} classes")
    size = metadata["image_size"]
    if size is not None and not 1 <= size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image_size is {size}, expected 1 to {MAX_IMAGE_SIZE}")


def _check_weights(content: dict[str, Any], key: str, kind: Any) -> None:
    """Refuse a state dict that is none, or whose tensors claim more than the file has.

    Raises:
        TypeError: something else is in it.
        ValueError: a tensor has more elements than its storage.
    """
    _expect(content, key, kind)
    for name, tensor in (content[key] or {}).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(f"{key} holds {type(name).__name__} -> {type(tensor).__name__}")
        if not is_plain(tensor):
            raise ValueError(f"{name[:100]} is not a plain tensor")


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an array in memory whose storage holds every element of it."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in weights.items()}


def _describe(path: Path) -> str:
    """Describe a file that is not a checkpoint, for the error message."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty"
    if start.startswith(b"PK\x03\x04"):
        return "its end is missing: copy or download it again"
    if start.startswith(_BEFORE_ARCHIVES):
        return "written by torch before 1.6: where it can be opened, torch.save it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the real file"
    if b"\0" not in start:
        return "it is text"
    return "expected a .pt file written by torch.save since 1.6"
