"""TorchScript: files that libtorch's programs take, and files of others."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import export
from models.export.export_networks import DecodedNetwork, FixedDecodedNetwork
from models.formats.torchscript import TorchScriptRunner
from tests.checkpoint_builders import CLASS_NAMES, save_model
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckpointError

HW = (64, 96)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchscript")
    weights = save_model(folder / "w.pt", trained_model(tiny_spec(rep_block=None), seed=3))
    export.export(export.ExportConfig(str(weights), preset=("torchscript",), imgsz=HW))
    return folder / "w.torchscript"


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(0).random((1, 3, *HW), np.float32))


def load(path):
    return torch.jit.load(str(path))


def test_the_answer_is_a_tuple_of_one(file, images):
    answer = load(file)(images)
    assert isinstance(answer, tuple) and len(answer) == 1
    assert answer[0].shape == (1, 2 * (8 * 12 + 4 * 6 + 2 * 3), 5 + len(CLASS_NAMES))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_whole_program_is_converted(file, images, dtype):
    program, expected = load(file).to(dtype), load(file)(images)[0]
    tensors = [*program.parameters(), *program.buffers()]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert len(list(program.parameters())) > 20
    assert not any(parameter.requires_grad for parameter in program.parameters())
    found = program(images.to(dtype))[0].float()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0.3)


def test_the_program_moves_to_another_device(file, images):
    """No tensor is made on a device that was fixed when tracing."""
    graph = load(file).inlined_graph
    made = [node.kind() for node in graph.nodes()]
    assert not {"aten::arange", "aten::tensor", "aten::zeros", "aten::full"} & set(made)
    constants = graph.findAllNodes("prim::Constant")
    tensors = [each.t("value") for each in constants
               if each.output().type().kind() == "TensorType"]  # fmt: skip
    assert all(tensor.ndim == 0 for tensor in tensors)  # numbers go with any device


def test_the_metadata_are_plain_json(file):
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("extra/config.txt")]
        values = json.loads(archive.read(name))
    assert values["names"] == {str(i): name for i, name in enumerate(CLASS_NAMES)}
    assert (values["stride"], values["shape"]) == (32, [1, 3, *HW])
    assert (values["imgsz"], values["head"], values["batch"]) == (list(HW), "decoded", 1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_fixed_sizes_decode_as_any_do(batch_size):
    detector = trained_model(tiny_spec(rep_block=None), seed=3)
    images = torch.rand(batch_size, 3, *HW, generator=torch.manual_seed(0))
    with torch.no_grad():
        found = FixedDecodedNetwork(detector, HW).eval()(images)
        assert torch.equal(found, DecodedNetwork(detector).eval()(images))


class Fixed(nn.Module):
    """Answers as YOLOv5's traced programs: at one size alone, with a tuple or a tensor."""

    def __init__(self, *, in_tuple: bool = True) -> None:
        super().__init__()
        self.in_tuple = in_tuple
        self.register_buffer("cells", torch.ones(1, 64 * 64, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor] | torch.Tensor:
        decoded = (images.mean(1).reshape(1, -1, 1) * self.cells).repeat(1, 1, 7)
        return (decoded,) if self.in_tuple else decoded


def save(path, config, **options):
    with torch.no_grad():
        program = torch.jit.trace(Fixed(**options), torch.zeros(1, 3, 64, 64))
    program.save(str(path), _extra_files={"config.txt": config})
    return path


CONFIGS = {
    "YOLOv5": {"shape": [1, 3, 64, 64], "stride": 32, "names": {"0": "cat", "1": "dog"}},
    "ultralytics": {"imgsz": [64, 64], "batch": 1, "stride": 32, "names": {"0": "cat", "1": "dog"}},
    "one side": {"imgsz": 64, "batch": 1, "stride": 32, "names": ["cat", "dog"]},
    "ours, before": {"imgsz": "[64, 64]", "batch": "1", "stride": "[8, 16, 32]",
                     "names": '["cat", "dog"]', "head": '"decoded"'},
}  # fmt: skip


@pytest.mark.parametrize("in_tuple", [True, False], ids=["tuple", "tensor"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_size_is_read(config, in_tuple, tmp_path):
    path = save(tmp_path / "x.torchscript", json.dumps(config), in_tuple=in_tuple)
    runner = TorchScriptRunner(path, device="cpu")
    assert (runner.input_hw, runner.batch_size, runner.stride) == ((64, 64), 1, 32)
    assert runner.class_names == ("cat", "dog")
    assert runner.run(np.ones((3, 3, 64, 64), np.float32)).shape == (3, 64 * 64, 7)


def test_another_size_is_refused(tmp_path):
    runner = TorchScriptRunner(save(tmp_path / "x.torchscript", "{}"), device="cpu")
    assert (runner.input_hw, runner.batch_size) == ((None, None), None)
    with pytest.raises(CheckpointError, match=r"x\.torchscript: does not run on images \[1, 3, 96"):
        runner.run(np.ones((1, 3, 96, 96), np.float32))


@pytest.mark.parametrize(
    "config",
    ["not json", "[1]", '{"imgsz": "wide"}', '{"imgsz": [0, 64]}', '{"imgsz": [1, 2, 3]}',
     '{"batch": -1}', '{"shape": [1, 3]}', '{"imgsz": {}}', '{"shape": 5}'],
)  # fmt: skip
def test_metadata_that_cannot_be_understood(config, tmp_path):
    with pytest.raises(CheckpointError, match=r"x\.torchscript: .*(config\.txt|metadata 'imgsz')"):
        TorchScriptRunner(save(tmp_path / "x.torchscript", config), device="cpu")
