"""Decoding and suppression against another implementation's figures, from stored raw maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.network.box_coder import BoxCoder
from models.runtimes.torch_predictor import postprocess_batch
from tests.equivalence.same_detections import DETECT, VAL, assert_same_detections
from tests.goldens.stored_figures import ANCHORS, STRIDES, candidates, figures
from utils.postprocess import postprocess


@pytest.fixture(scope="module")
def stored():
    return figures("detections")


def test_decoded(stored):
    """Every cell of every level; of the classes the first."""
    raw = [
        torch.from_numpy(stored[f"b0_eval_raw{level}"]).permute(0, 1, 4, 2, 3).flatten(1, 2)
        for level in range(len(STRIDES))
    ]
    found = BoxCoder(ANCHORS, STRIDES).decode(raw).numpy()
    expected = stored["b0_eval_decoded"]
    assert found.shape == expected.shape == (1, 6300, 6)
    assert np.abs(found[..., :4] - expected[..., :4]).max() < 1e-3  # pixels
    assert np.abs(found[..., 4:] - expected[..., 4:]).max() < 1e-6


@pytest.mark.parametrize("numpy_twin", [False, True], ids=["torch", "numpy"])
@pytest.mark.parametrize(
    ("kind", "config"), [("val", VAL), ("detect", DETECT)], ids=["val", "detect"]
)
@pytest.mark.parametrize("batch", range(3))
@pytest.mark.parametrize("image", range(4))
def test_suppression(stored, batch, image, kind, config, numpy_twin):
    rows = candidates(stored, batch, image)
    if numpy_twin:
        found = postprocess(rows, config)
    else:
        (found,) = postprocess_batch(torch.from_numpy(rows)[None], config)
    assert_same_detections(found, stored[f"b{batch}_{image}_{kind}"])
