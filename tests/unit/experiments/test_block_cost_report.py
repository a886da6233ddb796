"""The table of costs from hand-made figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.block_cost_report import COLUMNS, write_report

FOUND: dict[str, dict[str, Any]] = {
    "plain": {
        "parameters": {"train": 1_004_000, "deploy": 1_000_000},
        "step_ms": [1000.0, 3000.0, 2000.0],
        "step_ratio": [1.0, 1.0, 1.0],
        "peak_memory_mb": 800.4,
        "inference_ms": {"train": [12.0, 10.0, 11.0], "deploy": [9.0, 8.0, 10.0]},
        "inference_ratio": {"train": [1.0, 1.0, 1.0], "deploy": [1.0, 1.0, 1.0]},
        "onnx_nodes": {"train": 260, "deploy": 260},
    },
    "RepVGG": {
        "parameters": {"train": 1_234_567, "deploy": 1_000_000},
        "step_ms": [1500.0, 3300.0, 2600.0],
        "step_ratio": [1.5, 1.1, 1.2],
        "peak_memory_mb": 1000.0,
        "inference_ms": {"train": [20.0, 15.0, 17.0], "deploy": [9.1, 8.2, 10.3]},
        "inference_ratio": {"train": [2.0, 1.25, 1.75], "deploy": [1.01, 0.99, 1.03]},
        "onnx_nodes": {"train": 316, "deploy": 260},
    },
    "OREPA": {
        "parameters": {"train": 2_000_000, "deploy": 1_000_000},
        "step_ms": [1234.0],
        "step_ratio": [1.234],
        "peak_memory_mb": 700.0,  # less than plain
        "inference_ms": {"train": [20.0], "deploy": [9.0]},
        "inference_ratio": {"train": [2.0], "deploy": [1.0]},
        "onnx_nodes": {"train": 900, "deploy": 260},
    },
}
# medians, in brackets the lowest and the highest
ROWS = [
    ["plain", "1.004", "2.00", "1.00 (1.00-1.00)", "800", "+0", "1.00 (1.00-1.00)",
     "1.00 (1.00-1.00)", "9.0", "260", "260"],
    ["RepVGG", "1.235", "2.60", "1.20 (1.10-1.50)", "1000", "+200", "1.75 (1.25-2.00)",
     "1.01 (0.99-1.03)", "9.1", "316", "260"],
    ["OREPA", "2.000", "1.23", "1.23 (1.23-1.23)", "700", "-100", "2.00 (2.00-2.00)",
     "1.00 (1.00-1.00)", "9.0", "900", "260"],
]  # fmt: skip


def written(folder: Path, found: dict[str, dict[str, Any]]) -> tuple[str, Any]:
    """The text, and the JSON beside it."""
    folder /= "reports"  # which is made
    write_report(folder, ["What was measured.", "", "A machine."], "cpu", found)
    text, rounds = sorted(folder.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert text.stem == rounds.stem and text.stem.startswith("block_costs_cpu_20")
    assert (text.suffix, rounds.suffix) == (".md", ".json")
    return text.read_text(), json.loads(rounds.read_text())


def table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table(tmp_path):
    text, _ = written(tmp_path, FOUND)
    head, rule, *rows = table(text)
    assert tuple(head) == COLUMNS
    assert rule == ["---"] * len(COLUMNS)
    assert rows == ROWS


def test_the_head_comes_first(tmp_path):
    text, _ = written(tmp_path, FOUND)
    assert text.startswith("# What each block family costs, 20")
    assert text.index("What was measured.") < text.index("A machine.") < text.index("| blocks |")
    assert "Converted, all have 1.000 M parameters." in text


def test_all_rounds_are_kept(tmp_path):
    _, rounds = written(tmp_path, FOUND)
    assert rounds == FOUND and list(rounds) == list(FOUND)


def test_another_deploy_form_is_refused(tmp_path):
    """By a single parameter; nothing is written."""
    found = copy.deepcopy(FOUND)
    found["OREPA"]["parameters"]["deploy"] += 1
    with pytest.raises(ValueError) as caught:
        written(tmp_path, found)
    assert str(caught.value) == "OREPA: has another deploy form than the plain network"
    assert list(tmp_path.iterdir()) == []
