"""Foreign checkpoints are read without running anything in them."""

from __future__ import annotations

import argparse
import os
import sys
import types

import pytest
import torch
from torch import nn

from models.checkpoints.inert_pickle import (
    MAX_DEPTH,
    MAX_VALUES,
    InertObject,
    collect_tensors,
    plain_value,
    read_inert,
    walk,
)
from tests.checkpoint_builders import TouchesAFile
from utils.errors import CheckpointError


class Calls:
    """Unpickling it calls a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def message(path):
    with pytest.raises(CheckpointError) as caught:
        read_inert(path)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_a_hostile_file_is_refused(tmp_path):
    touched, path = tmp_path / "touched", tmp_path / "evil.pt"
    torch.save({"model": TouchesAFile(touched)}, path)
    assert message(path) == (
        "refused, nothing was executed: it wants to call posix.system, "
        "which no detector checkpoint needs"
    )
    assert not touched.exists()
    torch.load(path, weights_only=False)  # it would have worked
    assert touched.exists()


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (eval, ("1 + 1",), "builtins.eval"),
        (exec, ("x = 1",), "builtins.exec"),
        (getattr, ("x", "upper"), "builtins.getattr"),
        (os.remove, ("nothing",), "posix.remove"),
        (torch.load, ("x",), "torch.serialization.load"),
        (torch.hub.load, ("x", "y"), "torch.hub.load"),
    ],
)
def test_other_calls_are_refused_too(tmp_path, function, args, name):
    path = tmp_path / "evil.pt"
    torch.save([Calls(function, *args)], path)
    assert f"it wants to call {name}, which" in message(path)


def test_several_names_are_all_named(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save([Calls(eval, "1"), nn.Conv2d(1, 1, 1), Calls(exec, "1")], path)
    assert "it wants to call builtins.eval, builtins.exec, which" in message(path)


def test_allowed_names_get_stand_ins_that_do_nothing(tmp_path):
    path = tmp_path / "a.pt"
    options = argparse.Namespace(epochs=3, path=tmp_path)
    torch.save({"opt": options, "layer": nn.Sequential(nn.BatchNorm2d(3, eps=0.5))}, path)
    content = read_inert(path)
    assert isinstance(content["opt"], InertObject)
    assert content["opt"].__dict__["epochs"] == 3
    assert content["opt"].class_name == "Namespace"
    assert content["layer"].pickled_name == "torch.nn.modules.container.Sequential"
    assert content["layer"].child("0").class_name == "BatchNorm2d"
    assert content["layer"].child("1") is None


def test_tensors_and_attributes_by_name(tmp_path):
    path = tmp_path / "a.pt"
    network = nn.Sequential(
        nn.Conv2d(2, 3, 1, bias=False),
        nn.Sequential(nn.BatchNorm2d(3, eps=0.5), nn.BatchNorm2d(3, eps=0.25)),
    )
    torch.save({"model": network}, path)
    stand_in = read_inert(path)["model"]
    found, expected = collect_tensors(stand_in, "a.pt"), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(tensor.requires_grad for tensor in found.values())
    eps = {name: each.attribute("eps") for name, each in walk(stand_in, "a.pt")}
    assert eps == {"": None, "0": None, "1": None, "1.0": 0.5, "1.1": 0.25}


def test_something_else_than_a_dictionary(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(nn.Conv2d(1, 1, 1), path)
    assert message(path) == "holds torch.nn.modules.conv.Conv2d, expected a checkpoint"
    torch.save([1], path)
    assert message(path) == "holds list, expected a checkpoint"


def test_no_file_of_torch(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    assert message(path).startswith("not a PyTorch checkpoint (expected a .pt ")


def test_a_damaged_file(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"model": nn.Conv2d(1, 1, 1)}, path)
    content = bytearray(path.read_bytes())
    content[60:200] = b"\xff" * 140
    path.write_bytes(content)
    assert message(path).startswith("damaged checkpoint (")


def stand_in(**children):
    module = InertObject()
    module.__dict__["_modules"] = children
    return module


def test_a_network_that_contains_itself():
    module = stand_in()
    module.__dict__["_modules"]["x"] = module
    with pytest.raises(CheckpointError, match=rf"^a\.pt: .* {MAX_DEPTH} levels"):
        list(walk(module, "a.pt"))


def test_a_network_that_doubles_at_each_level():
    module = stand_in()
    for _ in range(30):
        module = stand_in(x=module, y=module)
    with pytest.raises(CheckpointError, match=r"^a\.pt: its network has more than "):
        list(walk(module, "a.pt"))


def test_data_that_doubles_at_each_level():
    value = [1] * 20
    for _ in range(7):
        value = [value] * 20
    with pytest.raises(CheckpointError, match=rf"^a\.pt: its yaml has more than {MAX_VALUES} "):
        plain_value(value, "a.pt: its yaml")


def test_data_that_is_not_plain():
    itself = []
    itself.append(itself)
    for value in (itself, "x" * 20_000, {"a": torch.ones(1)}, {((((1,),),),): 1}):
        with pytest.raises(CheckpointError, match=r"^a\.pt: its yaml h"):
            plain_value(value, "a.pt: its yaml")
    assert plain_value({"a": (1, [None, "b"])}, "") == {"a": [1, [None, "b"]]}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(10**6, 10**6),
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, device="meta"),
    ],
    ids=["expanded", "sparse", "meta"],
)
def test_tensors_that_are_not_in_the_file(tensor):
    module = stand_in()
    module.__dict__["_parameters"] = {"weight": tensor}
    with pytest.raises(CheckpointError, match=r"^a\.pt: weight "):
        collect_tensors(module, "a.pt")


def test_the_names_of_yolov5s_package_are_allowed_too(tmp_path, monkeypatch):
    """From PyPI, where its modules have a prefix."""
    name = "yolov5.models.yolo"
    module = types.ModuleType(name)
    module.DetectionModel = type("DetectionModel", (nn.Module,), {"__module__": name})
    monkeypatch.setitem(sys.modules, "yolov5", types.ModuleType("yolov5"))
    monkeypatch.setitem(sys.modules, name, module)
    torch.save({"model": module.DetectionModel()}, tmp_path / "a.pt")
    assert read_inert(tmp_path / "a.pt")["model"].class_name == "DetectionModel"
