"""The GPU benchmark on the CPU: it runs through, keeps what it has, and computes what it says."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_claims import claims
from benchmarks.gpu_report import report_text
from benchmarks.gpu_setting import full_setting
from benchmarks.time_budget import TimeBudget
from experiments.block_costs import FAMILIES
from tests.error_messages import assert_message

QUICK = [name for name in gpu.SECTIONS if name not in ("families", "memory", "compiled")]


def rehearsed(tmp_path: Path, *sections: str) -> tuple[dict[str, Any], str]:
    """What a rehearsal of some sections writes: the JSON and the report."""
    flags = ["--rehearse", "--shared", str(tmp_path), "--out", str(tmp_path), "--only", *sections]
    assert gpu.main(flags) == 0
    (path,) = tmp_path.glob("gpu_rehearsal_*.json")
    return json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_a_rehearsal_of_what_is_quick(tmp_path):
    found, report = rehearsed(tmp_path, *QUICK)
    assert list(found["sections"]) == QUICK
    reasons = {name: section.get("reason") or section.get("end")
               for name, section in found["sections"].items()}  # fmt: skip
    assert set(reasons.values()) == {None}, reasons
    assert "A rehearsal" in report and report.count("Not measured") == 2
    assert str(tmp_path) not in report  # paths of a machine
    assert "| C3 | repyolov5n / yolov5n, both as trained, float16, batch 2 |" in report


@pytest.mark.slow
def test_a_rehearsal_of_everything(tmp_path):
    found, report = rehearsed(tmp_path, *gpu.SECTIONS)
    assert list(found["sections"]) == list(gpu.SECTIONS)
    assert not [name for name, each in found["sections"].items() if "reason" in each]
    assert set(FAMILIES) <= set(found["sections"]["families"]["ms"])
    assert set(FAMILIES) == set(found["sections"]["memory"]["peak_mb"])
    assert "Not measured" not in report


def test_without_a_gpu_nothing_is_measured(tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 2
    assert_message(capsys.readouterr().err.strip(), "error: ", "--rehearse")
    assert gpu.main(["--rehearse", "--minutes", "0", "--out", str(tmp_path)]) == 2
    assert_message(capsys.readouterr().err.strip(), "error: --minutes 0", "more than 0")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(tmp_path):
    head = {"card": "a card", "date": "2026-01-02", "machine": "A machine.", "commit": "abc",
            "command": "python -m benchmarks.gpu", "rehearsal": False,
            "setting": {"cfg": "yolov5s.yaml"}}  # fmt: skip
    return gpu.Run(tmp_path / "gpu.json", head)


def measured(run, sections, monkeypatch, seconds=60.0) -> dict[str, Any]:
    """Sections that yield what they are given, or raise it; what the file holds in the end."""

    def section(contents):
        def measure(bench, limit):
            for content in contents:
                if isinstance(content, Exception):
                    raise content
                yield content

        return gpu.Section(1.0, measure)

    monkeypatch.setattr(gpu, "SECTIONS", {name: section(each) for name, each in sections.items()})
    budget = TimeBudget.of_minutes(seconds / 60, dict.fromkeys(sections, 1.0))
    gpu.measure(run, full_setting("cpu", Path(), Path(), ""), budget)
    found: dict[str, Any] = json.loads(run.path.read_text())["sections"]
    return found


def test_a_section_that_fails_keeps_what_it_has_and_does_not_end_the_run(run, monkeypatch):
    parts, variants = FOUND["parts"], FOUND["variants"]
    sections = {
        "memory": [RuntimeError("no\nmemory")],
        "parts": [parts, ValueError("x")],
        "variants": [variants],
    }
    found = measured(run, sections, monkeypatch)
    assert found["memory"] == {"reason": "RuntimeError: no memory"}
    assert found["parts"] == {**parts, "end": "ValueError: x"}
    assert found["variants"] == variants
    assert "It ended early: ValueError: x." in run.path.with_suffix(".md").read_text()


def test_what_there_is_no_time_for(run, monkeypatch):
    found = measured(run, {"variants": [FOUND["variants"]]}, monkeypatch, seconds=-1)
    assert found == {"variants": {"reason": "no time was left"}}


FOUND: dict[str, Any] = {
    "families": {
        "images": 320, "skipped_steps": {"plain": 0, "RepVGG": 2},
        "peer": {"version": "7.0.14", "peak_mb": 1500.0},
        "ms": {"plain": [100, 200, 400], "RepVGG": [150, 220, 600], "DBB": [200, 400, 800],
               "OREPA": [110, 210, 440], "ultralytics/yolov5": [200, 400, 800]},
    },
    "memory": {"peak_mb": {"plain": 1000.0, "RepVGG": 1100.0, "DBB": 2000.0, "OREPA": 1050.0}},
    "variants": {"images": 320, "ms": {"plain: float32": [400, 400], "plain: AMP": [100, 200]}},
    "parts": {
        "images": 320, "batches": 5, "ms": {"step": [100, 200], "loss": [10, 30]},
        "synchronisations": {"of_batches": {"epoch.py:7": 5}, "of_epoch": {}},
    },
    "compiled": {"images": 320, "of": {
        "plain": {"first_s": 61.0, "ms": {"eager": [2000], "compiled": [1000]}},
        "RepVGG": {"first_s": 10.0, "ms": {"eager": [100], "compiled": [100]}},
        "DBB": {"reason": "no time left"},
    }},
    "density": {"convolution": "1 map", "tflop_per_s": {
        f"{name}, {k} x {k}": [float(k)] for name in ("float32", "TF32", "float16")
        for k in (1, 3, 5, 7)}},
    "inference": {
        "ms_per_image": {
            "yolov5s, as trained, float16, batch 1": [4, 8], "repyolov5s, as trained, float16, "
            "batch 1": [6, 10], "yolov5s, folded, float16, batch 1": [2, 4],
            "repyolov5s, folded, float16, batch 1": [2, 4]},
        "peak_mb": {"yolov5s, as trained, float16, batch 1": 50, "repyolov5s, as trained, float16, "
                    "batch 1": 80, "yolov5s, folded, float16, batch 1": 40,
                    "repyolov5s, folded, float16, batch 1": 40},
    },
    "loading": {"source": "coco128", "cores": 16, "images_per_s": {"trained": [900.0, 1000.0]}},
}  # fmt: skip
NETWORKS = ("yolov5s", "repyolov5s")
# What is compared -> the ratio: medians of the rounds' ratios, never ratios of medians.
CLAIMED = {
    "repyolov5s / yolov5s, both as trained, float16, batch 1": "1.38 (1.25 to 1.50)",
    "repyolov5s / yolov5s, both folded, float16, batch 1": "1.00 (1.00 to 1.00)",
    "repyolov5s folded / yolov5s as trained, float16, batch 1": "0.50 (0.50 to 0.50)",
    "training step, RepVGG / plain": "1.50 (1.10 to 1.50)",
    "training memory, RepVGG / plain": "1.10",
    "training step, OREPA / plain": "1.10 (1.05 to 1.10)",
    "training step, DBB / OREPA": "1.82 (1.82 to 1.90)",
    "training memory, OREPA / plain": "1.05",
    "memory beyond plain that OREPA saves of DBB's": "95 %",
    "memory beyond plain that OREPA saves of RepVGG's": "50 %",
    "FLOP/s of a 3 x 3 / 1 x 1 convolution, TF32": "3.00 (3.00 to 3.00)",
    "repyolov5s, memory of activations folded / as trained, float16, batch 1": "0.50",
}


def test_claims():
    found = {claim.compared: claim for claim in claims(FOUND, NETWORKS)}
    assert {name: found[name].measured for name in CLAIMED} == CLAIMED
    assert {claim.number for claim in found.values()} == {"C3", "C4", "C5", "C7", "C9"}
    numbers = [claim.number for claim in claims(FOUND, NETWORKS)]
    assert all(one <= other for one, other in pairwise(numbers))


@pytest.mark.parametrize("missing", FOUND)
def test_sections_may_lack_or_have_failed(missing):
    rest = {name: section for name, section in FOUND.items() if name != missing}
    failed = {**rest, missing: {"reason": "RuntimeError: no memory"}}
    for sections in (rest, failed):
        assert claims(sections, NETWORKS)
        assert "| " in report_text(whole(sections))
    assert claims({}, NETWORKS) == []


def whole(sections: dict[str, Any]) -> dict[str, Any]:
    return {
        "card": "a card", "date": "2026-01-02", "machine": "A machine.", "commit": "abc",
        "command": "python -m benchmarks.gpu --minutes 8", "rehearsal": False, "seconds": 470.4,
        "setting": {"cfg": "yolov5s.yaml"}, "sections": sections,
    }  # fmt: skip


def test_the_report():
    report = report_text(whole(FOUND))
    assert report.startswith("# Training and inference on a card, 2026-01-02\n")
    assert "Commit abc." in report and "470 s" in report and "rehearsal" not in report
    rows = {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")
            for line in report.splitlines() if line.startswith("| ")}  # fmt: skip
    # 320 images in 100, 200 and 400 ms
    assert "| plain | 1600 | 1.00 (1.00 to 1.00) | 1000 | 1.00 |" in report
    assert "| ultralytics/yolov5 | 800 | 2.00 (2.00 to 2.00) | 1500 | 1.50 |" in report
    assert "{'RepVGG': 2}" in report
    assert "Loss and its gradient / whole step: 0.12 (0.10 to 0.15)." in report
    assert "waits for the GPU 5 times in 5 batches. epoch.py:7 5" in report
    # 60 s more than a call, 1 s gained with 320 images
    assert "| plain | 320 | 0.50 (0.50 to 0.50) | 61 | 19200 |" in report
    assert "| RepVGG | 3200 | 1.00 (1.00 to 1.00) | 10 | never |" in report
    assert "| DBB | not measured: no time left | - | - | - |" in report
    assert rows["TF32"] == ["TF32", "1.0", "3.0", "5.0", "7.0"]
    assert "| trained | 950 (900 to 1000) |" in report


def test_the_peer_may_lack():
    found = copy.deepcopy(FOUND)
    found["families"]["peer"] = {"reason": "the package yolov5 is not installed"}
    del found["families"]["ms"]["ultralytics/yolov5"]
    assert "was not measured: the package yolov5 is not installed." in report_text(whole(found))
