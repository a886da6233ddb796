"""The tests that need a GPU: `make gpu`, under 5 minutes on one.

REHEARSE_ON_CPU=1 runs them on the CPU with small sizes, which shows that they are sound, not that a
GPU is.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.gpu.machine import GPU, REHEARSAL, Machine


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The first GPU; in a rehearsal the CPU."""
    if os.environ.get("REHEARSE_ON_CPU"):
        return REHEARSAL
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return GPU


@pytest.fixture(scope="session")
def data(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The yaml of a drawn data set of six classes."""
    config = SyntheticConfig(images=machine.images, size=machine.image_size, seed=0)
    return write_dataset(tmp_path_factory.mktemp("gpu") / "data", config)
