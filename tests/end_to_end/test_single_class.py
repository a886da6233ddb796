"""A network trained with --single-cls is evaluated on the data it was trained on, flag or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import convert
import export
import val
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec
from tests.unit.data.builders import write_yolo_set
from utils.checkpoint import Checkpoint, save_checkpoint

QUICK = ["--workers", "0", "--report", "r.json"]
SCRIPTS = {
    "val": (val.main, ["--noplots", "--exist-ok", "--device", "cpu"]),
    "convert": (convert.main, ["--device", "cpu"]),
    "export": (export.main, []),
    "export --int8": (export.main, ["--int8", "--calibration", "minmax", "--max-drop", "100"]),
}
each_script = pytest.mark.parametrize("name", SCRIPTS)
each_name = pytest.mark.parametrize("class_name", ["object", "item"])  # ours, YOLOv5's


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Data of three classes, all labelled."""
    monkeypatch.chdir(tmp_path)
    labels = {stem: f"{number} 0.5 0.5 0.4 0.4\n" for number, stem in enumerate("abc")}
    write_yolo_set(tmp_path / "set", labels, (96, 96))
    return tmp_path


def write_network(name: str) -> None:
    """One that finds many objects of a single class."""
    model = finding_model(tiny_spec(nc=1), 1.5)
    checkpoint = Checkpoint("train", model.spec.to_yaml(), (name,), model.state_dict(), 96)
    save_checkpoint(Path("one.pt"), checkpoint)


def run(name: str, weights: str, *flags: str) -> int:
    main, given = SCRIPTS[name]
    return main(["--weights", weights, "--data", "set/animals.yaml", *QUICK, *given, *flags])


def AP(name: str) -> object:
    """What the report says of the quality."""
    report = json.loads(Path("r.json").read_text())
    return report["files"][0]["AP"] if name.startswith("export") else report["AP"]


@each_script
def test_with_the_flag_or_without_it(folder, capsys, name):
    write_network("object")
    assert run(name, "one.pt") == 0
    assert "one.pt was trained with --single-cls" in capsys.readouterr().out
    found = AP(name)
    assert run(name, "one.pt", "--single-cls") == 0
    assert AP(name) == found


@each_name
def test_its_exported_file(folder, capsys, class_name):
    write_network(class_name)
    assert export.main(["--weights", "one.pt"]) == 0
    assert run("val", "one.onnx") == 0
    report = json.loads(Path("r.json").read_text())
    assert "one.onnx was trained with --single-cls" in capsys.readouterr().out
    assert [row["name"] for row in report["per_class"]] == ["object"]
    assert report["instances"] == 3


@each_script
def test_a_network_of_one_class_of_its_own_is_still_refused(folder, capsys, name):
    write_network("cat")
    assert run(name, "one.pt") == 2
    assert "one.pt knows 1 class, set names 3" in capsys.readouterr().err
    assert name != "val" or run(name, "one.pt", "--single-cls") == 0  # asked for


@each_script
def test_a_network_of_all_classes_may_be_evaluated_as_one(folder, name):
    save_model(folder / "three.pt", finding_model(tiny_spec(), 1.5), image_size=96)
    assert run(name, "three.pt", "--single-cls") == 0


def test_data_of_one_class_keeps_its_name(folder):
    """Then nothing is merged."""
    write_network("object")
    yaml = folder / "set" / "animals.yaml"
    yaml.write_text("path: .\ntrain: images\nval: images\nnames: [cat]\n")
    for stem in "abc":
        (folder / "set" / "labels" / f"{stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    assert run("val", "one.pt") == 0
    assert [row["name"] for row in json.loads(Path("r.json").read_text())["per_class"]] == ["cat"]
