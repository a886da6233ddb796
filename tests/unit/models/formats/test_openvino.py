"""OpenVINO folders: sidecars that other readers look for, and theirs."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import export
from models.formats.openvino import OpenVinoRunner
from tests.checkpoint_builders import CLASS_NAMES, save_model
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckpointError
from utils.strict_yaml import read_yaml, write_yaml

pytest.importorskip("openvino", reason="openvino is not installed")
HW = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    weights = save_model(folder / "w.pt", trained_model(tiny_spec(rep_block=None), seed=3))
    export.export(export.ExportConfig(str(weights), preset=("openvino",), imgsz=HW))
    return folder / "w_openvino_model"


def without_metadata(folder: Path, target: Path) -> Path:
    """The .xml and .bin as YOLOv5 writes them, which keeps nothing inside; returns the .xml."""
    shutil.copytree(folder, target)
    for path in target.glob("*.yaml"):
        path.unlink()
    xml = target / "w.xml"
    tree = ElementTree.parse(xml)
    (info,) = tree.getroot().findall("rt_info")
    info.remove(info.find("model_info"))
    tree.write(xml)
    return xml


@pytest.mark.parametrize("name", ["w.yaml", "metadata.yaml"])
def test_the_sidecars_of_yolov5_and_ultralytics(folder, name):
    values = read_yaml(folder / name)
    assert values["names"] == dict(enumerate(CLASS_NAMES))
    assert (values["stride"], values["strides"]) == (32, [8, 16, 32])
    assert (values["imgsz"], values["batch"], values["head"]) == (list(HW), 1, "decoded")


def test_one_of_their_names_is_enough_for_both(tmp_path):
    weights = save_model(tmp_path / "metadata.pt", trained_model(tiny_spec(), seed=3))
    export.export(export.ExportConfig(str(weights), preset=("openvino",), imgsz=(64,)))
    assert read_yaml(tmp_path / "metadata_openvino_model" / "metadata.yaml")["stride"] == 32


SIDECARS = {
    "YOLOv5": ("w.yaml", {"stride": 32, "names": {0: "a", 1: "b", 2: "c"}}),
    "ultralytics": ("metadata.yaml", {"stride": 32, "names": {0: "a", 1: "b", 2: "c"},
                                      "batch": 1, "imgsz": [64, 96], "args": {"half": False}}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content"), SIDECARS.values(), ids=SIDECARS)
def test_sidecars_of_others_are_read(folder, name, content, tmp_path):
    xml = without_metadata(folder, tmp_path / "x_openvino_model")
    assert OpenVinoRunner(xml.parent).class_names == ()
    write_yaml(xml.parent / name, content)
    runner = OpenVinoRunner(xml.parent)
    assert (runner.class_names, runner.stride, runner.input_hw) == (("a", "b", "c"), 32, HW)
    images = np.random.default_rng(0).random((1, 3, *HW), np.float32)
    np.testing.assert_array_equal(runner.run(images), OpenVinoRunner(folder).run(images))


def test_what_the_xml_says_goes_before_a_sidecar(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "x_openvino_model")
    write_yaml(tmp_path / "x_openvino_model" / "w.yaml", {"names": {0: "other"}})
    assert OpenVinoRunner(tmp_path / "x_openvino_model").class_names == CLASS_NAMES


def test_a_broken_sidecar(folder, tmp_path):
    xml = without_metadata(folder, tmp_path / "x_openvino_model")
    xml.with_suffix(".yaml").write_text("[1")
    with pytest.raises(CheckpointError, match=r"w\.yaml: not valid yaml"):
        OpenVinoRunner(xml)
