"""Memory of processes, watched from outside; and the report's ratios."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.measurement import PeerFailedError, RunFailedError
from benchmarks.memory import OURS, PEER, report
from benchmarks.peer_loop import PeerLoop, peer_python
from benchmarks.process_memory import ProcessCost, cost_of
from experiments.block_costs import Setting

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@needs_proc
def test_the_peak_is_that_of_the_process():
    """Memory that was given back counts; 100 MB are held for longer than a look takes."""
    empty = cost_of(python("import time; time.sleep(0.1)"))
    full = cost_of(python("import time; x = b'1' * 10**8; del x; time.sleep(0.1)"))
    assert 95 < full.peak_mb - empty.peak_mb < 110
    assert empty.peak_mb < 50 and 0.1 < empty.seconds < 10


def test_a_command_that_fails_says_why():
    with pytest.raises(RunFailedError, match="no such thing"):
        cost_of(python("raise SystemExit('no such thing')"))


def test_ratios_are_those_of_the_rounds():
    training = {OURS: [100.0, 200.0, 100.0], PEER: [110.0, 240.0, 130.0], "version": "1.2"}
    converted = {
        "mb": 50.0,
        "import": [ProcessCost(1.0, 300.0), ProcessCost(1.5, 310.0), ProcessCost(1.2, 300.0)],
        "convert": [ProcessCost(2.0, 400.0), ProcessCost(2.5, 400.0), ProcessCost(2.2, 390.0)],
        "parts": {"a part": 0.123},
    }
    text = report(training, converted, "2026-01-02")
    assert f"| {PEER} | 130 (110 to 240) | 1.20 (1.10 to 1.30) |" in text
    assert "| peak beyond imports / checkpoint | 1.80 (1.80 to 2.00) | at most 2 |" in text
    assert "| seconds | 2.20 (2.00 to 2.50) | under 3 |" in text
    assert "| a part | 0.12 |" in text
    assert "package yolov5 1.2" in text
    without = report({OURS: [1.0], "reason": "it is not installed"}, converted, "2026-01-02")
    assert "was not measured: it is not installed." in without


def test_a_python_without_the_package():
    with pytest.raises(PeerFailedError, match="yolov5"):
        PeerLoop(sys.executable, Setting("yolov5n.yaml", 64, 1, 1))
    with pytest.raises(PeerFailedError, match="No such file"):
        PeerLoop("/no/such/python", Setting("yolov5n.yaml", 64, 1, 1))
    assert peer_python("/my/python") == "/my/python"
