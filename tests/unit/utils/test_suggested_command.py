"""What the console suggests can be pasted: it is read back as what was meant."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from convert import ConvertConfig
from detect import DetectConfig
from models.export.request import ExportConfig
from utils.cli import parse
from utils.logs import (
    SAMPLE_IMAGES,
    SCRIPTS_FOLDER,
    arguments_of,
    command_text,
    from_working_directory,
)
from utils.train_config import TrainConfig
from val import ValConfig

CONFIGS = [
    TrainConfig(),
    TrainConfig(weights="my runs/b'st.pt", cfg="", imgsz=320, single_cls=True, freeze=(3, 4)),
    TrainConfig(resume="newest", cache="ram", batch_size=-1, label_smoothing=0.1, rep_block="none"),
    ValConfig(rect=False, half=True, fail_under=0.5),
    ValConfig(rect=True, task="test"),
    DetectConfig(weights=("a b.pt",), imgsz=(320, 640), classes=(0, 2), save_txt=True),
    ConvertConfig(weights="ä.pt", to="train", rep_block="OREPA(scaling=vector, post_bn=true)"),
    ExportConfig(preset=("onnx", "npu"), dynamic=("batch",), int8=True, max_drop=-3.0),
    ExportConfig(dynamic=("batch", "hw"), imgsz=(320,), technique=("bias",)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_arguments_are_read_as_the_config(config):
    pasted = shlex.split(shlex.join(arguments_of(config)))
    assert parse(type(config), pasted, {}) == config


def test_omitted_fields_have_their_defaults():
    config = TrainConfig(epochs=5, name="a", evolve=3)
    found = parse(TrainConfig, arguments_of(config, ("evolve", "name")), {})
    assert found == replace(config, evolve=None, name="exp")


@pytest.mark.parametrize("folder", [".", pytest.param("a b", marks=pytest.mark.slow), "it's"])
def test_a_command_runs_where_the_user_stands(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / folder)
    done = subprocess.run(
        command_text("detect.py", "--weights", "no such.pt", "--source", SAMPLE_IMAGES),
        shell=True, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such.pt: no such weights file" in done.stderr


def test_the_running_python_is_the_one_suggested(monkeypatch):
    (python, script) = shlex.split(command_text("train.py"))
    found = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == sys.prefix
    assert Path(script).is_file()
    monkeypatch.setenv("PATH", "")
    (python, _) = shlex.split(command_text("train.py"))
    assert Path(python).is_file()


def test_paths_are_short_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_working_directory(tmp_path / "a" / "b") == Path("a/b")
    assert from_working_directory(Path("a/b")) == Path("a/b")
    assert from_working_directory(tmp_path.parent / "c") == tmp_path.parent / "c"
    assert SAMPLE_IMAGES.is_dir() and (SCRIPTS_FOLDER / "train.py").is_file()
