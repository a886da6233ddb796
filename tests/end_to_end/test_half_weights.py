"""convert.py --half: half the file, the same network but for rounding."""

from __future__ import annotations

import pytest
import torch

import convert
from models.checkpoints.loading import build_from_checkpoint, read_weights
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model


def converted(tmp_path, weights, name, *flags):
    output = tmp_path / f"{name}.pt"
    assert convert.main(["--weights", str(weights), "--output", str(output), *flags]) == 0
    return output


def maps(path):
    model = build_from_checkpoint(read_weights(path)).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(images)


def test_half_the_file_and_nearly_the_same_maps(tmp_path, capsys):
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(rep_block="RepVGG")))
    whole = converted(tmp_path, weights, "whole")
    half = converted(tmp_path, weights, "half", "--half")
    again = converted(tmp_path, whole, "again", "--half")  # of a file in deploy form
    assert half.stat().st_size < 0.75 * whole.stat().st_size  # a tiny one: the rest is its spec
    assert "(limit 2e-02) in float32" in (text := capsys.readouterr().out) or "limit 2e-02" in text
    for rounded, exact, other in zip(maps(half), maps(whole), maps(again), strict=True):
        error = (rounded - exact).abs().max() / exact.abs().max()
        assert 0 < error < 0.01
        assert torch.equal(rounded, other)


def test_a_network_that_trains_is_not_rounded(tmp_path, capsys):
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(rep_block=None)))
    flags = ["--weights", str(weights), "--to", "train", "--rep-block", "RepVGG", "--half"]
    assert convert.main(flags) == 2
    assert "--half: goes with --to deploy" in capsys.readouterr().err


@pytest.mark.parametrize(("tolerance", "code"), [("1e-9", 1), ("0.05", 0)])
def test_a_tolerance_that_is_given_counts(tmp_path, tolerance, code):
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(rep_block="RepVGG")))
    flags = ["--weights", str(weights), "--output", str(tmp_path / "o.pt"), "--half"]
    assert convert.main([*flags, "--tolerance", tolerance]) == code
    assert (tmp_path / "o.pt").exists() == (code == 0)
