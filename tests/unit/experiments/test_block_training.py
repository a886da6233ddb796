"""The command line becomes runs and a report."""

from __future__ import annotations

import pytest

from experiments import block_training
from experiments.block_training import main
from tests.unit.experiments.voc_builder import write_voc


@pytest.fixture
def flags(tmp_path) -> list[str]:
    folders = {"--shared": write_voc(tmp_path / "shared"), "--runs": tmp_path / "runs",
               "--out": tmp_path / "out"}  # fmt: skip
    return [text for flag, path in folders.items() for text in (flag, str(path))]


@pytest.fixture
def jobs(monkeypatch) -> list:
    """What would have run."""
    seen: list = []
    monkeypatch.setattr(block_training, "run_jobs", lambda jobs, *_: seen.extend(jobs) or [])
    return seen


def test_rows_and_seeds(flags, jobs):
    assert main([*flags, "--rows", "plain", "DBB", "--seeds", "3", "4", "--epochs", "7"]) == 0
    assert [(job.row.name, job.seed) for job in jobs] == [
        ("plain", 3), ("DBB", 3), ("plain", 4), ("DBB", 4),
    ]  # fmt: skip
    assert {job.setting.epochs for job in jobs} == {7}


def test_a_teacher(flags, jobs, tmp_path):
    main([*flags, "--rows", "plain", "--teacher", str(tmp_path / "best.pt")])
    assert {(job.row.name, job.row.teacher) for job in jobs} == {
        ("plain, with teacher", str(tmp_path / "best.pt"))
    }


def test_one_run_by_the_package(flags, jobs):
    main([*flags, "--rows", "plain", "--peer", "python"])
    assert [job.row.name for job in jobs] == ["plain"] * 3 + ["plain, by the package yolov5"]


@pytest.mark.parametrize(("parallel", "threads"), [("1", 8), ("3", 2), ("16", 1)])
def test_runs_share_the_cores(flags, jobs, monkeypatch, parallel, threads):
    monkeypatch.setattr(block_training.os, "cpu_count", lambda: 8)
    main([*flags, "--rows", "plain", "--parallel", parallel])
    assert jobs[0].setting.threads == threads


def test_a_failed_run_fails_the_command(flags, monkeypatch):
    monkeypatch.setattr(block_training, "run_jobs", lambda *_: ["plain"])
    assert main(flags) == 1


def test_without_time_there_is_only_a_report(flags, monkeypatch, tmp_path):
    written: list = []
    monkeypatch.setattr(
        block_training, "write_report",
        lambda *given, timed, topic: written.append((*given, timed, topic)),
    )  # fmt: skip
    assert main([*flags, "--minutes", "0", "--seeds", "5", "--untimed"]) == 0
    ((out, setting, rows, seeds, timed, topic),) = written
    assert (out, seeds, setting.epochs, timed, topic) == (tmp_path / "out", [5], 30, False, "")
    names = [row.name for row in rows]
    assert {"plain", "plain, by the package yolov5", "DBB, with teacher"} <= set(names)
    assert len(names) == len(set(names))
    assert list((tmp_path / "runs").glob("voc07_plain*")) == []
