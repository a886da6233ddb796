"""Equal content is equal whatever the metadata; every kind of other content is noticed."""

from __future__ import annotations

import copy

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from experiments.content_difference import (
    file_parts,
    onnx_parts,
    parts_difference,
    path_difference,
    tree_difference,
)

REPORT = {"AP": 0.5, "files": [{"path": "a", "latency_ms": 1.0, "bytes": 3}], "ratio": None}


def test_reports_that_differ_in_measurements_and_paths_are_equal():
    after = {"AP": 0.5, "files": [{"path": "b", "latency_ms": 2.0, "bytes": 4}], "ratio": None}
    assert tree_difference(REPORT, after) is None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda r: r.update(AP=0.5 + 1e-17), None),  # rounds to the same number
        (lambda r: r.update(AP=0.5000000000000001), "AP"),
        (lambda r: r.update(AP=None), "AP"),
        (lambda r: r.update(AP="0.5"), "AP"),
        (lambda r: r.update(ratio=False), "ratio"),
        (lambda r: r.update(new=1), "keys"),
        (lambda r: r.pop("ratio"), "keys"),
        (lambda r: r["files"][0].update(extra=1), "files[0]"),
        (lambda r: r["files"][0].pop("latency_ms"), "files[0]"),
        (lambda r: r["files"].append({}), "files"),
        (lambda r: r["files"][0].update(latency_ms={"mean": 1}), None),  # below: measured
    ],
)
def test_reports(change, where):
    after = copy.deepcopy(REPORT)
    change(after)
    difference = tree_difference(REPORT, after)
    assert (difference and difference.split(":")[0]) == where


def test_keys_of_measurements_are_compared():
    before = {"ms_per_image": {"inference": 1.0, "preprocess": 1.0}}
    assert tree_difference(before, {"ms_per_image": {"inference": 2.0, "preprocess": 3.0}}) is None
    assert tree_difference(before, {"ms_per_image": {"inference": 1.0}}) is not None


def test_nan_equals_itself():
    assert tree_difference({"a": float("nan")}, {"a": float("nan")}) is None


@pytest.mark.parametrize(
    "after",
    [
        torch.tensor([1.0, 2.0000002]),  # the last bit
        torch.tensor([1.0, 2.0], dtype=torch.float64),
        torch.tensor([[1.0, 2.0]]),
        [1.0, 2.0],
    ],
)
def test_tensors_are_compared_bit_by_bit(after):
    before = {"state": [{"momentum": torch.tensor([1.0, 2.0])}]}
    assert tree_difference(before, copy.deepcopy(before)) is None
    difference = tree_difference(before, {"state": [{"momentum": after}]})
    assert difference is not None
    assert difference.startswith("state[0].momentum: ")


def test_signed_zeros_and_nan_of_tensors():
    zero, nan = torch.tensor(0.0), torch.tensor(float("nan"))
    assert tree_difference(zero, -zero) is not None
    assert tree_difference(nan, nan.clone()) is None


def test_checkpoints(tmp_path):
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        content = {"metadata": name, "weights": {"w": torch.full((2,), value)}, "ema": None}
        torch.save(content, tmp_path / f"{name}.pt")
    assert path_difference(tmp_path / "a.pt", tmp_path / "b.pt") is None
    difference = path_difference(tmp_path / "a.pt", tmp_path / "c.pt")
    assert difference is not None
    assert difference.startswith("a.pt: weights.w: other bits")


def network(weight: float = 1.0, operator: str = "Add", name: str = "first") -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1]) for end in ("x", "y")]
    constant = helper.make_tensor("w", TensorProto.FLOAT, [1], [weight])
    node = helper.make_node(operator, ["x", "w"], ["y"], name=name)
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [constant]))


def onnx_difference(before: onnx.ModelProto, after: onnx.ModelProto) -> str | None:
    return parts_difference(*(onnx_parts(m.SerializeToString()) for m in (before, after)))


def test_onnx_metadata_is_no_content():
    after = network()
    helper.set_model_props(after, {"torch": "9.9"})
    assert onnx_difference(network(), after) is None


@pytest.mark.parametrize(
    ("after", "where"),
    [
        (network(weight=1.0000001), "initializer w"),
        (network(operator="Mul"), "node 0 first"),
        (network(name="second"), "parts"),
    ],
)
def test_onnx_content(after, where):
    difference = onnx_difference(network(), after)
    assert difference is not None
    assert difference.split(":")[0] == where


def test_onnx_opset_is_content():
    after = network()
    after.opset_import[0].version = 9
    assert onnx_difference(network(), after) is not None


class Scaled(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.value


class Renamed(Scaled):
    pass


class Shifted(Scaled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.value


def torchscript(path, module, metadata: str):
    traced = torch.jit.trace(module, torch.ones(1))
    torch.jit.save(traced, str(path), _extra_files={"config.txt": metadata})
    return file_parts(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript(tmp_path):
    first = torchscript(tmp_path / "a.torchscript", Scaled(2.0), "one")
    second = torchscript(tmp_path / "b.torchscript", Renamed(2.0), "two")
    other = torchscript(tmp_path / "c.torchscript", Scaled(3.0), "one")
    shifted = torchscript(tmp_path / "d.torchscript", Shifted(2.0), "one")
    assert parts_difference(first, second) is None
    assert parts_difference(first, other) is not None
    assert parts_difference(first, shifted) is not None


def test_openvino_rt_info_is_no_content(tmp_path):
    for name, layers, info in (("a", 1, "x"), ("b", 1, "y"), ("c", 2, "x")):
        text = f"<net><layers>{layers}</layers>\n<rt_info>\n{info}</rt_info></net>"
        (tmp_path / f"{name}.xml").write_text(text)
    assert path_difference(tmp_path / "a.xml", tmp_path / "b.xml") is None
    assert path_difference(tmp_path / "a.xml", tmp_path / "c.xml") is not None


def test_rockchip_files_are_compared_by_length(tmp_path):
    for name, content in (("a", b"12"), ("b", b"34"), ("c", b"123")):
        (tmp_path / f"{name}.rknn").write_bytes(content)
    assert path_difference(tmp_path / "a.rknn", tmp_path / "b.rknn") is None
    assert path_difference(tmp_path / "a.rknn", tmp_path / "c.rknn") is not None


@pytest.fixture
def folders(tmp_path):
    for side in ("before", "after"):
        (tmp_path / side / "inner").mkdir(parents=True)
        (tmp_path / side / "inner" / "a.txt").write_text("a")
        (tmp_path / side / "metadata.json").write_text(side)
    return tmp_path / "before", tmp_path / "after"


def test_equal_folders(folders):
    assert path_difference(*folders) is None


def test_folders_differ_by_content_names_and_existence(folders):
    before, after = folders
    (after / "inner" / "a.txt").write_text("b")
    assert str(path_difference(before, after)).startswith("a.txt")
    (after / "b.txt").write_text("b")
    assert "b.txt" in str(path_difference(before, after))
    assert str(after / "none") in str(path_difference(before, after / "none"))
