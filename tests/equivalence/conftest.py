"""The reference figures that need its weights, read once; those that travel are tests.goldens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints.loading import read_weights
from tests.goldens.stored_figures import batch_of
from utils.batches import Batch
from utils.checkpoint import Checkpoint


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
    return [
        batch_of(
            golden[f"b{number}_targets"],
            torch.from_numpy(golden[f"b{number}_images"]).float() / 255,
        )
        for number in range(3)
    ]
