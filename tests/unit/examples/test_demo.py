"""The demo fails fast, names the command, and checks the AP it measured."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.source_tree import ROOT


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_example", ROOT / "examples" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("train_ap", "deploy_ap", "code", "said"),
    [
        (
            0.6,
            0.6,
            0,
            "passed: mAP50-95 of the deploy form equals the train form's to four decimals",
        ),
        (0.6, 0.60004, 0, "passed"),  # the same to four decimals
        (0.6, 0.6001, 1, "failed: mAP50-95 0.60000 in train form, 0.60010 in deploy form"),
        (0.49, 0.49, 1, "failed: mAP50-95 0.4900 is not between 0.5 and 0.98"),  # learned little
        (0.99, 0.99, 1, "failed: mAP50-95 0.9900 is not between"),  # too easy to be true
        (float("nan"), 0.5, 1, "failed: mAP50-95 nan is not between"),  # not measured
    ],
)
def test_check(demo: ModuleType, train_ap, deploy_ap, code, said, caplog) -> None:
    caplog.set_level(logging.INFO)
    forms = [
        demo.MeasuredForm(name, Path(f"{name}.pt"), {"AP": ap})
        for name, ap in (("train", train_ap), ("deploy", deploy_ap))
    ]
    assert demo.check(forms) == code
    assert said in caplog.text


def test_a_command_is_printed_and_its_failure_named(demo: ModuleType, caplog) -> None:
    caplog.set_level(logging.INFO)
    demo.run_command(["-c", "pass"])
    assert "$ python -c pass" in caplog.text
    with pytest.raises(demo.StepFailedError) as caught:
        demo.run_command(["-c", "raise SystemExit(3)"])
    assert str(caught.value) == "exit code 3 from: python -c 'raise SystemExit(3)'"


def test_the_command_of_make_demo_starts():
    """As make runs it, not as these tests do, which have the project among their modules."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].split("\n")[1]
    arguments = recipe.strip().removeprefix("$(RUN) ").split()
    command = [sys.executable, *arguments, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--epochs" in done.stdout
