"""The commands that a run suggests work when they are pasted, in folders with spaces too."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pytest

import convert
import detect
import export
import train
from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.export.request import ExportConfig
from tests.model_builders import write_tiny
from utils.checkpoint import load_checkpoint
from utils.cli import parse
from utils.logs import command_text
from utils.train_config import TrainConfig

SIZE = 64
SCRIPTS = {
    "convert.py": (convert, convert.ConvertConfig),
    "detect.py": (detect, detect.DetectConfig),
    "export.py": (export, ExportConfig),
    "train.py": (train, TrainConfig),
}


def suggested(printed: str) -> dict[str, list[str]]:
    """Script -> arguments, of each line with a command; paths in them exist."""
    commands, python = {}, shlex.split(command_text("x.py"))[0]
    for line in printed.splitlines():
        command = line.strip().partition(": ")[2] or line.strip()
        if not command.startswith(shlex.quote(python)):
            continue
        _, script, *arguments = shlex.split(command)
        assert Path(script).is_file()
        parse(SCRIPTS[Path(script).name][1], arguments, {})
        for flag, value in itertools.pairwise(arguments):
            if flag in ("--weights", "--source", "--data", "--resume"):
                assert Path(value).exists(), value
        commands[Path(script).name] = arguments
    return commands


@pytest.fixture
def stand(tmp_path, monkeypatch) -> Path:
    """Where the user stands: a folder with a space, data below it."""
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_dataset(Path("my data"), SyntheticConfig(images=12, size=SIZE, seed=0))
    write_tiny(folder / "tiny net.yaml")
    return folder


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], id="classes"),
        pytest.param(["--single-cls"], id="single", marks=pytest.mark.slow),
    ],
)
def test_after_training(stand, capsys, flags):
    given = ["--data", "my data/data.yaml", "--cfg", "tiny net.yaml", "--imgsz", str(SIZE),
             "--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu",
             "--project", "my runs", "--noplots", *flags]  # fmt: skip
    assert train.main(given) == 0
    commands = suggested(capsys.readouterr().out)
    assert set(commands) == set(SCRIPTS)
    assert not any("--imgsz" in arguments for arguments in commands.values())

    assert convert.main([*commands["convert.py"], "--workers", "0", "--device", "cpu"]) == 0
    assert f"Image size {SIZE}x{SIZE} px" in capsys.readouterr().out
    assert detect.main([*commands["detect.py"], "--device", "cpu"]) == 0
    assert "1 frame, " in capsys.readouterr().out
    assert export.main(commands["export.py"]) == 0
    after_export = suggested(capsys.readouterr().out)
    assert set(after_export) == {"detect.py"}
    assert detect.main([*after_export["detect.py"], "--device", "cpu"]) == 0
    assert f"Image size {SIZE}x{SIZE} px" in capsys.readouterr().out
    assert train.main(commands["train.py"]) == 0
    last = load_checkpoint(Path("my runs/exp/weights/last.pt"))
    assert last.training is not None and last.training["epoch"] == 1
    assert last.config["opt"]["imgsz"] == last.image_size == SIZE


def test_training_takes_the_size_of_its_start(stand, capsys):
    given = ["--data", "my data/data.yaml", "--epochs", "1", "--batch-size", "4", "--workers",
             "0", "--device", "cpu", "--noplots"]  # fmt: skip
    assert train.main([*given, "--cfg", "tiny net.yaml", "--imgsz", str(SIZE)]) == 0
    best = "runs/train/exp/weights/best.pt"
    capsys.readouterr()
    assert train.main([*given, "--weights", best]) == 0
    assert f"Image size {SIZE}x{SIZE} px (as {best} was made)" in capsys.readouterr().out
