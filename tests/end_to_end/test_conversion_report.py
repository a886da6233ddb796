"""What convert.py says of each block."""

from __future__ import annotations

import json

import pytest

import convert
from models.reparam.rep_block import RepBlock
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model

LAYER_KEYS = [
    "name", "block_before", "block_after", "rel_error_float64", "weight_spread_before",
    "weight_spread_after",
]  # fmt: skip


@pytest.mark.parametrize(
    ("rep_block", "flags", "kinds"),
    [
        ("RepVGG", [], ("RepVGG", "ConvAct")),
        ("OREPA", ["--to", "deploy"], ("OREPA", "ConvAct")),
        (None, [], ("ConvBNAct", "ConvAct")),
        (None, ["--to", "train", "--rep-block", "OREPA"], ("ConvBNAct", "OREPA")),
    ],
)
def test_conversion_tells_each_block(tmp_path, capsys, rep_block, flags, kinds):
    """In the report, and as a table on the console."""
    model = trained_model(tiny_spec(rep_block=rep_block))
    weights = save_model(tmp_path / "a.pt", model)
    flags = ["--weights", weights, "--verbose", *flags]
    report = tmp_path / "c.json"
    assert convert.main([str(word) for word in (*flags, "--report", report)]) == 0
    layers = json.loads(report.read_text())["layers"]
    names = [name for name, block in model.named_modules() if isinstance(block, RepBlock)]
    assert [row["name"] for row in layers] == names
    assert [(row["block_before"], row["block_after"]) for row in layers].count(kinds) >= 6
    for row in layers:
        assert list(row) == LAYER_KEYS
        assert row["rel_error_float64"] <= 1e-12
        assert min(row["weight_spread_before"], row["weight_spread_after"]) > 1
    size, head, *lines = capsys.readouterr().out.splitlines()
    assert size == "Image size 640x640 px (default)"
    assert head.split() == ["layer", "block", "float64", "error", "|w|max/sigma"]
    cells = [line.split() for line in lines[: len(layers)]]
    assert cells == [
        [
            row["name"], row["block_before"], "->", row["block_after"],
            f"{row['rel_error_float64']:.1e}",
            f"{row['weight_spread_before']:.1f}", "->", f"{row['weight_spread_after']:.1f}",
        ]
        for row in layers
    ]  # fmt: skip
    worst = max(layers, key=lambda row: row["rel_error_float64"])
    assert lines[len(layers)] == (
        f"{len(layers)} blocks: relative error at most {worst['rel_error_float64']:.1e} in float64 "
        f"(limit 1e-12), in {worst['name']}"
    )
    assert lines[len(layers) + 1].startswith("Equivalence check: relative error ")
