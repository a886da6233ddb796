"""The tables of the ablations from hand-made figures: every row, and gaps seed by seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments import ablation_report
from experiments.ablation_report import SECTIONS, Findings, TrainedKernels, write_report
from experiments.ablations import PRUNED, ROTATED, ROWS
from experiments.kernel_pruning import PRUNED_SHARES

NAMES = list(dict.fromkeys(row for *_, rows in SECTIONS for row in rows))
# AP of seed s is 0.2 + 0.01 * number + 0.001 * s * (number + 1): no two gaps are alike
REPORTS = {
    name: [
        {"AP": 0.2 + 0.01 * number + 0.001 * seed * (number + 1), "skipped_steps": number * seed}
        for seed in range(3)
    ]
    for number, name in enumerate(NAMES)
}
ROTATED_AP = {"ACB": [0.1, 0.12, 0.14], "plain": [0.05, 0.05, 0.05]}
PRUNED_AP = {
    "plain": [
        {"corners": [0.5, 0.2, 0.19, 0.18, 0.17], "skeleton": [0.5, 0.1, 0.09, 0.08, 0.07]},
        {"corners": [0.5, 0.4, 0.29, 0.38, 0.37], "skeleton": [0.5, 0.1, 0.09, 0.08, 0.07]},
    ]
}

GRID = np.array([[0.3, 0.6, 0.35], [0.7, 1.0, 0.65], [0.2, 0.8, 0.4]])
KERNELS = {
    "ACB": [TrainedKernels(GRID, 0.5), TrainedKernels(GRID, 0.5)],
    "plain": [TrainedKernels(GRID, None)],
    "OREPA": [TrainedKernels(GRID, 0.1), TrainedKernels(GRID, 0.3)],
}
FINDINGS = Findings(REPORTS, ROTATED_AP, PRUNED_AP, KERNELS)


@pytest.fixture
def lines(tmp_path, monkeypatch) -> list[str]:
    """Of the report."""
    monkeypatch.setattr(ablation_report, "machine_line", lambda: "Machine: a slow one.")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "commit.txt").write_text("abc1234")
    out = tmp_path / "out"
    out.mkdir()
    write_report(out, FINDINGS, [tmp_path / "run"])
    (path,) = out.iterdir()
    assert path.name.startswith("block_ablations_cpu_20") and path.suffix == ".md"
    return path.read_text().splitlines()


def tables(lines: list[str]) -> dict[str, list[list[str]]]:
    """Heading -> rows of the table under it, without head and rule."""
    found: dict[str, list[list[str]]] = {}
    for line in lines:
        if line.startswith("## "):
            found[line.removeprefix("## ")] = []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            found[list(found)[-1]].append(cells)
    return {heading: rows[2:] for heading, rows in found.items()}


def test_what_is_trained_is_what_is_reported():
    trained = [row.name for row in ROWS]
    assert len(set(trained)) == len(trained)
    assert sorted(trained) == sorted(NAMES)
    assert {*ROTATED, *PRUNED} <= set(trained)


def test_head(lines):
    text = "\n".join(lines)
    assert lines[0].startswith("# Ablations of block families, 20")
    assert "Machine: a slow one. Trained on commits abc1234." in text


def test_every_row_appears_in_its_section(lines):
    found = tables(lines)
    for heading, said, rows in SECTIONS:
        assert [cells[0] for cells in found[heading]] == list(rows)
        assert said in lines


@pytest.mark.parametrize(("heading", "rows"), [(head, rows) for head, _, rows in SECTIONS])
def test_gaps_are_taken_seed_by_seed(lines, heading, rows):
    """From the first row of the section, whose own gap is left empty."""
    first = NAMES.index(rows[0])
    for name, (row, seeds, _, gaps, skipped) in zip(rows, tables(lines)[heading], strict=True):
        number = NAMES.index(name)
        away = number - first
        expected = [f"{away * (0.01 + 0.001 * seed):+.3f}" for seed in range(3)]
        assert (row, seeds, gaps) == (name, "3", "" if away == 0 else ", ".join(expected))
        assert skipped == f"0, {number}, {2 * number}"


def test_means(lines):
    """Over seeds, of 0.200, 0.201 and 0.202, and of 0.210, 0.212 and 0.214."""
    rows = tables(lines)[SECTIONS[0][0]]
    assert [cells[2] for cells in rows[:2]] == ["0.201 (0.001)", "0.212 (0.002)"]


def test_rotation(lines):
    assert tables(lines)["Images turned by 180 degrees"] == [
        [name, upright_of(name), turned]
        for name, turned in (("ACB", "0.120 (0.020)"), ("plain", "0.050 (0.000)"))
    ]


def upright_of(name: str) -> str:
    """What the sections say of it."""
    number = NAMES.index(name)
    mean = 0.2 + 0.01 * number + 0.001 * (number + 1)
    return f"{mean:.3f} ({0.001 * (number + 1):.3f})"


def test_pruning(lines):
    """A row per region; each share is a mean over seeds."""
    heading = "Corner weights against skeleton weights"
    assert tables(lines)[heading] == [
        ["plain", "2", "corners", "0.500 (0.000)", "0.300 (0.141)", "0.240 (0.071)",
         "0.280 (0.141)", "0.270 (0.141)"],
        ["plain", "2", "skeleton", "0.500 (0.000)", "0.100 (0.000)", "0.090 (0.000)",
         "0.080 (0.000)", "0.070 (0.000)"],
    ]  # fmt: skip
    shares = " | ".join(f"{100 * share:.0f}%" for share in PRUNED_SHARES)
    assert f"| network | seeds | zeros in | 0% | {shares} |" in lines


def test_a_table_has_as_many_cells_in_every_line(lines):
    blocks = "\n".join(lines).split("\n\n")
    found = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(found) == len(SECTIONS) + 4
    for rows in found:
        assert len({row.count("|") for row in rows}) == 1


def test_a_row_may_lack_the_last_seed(tmp_path, monkeypatch):
    """It is compared over the seeds both have."""
    monkeypatch.setattr(ablation_report, "machine_line", str)
    name = SECTIONS[2][2][1]
    reports = {**REPORTS, name: REPORTS[name][:2]}
    write_report(tmp_path, replace(FINDINGS, reports=reports), [])
    text = next(tmp_path.iterdir()).read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2] == "2" and cells[4].count(",") == 1


def test_skeletons(lines):
    assert tables(lines)["Where the weight of trained 3x3 kernels lies"] == [
        [name, seeds, "0.200 to 0.400", "0.600 to 0.800", "1.000"]
        for name, seeds in (("ACB", "2"), ("plain", "1"), ("OREPA", "2"))
    ]


def test_similarities(lines):
    assert tables(lines)["How alike the branches of OREPA are"] == [["OREPA", "2", "0.200 (0.141)"]]
