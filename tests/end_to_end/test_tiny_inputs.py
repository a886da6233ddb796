"""Training at sizes where the coarsest map has one cell, and norms need several images."""

from __future__ import annotations

from pathlib import Path

import pytest

import train
from tests.model_builders import tiny_yaml
from tests.unit.data.builders import write_yolo_set
from utils.strict_yaml import write_yaml

FLAGS = "--data animals.yaml --cfg tiny.yaml --epochs 1 --workers 0 --device cpu --noplots"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images, and a network of stride 32."""
    monkeypatch.chdir(tmp_path)
    write_yolo_set(Path(), dict.fromkeys("abc", "0 0.5 0.5 0.5 0.5\n"), (64, 64))
    write_yaml(Path("tiny.yaml"), tiny_yaml())


@pytest.mark.parametrize("flags", ["", "--rect", "--multi-scale", "--image-weights"])
@pytest.mark.parametrize("size", [32, 64])
def test_a_last_batch_of_one_image(flags: str, size: int) -> None:
    assert train.main(f"{FLAGS} --imgsz {size} --batch-size 2 {flags}".split()) == 0


@pytest.mark.parametrize("flags", ["--imgsz 32", "--imgsz 32 --rect", "--imgsz 64 --multi-scale"])
def test_batches_of_one_image_are_refused(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(f"{FLAGS} --batch-size 1 {flags}".split()) == 2

    error = capsys.readouterr().err
    assert "--batch-size 1: " in error and "--batch-size 2 or more" in error
    assert "Traceback" not in error and not Path("runs").exists()


def test_batches_of_one_image_train_where_every_map_has_several_cells() -> None:
    assert train.main(f"{FLAGS} --imgsz 64 --batch-size 1".split()) == 0


def test_a_batch_size_can_be_measured() -> None:
    assert train.main(f"{FLAGS} --imgsz 32 --batch-size -1".split()) == 0


def test_anchors_by_number_are_found_in_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    boxes = "".join(f"0 0.5 0.5 0.{n}5 0.{9 - n}5\n" for n in range(1, 9))
    for name in "abc":
        Path("labels", f"{name}.txt").write_text(boxes)
    write_yaml(Path("tiny.yaml"), {**tiny_yaml(), "anchors": 2})

    assert train.main(f"{FLAGS} --imgsz 64 --batch-size 2 --noautoanchor".split()) == 0

    assert "Anchors: replaced by" in capsys.readouterr().out
