"""The golden figures, read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints.loading import read_weights
from utils.checkpoint import Checkpoint
from utils.structures import Batch


@pytest.fixture(scope="session")
def golden(shared: Path) -> Mapping[str, np.ndarray]:
    """What another implementation computed with yolov5n.pt at 320 px; its README says what."""
    return dict(np.load(shared / "reference" / "golden_yolov5n_320.npz"))


@pytest.fixture(scope="session")
def yolov5n(shared: Path) -> Checkpoint:
    """The weights that made the golden figures."""
    return read_weights(shared / "weights" / "yolov5n.pt")


@pytest.fixture(scope="session")
def golden_batches(golden: Mapping[str, np.ndarray]) -> list[Batch]:
    """The three batches of four images, images as floats in 0-1."""
    return [_batch(golden, number) for number in range(3)]


def _batch(golden: Mapping[str, np.ndarray], number: int) -> Batch:
    images = torch.from_numpy(golden[f"b{number}_images"]).float() / 255
    targets = torch.from_numpy(golden[f"b{number}_targets"])
    centre, half = targets[:, 2:4] * 320, targets[:, 4:] * 160
    return Batch(
        images=images,
        image_index=targets[:, 0].long(),
        class_ids=targets[:, 1].long(),
        boxes=torch.cat((centre - half, centre + half), 1),
        image_ids=(0,) * 4,
        letterboxes=(None,) * 4,
        paths=(Path(),) * 4,
    )
