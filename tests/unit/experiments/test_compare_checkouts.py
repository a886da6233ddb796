"""Checkouts of a few lines that behave the same, differ, or fail in the same way."""

from __future__ import annotations

import json

import pytest

from experiments.compare_checkouts import Comparison, main
from experiments.comparison_data import outlined
from experiments.comparison_steps import (
    GROUPS,
    Step,
    export_step,
    flags_in,
    inference_steps,
    presets_in,
    real_steps,
    training_steps,
)

SCRIPT = """import json, sys
from pathlib import Path
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
(out / "report.json").write_text(json.dumps({{"AP": {ap}, "seconds": {seconds}}}))
(out / "file.txt").write_text({text!r})
print("said")
raise SystemExit({code})
"""
STEP = Step("val", "step", (("val.py", "{out}"),), ("report.json",), ("file.txt",))


def compared(tmp_path, before=None, after=None, step=STEP):
    roots = []
    for name, changes in (("one", before), ("two", after)):
        root = tmp_path / name
        root.mkdir()
        values = {"ap": 0.5, "seconds": 1, "text": "same", "code": 0, **(changes or {})}
        (root / "val.py").write_text(SCRIPT.format(**values))
        roots.append(root)
    return Comparison.of(*roots, tmp_path / "work").step(step)


@pytest.mark.parametrize(
    ("before", "after", "outcome", "reason"),
    [
        ({}, {}, "equal", ""),
        ({}, {"seconds": 2}, "equal", ""),
        ({}, {"ap": 0.25}, "different", "report.json: AP"),
        ({}, {"text": "other"}, "different", "file.txt"),
        ({}, {"code": 1}, "different", "exit code 0 (said), then 1"),
        ({"code": 1}, {"code": 1}, "equal", ""),  # a failed check, and everything is written
        ({"code": 1, "ap": 0.1}, {"code": 1}, "different", "report.json: AP"),
        ({"code": 2}, {"code": 2}, "not compared", "said"),
    ],
)
def test_outcomes(tmp_path, before, after, outcome, reason):
    result = compared(tmp_path, before, after)
    assert result.outcome == outcome
    assert result.reason.startswith(reason)


def test_two_crashes_are_not_equal(tmp_path):
    step = Step("val", "step", (("val.py",),), ("report.json",))  # no argument: IndexError
    result = compared(tmp_path, step=step)
    assert result.outcome == "different"
    assert "IndexError" in result.reason


def test_commands_after_a_mistake_do_not_run(tmp_path):
    step = Step("val", "step", (("val.py", "{out}"), ("missing.py",)), ("report.json",))
    result = compared(tmp_path, {"code": 2}, {"code": 2}, step)
    assert result.reason == "said"


def test_every_step_has_a_name_of_its_own_and_something_to_compare(tmp_path):
    steps = [*training_steps(), *inference_steps(), *real_steps(tmp_path / "w", tmp_path / "d")]
    steps += [export_step("onnx"), export_step("ncnn")]
    assert len({step.name for step in steps}) == len(steps)
    assert [step for step in steps if not step.reports or step.group not in GROUPS] == []


HELP = """usage: export.py [-h] [--preset {onnx,e2e} [{onnx,e2e} ...]]
                 [--half | --no-half]

Write a network.

options:
  --preset {onnx,e2e} [{onnx,e2e} ...]
                        kinds of file (default: onnx)
"""


def test_presets():
    assert presets_in(HELP) == ["onnx", "e2e"]
    assert presets_in("invalid choice: '?' (choose from 'onnx', 'e2e')") == ["onnx", "e2e"]
    assert presets_in("invalid choice: '?' (choose from onnx, e2e)") == ["onnx", "e2e"]
    assert presets_in("no such flag") == []


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("kinds of file", "file formats", True),
        ("default: onnx", "default: e2e", False),
        ("{onnx,e2e}", "{onnx}", False),
        ("--half", "--fp16", False),
    ],
)
def test_flags(old, new, same):
    assert (flags_in(HELP) == flags_in(HELP.replace(old, new))) == same


def test_outlined():
    assert outlined("3 0.5 0.5 0.2 0.4\n") == (
        "3 0.400000 0.300000 0.600000 0.300000 0.600000 0.700000 0.400000 0.700000\n"
    )


@pytest.mark.parametrize("flags", [["--only", "vall"], ["--work", "."]])
def test_mistakes_are_refused(tmp_path, monkeypatch, flags):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["a", "b", *flags])
    assert ended.value.code == 2


def test_without_anything_to_run_nothing_is_compared(tmp_path):
    assert main([str(tmp_path), str(tmp_path), "--only", "val"]) == 2


def test_the_report_of_a_checkout_whose_flags_changed(tmp_path):
    draws = (
        "import sys\nfrom pathlib import Path\nPath(sys.argv[1], 'labels').mkdir(parents=True)\n"
    )
    train = (
        "import argparse, sys\nfrom pathlib import Path\n"
        "if '--help' in sys.argv:\n    p = argparse.ArgumentParser()\n"
        "    p.add_argument('--FLAG')\n    p.parse_args()\n"
        "out = Path(sys.argv[sys.argv.index('--project') + 1], 'adamw', 'weights')\n"
        "out.mkdir(parents=True)\n(out / 'best.pt').touch()\n"
    )
    for name, flag in (("one", "old"), ("two", "new")):
        (tmp_path / name / "data" / "synthetic").mkdir(parents=True)
        (tmp_path / name / "data" / "synthetic" / "__main__.py").write_text(draws)
        (tmp_path / name / "train.py").write_text(train.replace("FLAG", flag))
    report = tmp_path / "report.json"
    roots = [str(tmp_path / name) for name in ("one", "two")]
    assert main([*roots, "--only", "flags,real", "--report", str(report)]) == 1
    steps = {each["step"]: each["outcome"] for each in json.loads(report.read_text())["steps"]}
    assert steps["flags-train"] == "different"
    assert steps["real"] == "not compared"
