"""A process ends with its code and what it has to do, and leaves its objects alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.source_tree import ROOT

ENDING = """
import atexit, gc, sys
from utils.process_end import end_process
def at_exit():
    print("left alone" if len(gc.get_objects()) < gc.get_freeze_count() else "looked through")
atexit.register(at_exit)
sys.stdout.write("unflushed, ")
end_process({code})
"""


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_process_ends_with_its_code_and_its_output(code):
    command = [sys.executable, "-c", ENDING.format(code=code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "unflushed, left alone\n", "")
