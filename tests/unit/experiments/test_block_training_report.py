"""The report holds what is finished."""

from __future__ import annotations

import pytest

from experiments.block_runs import DIVERGED_FILE, PLAIN, ROWS, Setting
from experiments.block_training_report import loss_curve, write_report
from tests.unit.experiments.run_builders import write_run

BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(tmp_path / "shared", tmp_path / "runs", 2, 96)


def test_a_report_of_what_is_finished(setting, tmp_path):
    for seed, AP in enumerate((0.10, 0.12)):
        write_run(setting.folder(PLAIN, seed), AP)
    write_run(setting.folder(BY_NAME["RepOpt"], 0), 0.2, seconds=3.0, memory=150.0)
    (setting.folder(BY_NAME["DBB"], 1)).mkdir()
    (setting.folder(BY_NAME["DBB"], 1) / DIVERGED_FILE).write_text("")
    write_report(tmp_path / "out", setting, ROWS, (0, 1, 2))
    (report,) = (tmp_path / "out").glob("block_training_voc07_scratch_cpu_*.md")
    assert (tmp_path / "out" / f"{report.stem}.png").exists()
    rows = [line for line in report.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 6  # two tables of a head, and two rows with runs
    assert rows[1] == (
        "| plain | 2 | 0.1000, 0.1200 | 0.110 (0.014) | 0.220 (0.028) | 0.110, 0.110, 0.110 | "
        "0.055, 0.110 |  |  | 0.400 (0.000) |"
    )
    assert rows[2].startswith("| RepOpt | 1 | 0.2000 | 0.200 | 0.400 | 0.200, 0.200, 0.200 | ")
    assert "| +0.0900 (+5.2 se, 1 and 2 seeds; 95 %: " in rows[2]
    assert "| +0.100 to +0.100 |" in rows[2]  # of the seed that both have
    assert rows[4:] == ["| plain | 2.0 | 1.00 | 100.0 | 1.00 | abc1234 |",
                        "| RepOpt | 3.0 | 1.50 | 150.0 | 1.50 | abc1234 |"]  # fmt: skip
    assert all(row.count("|") == rows[0].count("|") for row in rows[:3])
    assert "DBB (seed 1)" in report.read_text()


def test_without_runs_there_is_no_report(setting, tmp_path):
    write_report(tmp_path / "out", setting, ROWS, (0,))
    assert not (tmp_path / "out").exists()


def test_a_row_without_plain_has_no_difference(setting, tmp_path):
    write_run(setting.folder(BY_NAME["ACB"], 0), 0.2)
    write_report(tmp_path, setting, ROWS, (0,))
    (report,) = tmp_path.glob("*.md")
    assert "| 0.100, 0.200 |  |  | 0.400 |" in report.read_text()
    assert "| ACB | 2.0 |  | 100.0 |  | abc1234 |" in report.read_text()


def test_a_report_of_its_own_topic(setting, tmp_path):
    write_run(setting.folder(PLAIN, 0), 0.2)
    for topic in ("", "teacher"):
        write_report(tmp_path, setting, ROWS, (0,), topic=topic)
    usual, taught = sorted(tmp_path.glob("*.md"), key=lambda path: len(path.name))
    assert taught.name == usual.name.replace("_scratch_", "_scratch_teacher_")
    assert f"]({taught.stem}.png)" in taught.read_text()


def test_without_times(setting, tmp_path):
    for name, AP in (("plain", 0.2), ("OREPA, start=plain", 0.3), ("DBB", 0.3)):
        write_run(setting.folder(BY_NAME[name], 0), AP, memory=150.0 if name == "DBB" else 100.0)
    write_report(tmp_path, setting, ROWS, (0,), timed=False)
    (report,) = tmp_path.glob("*.md")
    text = report.read_text()
    assert "| DBB |  |  | 150.0 | 1.50 | abc1234 |" in text
    assert "Seconds are omitted" in text and "times as fast" not in text


def test_the_loss_curve(tmp_path):
    write_run(tmp_path / "run", 0.25)
    assert loss_curve(tmp_path / "run") == pytest.approx([0.6, 0.4])
