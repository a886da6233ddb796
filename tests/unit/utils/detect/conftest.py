from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utils.structures import Frame


@pytest.fixture
def image_frame() -> Frame:
    """A gray image of 80 x 100 pixels."""
    image = np.full((80, 100, 3), 90, np.uint8)
    return Frame(image, "a.jpg", Path("a.jpg"), 1, 1, 1, 1, None, False)
