"""Pickled networks of YOLOv5-Lite, YOLOv3, early YOLOv5 and YOLOv7, read as networks of ours.

`tests.foreign_modules` computes what their layers compute, `tests.foreign_files` writes the files.
"""

from __future__ import annotations

import pytest
import torch

from models.checkpoints.inert_pickle import collect_tensors, read_inert
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import is_deployed, relative_error, to_deploy
from models.conversion.expand import expand
from models.network.detector import Detector
from models.network.model_spec import ModelSpec
from tests.checkpoint_builders import refusal
from tests.error_messages import assert_message
from tests.foreign_files import foreign_network, save_foreign
from tests.foreign_modules import Conv, Model
from tests.network_equivalence import equivalence_error

IMAGES = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
STRIDES = (8, 16, 32)
ACTIVATIONS = {
    "v1": lambda: torch.nn.LeakyReLU(0.1), "v3": torch.nn.Hardswish, "v4": torch.nn.SiLU,
}  # fmt: skip


def published_yaml(name: str, **changes) -> dict:
    """A shipped yaml as the file's own: without keys of ours, for three classes, narrow."""
    spec = (
        ModelSpec.from_file(name).replaced(num_classes=3, width_multiple=0.25, **changes).to_yaml()
    )
    ours = ("activation", "rep_block", "rep_policy", "channel_multiple")
    return {key: value for key, value in spec.items() if key not in ours}


def read_back(path, model: Model) -> Detector:
    """The network of ours, which computes what the file's does and keeps that in deploy form."""
    built = build_from_checkpoint(read_weights(path))
    model, built = model.double(), built.double()
    with torch.no_grad():
        assert relative_error(model(IMAGES.double()), built(IMAGES.double())) < 1e-12
    deployed = to_deploy(built)
    assert is_deployed(deployed)
    assert equivalence_error(built, deployed, [IMAGES]) < 1e-10
    return built


@pytest.mark.parametrize("size", ["e", "s", "c", "g"])
def test_yolov5_lite(tmp_path, size):
    yaml = published_yaml(f"v5lite-{size}.yaml")
    model = foreign_network(yaml, STRIDES)
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    shipped = ModelSpec.from_file(f"v5lite-{size}.yaml")
    assert (built.spec.backbone, built.spec.head) == (shipped.backbone, shipped.head)
    assert built.spec.activation == "SiLU"
    assert equivalence_error(built, expand(built, "RepVGG"), [IMAGES]) < 1e-10


def test_the_published_s_model(shared):
    """Its tensors in the reference network give the maps that ours gives."""
    path = shared / "weights" / "v5lite-s.pt"
    checkpoint = read_weights(path)
    built = build_from_checkpoint(checkpoint)
    assert sum(parameter.numel() for parameter in built.parameters()) == 1_649_853
    yaml = ModelSpec.from_file("v5lite-s.yaml").to_yaml()
    assert built.spec.to_yaml() == yaml
    assert checkpoint.class_names[::79] == ("person", "toothbrush")
    model = foreign_network(yaml, STRIDES)
    stored = read_inert(path)["model"]
    model.load_state_dict(collect_tensors(stored, "v5lite-s.pt"), strict=False)
    with torch.no_grad():
        assert relative_error(model(IMAGES), built(IMAGES)) < 1e-5
        assert relative_error(model(IMAGES), to_deploy(built)(IMAGES)) < 1e-5


@pytest.mark.parametrize("gate", ["SiLU", "hardsigmoid"])
def test_gates_of_lcnet_blocks(tmp_path, gate):
    """PP-LCNet has a hard sigmoid where YOLOv5-Lite's published networks have SiLU."""
    model = foreign_network(published_yaml("v5lite-c.yaml"), STRIDES)
    for block in model.model:
        if gate == "hardsigmoid" and getattr(block, "use_se", False):
            del block.se.SiLU
            block.se.hardsigmoid = torch.nn.Hardsigmoid()
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    written = built.spec.backbone[13][3]
    assert written[:4] == (512, 2, 5, True)
    assert written[4:] == (("Hardsigmoid",) if gate == "hardsigmoid" else ())


def test_a_gate_after_a_repvgg_block_stays(tmp_path):
    """YOLOv5-Lite's own conversion deletes it."""
    yaml = published_yaml("v5lite-g.yaml")
    for index in (1, 3):
        yaml["backbone"][index][3] = [64 * index, 3, 2, 1, 1, 1, "zeros", False, True]
    model = foreign_network({**yaml, "width_multiple": 0.5}, STRIDES)
    for index in (1, 3):
        model.yaml["backbone"][index][3] = [64 * index, 3, 2]
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    gated = [layer for layer in built.layers if hasattr(layer, "se")]
    assert len(gated) == 2
    deployed = to_deploy(built)
    for layer in deployed.layers:
        if hasattr(layer, "se"):
            layer.se = torch.nn.Identity()
    assert equivalence_error(built, deployed, [IMAGES]) > 1e-3


@pytest.mark.parametrize("name", ["yolov3", "yolov3-spp", "yolov3-tiny"])
def test_yolov3(tmp_path, name):
    """ultralytics/yolov3 writes a 1x1 kernel as [1, 1] in one row."""
    yaml = published_yaml(f"{name}.yaml")
    yaml["width_multiple"] = 0.125
    if name == "yolov3":
        yaml["head"][1][3] = [512, [1, 1]]
    model = foreign_network(yaml, STRIDES[-len(yaml["anchors"]) :], activation=ACTIVATIONS["v1"])
    built = read_back(save_foreign(tmp_path / "yolov3.pt", model), model)
    assert built.spec.activation == "LeakyReLU(0.1)"
    expanded = expand(built, "RepVGG")
    assert equivalence_error(built, expanded, [IMAGES]) < 1e-10


def early_yolov5() -> dict:
    """The graph of YOLOv5 v1 to v3, narrow: Focus, BottleneckCSP, parallel pools."""
    yaml = published_yaml("v5lite-g.yaml")
    rows = [[32, 3], [64, 3, 2], [64], [128, 3, 2], [128], [256, 3, 2], [256], [512, 3, 2]]
    for row, args in zip(yaml["backbone"], rows, strict=False):
        row[2:] = [
            "Focus" if len(args) == 2 else "Conv" if len(args) == 3 else "BottleneckCSP",
            args,
        ]
    for row in [*yaml["backbone"], *yaml["head"]]:
        row[2] = "BottleneckCSP" if row[2] == "C3" else row[2]
    return yaml


@pytest.mark.parametrize("version", ["v1", "v3", "v4"])
def test_early_yolov5(tmp_path, version):
    """v1 has LeakyReLU(0.1), v3 Hardswish, both with LeakyReLU(0.1) in BottleneckCSP; v4 has C3."""
    yaml = published_yaml("v5lite-g.yaml") if version == "v4" else early_yolov5()
    for row in yaml["backbone"]:
        row[2] = "Conv" if row[2] == "RepVGGBlock" else row[2]
    yaml["backbone"][1][3] = [64, 3, 2, "None", 1, True]  # the activation before v6.2
    model = foreign_network(yaml, STRIDES, activation=ACTIVATIONS[version])
    built = read_back(save_foreign(tmp_path / "old.pt", model), model)
    texts = {"v1": "LeakyReLU(0.1)", "v3": "Hardswish", "v4": "SiLU"}
    assert built.spec.activation == texts[version]
    if version != "v4":
        assert built.spec.backbone[2][3][-1] == "LeakyReLU(0.1)"


def yolov7() -> dict:
    """The kinds of row that YOLOv7 and YOLOv7-tiny have, narrow."""
    leaky = "nn.LeakyReLU(0.1)"
    return {
        "nc": 3, "depth_multiple": 1.0, "width_multiple": 0.25,
        "anchors": [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146],
                    [142, 110, 192, 243, 459, 401]],
        "backbone": [
            [-1, 1, "Conv", [32, 3, 2, "None", 1, leaky]],
            [-1, 1, "MP", []],
            [-1, 1, "Conv", [64, 3, 2, "None", 1, leaky]],
            [-1, 1, "SP", [5]],
            [-2, 1, "SP", [9]],
            [[-1, -2], 1, "Concat", [1]],
            [-1, 1, "MP", []],
            [-1, 1, "Conv", [128, 3, 2, "None", 1, leaky]],
        ],
        "head": [
            [-1, 1, "RepConv", [128, 3, 1]],
            [6, 1, "RepConv", [64, 3, 1]],
            [5, 1, "RepConv", [64, 3, 1]],
            [[10, 9, 8], 1, "IDetect", ["nc", "anchors"]],
        ],
    }  # fmt: skip


def test_yolov7(tmp_path):
    """Its implicit additions and factors are folded into the head's convolutions."""
    model = foreign_network(yolov7(), STRIDES, activation=ACTIVATIONS["v1"])
    for block in model.model:
        if hasattr(block, "rbr_dense"):
            block.act = ACTIVATIONS["v1"]()
    path = save_foreign(tmp_path / "yolov7.pt", model)
    built = build_from_checkpoint(read_weights(path))
    with torch.no_grad():
        assert relative_error(model(IMAGES), built(IMAGES)) < 1e-5  # folded to float32
    assert [layer.branches.keys() >= {"identity"} for layer in built.layers[8:11]] == [
        True, False, False,
    ]  # fmt: skip


def test_layers_that_are_not_here_are_named(tmp_path):
    yaml = yolov7()
    model = foreign_network(yaml, STRIDES)
    model.yaml["backbone"][1][2] = "ReOrg"
    text = refusal(save_foreign(tmp_path / "yolov7.pt", model))
    assert_message(text, "backbone row 1 (layer 1, ReOrg)", "unknown module 'ReOrg'")


# Rows of YOLOv5's users -> the stride of their map, at an input of stride 4.
PASTED = [
    ([-1, 1, "DWConv", [64, 3, 2]], 8),
    ([-1, 1, "DWConvTranspose2d", [64, 4, 2, 1]], 2),
    ([-1, 1, "nn.ConvTranspose2d", [64, 2, 2]], 2),
    ([-1, 2, "GhostConv", [128, 3]], 4),
    ([-1, 2, "GhostBottleneck", [128]], 4),
    ([-1, 1, "GhostBottleneck", [256, 3, 2]], 8),
    ([-1, 2, "C3Ghost", [128]], 4),
    ([-1, 1, "CrossConv", [128, 3, 1, 1, 0.5, True]], 4),
    ([-1, 1, "CrossConv", [64, 5, 2]], 8),
    ([-1, 2, "C3x", [128]], 4),
    ([-1, 3, "C3TR", [128]], 4),
    ([-1, 1, "C3SPP", [128, [3, 5, 7]]], 4),
    ([-1, 2, "C2f", [128, True]], 4),
    ([-1, 1, "Contract", [2]], 8),
    ([-1, 1, "Expand", [2]], 2),
    ([-1, 1, "nn.AvgPool2d", [2]], 8),
    ([-1, 1, "nn.Identity", []], 4),
]


def with_row(row) -> dict:
    """A network of one level, which reads the row."""
    stem = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [128, 3, 2]]]
    return {"nc": 3, "depth_multiple": 1.0, "width_multiple": 0.25,
            "anchors": [[10, 13, 16, 30, 33, 23]], "backbone": [*stem, row],
            "head": [[-1, 1, "Conv", [64]], [[3], 1, "Detect", ["nc", "anchors"]]]}  # fmt: skip


@pytest.mark.parametrize(("row", "stride"), PASTED, ids=[str(row[2:]) for row, _ in PASTED])
def test_rows_that_people_write(tmp_path, row, stride):
    model = foreign_network(with_row(row), (stride,))
    built = read_back(save_foreign(tmp_path / "pasted.pt", model), model)
    assert built.spec.backbone[2] == ModelSpec.from_yaml(with_row(row), "x").backbone[2]


def test_depthwise_rows_before_v6_are_plain_convolutions(tmp_path):
    model = foreign_network(with_row([-1, 1, "DWConv", [128, 3]]), (4,))
    depthwise, plain = model.model[2], Conv(32, 32, 3, g=32)
    plain.load_state_dict(depthwise.state_dict())
    vars(plain).update({name: vars(depthwise)[name] for name in ("i", "f", "type", "np")})
    model.model[2] = plain.eval()
    read_back(save_foreign(tmp_path / "pasted.pt", model), model)


@pytest.mark.parametrize(
    ("path", "attribute", "value"),
    [("m.tr.0.ma", "num_heads", 2), ("m.tr.1.ma", "batch_first", True),
     ("m.tr.0.ma", "add_zero_attn", True), ("m", "conv", Conv(16, 16))],
)  # fmt: skip
def test_other_attention_is_refused(tmp_path, path, attribute, value):
    model = foreign_network(with_row([-1, 2, "C3TR", [128]]), (4,))
    setattr(model.model[2].get_submodule(path), attribute, value)
    text = refusal(save_foreign(tmp_path / "pasted.pt", model))
    expected = "submodules is linear, tr, conv" if attribute == "conv" else f"{attribute} is"
    assert_message(text, f"layer 2 (model.2.{path}): ", expected)


def test_other_repeats_of_attention_are_refused(tmp_path):
    model = foreign_network(with_row([-1, 2, "C3TR", [128]]), (4,))
    model.yaml["backbone"][2][1] = 3
    text = refusal(save_foreign(tmp_path / "pasted.pt", model))
    assert_message(text, "backbone row 2 (layer 2, C3TR): has 2 blocks, its yaml says 3")


def test_a_layer_whose_weights_are_not_read(tmp_path):
    """A row of the name exists, but versions of its class compute different things."""
    model = foreign_network(with_row([-1, 1, "MixConv2d", [128]]), (4,))
    text = refusal(save_foreign(tmp_path / "pasted.pt", model))
    assert_message(text, "layer 2 (model.2): class is MixConv2d", "does not read", "from its yaml")


def test_merged_blocks_are_refused(tmp_path):
    model = foreign_network(published_yaml("v5lite-g.yaml"), STRIDES)
    model.model[1].rbr_reparam = torch.nn.Conv2d(8, 16, 3, 2, 1)
    text = refusal(save_foreign(tmp_path / "lite.pt", model))
    assert text.startswith("layer 1 (model.1): rbr_reparam is one merged convolution")


def test_hooks_and_other_submodules_are_refused(tmp_path):
    model = foreign_network(published_yaml("v5lite-s.yaml"), STRIDES)
    model.model[1].branch1[2]._forward_hooks[0] = torch.nn.Identity()
    assert "_forward_hooks" in refusal(save_foreign(tmp_path / "a.pt", model))
    model = foreign_network(published_yaml("v5lite-s.yaml"), STRIDES)
    model.model[1].branch3 = torch.nn.Identity()
    text = refusal(save_foreign(tmp_path / "b.pt", model))
    assert text.startswith("layer 1 (model.1): submodules is branch1, branch2, branch3")
    model = foreign_network(published_yaml("v5lite-s.yaml"), STRIDES)
    model.model[1].branch2[2] = torch.nn.SiLU()
    text = refusal(save_foreign(tmp_path / "c.pt", model))
    assert_message(text, "layer 1 (model.1.branch2.0.act)", "activation is SiLU ... ReLU")
