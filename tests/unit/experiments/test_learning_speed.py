"""The speed that is reported is that of the kernel in a step of SGD."""

from __future__ import annotations

import pytest
import torch

from experiments import learning_speed as module
from experiments.learning_speed import learning_speed
from models.reparam.composed_kernel import ComposedKernel, ScaledTerm
from models.reparam.kernel_terms import FreeKernel, SpreadPointwise
from models.reparam.rep_block import ConvGeometry

GEOMETRY = ConvGeometry(8, 8, 3)


def test_a_free_kernel_without_scale_is_a_plain_one():
    kernel = ComposedKernel({"origin": ScaledTerm(FreeKernel(GEOMETRY), 1.0)}, 8, "none").double()
    assert learning_speed(kernel, 2) == pytest.approx(1, rel=1e-12)


def test_each_term_adds_its_own_speed():
    """A 1x1 spread over nine taps of 1/9 adds a ninth of a ninth: 9 * (1/9)^2 / 9."""
    filters = torch.full((1, 3, 3), 1 / 9, dtype=torch.float64)
    terms = {
        "origin": ScaledTerm(FreeKernel(GEOMETRY), 1.0),
        "spread": ScaledTerm(SpreadPointwise(GEOMETRY, filters), 1.0),
    }
    torch.manual_seed(0)
    kernel = ComposedKernel(terms, 8, "none").double()
    assert learning_speed(kernel, 200) == pytest.approx(1 + 1 / 81, abs=2e-3)


def test_the_report_has_all_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHAPES", ((8, 8, 3), (3, 8, 5)))
    module.main(["--out", str(tmp_path)])
    (path,) = tmp_path.glob("learning_speed_cpu_*.md")
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if "x" in line[:60]]
    named = {line.split(" | ")[0] for line in rows if line.startswith("| `")}
    assert named == {f"| `{text}`" for text in module.BLOCKS}
