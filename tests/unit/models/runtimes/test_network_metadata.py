"""What export.py writes of a network is what runtimes read."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import NetworkMetadata
from models.runtimes.sidecar import Sidecar, write_metadata
from utils.errors import CheckpointError
from utils.strict_yaml import read_yaml, write_yaml

METADATA = FileMetadata(
    class_names=("cat", "dog"),
    strides=(8, 16),
    anchors=((10, 13, 16, 30), (30, 61, 62, 45.5)),
    sizes=InputSizes((64, 96)),
    head="raw",
    opset=12,
)
KEYS = [
    "names", "nc", "stride", "strides", "anchors", "imgsz", "batch", "dynamic", "head", "maps",
    "input", "activation", "precision", "opset", "torch",
]  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [METADATA, replace(METADATA, head="sigmoid"), replace(METADATA, rows_last=True),
     replace(METADATA, class_names=(), strides=(8, 16)),
     replace(METADATA, strides=(8, 16), stride=32)],  # no map of the coarsest level
)  # fmt: skip
def test_reading_is_the_inverse_of_writing(metadata):
    found = NetworkMetadata.from_texts(Path("x"), metadata.as_texts())
    pairs = (((10, 13), (16, 30)), ((30, 61), (62, 45.5)))
    assert found == NetworkMetadata(
        metadata.class_names, metadata.strides, pairs, metadata.head, metadata.rows_last, (64, 96),
        metadata.stride or max(metadata.strides),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, None),  # YOLOv5's ONNX files
        ({"imgsz": "[384, 640]"}, (384, 640)),
        ({"imgsz": "320"}, (320, 320)),
        ({"imgsz": "(320, 640)"}, (320, 640)),  # a Python literal
    ],
)
def test_the_size_it_was_exported_with(texts, expected):
    assert NetworkMetadata.from_texts(Path("x"), texts).known_hw == expected


@pytest.mark.parametrize("text", ["wide", "[0, 640]", "[]"])
def test_a_size_that_is_none(text):
    with pytest.raises(CheckpointError, match="'imgsz'"):
        NetworkMetadata.from_texts(Path("x"), {"imgsz": text})


@pytest.mark.parametrize("key", ["stride", "strides"])
@pytest.mark.parametrize(
    "text", ["0", "[0, 0, 0]", "-32", "NaN", "Infinity", "[8, []]", "[" * 100_000]
)
def test_a_stride_that_is_none(key, text):
    with pytest.raises(CheckpointError, match=rf"^a\.onnx: metadata '{key}' is "):
        NetworkMetadata.from_texts(Path("a.onnx"), {key: text})


@pytest.mark.parametrize("text", ["{10000000000: 'a'}", "{-1: 'a'}", "3", "{'a': 'b'}"])
def test_names_that_are_none(text):
    with pytest.raises(CheckpointError, match=r"^a\.onnx: metadata 'names' is "):
        NetworkMetadata.from_texts(Path("a.onnx"), {"names": text})


def test_keys_and_numbers_stay_as_they_are():
    values = METADATA.as_values()
    assert list(values) == KEYS
    assert json.dumps(values["anchors"]) == "[[10, 13, 16, 30], [30, 61, 62, 45.5]]"
    assert (values["maps"], values["nc"], values["imgsz"]) == ("NCHW", 2, [64, 96])
    assert list(values["input"]) == ["layout", "color", "range", "pad", "letterbox"]


@pytest.mark.parametrize("names", [("cat", "dog's"), ('"', "\\", "a\nb"), ("猫", "\udc80"), ()])
def test_readers_of_yolov5s_files_evaluate_stride_and_names(names):
    texts = replace(METADATA, class_names=names).as_texts()
    assert int(texts["stride"]) == 16
    assert ast.literal_eval(texts["names"]) == dict(enumerate(names))
    assert (texts["strides"], texts["imgsz"], texts["head"]) == ("[8, 16]", "[64, 96]", "raw")
    assert NetworkMetadata.from_texts(Path("x"), texts).class_names == names


def test_values_are_json_and_yaml_with_the_largest_stride(tmp_path):
    values = METADATA.as_values()
    write_yaml(tmp_path / "x.yaml", values)
    assert read_yaml(tmp_path / "x.yaml") == values
    assert values["stride"] == 16 and values["names"] == {0: "cat", 1: "dog"}
    assert json.loads(json.dumps(values))["names"] == {"0": "cat", "1": "dog"}


def test_a_licence_is_named_where_it_is_known():
    assert "license" not in METADATA.as_texts()
    assert replace(METADATA, license="MIT").as_texts()["license"] == "MIT"


FOREIGN = {
    "our files before strides": (
        {"names": '["cat", "dog"]', "nc": "2", "stride": "[8, 16]", "head": '"raw"',
         "anchors": "[[10, 13, 16, 30], [30, 61, 62, 45.5]]", "maps": '"NCHW"',
         "license": '"Apache-2.0"'},
        (("cat", "dog"), (8, 16), "raw"),
    ),
    "YOLOv5": ({"names": "{0: 'cat'}", "stride": "32"}, (("cat",), (32,), "decoded")),
    "ultralytics": (
        {"names": "{0: 'cat'}", "stride": "32", "task": "detect", "head": "Detect",
         "args": "{'batch': 1, 'nms': False}", "end2end": "False"},
        (("cat",), (32,), "scores"),
    ),
    "ultralytics before it named heads": (
        {"names": "{0: 'cat'}", "stride": "32", "task": "detect"}, (("cat",), (32,), "scores"),
    ),
    "ultralytics with suppression": (
        {"names": "{0: 'cat'}", "task": "detect", "args": "{'nms': True}"},
        (("cat",), (8, 16, 32), "e2e"),
    ),
    "ultralytics without need of it": (
        {"names": "{0: 'cat'}", "task": "detect", "head": "v10Detect", "end2end": "True"},
        (("cat",), (8, 16, 32), "e2e"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("texts", "expected"), FOREIGN.values(), ids=FOREIGN)
def test_files_of_others_and_earlier_ones(texts, expected):
    found = NetworkMetadata.from_texts(Path("x"), texts)
    assert (found.class_names, found.strides, found.head) == expected


def test_a_network_for_another_task():
    with pytest.raises(CheckpointError, match="x: a network for segment, expected one for detect"):
        NetworkMetadata.from_texts(Path("x"), {"task": "segment", "head": "Segment"})


def test_a_compiled_network_takes_pixels():
    values = replace(METADATA, compiled=True, platform="chip").as_values()
    assert list(values) == [*KEYS, "platform"]
    assert values["input"] == {
        "layout": "NHWC", "color": "RGB", "range": [0, 255], "pad": 114, "letterbox": "centred",
        "dtype": "uint8",
    }  # fmt: skip


def test_a_file_beside_the_network(tmp_path):
    write_metadata(tmp_path, METADATA)
    found = Sidecar.read(tmp_path)
    assert (found.class_names, found.stride, found.input_hw) == (("cat", "dog"), 16, (64, 96))
    assert found.heads.outputs == ("out0", "out1")


@pytest.mark.parametrize(
    ("given", "input_hw"),
    [(640, (640, 640)), ([320], (320, 320)), ([64, 96], (64, 96)), (None, (None, None))],
    ids=["one side", "a list of one", "both", "not said"],
)
def test_sizes_in_a_file_beside_the_network(tmp_path, given, input_hw):
    values = {**METADATA.as_values(), "imgsz": given}
    content = {key: value for key, value in values.items() if value is not None}
    (tmp_path / "metadata.json").write_text(json.dumps(content), encoding="utf-8")
    found = Sidecar.read(tmp_path)
    assert found.input_hw == input_hw
    assert found.known_hw == (None if given is None else input_hw)
