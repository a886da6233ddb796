"""A user's mistake costs one clear line and exit code 2, in every script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import convert
import detect
import export
import train
import val
from models.network.detector import build_model
from tests.checkpoint_builders import TouchesAFile, save_model
from tests.model_builders import tiny_spec, tiny_yaml
from tests.unit.data.builders import NAMES, write_image, write_yolo_set
from utils.strict_yaml import write_yaml

LABEL = "0 0.5 0.5 0.25 0.25\n"
SCRIPTS = {"train": train, "val": val, "detect": detect, "convert": convert, "export": export}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a data set, a network and weights."""
    monkeypatch.chdir(tmp_path)
    write_yolo_set(tmp_path / "set", {"a": LABEL, "b": LABEL})
    write_yaml(tmp_path / "tiny.yaml", tiny_yaml())
    save_model(tmp_path / "good.pt", build_model(tiny_spec()))
    return tmp_path


def fail(script, arguments: str, capsys, code: int = 2) -> str:
    """What a script says on standard error, which must be one line and no traceback."""
    try:
        returned = SCRIPTS[script].main(arguments.split())
    except SystemExit as error:  # from argparse
        returned = error.code
    lines = capsys.readouterr().err.splitlines()
    assert returned == code, lines
    assert "Traceback" not in "".join(lines)
    errors = [line for line in lines if "error: " in line or line.startswith("failed: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], lines
    return errors[0].partition("error: ")[2] or errors[0]


TRAIN = "--data set/animals.yaml --imgsz 32 --epochs 1 --workers 0"
WITH_WEIGHTS = {
    "train": f"{TRAIN} --weights",
    "val": "--data set/animals.yaml --workers 0 --weights",
    "detect": "--source set/images --weights",
    "convert": "--weights",
    "export": "--weights",
}
each_script = pytest.mark.parametrize("script", WITH_WEIGHTS)


@each_script
def test_weights_that_are_missing(folder, capsys, script):
    assert fail(script, f"{WITH_WEIGHTS[script]} gone.pt", capsys) == (
        "gone.pt: no such weights file (nothing is ever downloaded)"
    )


@each_script
def test_weights_that_are_text(folder, capsys, script):
    (folder / "text.pt").write_text("hello")
    assert fail(script, f"{WITH_WEIGHTS[script]} text.pt", capsys) == (
        "text.pt: not a PyTorch checkpoint (it is text)"
    )


@each_script
def test_weights_that_want_to_run_something(folder, capsys, script):
    touched = folder / "touched"
    torch.save({"model": TouchesAFile(touched)}, folder / "evil.pt")
    assert fail(script, f"{WITH_WEIGHTS[script]} evil.pt", capsys) == (
        "evil.pt: refused, nothing was executed: it wants to call posix.system, "
        "which no detector checkpoint needs"
    )
    assert not touched.exists()


@each_script
def test_weights_without_architecture(folder, capsys, script):
    torch.save(build_model(tiny_spec()).state_dict(), folder / "plain.pt")
    text = fail(script, f"{WITH_WEIGHTS[script]} plain.pt", capsys)
    assert text.startswith("plain.pt: holds weights without their architecture, ")


@each_script
def test_nothing_is_left_behind(folder, capsys, script):
    before = sorted(folder.rglob("*"))
    fail(script, f"{WITH_WEIGHTS[script]} gone.pt", capsys)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("script", ["train", "val"])
def test_a_data_yaml_without_names(folder, capsys, script):
    (folder / "nameless.yaml").write_text("path: set\ntrain: images\nval: images\n")
    arguments = "--cfg tiny.yaml" if script == "train" else "--weights good.pt"
    text = fail(script, f"--data nameless.yaml --workers 0 {arguments}", capsys)
    assert text.startswith("nameless.yaml: key 'names' is missing")


@pytest.mark.parametrize("script", ["train", "val"])
def test_a_data_yaml_that_is_missing(folder, capsys, script):
    arguments = "--cfg tiny.yaml" if script == "train" else "--weights good.pt"
    text = fail(script, f"--data coco12.yaml --workers 0 {arguments}", capsys)
    assert text.startswith("coco12.yaml: no such file; did you mean 'coco128.yaml'?")


@pytest.mark.parametrize("script", ["train", "val"])
def test_a_class_beyond_the_names(folder, capsys, script):
    (folder / "set/labels/b.txt").write_text(LABEL + "3 0.5 0.5 0.1 0.1\n")
    arguments = (
        f"{TRAIN} --cfg tiny.yaml" if script == "train" else f"{WITH_WEIGHTS[script]} good.pt"
    )
    text = fail(script, arguments, capsys)
    assert "labels/b.txt:2" in text and "3" in text
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("script", ["train", "val"])
def test_a_bad_row_is_an_error_with_strict(folder, capsys, script):
    (folder / "set/labels/b.txt").write_text("0 0.5 nan 0.1 0.1\n")
    arguments = (
        f"{TRAIN} --cfg tiny.yaml" if script == "train" else f"{WITH_WEIGHTS[script]} good.pt"
    )
    assert "labels/b.txt:1" in fail(script, f"{arguments} --strict", capsys)


def test_val_with_another_number_of_classes(folder, capsys):
    save_model(folder / "two.pt", build_model(tiny_spec(nc=2)))
    text = fail("val", f"{WITH_WEIGHTS['val']} two.pt", capsys)
    assert text == (
        f"two.pt knows 2 classes, set names {len(NAMES)}; give the data set it was trained for"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"backbone": [*tiny_yaml()["backbone"][:-1], [-1, 1, "SPFF", [64]]]},
            "bad.yaml: backbone row 6 (layer 6, SPFF): unknown module 'SPFF'; did you mean 'SPPF'?",
        ),
        ({"bakcbone": []}, "bad.yaml: unknown key 'bakcbone'; did you mean 'backbone'?"),
        ({"nc": "three"}, "bad.yaml: nc is 'three', expected an integer above 0"),
    ],
)
def test_a_wrong_model_yaml(folder, capsys, changes, expected):
    write_yaml(folder / "bad.yaml", tiny_yaml(**changes))
    assert fail("train", f"{TRAIN} --cfg bad.yaml", capsys).startswith(expected)


def test_a_wrong_hyper_parameter_yaml(folder, capsys):
    write_yaml(folder / "h.yaml", {"mosiac": 1.0})
    text = fail("train", f"{TRAIN} --cfg tiny.yaml --hyp h.yaml", capsys)
    assert text.startswith("h.yaml: unknown key 'mosiac'; did you mean 'mosaic'?")


TRAIN_FLAGS = [
    ("", "give an architecture (--cfg repyolov5n.yaml) or --weights to start from"),
    ("--cfg repyolov5.yaml", "repyolov5.yaml: no such file; did you mean 'repyolov5"),
    (
        "--cfg tiny.yaml --rep-block repvgg",
        "--rep-block repvgg: no such choice; did you mean 'RepVGG'?",
    ),
    ("--cfg tiny.yaml --rep-block OREPA(x=1)", "--rep-block: OREPA takes only"),
    ("--cfg tiny.yaml --rep-block MobileOne(branches=0)", "--rep-block: MobileOne: branches is 0"),
    ("--cfg tiny.yaml --activation LeakyReLU(x)", "--activation: 'LeakyReLU(x)': "),
    ("--cfg tiny.yaml --rep-policy most", "--rep-policy most: no such choice (choices: all,"),
    (
        "--cfg tiny.yaml --activation silu",
        "--activation silu: no such choice; did you mean 'SiLU'?",
    ),
    (
        "--cfg tiny.yaml --activation leakyrelu(0.1)",
        "--activation leakyrelu(0.1): no such choice; did",
    ),
    ("--cfg tiny.yaml --device gpu", "--device gpu: expected cpu, mps, or a GPU number like 0"),
    ("--cfg tiny.yaml --freeze 99", "--freeze 99: the network has layers 0 to 10"),
    (
        "--cfg tiny.yaml --optimizer adamw",
        "--optimizer adamw: no such choice; did you mean 'AdamW'?",
    ),
    ("--cfg tiny.yaml --epochs many", "--epochs many: must be an integer"),
]


@pytest.mark.parametrize(("arguments", "expected"), TRAIN_FLAGS)
def test_wrong_flags_of_train(folder, capsys, arguments, expected):
    text = fail("train", f"{TRAIN} {arguments}", capsys)
    assert text.startswith(expected)


OTHER_FLAGS = [
    ("val", "--task all", "--task all: no such choice; did you mean 'val'?"),
    ("val", "--weights good.pt --data set/animals.yaml --half --device cpu", "--half needs a GPU"),
    ("convert", "", "give a checkpoint: --weights runs/train/exp/weights/best.pt"),
    ("convert", "--weights good.pt --output good.pt", "--output good.pt: is the file of --weights"),
    (
        "convert",
        "--weights good.pt --to train --rep-block ACB",
        "good.pt: has RepVGG blocks already; merge them first: ",
    ),
    ("convert", "--weights good.pt --output set", "--output set: is a folder"),
    ("convert", "--weights good.pt --to small", "--to small: no such choice"),
    (
        "export",
        "--weights good.pt --imgsz 64 --opset 9",
        "--opset 9: preset onnx is written with 11 to 20",
    ),
    ("export", "--weights good.pt --imgsz 64 --dynamic x", "--dynamic x: expected batch, hw, or"),
    ("export", "--weights good.pt --imgsz 1 2 3", "--imgsz 1 2 3: expected 2 numbers at most"),
    (
        "export",
        "--weights good.pt --include onxx",
        "--preset onxx: no such choice; did you mean 'onnx'",
    ),
    ("export", "--weights good.pt --output a.pt", "--output a.pt: an ONNX file ends in .onnx"),
    ("detect", "--weights good.pt --source gone", "--source gone: no such file or folder"),
    ("detect", "--weights good.pt --conf-thres 2", "--conf-thres 2.0: must be from 0 to 1"),
    ("detect", "--weights good.pt --source set/images --classes 3", "--classes 3: the classes of"),
    ("detect", "--weights a.engine --source set/images", "a.engine: neither a .pt checkpoint nor"),
]


@pytest.mark.parametrize(("script", "arguments", "expected"), OTHER_FLAGS)
def test_wrong_flags(folder, capsys, script, arguments, expected):
    assert fail(script, arguments, capsys).startswith(expected)


@each_script
def test_an_unknown_flag(folder, capsys, script):
    expected = "--wieghts: no such flag; did you mean --weights? (--help lists the flags)"
    assert fail(script, "--wieghts good.pt", capsys) == expected


@pytest.mark.parametrize(
    ("script", "flag", "sentence"),
    [
        (name, *pair)
        for name, script in SCRIPTS.items()
        for pair in getattr(script, "REFUSED", {}).items()
    ],
)
def test_refused_flags_say_what_to_use(folder, capsys, script, flag, sentence):
    assert fail(script, flag, capsys) == f"{flag}: {sentence}"
    assert fail(script, f"{flag.replace('-', '_').replace('__', '--')} 1", capsys) == (
        f"{flag}: {sentence}"
    )


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        # a file that does not open is a wrong command
        ("clip.mp4", 2, "clip.mp4: not a video that OpenCV can read, or one without frames"),
        # images are looked at one by one; that none could be read is known at the end
        ("image.jpg", 1, "failed: none of 1 file could be read"),
    ],
)
def test_a_single_source_that_cannot_be_read(folder, capsys, name, code, expected):
    (folder / name).write_bytes(b"not what the name says")
    arguments = f"--weights good.pt --source {name} --imgsz 32 --device cpu"
    assert fail("detect", arguments, capsys, code) == expected


def test_a_folder_without_images(folder, capsys):
    (folder / "nothing").mkdir()
    assert "nothing" in fail("detect", "--weights good.pt --source nothing", capsys)


def test_a_data_set_without_images(folder, capsys):
    (folder / "empty").mkdir()
    (folder / "empty.yaml").write_text("path: .\ntrain: empty\nval: empty\nnames: [a, b, c]\n")
    assert "empty" in fail("val", "--data empty.yaml --weights good.pt --workers 0", capsys)


def test_labels_are_optional_but_images_must_be_readable(folder, capsys):
    """One bad image is skipped with a warning; nothing but bad ones is an error."""
    write_image(folder / "set/images/c.png").write_bytes(b"broken")
    arguments = f"{WITH_WEIGHTS['val']} good.pt --imgsz 32 --noplots --device cpu"
    assert val.main(arguments.split()) == 0
    assert "c.png" in capsys.readouterr().err
    for name in ("a", "b"):
        (folder / f"set/images/{name}.png").write_bytes(b"broken")
    assert fail("val", arguments, capsys) != ""
