"""The files are small, hold numbers alone, and are what the script writes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.goldens.make_goldens import make
from tests.goldens.stored_figures import FOLDER, figures

STEMS = ("recipe", "training", "detections")
MAX_BYTES = 2_000_000  # of all files together


def test_the_files_are_few_and_small():
    files = list(FOLDER.glob("*.npz"))
    assert sorted(file.stem for file in files) == sorted(STEMS)
    assert sum(file.stat().st_size for file in files) < MAX_BYTES


@pytest.mark.parametrize("stem", STEMS)
def test_only_numbers(stem):
    """No pixels either: three bytes a pixel would be one large array of uint8."""
    for name, values in figures(stem).items():
        assert values.dtype.kind in "biuf", name
        assert values.dtype != np.uint8 or values.ndim == 1, name


@pytest.mark.slow
def test_the_files_are_what_the_script_writes(shared):
    for stem, content in make(shared).items():
        stored = figures(stem)
        assert stored.keys() == content.keys()
        for name, values in content.items():
            # The network's own maps depend on the number of threads in their last digits, and so
            # may a row whose score is the limit.
            if stored[name].shape != values.shape:
                assert "_boxes" in name or "_class_" in name, name
                assert abs(len(stored[name]) - len(values)) <= 2, name
                continue
            np.testing.assert_allclose(stored[name], values, rtol=1e-4, atol=2e-4, err_msg=name)
