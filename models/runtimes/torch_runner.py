"""Checkpoints with the interface of exported files: images in, decoded boxes out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.network.box_coder import BoxCoder
from models.network.detector import Detector
from models.network.module_copy import copy_with
from utils.device import choose_device
from utils.errors import ConfigError
from utils.structures import FloatArray


def fastest_form(model: Detector, device: torch.device, dtype: torch.dtype) -> Detector:
    """The network in deploy form on its device, its weights in the order that runs fastest there.

    Channels last where that is faster: on CPUs, and on GPUs in float16. Against the network as it
    is, results differ by float32 rounding.
    """
    order = torch.channels_last if device.type == "cpu" or dtype == torch.float16 else None
    if next(model.parameters()).device.type == "mps":  # has no float64, in which blocks are folded
        model = copy_with(model, Tensor.cpu)
    deployed = to_deploy(model).to(device, dtype)
    return deployed if order is None else deployed.to(memory_format=order)


class TorchRunner:
    """Runs a checkpoint; one in train form is converted to deploy form first.

    Args:
        path: a checkpoint of ours or of YOLOv5.
        device: as `--device` spells it.
        half: compute in float16 (GPU only).
    """

    def __init__(self, path: str | Path, *, device: str = "", half: bool = False) -> None:
        checkpoint = read_weights(path)
        self.device = choose_device(device)
        if half and self.device.type != "cuda":
            raise ConfigError(f"--half needs a GPU; the device is {self.device.type}")
        self.dtype = torch.float16 if half else torch.float32
        model = build_from_checkpoint(checkpoint)
        self.model = fastest_form(model, self.device, self.dtype)
        self.coder = BoxCoder.of(model)
        self.class_names = checkpoint.class_names
        self.stride = model.stride
        self.input_hw: tuple[int | None, int | None] = (None, None)
        self.known_hw = checkpoint.image_hw
        self.batch_size: int | None = None
        self.suppresses = False

    @torch.inference_mode()
    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) float32 RGB in 0-1 -> (B, N, 5 + C) decoded predictions, float32.

        With `half` the network computes in float16, the boxes are decoded in float32.
        """
        batch = torch.from_numpy(images).to(self.device, self.dtype)
        decoded: FloatArray = self.coder.decode(self.model(batch)).cpu().numpy()
        return decoded
