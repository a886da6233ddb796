"""What a program starts ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils import child_process
from utils.child_process import run_child

REPOSITORY = Path(child_process.__file__).parents[1]
PARENT = """
import sys
from pathlib import Path
from utils.child_process import run_child
run_child([sys.executable, "-c", sys.argv[1]], cwd=Path())
"""
CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_child_too(number):
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        assert parent.wait(30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_an_error_ends_the_child(monkeypatch):
    def interrupted(*_: object) -> None:
        raise RuntimeError("while it runs")

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="while it runs"):
        run_child([sys.executable, "-c", CHILD], cwd=REPOSITORY)
    assert time.monotonic() - start < 30


def test_what_it_prints_and_how_it_ends():
    code = "import os, sys; print(os.environ['WHO']); sys.exit(3)"
    command = [sys.executable, "-c", code]
    done = run_child(command, cwd=REPOSITORY, env={"WHO": "it"}, capture=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("it\n", "", 3)
    with pytest.raises(subprocess.CalledProcessError):
        run_child(command, cwd=REPOSITORY, env={"WHO": "it"}, capture=True)
