"""The package yolov5 gets the same data and settings."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from experiments import peer_training
from experiments.block_runs import PRETRAINED, Setting
from experiments.deadline import Deadline
from experiments.peer_training import PROGRAM, peer_run, write_yolo_copy
from experiments.peer_training_program import provide_roboflow
from tests.unit.experiments.voc_builder import write_voc


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(write_voc(tmp_path / "shared"), tmp_path / "runs", 2, 96)


def test_the_copy_has_the_boxes_that_count(setting, tmp_path):
    data = setting.data()
    copy = write_yolo_copy(data, tmp_path / "copy")
    for split in ("train", "val"):
        ours, theirs = (read_records(load_dataset_spec(path), split) for path in (data, copy))
        for expected, found in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(found.targets.boxes, expected.targets.boxes, atol=1e-3)
            assert found.targets.class_ids.tolist() == expected.targets.class_ids.tolist()
            assert found.path.read_bytes() == expected.path.read_bytes()
    assert (tmp_path / "copy" / "labels" / "val" / "a.txt").read_text().count("\n") == 1
    assert load_dataset_spec(copy).class_names == ("cat", "dog")


def test_what_is_copied_is_not_copied_again(setting, tmp_path):
    copy = write_yolo_copy(setting.data(), tmp_path / "copy")
    image = tmp_path / "copy" / "images" / "val" / "a.jpg"
    image.unlink()
    assert write_yolo_copy(setting.data(), tmp_path / "copy") == copy
    assert not image.exists()


@pytest.mark.parametrize(("start", "weights"), [("scratch", ""), (PRETRAINED, "yolov5n.pt")])
def test_the_package_trains_as_we_do(setting, monkeypatch, start, weights):
    seen = []
    monkeypatch.setattr(peer_training, "train_within", lambda *call: seen.append(call))
    run = peer_run(dataclasses.replace(setting, start=start), 3, Path("/peer/python"))
    run.folder.mkdir(parents=True)
    deadline = Deadline(100)
    run.train(deadline)
    ((program, folder, epochs, given),) = seen
    assert (folder, epochs, given) == (run.folder, 2, deadline)
    assert program.command[:4] == (str(Path("/peer/python")), "-I", str(PROGRAM), str(run.folder))
    arguments = json.loads(program.command[4])
    assert Path(arguments["weights"]).name == weights
    assert (arguments["epochs"], arguments["imgsz"], arguments["batch_size"]) == (2, 96, 16)
    assert (arguments["seed"], arguments["hyp"]) == (3, str(run.hyp))
    assert Path(arguments["project"]) / arguments["name"] == run.folder
    assert program.environment["OMP_NUM_THREADS"] == "1"
    assert program.environment["YOLO_AUTOINSTALL"] == "false"


@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_program_goes_on_where_it_stood(tmp_path, is_resumed):
    """With a package that notes what it is asked for."""
    package, last = tmp_path / "packages" / "yolov5", tmp_path / "weights" / "last.pt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(
        "import json, pathlib, roboflow, sys\n"
        "from roboflow.core.version import Version\n"
        "def run(**flags):\n"
        "    assert len(sys.argv) == 1\n"
        "    pathlib.Path('flags.json').write_text(json.dumps(flags))\n"
    )
    last.parent.mkdir()
    if is_resumed:
        last.touch()
    subprocess.run([sys.executable, PROGRAM, tmp_path, '{"epochs": 2}'], check=True, cwd=tmp_path,
                   env={**os.environ, "PYTHONPATH": str(package.parent)})  # fmt: skip
    flags = json.loads((tmp_path / "flags.json").read_text())
    assert flags == {"epochs": 2, "resume": str(last) if is_resumed else False}


def test_stand_ins_are_written_again(tmp_path):
    """As when a run goes on."""
    provide_roboflow(tmp_path)
    provide_roboflow(tmp_path)
    assert "Version" in (tmp_path / "roboflow" / "core" / "version" / "__init__.py").read_text()
