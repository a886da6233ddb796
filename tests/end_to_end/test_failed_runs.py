"""A call that fails leaves nothing behind: no empty run folder, no half a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import convert
import detect
import export
import train
import val
from models import kernel_images
from models.network.detector import build_model
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, tiny_yaml
from tests.unit.data.builders import write_yolo_set
from utils.detect import pipeline
from utils.engine import hyper_search
from utils.errors import ConfigError, DivergedError
from utils.strict_yaml import write_yaml

LABEL = "0 0.5 0.5 0.25 0.25\n"
RUN = "--imgsz 32 --device cpu"
TRAIN = f"--cfg tiny.yaml --data set/animals.yaml {RUN} --epochs 1 --workers 0"
VAL = f"--weights good.pt --data set/animals.yaml {RUN} --workers 0"
DETECT = f"--weights good.pt --source set/images {RUN}"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a data set, a network and weights."""
    monkeypatch.chdir(tmp_path)
    write_yolo_set(tmp_path / "set", {"a": LABEL, "b": LABEL})
    write_yaml(tmp_path / "tiny.yaml", tiny_yaml())
    save_model(tmp_path / "good.pt", build_model(tiny_spec()))
    return tmp_path


def files_in(folder: Path) -> list[Path]:
    """All but the cache of scanned labels."""
    return sorted(path for path in folder.rglob("*") if path.suffix != ".cache")


def failing(error: BaseException):
    def fail(*args, **kwargs):
        raise error

    return fail


# Script, flags, and a function of it that fails when work has begun: on the first batch.
AT_WORK = [
    (train, TRAIN, (train, "train_one_epoch")),
    (train, f"{TRAIN} --noplots", (train, "train_one_epoch")),
    (train, TRAIN, (train, "TrainingRun")),
    (val, VAL, (val, "evaluate")),
    (detect, DETECT, (pipeline, "postprocess")),
    (detect, f"{DETECT} --save-json --save-csv --save-txt", (pipeline, "postprocess")),
    (kernel_images, "--weights good.pt", (kernel_images, "plot_contributions")),
]


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("wrong"), 2), (RuntimeError("a bug"), None)], ids=repr
)
@pytest.mark.parametrize(("script", "flags", "failed"), AT_WORK)
def test_a_run_that_fails_on_the_first_batch(
    folder, monkeypatch, script, flags, failed, error, code
):
    before = files_in(folder)
    monkeypatch.setattr(*failed, failing(error))
    if code is None:
        with pytest.raises(RuntimeError, match="a bug"):
            script.main(flags.split())
    else:
        assert script.main(flags.split()) == code
    assert files_in(folder) == before


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), DivergedError("losses are not finite")], ids=repr
)
def test_what_shows_why_a_training_ended_stays(folder, monkeypatch, error):
    """After control-C and diverging, the user looks at the first batches and the skipped ones."""
    monkeypatch.setattr(train, "train_one_epoch", failing(error))
    assert train.main(TRAIN.split()) in (1, 130)
    assert {"opt.yaml", "hyp.yaml", "labels.jpg"} <= {path.name for path in folder.rglob("*")}


def test_a_folder_that_was_there_stays_as_it_is(folder, monkeypatch):
    kept = folder / "runs" / "train" / "exp" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    monkeypatch.setattr(train, "train_one_epoch", failing(ConfigError("wrong")))
    assert train.main(f"{TRAIN} --exist-ok".split()) == 2
    assert kept.read_text() == "mine"
    assert train.main(TRAIN.split()) == 2
    assert list(kept.parents[1].iterdir()) == [kept.parent]


def test_a_search_whose_first_run_is_wrong(folder, monkeypatch):
    pytest.importorskip("optuna", reason="optuna is not installed")
    before = files_in(folder)
    monkeypatch.setattr(train, "train_one_epoch", failing(ConfigError("wrong")))
    assert train.main(f"{TRAIN} --evolve 2".split()) == 2
    assert files_in(folder) == before
    assert hyper_search.PROJECT == "runs/evolve"


# What is wrong before any work begins, beside wrong flags (test_first_contact.py).
BEFORE_WORK = [
    (train, TRAIN.replace("tiny.yaml", "gone.yaml")),
    (train, TRAIN.replace("animals.yaml", "gone.yaml")),
    (train, f"{TRAIN} --weights set/animals.yaml"),
    (train, f"{TRAIN} --device 99"),
    (train, f"{TRAIN} --evolve 2 --resume"),
    (val, VAL.replace("good.pt", "gone.pt")),
    (val, f"{VAL} --data gone.yaml"),
    (val, f"{VAL} --half"),
    (detect, DETECT.replace("good.pt", "set/animals.yaml")),
    (detect, f"{DETECT} --source gone"),
    (detect, f"{DETECT} --classes 99"),
    (convert, "--weights good.pt --to train"),
    (convert, "--weights good.pt --data gone.yaml"),
    (convert, "--weights good.pt --output set/images/a.png/x.pt"),
    (export, "--weights good.pt --opset 3"),
    (export, "--weights good.pt --int8"),
    (export, "--weights good.pt --output set/images/a.png/x.onnx"),
]


@pytest.mark.parametrize(
    ("script", "flags"),
    BEFORE_WORK,
    ids=[f"{each.__name__} {flags}" for each, flags in BEFORE_WORK],
)
def test_a_call_that_is_wrong_leaves_nothing(folder, script, flags):
    before = files_in(folder)
    assert script.main(flags.split()) == 2
    assert files_in(folder) == before


@pytest.mark.parametrize("script", [convert, export])
def test_a_checkpoint_in_a_folder_that_cannot_be_written(folder, monkeypatch, capsys, script):
    """Without --output the file would go beside it; nothing is read before that is said."""
    refused = failing(OSError(30, "Read-only file system"))
    monkeypatch.setattr("utils.output_files._try_to_write", refused)
    monkeypatch.setattr(script, "read_weights", failing(AssertionError("no work before that")))
    assert script.main(["--weights", "good.pt"]) == 2
    assert capsys.readouterr().err == (
        f"error: {folder}: cannot be written (Read-only file system); choose another --output\n"
    )
