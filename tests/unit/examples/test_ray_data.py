"""Two workers under Ray Data find what one process finds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from detect import load_detector
from examples import ray_data
from tests.end_to_end.test_detect import ROWS
from tests.house.source_tree import ROOT
from tests.onnx_builders import save_detector
from utils.errors import ConfigError, MissingPackageError, UserError


@pytest.fixture
def folder(tmp_path):
    """Nine images of noise, and one that cannot be read."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(9):
        pixels = random.integers(0, 256, (50 + 7 * number, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    (folder / "5b.png").write_bytes(b"no image")
    return folder


def run(folder, *flags):
    """The example with two workers, in a process of its own."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    flags = ("--weights", "tiny.onnx", "--source", "images", "--workers", "2", *flags)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "examples.ray_data", *flags], cwd=folder, check=False,
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds(tmp_path, folder):
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    assert "not an image" in lines.pop(6)["error"]
    images = [path for path in sorted(folder.iterdir()) if path.stem != "5b"]
    expected = [json.loads(found.to_json()) for found in load_detector(weights)(images)]
    assert lines == expected
    assert sum(len(line["detections"]) for line in lines) > 9


@pytest.mark.slow
def test_without_gpus_no_worker_waits_for_one(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    save_detector(tmp_path / "tiny.onnx", ROWS)
    done = run(tmp_path, "--device", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: --device 0: Ray has no GPUs here; use cpu"


def test_a_missing_package_is_named(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    with pytest.raises(MissingPackageError, match=r'pip install "ray\[data\]"'):
        ray_data.find_in_folder(str(weights), str(folder), workers=2)


def test_what_is_wrong_is_said_before_ray_starts(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    weights, images = str(save_detector(tmp_path / "tiny.onnx", ROWS)), str(folder)
    for given, options, message in (
        ((weights, images), {"workers": 0}, "--workers 0: must be at least 1"),
        ((weights, images), {"device": "7"}, "--device 7: no such choice"),
        (("w.onnx", images), {}, "w.onnx: no such weights file"),
        ((weights, "0"), {}, "--source 0: has no image files"),
        ((weights, "http://127.0.0.1:9/a.jpg"), {}, "a.jpg: has no image files"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            ray_data.find_in_folder(*given, **{"workers": 2, **options})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nope.invalid:1",
                                     "127.0.0.1:99999", "127.0.0.1:", "nope", "auto"])  # fmt: skip
def test_no_cluster_at_an_address(tmp_path, folder, address):
    pytest.importorskip("ray.data", reason="ray is not installed")
    weights = str(save_detector(tmp_path / "tiny.onnx", ROWS))
    with pytest.raises(ConfigError, match=rf"^--address {address}: no Ray there \(.+\)"):
        ray_data.find_in_folder(weights, str(folder), workers=2, address=address)
