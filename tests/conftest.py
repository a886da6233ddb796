"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and golden figures that may lie beside the checkout."""
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"real images and weights are not here ({SHARED})")
    return SHARED
