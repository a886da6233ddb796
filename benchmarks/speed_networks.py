"""The networks of the speed test: yolov5s and repyolov5s with random weights, in every form.

Latency does not depend on weights, except that of suppression, which depends on how many boxes
there are: the head is set so that about CANDIDATES boxes of an image score above the threshold.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data.dataset_spec import load_dataset_spec
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import is_deployed, to_deploy
from models.conversion.expand import expand
from models.export.exported_file import FileRequest, write_file
from models.formats.presets import PRESETS
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from models.quantization.quantized_onnx import quantize
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from models.runtimes.onnx_runner import OnnxRunner
from models.runtimes.open_runner import CHECKPOINT_SUFFIXES, open_runner
from models.runtimes.runner import Runner
from models.runtimes.torch_runner import TorchRunner
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.output_files import atomic_path
from utils.postprocess import PostprocessConfig
from utils.structures import FloatArray

logger = logging.getLogger(__name__)

PLAIN, BLOCKS = "yolov5s", "repyolov5s"
SILU, LEAKY = "SiLU", "LeakyReLU(0.1)"
NOT_FOLDED, FOLDED, ONNX, INT8 = FORMS = ("not folded", "folded", "ONNX", "INT8 ONNX")
REP_BLOCK = "RepVGG"
SEED = 0
CANDIDATES = 60  # boxes of an image that go into suppression
SPREAD = 3.0  # standard deviation of objectness logits
CERTAIN = 6.0  # logit of every class: the score is the objectness


@dataclass(frozen=True, slots=True)
class TimedNetwork:
    """A file, and in which form its network runs.

    Attributes:
        name: of the architecture, or of a user's file.
        activation: as a model yaml spells it; empty for a user's file.
        form: one of FORMS.
        path: the file.
    """

    name: str
    activation: str
    form: str
    path: Path

    @property
    def key(self) -> str:
        """A name that no other network of the test has."""
        return ", ".join(filter(None, (self.name, self.activation, self.form)))

    def open(self, threads: int) -> Runner:
        """The network on the CPU.

        Args:
            threads: of onnxruntime; PyTorch's are the process's.
        """
        if self.form in (ONNX, INT8) and self.path.suffix == ".onnx":
            return OnnxRunner(self.path, device="cpu", threads=threads)
        if self.form != NOT_FOLDED:
            return open_runner(str(self.path), device="cpu")
        runner = TorchRunner(self.path, device="cpu")
        model = build_from_checkpoint(read_weights(self.path))
        runner.model = model.to(memory_format=torch.channels_last)  # as the folded one
        return runner


def users_networks(files: Sequence[Path]) -> list[TimedNetwork]:
    """Files as they are given; a checkpoint that can be folded runs in both forms."""
    networks = []
    for path in files:
        if path.suffix not in CHECKPOINT_SUFFIXES:
            networks.append(TimedNetwork(path.name, "", ONNX, path))
            continue
        is_folded = is_deployed(build_from_checkpoint(read_weights(path)))
        forms = (FOLDED,) if is_folded else (NOT_FOLDED, FOLDED)
        networks += [TimedNetwork(path.name, "", form, path) for form in forms]
    return networks


def standard_networks(
    folder: Path, image_size: int, images: Sequence[FloatArray]
) -> list[TimedNetwork]:
    """Both networks with both activations in every form; files that are there are not made again.

    Args:
        folder: for their files.
        image_size: side of the input in pixels.
        images: (1, 3, H, W) in 0-1 each, for batch-norms and the ranges of 8-bit numbers.
    """
    networks = []
    for activation in (SILU, LEAKY):
        for name in (PLAIN, BLOCKS):
            stem = f"{name}-{activation.partition('(')[0].lower()}-{image_size}"
            files = [folder / f"{stem}{end}" for end in (".pt", ".onnx", "-int8.onnx")]
            if not all(file.exists() for file in files):
                logger.info("making %s with %s", name, activation)
                plain = _random_network(activation, images)
                _write_files(plain if name == PLAIN else _expanded(plain), files, images)
            checkpoint, onnx, int8 = files
            paths = (checkpoint, checkpoint, onnx, int8)
            networks += [
                TimedNetwork(name, activation, form, path)
                for form, path in zip(FORMS, paths, strict=True)
            ]
    return networks


@torch.no_grad()
def _random_network(activation: str, images: Sequence[FloatArray]) -> Detector:
    """yolov5s whose activations and objectness are spread as a trained network's are."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        model = build_model(ModelSpec.from_file(f"{PLAIN}.yaml").replaced(activation=activation))
    batch = torch.from_numpy(np.concatenate(images))
    # Statistics of these images: without them values shrink layer by layer to denormal numbers.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(batch)
    model.eval()
    biases = [conv.bias for conv in model.head.m if isinstance(conv, nn.Conv2d)]
    levels = [each.view(model.head.num_anchors, -1) for each in biases if each is not None]
    for bias in levels:
        bias.zero_()
    objectness = _objectness(model, batch)
    for weight in (each for name, each in model.head.named_parameters() if "weight" in name):
        weight.mul_(SPREAD / objectness.std())
    objectness = _objectness(model, batch)
    threshold = PostprocessConfig().score_threshold
    lowest = objectness.sort(descending=True).values[CANDIDATES * len(batch)]
    shift = float(np.log(threshold / (1 - threshold))) - lowest
    for bias in levels:
        bias[:, 4], bias[:, 5:] = shift, CERTAIN
    return model


def _objectness(model: Detector, batch: torch.Tensor) -> torch.Tensor:
    """All logits, of all levels and images."""
    anchors = model.head.num_anchors
    maps = [each.unflatten(1, (anchors, -1))[:, :, 4] for each in model(batch)]
    return torch.cat([each.flatten() for each in maps])


def _expanded(model: Detector) -> Detector:
    """A network of blocks that computes the same, as `convert.py --to train` makes it."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        return expand(model, REP_BLOCK)


def _write_files(model: Detector, files: Sequence[Path], images: Sequence[FloatArray]) -> None:
    """Write a checkpoint in train form, a float32 file and an 8-bit one."""
    checkpoint, onnx, int8 = files
    names = load_dataset_spec("coco.yaml").class_names
    spec, size = model.spec, images[0].shape[2]
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        checkpoint, Checkpoint("train", spec.to_yaml(), names, model.state_dict(), size)
    )
    detector, sizes = to_deploy(model), InputSizes((size, size))
    raw = int8.with_name(f"{int8.stem}-raw.onnx")
    for path, preset, head in ((onnx, PRESETS["onnx"], "decoded"), (raw, PRESETS["qdq-u8"], "raw")):
        metadata = FileMetadata(names, model.strides, spec.anchors, sizes, head, preset.opset)
        request = FileRequest(preset, detector, sizes, preset.opset, PostprocessConfig(), metadata)
        with atomic_path(path) as temporary:
            write_file(temporary, request)
    with atomic_path(int8) as temporary:
        quantize(raw, temporary, lambda: iter(images), "minmax")
    raw.unlink()
