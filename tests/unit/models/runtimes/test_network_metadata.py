"""What export.py writes of a network is what runtimes read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.runtimes.input_sizes import InputSizes
from models.runtimes.network_metadata import FileMetadata, NetworkMetadata
from models.runtimes.sidecar import Sidecar, write_metadata
from utils.errors import CheckpointError

METADATA = FileMetadata(
    class_names=("cat", "dog"),
    strides=(8, 16),
    anchors=((10, 13, 16, 30), (30, 61, 62, 45.5)),
    sizes=InputSizes((64, 96)),
    head="raw",
    opset=12,
)
KEYS = [
    "names", "nc", "stride", "anchors", "imgsz", "batch", "dynamic", "head", "maps", "input",
    "activation", "precision", "opset", "torch", "license",
]  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [METADATA, replace(METADATA, head="sigmoid"), replace(METADATA, rows_last=True),
     replace(METADATA, class_names=(), strides=(8, 16))],
)  # fmt: skip
def test_reading_is_the_inverse_of_writing(metadata):
    found = NetworkMetadata.from_texts(Path("x"), metadata.as_texts())
    pairs = (((10, 13), (16, 30)), ((30, 61), (62, 45.5)))
    assert found == NetworkMetadata(
        metadata.class_names, metadata.strides, pairs, metadata.head, metadata.rows_last, (64, 96)
    )


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


def test_keys_and_numbers_stay_as_they_are():
    values = METADATA.as_json()
    assert list(values) == KEYS
    assert json.dumps(values["anchors"]) == "[[10, 13, 16, 30], [30, 61, 62, 45.5]]"
    assert (values["maps"], values["nc"], values["imgsz"]) == ("NCHW", 2, [64, 96])
    assert list(values["input"]) == ["layout", "color", "range", "pad", "letterbox"]


def test_a_compiled_network_takes_pixels():
    values = replace(METADATA, compiled=True, platform="chip").as_json()
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
