"""`--augment`, several `--weights` and `--tile` of detect.py and val.py, from the command line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

import detect
import val
from data.synthetic.dataset import SyntheticConfig, write_dataset
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec
from tests.onnx_builders import save_detector
from tests.video_builders import save_video

SIZE = 64
ROWS = [[16, 16, 16, 8, 0.5, 0.25, 1.0], [48, 40, 16, 16, 1.0, 0.75, 0.125]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("views")


@pytest.fixture(scope="module")
def networks(folder):
    """Two checkpoints that find many objects."""
    return [
        save_model(folder / f"{name}.pt", finding_model(tiny_spec(), spread))
        for name, spread in (("a", 0.4), ("b", 0.3))
    ]


@pytest.fixture(scope="module")
def data(folder):
    return write_dataset(folder / "data", SyntheticConfig(images=12, size=96, seed=0))


def run(script, tmp_path, *flags):
    """The exit code must be 0; the folder of the run."""
    project = ("--project", tmp_path, "--name", "run", "--device", "cpu")
    assert script.main([str(each) for each in (*flags, *project)]) == 0
    return tmp_path / "run"


def validate(tmp_path, data, *flags):
    report = tmp_path / "report.json"
    run(val, tmp_path, "--data", data, "--imgsz", SIZE, "--workers", 0, "--noplots", "--conf", 0.05,
        "--single-cls", "--save-json", "--report", report, *flags)  # fmt: skip
    found = json.loads(next((tmp_path / "run").glob("*_predictions.json")).read_text())
    return json.loads(report.read_text()), found


def detections(tmp_path, source, *flags):
    """Those of predictions.json, each with its file and frame."""
    run(detect, tmp_path, "--source", source, "--imgsz", SIZE, "--save-json", "--nosave", *flags)
    frames = json.loads((tmp_path / "run" / "predictions.json").read_text())
    return [
        {"source": frame["source"], "frame": frame["frame"], **found}
        for frame in frames
        for found in frame["detections"]
    ]


def test_val_of_one_network_twice(tmp_path, data, networks):
    once, boxes = validate(tmp_path / "once", data, "--weights", networks[0])
    twice, same = validate(tmp_path / "twice", data, "--weights", networks[0], networks[0])
    assert len(boxes) == len(same) > 20
    assert twice["AP"] == pytest.approx(once["AP"], abs=1e-6)


def test_val_with_everything(tmp_path, data, networks):
    """Files are called after the first network."""
    flags = ("--weights", *networks, "--augment", "--tile", 48, "--tile-overlap", 0.1,
             "--tile-merge", "nmm")  # fmt: skip
    report, found = validate(tmp_path, data, *flags)
    assert report["images"] == len({row["image_id"] for row in found}) == 2
    assert (tmp_path / "run" / "a_predictions.json").is_file()
    width, height = 96, 96
    for row in found:
        left, top, wide, high = row["bbox"]
        assert (
            left >= 0 and top >= 0 and left + wide <= width + 0.01 and top + high <= height + 0.01
        )


def test_val_with_one_tile_is_plain(tmp_path, data, networks):
    plain, boxes = validate(tmp_path / "plain", data, "--weights", networks[0])
    tiled, same = validate(tmp_path / "tiled", data, "--weights", networks[0], "--tile", 96)
    assert boxes == same and tiled["AP"] == plain["AP"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, (height, width) in {"a": (64, 64), "b": (100, 150), "c": (20, 64)}.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((height, width, 3), 255, np.uint8))
    return folder


def test_detect_with_several_networks(tmp_path, images):
    """The second one finds what the first one does not; what both find is there once."""
    names = [save_detector(tmp_path / "a.onnx", ROWS[:1]), save_detector(tmp_path / "b.onnx", ROWS)]
    alone = detections(tmp_path / "alone", images, "--weights", names[1])
    for order in (names, names[::-1]):
        found = detections(tmp_path / order[0].stem, images, "--weights", *order)
        assert found == alone and len(found) == 6


def test_detect_in_tiles(tmp_path, images):
    weights = save_detector(tmp_path / "w.onnx", ROWS)
    plain = detections(tmp_path / "plain", images, "--weights", weights)
    found = detections(
        tmp_path / "tiled", images, "--weights", weights, "--tile", "--batch-size", 4
    )
    by_image = {name: [row for row in found if row["source"].endswith(f"{name}.png")]
                for name in "abc"}  # fmt: skip
    # Two are one tile; b has two rows of three tiles, which all see both objects.
    for name in "ac":
        assert by_image[name] == [row for row in plain if row["source"].endswith(f"{name}.png")]
    assert len(by_image["b"]) > 8


def test_detect_in_tiles_of_a_video_with_all_else(tmp_path):
    video = save_video(tmp_path / "v.mp4", 3, (96, 128))
    weights = save_detector(tmp_path / "w.onnx", ROWS)
    found = detections(tmp_path, video, "--weights", weights, weights, "--augment", "--tile", 64,
                       "--tile-merge", "nmm", "--agnostic-nms", "--classes", 1,
                       "--conf", 0.001)  # fmt: skip
    assert {row["frame"] for row in found} == {1, 2, 3}
    assert {row["class_id"] for row in found} == {1}


ERRORS = [
    (["--tile", "8"], "error: --tile 8: must be at least 32, or 0\n"),
    (["--tile", "-1"], "error: --tile -1: must be at least 32, or 0\n"),
    (["--tile-overlap", "1"], "error: --tile-overlap 1.0: must be from 0 to 0.9\n"),
    (["--tile-overlap", "nan"], "error: --tile-overlap nan: must be from 0 to 0.9\n"),
    (["--tile-merge", "nmn"],
     "error: --tile-merge nmn: no such choice; did you mean 'nms'? (choices: nms, nmm)\n"),
]  # fmt: skip


@pytest.mark.parametrize("script", [detect, val], ids=["detect", "val"])
@pytest.mark.parametrize(("flags", "message"), ERRORS)
def test_wrong_flags(script, flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(flags)
    assert ended.value.code == 2 and capsys.readouterr().err == message


@pytest.mark.parametrize("script", [detect, val], ids=["detect", "val"])
def test_what_does_not_fit_together_is_one_line(script, tmp_path, data, images, capsys):
    small, large = (
        save_detector(tmp_path / f"{side}.onnx", ROWS, input_shape=("batch", 3, side, side))
        for side in (64, 96)
    )
    cases = {
        (small, large): f"error: --weights: networks that run together need the same input; height "
        f"is 64 px in {small} and 96 px in {large}; export one of them again with the other's "
        "--imgsz, or --dynamic",
        (small, "--augment"): f"error: --augment: {small} takes 64x64 px only and would have to "
        "see each image at three sizes; give a checkpoint, or a file exported with --dynamic",
        (small, tmp_path / "gone.onnx"): f"error: {tmp_path / 'gone.onnx'}: no such file",
    }  # fmt: skip
    data.with_name("two.yaml").write_text(
        data.read_text().partition("names:")[0] + "names: [cat, dog]\n"
    )
    source = ("--data", data.with_name("two.yaml")) if script is val else ("--source", images)
    for weights, message in cases.items():
        flags = ("--weights", *weights, *source, "--device", "cpu", "--project", tmp_path / "runs")
        assert script.main([str(each) for each in flags]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == message
    assert not (tmp_path / "runs").exists()
