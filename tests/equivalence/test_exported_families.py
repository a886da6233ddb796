"""Exported, every family is the plain network: the same operators and the same convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from models.conversion.deploy import to_deploy
from models.export.onnx_file import OnnxOptions, write_onnx
from models.formats.onnx import operator_counts
from models.network.box_coder import DecodedNetwork
from models.network.detector import Detector
from models.network.model_spec import ModelSpec
from models.reparam.families import FAMILIES
from tests.model_builders import tiny_spec, tiny_yaml, trained_model

EVERY = [*FAMILIES, "OREPA(pointwise=true, stem=true)"]
NORM = "BatchNormalization"
each_family = pytest.mark.parametrize("family", EVERY)


@dataclass(frozen=True, slots=True)
class Written:
    """What a file is made of.

    Attributes:
        operators: nodes by operator.
        convolutions: the weight shape of each Conv, in order; () where the file computes it.
    """

    operators: dict[str, int]
    convolutions: list[tuple[int, ...]]


def write(folder: Path, model: Detector, *, simplify: bool = True) -> Written:
    """As export.py does, or without folding what does not depend on the image."""
    path = folder / "network.onnx"
    options = OnnxOptions(input_hw=(64, 96), simplify=simplify)
    write_onnx(path, DecodedNetwork(model).eval(), options, {})
    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convolutions = [shapes.get(node.input[1], ()) for node in graph.node if node.op_type == "Conv"]
    return Written(operator_counts(path), convolutions)


@pytest.fixture(scope="module")
def plain_tiny(tmp_path_factory) -> Written:
    model = trained_model(tiny_spec(rep_block=None))
    return write(tmp_path_factory.mktemp("plain"), to_deploy(model))


def test_the_plain_network(plain_tiny):
    """By its rows: 17 convolutions of blocks, and one per level of the head."""
    assert plain_tiny.operators["Conv"] == len(plain_tiny.convolutions) == 20
    assert plain_tiny.convolutions[:3] == [(8, 3, 6, 6), (8, 8, 3, 3), (8, 8, 3, 3)]
    assert sum(shape[2:] == (3, 3) for shape in plain_tiny.convolutions) == 6
    assert NORM not in plain_tiny.operators


@pytest.fixture(scope="module")
def plain_raw(tmp_path_factory) -> Written:
    model = trained_model(tiny_spec(rep_block=None))
    return write(tmp_path_factory.mktemp("plain"), to_deploy(model), simplify=False)


@each_family
def test_a_deploy_form_is_the_plain_network(tmp_path, plain_tiny, plain_raw, family):
    model = to_deploy(trained_model(tiny_spec(rep_block=family)))
    assert write(tmp_path, model) == plain_tiny
    assert write(tmp_path, model, simplify=False) == plain_raw


# The comparison can fail


@pytest.mark.parametrize("family", ["RepVGG", "DBB", "QARepVGG"])
def test_branches_of_a_train_form_show(tmp_path, plain_tiny, family):
    written = write(tmp_path, trained_model(tiny_spec(rep_block=family)))
    assert len(written.convolutions) > len(plain_tiny.convolutions)
    assert written.operators["Add"] > plain_tiny.operators["Add"]
    assert written.operators[NORM] > 0  # those that no convolution in front of them takes in


def test_the_composing_of_a_kernel_shows(tmp_path, plain_raw):
    """One convolution per block in training too, but what its kernel is made of is in the file."""
    model = trained_model(tiny_spec(rep_block="OREPA"))
    written = write(tmp_path, model, simplify=False)
    assert len(written.convolutions) == len(plain_raw.convolutions)
    assert written.convolutions.count(()) == 6 and () not in plain_raw.convolutions
    assert sum(written.operators.values()) > 1.5 * sum(plain_raw.operators.values())


def test_another_kernel_size_is_noticed(tmp_path, plain_tiny):
    """The same operators with other shapes."""
    first, _, *others = tiny_yaml()["backbone"]
    spec = tiny_spec(rep_block=None, backbone=[first, [-1, 1, "Conv", [32, 5, 2]], *others])
    written = write(tmp_path, to_deploy(trained_model(spec)))
    assert written.operators == plain_tiny.operators
    assert written.convolutions != plain_tiny.convolutions


@pytest.fixture(scope="module")
def plain_yolov5n(tmp_path_factory) -> Written:
    model = trained_model(ModelSpec.from_file("yolov5n.yaml"))
    return write(tmp_path_factory.mktemp("plain"), to_deploy(model))


@pytest.mark.slow
@each_family
def test_yolov5n(tmp_path, plain_yolov5n, family):
    assert plain_yolov5n.operators["Conv"] == 60
    assert NORM not in plain_yolov5n.operators
    spec = ModelSpec.from_file("yolov5n.yaml").replaced(rep_block=family)
    assert write(tmp_path, to_deploy(trained_model(spec))) == plain_yolov5n
