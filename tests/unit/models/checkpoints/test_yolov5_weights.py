"""YOLOv5's checkpoints, read as ours."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from tests.checkpoint_builders import CLASS_NAMES, TouchesAFile, save_yolov5, tensors_equal
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckpointError


@pytest.fixture(scope="module")
def model():
    """Of plain convolutions, as YOLOv5 has them."""
    return trained_model(tiny_spec(rep_block=None, activation="SiLU"))


def message(path):
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("key", ["ema", "model"])
def test_the_same_network_comes_out(tmp_path, model, key):
    path = save_yolov5(tmp_path / "y.pt", model, key=key, dtype=torch.float32)
    checkpoint = read_weights(path)
    assert checkpoint.form == "train"
    assert checkpoint.class_names == CLASS_NAMES
    assert checkpoint.config == {"source": "y.pt"}
    assert checkpoint.spec == dataclasses.replace(model.spec, name="x").to_yaml()
    built = build_from_checkpoint(checkpoint)
    assert tensors_equal(built.state_dict(), model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(model(images), built(images), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("license", "expected"),
    [("AGPL-3.0", {"license": "AGPL-3.0"}), (None, {}), (" ", {}), (3, {})],
)
def test_its_licence_goes_with_it(tmp_path, model, license, expected):
    path = save_yolov5(tmp_path / "y.pt", model, beside={"license": license})
    assert read_weights(path).config == {"source": "y.pt", **expected}


def test_half_precision_weights_become_float32(tmp_path, model):
    weights = read_weights(save_yolov5(tmp_path / "y.pt", model)).weights
    kinds = {tensor.dtype for tensor in weights.values()}
    assert kinds == {torch.float32, torch.int64}  # the counters of norms stay whole
    name = "layers.0.conv.weight"
    assert torch.equal(weights[name], model.state_dict()[name].half().float())


def test_the_average_is_preferred(tmp_path, model):
    """A file may hold both; `ema` wins."""
    other = trained_model(model.spec, seed=1)
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32)
    both = save_yolov5(tmp_path / "b.pt", other, key="model", dtype=torch.float32)
    assert not tensors_equal(read_weights(path).weights, read_weights(both).weights)
    assert read_weights(path).ema_weights is None


def test_names_as_a_list_and_anchors_in_pixels(tmp_path, model):
    checkpoint = read_weights(save_yolov5(tmp_path / "y.pt", model, names=["a", "b", "c"]))
    assert checkpoint.class_names == ("a", "b", "c")
    assert checkpoint.spec["anchors"] == [list(level) for level in model.spec.anchors]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"names": ["a", "b"]}, "has no list of 3 class names"),
        ({"yaml": None}, "holds no YOLOv5 model with its yaml"),
    ],
)
def test_wrong_attributes(tmp_path, model, attributes, expected):
    assert message(save_yolov5(tmp_path / "y.pt", model, **attributes)) == expected


def test_a_yaml_of_another_network(tmp_path, model):
    yaml = {**tiny_spec(width_multiple=0.5).to_yaml(), "rep_block": None}
    text = message(save_yolov5(tmp_path / "y.pt", model, yaml=yaml))
    assert_message(text, "layer 0 (model.0.conv): out_channels is 8", "16")
    yaml = tiny_spec(depth_multiple=1.0).to_yaml()
    text = message(save_yolov5(tmp_path / "y.pt", model, yaml=yaml))
    assert text == "backbone row 3 (layer 3, C3): has 1 blocks, its yaml says 3"
    yaml = {**model.spec.to_yaml(), "backbone": [*model.spec.to_yaml()["backbone"]] * 2}
    text = message(save_yolov5(tmp_path / "y.pt", model, yaml=yaml))
    assert text == "has 11 layers, but its yaml has 18 rows"


def test_a_layer_that_is_not_offered(tmp_path, model):
    yaml = model.spec.to_yaml()
    yaml["backbone"][3][2] = "C3Odd"
    text = message(save_yolov5(tmp_path / "y.pt", model, yaml=yaml))
    assert "backbone row 3 (layer 3, C3Odd): unknown module 'C3Odd'" in text
    assert text.endswith("; this checkpoint cannot be used yet")


def test_a_hostile_file(tmp_path):
    touched, path = tmp_path / "touched", tmp_path / "evil.pt"
    torch.save({"model": TouchesAFile(touched)}, path)
    assert "refused, nothing was executed: it wants to call posix.system" in message(path)
    assert not touched.exists()


@pytest.mark.parametrize("content", [{"epoch": torch.device("cpu")}, {"model": None}])
def test_no_model_inside(tmp_path, content):
    path = tmp_path / "y.pt"
    torch.save({**content, "layer": torch.nn.ReLU()}, path)
    assert message(path) == "holds no YOLOv5 model with its yaml"


def test_the_official_file(shared):
    checkpoint = read_weights(shared / "weights" / "yolov5n.pt")
    assert len(checkpoint.class_names) == 80
    assert checkpoint.class_names[:2] == ("person", "bicycle")
    assert sum(p.numel() for p in build_from_checkpoint(checkpoint).parameters()) == 1_872_157
