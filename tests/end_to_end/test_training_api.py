"""`train(config, on_epoch=...)`: what a caller is told after each epoch, and what it may decide."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train as script
from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.conversion.deploy import is_deployed
from models.runtimes.torch_predictor import TorchPredictor
from tests.equivalence.test_ranks import torchrun
from tests.house.source_tree import ROOT
from tests.model_builders import write_tiny
from train import TrainConfig, train
from utils.checkpoint import load_checkpoint
from utils.engine.epoch_row import COLUMNS, EpochRow
from utils.errors import ConfigError


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    """A run of seconds."""
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=8, size=64, seed=0))
    cfg = write_tiny(tmp_path / "tiny.yaml")
    return TrainConfig(
        data=str(data), cfg=str(cfg), imgsz=64, epochs=6, batch_size=4, workers=0, device="cpu",
        noplots=True, project=str(tmp_path / "runs"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({}, True),
        ({"noval": True, "nosave": True}, np.True_),  # the epoch is not evaluated nor saved
        pytest.param({"nosave": True}, True, marks=pytest.mark.slow),
        pytest.param({"eval_interval": 5}, True, marks=pytest.mark.slow),
    ],
)
def test_true_ends_training_well(config, settings, answer):
    rows = []

    def stop_after_two(row: EpochRow) -> object:
        rows.append(row)
        return answer if row.epoch == 1 else "true, but no answer"

    result = train(replace(config, **settings), on_epoch=stop_after_two)
    assert [row.epoch for row in rows] == [0, 1] and result.epochs == 2
    assert load_checkpoint(result.weights.best).class_names and 0 <= result.best_epoch < 2
    assert load_checkpoint(result.weights.last).training["epoch"] == 1
    with (result.folder / "results.csv").open(newline="") as file:
        _, *written = csv.reader(file)
    assert [int(row[0]) for row in written] == [0, 1]
    assert written[1][COLUMNS.index("metrics/mAP_0.5")].strip()  # the last one is evaluated


def test_folded_copies_are_evaluated(config, monkeypatch):
    """As val.py does; what is trained on and saved keeps its branches."""
    seen = []

    class Watched(TorchPredictor):
        def __init__(self, model, *arguments, **options):
            super().__init__(model, *arguments, **options)
            seen.append(is_deployed(model))

    monkeypatch.setattr(script, "TorchPredictor", Watched)
    result = train(replace(config, epochs=2))
    assert seen == [True] * 3  # two epochs, and the best one read back
    last = load_checkpoint(result.weights.last)
    assert last.form == "train" and last.ema_weights.keys() == last.weights.keys()


def test_an_error_of_the_callback_ends_the_run_which_goes_on_in_one_call(config):
    def fail(row: EpochRow) -> None:
        raise RuntimeError(f"after epoch {row.epoch}")

    with pytest.raises(RuntimeError, match="after epoch 0"):
        train(config, on_epoch=fail)
    rows = []
    (last,) = (ROOT / config.project).rglob("last.pt")
    result = train(TrainConfig(resume=str(last), epochs=3), on_epoch=rows.append)
    assert [row.epoch for row in rows] == [1, 2] and result.epochs == 3
    assert rows[0].figures().keys() == set(COLUMNS[1:])


PROGRAM = """
from train import TrainConfig, train
from utils.engine.distributed import Ranks

def stop(row):
    print("rank", Ranks.of_environment().rank, "epoch", row.epoch, flush=True)
    if {fails}:
        raise ZeroDivisionError("a fault of the caller")
    return row.epoch == 1

train({config}, on_epoch=stop)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_among_several_processes_the_first_one_is_asked(config, tmp_path, fails):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(config=repr(config), fails=fails))
    done = torchrun(program, timeout=300)
    assert (done.returncode == 0) != fails, done.stderr
    called = re.findall(r"rank (\d) epoch (\d)", done.stdout)
    assert called == ([("0", "0")] if fails else [("0", "0"), ("0", "1")])
    assert done.stderr.count("ZeroDivisionError: a fault") == fails


@pytest.mark.slow
def test_the_lines_of_the_document_run(config, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    block = re.search(r"## Training\n+```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    small = f'data={config.data!r}, cfg={config.cfg!r}, imgsz=64, workers=0, device="cpu", '
    code = block[1].replace('data="my.yaml", cfg="repyolov5n.yaml", ', small)
    code = code.replace("=100", "=2").replace("=200", "=3")
    assert code.count("epochs=2") == code.count("epochs=3") == 1 and small in code
    names: dict[str, object] = {}
    compiled = compile(code, "api.md", "exec")
    exec(compiled, names)  # noqa: S102
    assert [row.epoch for row in names["rows"]] == [0, 1, 2]


@pytest.mark.parametrize("on_epoch", ["x", [print], True])
def test_a_callback_that_cannot_be_called_is_refused_at_once(config, on_epoch):
    with pytest.raises(ConfigError) as caught:
        train(config, on_epoch)
    assert str(caught.value).startswith(f"on_epoch is {on_epoch!r}, expected a function")
    assert not Path(config.project).exists()
