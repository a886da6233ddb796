"""Under torchrun, one process speaks; of errors the first to fail, and no other says a word."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.equivalence.test_ranks import torchrun
from tests.model_builders import write_tiny
from tests.unit.data.builders import write_yolo_set


def lines_of_ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What our processes wrote on standard error: torchrun reports after the first of them ends."""
    lines = []
    for line in done.stderr.splitlines():
        if "torch/distributed/elastic" in line:
            break
        lines.append(line)
    return lines


@pytest.fixture
def flags(tmp_path) -> list[object]:
    data = write_yolo_set(tmp_path / "set", dict.fromkeys("abcd", "0 0.5 0.5 0.4 0.4\n"))
    return ["--cfg", write_tiny(tmp_path / "tiny.yaml"), "--data", data, "--imgsz", 64,
            "--batch-size", 4, "--epochs", 1, "--workers", 0, "--device", "cpu", "--noplots",
            "--project", tmp_path / "runs"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--bogus", 1], "error: --bogus: no such flag"),
        (["--epochs", 0], "error: --epochs 0: must be at least 1"),
        (["--resume", "none.pt"], "error: "),  # before the processes know each other
        (["--data", "none.yaml"], "error: none.yaml: no such file"),  # met by all of them
        (["--project", "/proc/x"], "error: /proc: cannot be written"),
    ],
    ids=["flag", "range", "resume", "all", "first"],
)
def test_one_error_and_its_exit_code(flags, wrong, message):
    done = torchrun("train.py", *flags, *wrong)
    assert done.returncode == 1  # torchrun's own
    lines = lines_of_ours(done)
    assert len(lines) == len(set(lines))  # warnings are not repeated either
    (line,) = [line for line in lines if not line.startswith("  ")]
    assert line.startswith(message)
    assert "exitcode  : 2 " in done.stderr.partition("Root Cause")[2]


ONE_FAILS = """
import logging
import torch
from utils.cli import run_script
from utils.engine.distributed import Ranks, process_group
from utils.errors import ConfigError
from utils.train_config import TrainConfig

def action(config):
    ranks = Ranks.of_environment()
    with process_group(ranks, torch.device("cpu")):
        if ranks.rank == 1:
            {failure}
        ranks.average(torch.zeros(1))

raise SystemExit(run_script(TrainConfig, action, [], {{}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "last_line"),
    [
        ('raise ConfigError("its GPU is missing")', "error: its GPU is missing"),
        ('raise ZeroDivisionError("a fault")', "ZeroDivisionError: a fault"),
    ],
    ids=["mistake", "fault"],
)
def test_a_failure_of_one_that_is_not_the_first_is_said(tmp_path: Path, failure, last_line):
    """The first one, which then loses the connection, says nothing."""
    program = tmp_path / "one_fails.py"
    program.write_text(ONE_FAILS.format(failure=failure))
    done = torchrun(program)
    lines = lines_of_ours(done)
    assert lines[-1].removeprefix("[rank1]: ") == last_line  # torch's mark
    assert sum("error: " in line or "Traceback" in line for line in lines) == 1
