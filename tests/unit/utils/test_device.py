"""Words for devices, and how much memory a process had at most."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tests.house.source_tree import ROOT
from utils.device import choose_device, describe_device, peak_memory_mb
from utils.errors import ConfigError
from utils.machine import processor_name


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has this many GPUs and no MPS."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("", 0, "cpu"),
        ("", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        (" CPU ", 0, "cpu"),
        ("1", 2, "cuda:1"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda", 2, "cuda:0"),
    ],
)
def test_words(gpus, text, count, expected):
    gpus(count)
    assert choose_device(text) == torch.device(expected)


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("0", 0, "--device 0: this machine has 0 CUDA GPUs; use cpu"),
        ("2", 2, "--device 2: this machine has 2 CUDA GPUs; use cpu"),
        (
            "0,1",
            2,
            "--device 0,1: several GPUs train together with torchrun --nproc-per-node 2 train.py "
            "--device 0,1 ...; else name one GPU",
        ),
        ("gpu", 2, "--device gpu: expected cpu, mps, or a GPU number like 0"),
        ("cpu,0", 2, "--device cpu,0: expected cpu, mps, or a GPU number like 0"),
        ("0,", 2, "--device 0,: expected cpu, mps, or a GPU number like 0"),
        ("\u00b2", 2, "--device \u00b2: expected cpu, mps, or a GPU number like 0"),
        ("-1", 2, "--device -1: expected cpu, mps, or a GPU number like 0"),
        ("mps", 0, "--device mps: this machine has no MPS device; use cpu"),
    ],
)
def test_wrong_words(gpus, text, count, message):
    gpus(count)
    with pytest.raises(ConfigError) as caught:
        choose_device(text)
    assert str(caught.value) == message


def test_the_description_of_the_cpu():
    cpu = torch.device("cpu")
    assert describe_device(cpu).startswith(
        f"{processor_name()} (cpu, {torch.get_num_threads()} threads"
    )
    assert 1 < peak_memory_mb(cpu) < 1e6


# Memory of a process, as a process of its own sees it

# An empty module stands in for torch, which would take seconds and hundreds of MB itself.
MEASURE = """
import json, sys, types
import numpy
sys.modules["torch"] = types.ModuleType("torch")
from utils.device import peak_memory_mb
cpu = types.SimpleNamespace(type="cpu")
found = [peak_memory_mb(cpu)]
filled = numpy.ones(int(sys.argv[1]) * 125_000)
found.append(peak_memory_mb(cpu))
del filled
found.append(peak_memory_mb(cpu))
sys.stdout.write(json.dumps(found))
"""
# Holds so many MB, and starts the rest of its command line.
PARENT = """
import subprocess, sys
held = b"1" * (int(sys.argv[1]) * 1_000_000)
raise SystemExit(subprocess.run(sys.argv[2:]).returncode)
"""
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the figure is ru_maxrss, which a child may inherit"
)


def run_python(*arguments: str) -> str:
    command = [sys.executable, "-c", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@on_linux
def test_a_parents_memory_is_not_the_childs():
    peaks = [
        json.loads(run_python(PARENT, held, sys.executable, "-c", MEASURE, "0"))[0]
        for held in ("0", "300")
    ]
    assert peaks[1] == pytest.approx(peaks[0], abs=50)


@on_linux
def test_the_peak_grows_with_what_is_filled_and_stays():
    before, filled, freed = json.loads(run_python(MEASURE, "200"))
    assert filled - before == pytest.approx(200, abs=20)
    assert freed == pytest.approx(filled, abs=5)  # the kernel counts in batches
