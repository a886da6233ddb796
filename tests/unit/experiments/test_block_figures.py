"""The figures show the branches that the blocks have, and the committed files are theirs."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from torch import nn

from experiments.block_figures import CONVOLVE, FIGURES, FOLDER, NORM, draw
from models.reparam.branched_conv import BranchedConv
from models.reparam.branches import IdentityBranch
from models.reparam.composed_branch import ComposedBranch
from models.reparam.families import FAMILIES
from models.reparam.rep_block import ConvGeometry


def test_every_family_has_a_figure():
    assert list(FIGURES) == list(FAMILIES)
    assert {path.stem for path in FOLDER.glob("*.svg")} == {name.lower() for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_figure_has_the_parts_of_its_block(name):
    block = FAMILIES[name](ConvGeometry(8, 8, 3), nn.ReLU(), identity=True)
    assert isinstance(block, BranchedConv)
    branches, figure = list(block.branches.values()), FIGURES[name]
    assert len(figure.branches) == len(branches)
    for steps, branch in zip(figure.branches, branches, strict=True):
        norms = sum(isinstance(part, nn.BatchNorm2d) for part in branch.modules())
        assert steps.count(NORM) == norms
        assert (steps in ((), (NORM,))) == isinstance(branch, IdentityBranch)
        assert (CONVOLVE in steps) == isinstance(branch, ComposedBranch)
        if isinstance(branch, ComposedBranch):
            assert len(figure.terms) == len(branch.composed.terms)
    assert bool(figure.terms) == any(isinstance(branch, ComposedBranch) for branch in branches)
    assert figure.post_norm == (block.post_bn is not None)


@pytest.mark.parametrize("name", FIGURES)
def test_the_committed_file_is_what_is_drawn(name):
    text = draw(name, FIGURES[name])
    assert (FOLDER / f"{name.lower()}.svg").read_text(encoding="utf-8") == text
    root = ElementTree.fromstring(text)
    assert root.get("aria-label", "").startswith(f"{name} in train form: ")
