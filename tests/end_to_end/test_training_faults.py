"""What ends or disturbs a training run is said in one line, and costs nothing that was saved."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import train
from data.loader import EvalLoader, TrainLoader
from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.model_builders import write_tiny
from utils.checkpoint import load_checkpoint
from utils.strict_yaml import write_yaml

SIZE = 64


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """The flags of a run of seconds."""
    folder = tmp_path_factory.mktemp("faults")
    data = write_dataset(folder / "data", SyntheticConfig(images=16, size=SIZE, seed=0))
    cfg = write_tiny(folder / "tiny.yaml")
    given = ["--data", data, "--cfg", cfg, "--imgsz", SIZE, "--batch-size", 2, "--workers", 0,
             "--device", "cpu", "--noplots", "--amp", "off"]  # fmt: skip
    return [str(word) for word in given]


def test_a_run_that_diverges_stops_and_names_the_images(arguments, tmp_path, capsys):
    hyp = tmp_path / "hyp.yaml"
    write_yaml(hyp, {"box": 1e39})  # infinite in float32
    code = train.main([*arguments, "--epochs", "5", "--hyp", str(hyp), "--project", str(tmp_path)])
    assert code == 1
    errors = capsys.readouterr().err
    assert "failed: 10 in a row were skipped" in errors
    assert "Traceback" not in errors
    skipped = (tmp_path / "exp" / "skipped_batches.txt").read_text().splitlines()
    assert len(skipped) == 10
    assert all(line.startswith("epoch ") and (".jpg" in line or ".png" in line) for line in skipped)


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Longer files cannot be written, as on a full disk: both make writing fail halfway."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing_that_was_written(arguments, tmp_path, capsys):
    assert train.main([*arguments, "--epochs", "1", "--project", str(tmp_path)]) == 0
    last = tmp_path / "exp" / "weights" / "last.pt"
    before = last.read_bytes()
    with files_up_to(len(before) // 4):
        assert train.main(["--resume", str(last), "--epochs", "2"]) == 1
    errors = capsys.readouterr().err
    assert "failed: " in errors and "cannot be written (File too large)" in errors
    assert "Traceback" not in errors
    assert last.read_bytes() == before
    assert load_checkpoint(last).training["epoch"] == 0
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.pt", "last.pt"]


@pytest.mark.parametrize(
    ("after_epoch", "message"),
    [(0, "Nothing was saved yet: start again."), (1, "train.py --resume {last}")],
)
def test_an_interruption_says_how_to_go_on(
    arguments, tmp_path, capsys, monkeypatch, after_epoch, message
):
    whole_epoch, trained = train.train_one_epoch, []

    def interrupted(*args, **kwargs):
        if len(trained) == after_epoch:
            raise KeyboardInterrupt
        trained.append(args)
        return whole_epoch(*args, **kwargs)

    monkeypatch.setattr(train, "train_one_epoch", interrupted)
    assert train.main([*arguments, "--epochs", "3", "--project", str(tmp_path)]) == 130
    last = tmp_path / "exp" / "weights" / "last.pt"
    said, end = capsys.readouterr().err.splitlines()[-2:]
    assert said.endswith(message.format(last=last)) and end == "interrupted"
    assert last.exists() == (after_epoch > 0)


def test_a_folder_that_cannot_be_written(arguments, tmp_path, capsys):
    (tmp_path / "runs").write_text("a file where the folder should be")
    assert train.main([*arguments, "--epochs", "1", "--project", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {tmp_path / 'runs'}: cannot be written (Not a directory); choose another --project"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")
def test_running_out_of_memory_says_which_batch_fits(arguments, tmp_path, capsys, monkeypatch):
    def too_large(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "train_one_epoch", too_large)
    code = train.main(
        [*arguments, "--batch-size", "64", "--epochs", "1", "--project", str(tmp_path)]
    )
    assert code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: out of memory with 64 images of {SIZE} px; measured, 63 fit: --batch-size 63"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")
def test_so_it_does_in_the_last_evaluation(arguments, tmp_path, capsys, monkeypatch):
    """When every epoch is trained and saved: the run needs no more of them."""

    def too_large(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "evaluate_best", too_large)
    code = train.main(
        [*arguments, "--batch-size", "64", "--epochs", "1", "--project", str(tmp_path)]
    )
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.splitlines()[-1] == (
        f"error: out of memory with 64 images of {SIZE} px; measured, 63 fit: --batch-size 63"
    )
    assert "--resume" not in errors
    assert load_checkpoint(tmp_path / "exp" / "weights" / "last.pt").training["epoch"] == 0


@pytest.mark.parametrize("name", ["train_one_epoch", "evaluate_best"])
def test_a_loading_process_that_dies_is_named(arguments, tmp_path, capsys, monkeypatch, name):
    image = tmp_path / "0001.jpg"

    def died(*args, **kwargs):
        raise RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed.")

    monkeypatch.setattr(train, name, died)
    monkeypatch.setattr(EvalLoader, "in_flight", lambda self: [image])
    assert train.main([*arguments, "--epochs", "1", "--project", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the process that loads images died")
    assert str(image) in error


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")
def test_the_batch_size_can_be_measured(arguments, tmp_path, capsys):
    code = train.main(
        [*arguments, "--batch-size", "-1", "--epochs", "1", "--project", str(tmp_path)]
    )
    assert code == 0
    # as many as there are images to train on: 13 of the 16
    assert "--batch-size 13: fits, as measured" in capsys.readouterr().out
    last = tmp_path / "exp" / "weights" / "last.pt"
    assert load_checkpoint(last).config["opt"]["batch_size"] == 13


def test_a_batch_size_that_is_none(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train.main([*arguments, "--batch-size", "0", "--project", str(tmp_path)])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --batch-size 0: must be at least 1, or -1"
    )
    assert list(tmp_path.iterdir()) == []


def test_images_are_drawn_by_what_the_last_epoch_found(arguments, tmp_path, monkeypatch):
    """AP of each class goes from the evaluator to the loader."""
    whole_epoch, given = TrainLoader.epoch, []

    def epoch(self, number, AP_of_class=()):
        given.append(tuple(AP_of_class))
        return whole_epoch(self, number, AP_of_class)

    monkeypatch.setattr(TrainLoader, "epoch", epoch)
    flags = ["--epochs", "2", "--image-weights", "--project", str(tmp_path)]
    assert train.main([*arguments, *flags]) == 0
    assert given[0] == ()
    last = load_checkpoint(tmp_path / "exp" / "weights" / "last.pt")
    assert len(given[1]) == len(last.class_names) == len(last.training["AP_of_class"])
