"""What weights do not show is read from the modules of a YOLOv5 checkpoint, or refused by name.

Each case changes one attribute of a network's modules, and writes it with the yaml it had before,
as a user does who edits a network by hand. The changed network itself is the reference.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.conversion.expand import expand
from models.network.detector import Detector
from models.network.layers import Bottleneck
from models.network.model_spec import ModelSpec
from tests.checkpoint_builders import refusal, save_yolov5
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error

IMAGES = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))


def plain_model(**changes) -> Detector:
    return trained_model(tiny_spec(rep_block=None, activation="SiLU", **changes))


def raw_maps(model):
    with torch.no_grad():
        return model(IMAGES)


def assert_same_maps(path, model):
    """The network read from the file computes what the reference does; returns its spec."""
    checkpoint = read_weights(path)
    built = build_from_checkpoint(checkpoint)
    for ours, reference in zip(raw_maps(built), raw_maps(model), strict=True):
        assert torch.equal(ours, reference)
    return ModelSpec.from_yaml(checkpoint.spec, "x")


def with_activation(model, make):
    for module in model.modules():
        if isinstance(getattr(module, "act", None), nn.Module):
            module.act = make()
    return model


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (nn.SiLU, "SiLU"),
        (nn.ReLU, "ReLU"),
        (nn.ReLU6, "ReLU6"),
        (lambda: nn.LeakyReLU(0.1), "LeakyReLU(0.1)"),
        (nn.LeakyReLU, "LeakyReLU(0.01)"),
        (nn.Mish, "Mish"),
        (nn.Hardswish, "Hardswish"),
        (nn.GELU, "GELU"),
        (lambda: nn.GELU(approximate="tanh"), "GELU(approximate='tanh')"),
        (nn.Identity, "Identity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_activations(tmp_path, make, text):
    model = with_activation(plain_model(), make)
    spec = assert_same_maps(save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32), model)
    assert spec.activation == text


@pytest.mark.parametrize(
    ("name", "torchs"),
    [("SiLU", nn.SiLU), ("Hardswish", nn.Hardswish), ("MemoryEfficientMish", nn.Mish)],
)
def test_activations_that_yolov5_wrote_itself(tmp_path, name, torchs):
    def edit(root, classes):
        with_activation(root, classes["utils.activations", name])

    path = save_yolov5(tmp_path / "y.pt", plain_model(), dtype=torch.float32, edit=edit)
    assert assert_same_maps(path, with_activation(plain_model(), torchs)).activation == (
        torchs.__name__
    )


def test_the_activation_of_the_yaml_is_only_a_claim(tmp_path):
    model = plain_model()
    yaml = {**model.spec.to_yaml(), "activation": "nn.ReLU()", "inplace": True}
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, yaml=yaml)
    assert assert_same_maps(path, model).activation == "SiLU"


@pytest.mark.parametrize(
    "make", [nn.PReLU, nn.ELU, nn.Tanh, nn.Hardtanh, nn.Softplus, lambda: nn.ReLU6().eval()]
)
def test_activations_this_project_does_not_have(tmp_path, make):
    act = make()
    if isinstance(act, nn.ReLU6):
        act.max_val = 5.0
    name = type(act).__name__
    model = with_activation(plain_model(), lambda: act)
    text = refusal(save_yolov5(tmp_path / "y.pt", model))
    assert_message(text, "layer 0 (model.0.act)", f"activation is {name} ... LeakyReLU")


@pytest.mark.parametrize("name", ["FReLU", "AconC"])
def test_activations_with_weights_of_their_own(tmp_path, name):
    def edit(root, classes):
        with_activation(root, classes["utils.activations", name])

    text = refusal(save_yolov5(tmp_path / "y.pt", plain_model(), edit=edit))
    assert f"layer 0 (model.0.act): activation is {name}, supported: " in text


def test_layers_of_different_activations(tmp_path):
    model = plain_model()
    model.layers[3].m[0].cv2.act = nn.ReLU()
    text = refusal(save_yolov5(tmp_path / "y.pt", model))
    assert_message(text, "layer 3 (model.3.m.0.cv2.act): activation is ReLU", "SiLU ... layer 0")


@pytest.mark.parametrize("inplace", [True, False])
def test_in_place_flags_change_nothing(tmp_path, inplace):
    def edit(root, _classes):
        root.inplace = root.model[-1].inplace = inplace
        for module in root.modules():
            if isinstance(module, nn.SiLU):
                module.inplace = inplace

    model = plain_model()
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, edit=edit)
    assert assert_same_maps(path, model).activation == "SiLU"


def replaced_conv(index, **changes):
    """Give a layer's convolution another geometry, and new weights of its shape."""

    def change(model):
        old = model.layers[index].conv
        geometry = {
            "stride": old.stride, "padding": old.padding, "dilation": old.dilation,
            "groups": old.groups, "kernel_size": old.kernel_size, **changes,
        }  # fmt: skip
        model.layers[index].conv = nn.Conv2d(
            old.in_channels, old.out_channels, bias=False, **geometry
        )

    return change


def both_strides(model):
    replaced_conv(1, stride=1)(model)
    replaced_conv(2, stride=4)(model)


def shortcuts(index, add):
    def change(model):
        for module in model.layers[index].modules():
            if isinstance(module, Bottleneck):
                module.add = add

    return change


def pools(size):
    def change(model):
        model.layers[6].m = nn.MaxPool2d(size, 1, size // 2)

    return change


def upsampling(**arguments):
    def change(model):
        model.layers[7] = nn.Upsample(**arguments)

    return change


def no_activation(model):
    model.layers[4].act = nn.Identity()


def grouped_bottleneck(model):
    conv = model.layers[3].m[0].cv2.conv
    model.layers[3].m[0].cv2.conv = nn.Conv2d(
        conv.in_channels, conv.out_channels, 3, padding=1, groups=2, bias=False
    )


REPRESENTED = [
    ("no shortcut", shortcuts(3, add=False), 3, "backbone", (32, False)),
    ("shortcut", shortcuts(9, add=True), 2, "head", (64, True)),
    ("dilation", replaced_conv(1, dilation=2, padding=2), 1, "backbone", (32, 3, 2, None, 1, 2)),
    ("padding", replaced_conv(1, kernel_size=5, padding=2), 1, "backbone", (32, 5, 2)),
    ("even kernel", replaced_conv(0, kernel_size=4, padding=1), 0, "backbone", (32, 4, 2, 1)),
    ("groups", replaced_conv(1, groups=4), 1, "backbone", (32, 3, 2, None, 4)),
    ("stride", both_strides, 2, "backbone", (32, 3, 4)),
    ("groups inside C3", grouped_bottleneck, 3, "backbone", (32, True, 2)),
    ("pool 3", pools(3), 6, "backbone", (64, 3)),
    ("pool 7", pools(7), 6, "backbone", (64, 7)),
    ("bilinear", upsampling(scale_factor=2, mode="bilinear"), 0, "head", (None, 2, "bilinear")),
    ("bicubic", upsampling(scale_factor=2, mode="bicubic"), 0, "head", (None, 2, "bicubic")),
    ("no activation", no_activation, 4, "backbone", (64, 3, 2, None, 1, 1, False)),
]


@pytest.mark.parametrize(
    ("change", "row", "part", "args"), [case[1:] for case in REPRESENTED],
    ids=[case[0] for case in REPRESENTED],
)  # fmt: skip
def test_attributes_that_a_row_can_say(tmp_path, change, row, part, args):
    model = plain_model()
    before = raw_maps(model)
    torch.manual_seed(1)
    change(model)
    model.eval()
    assert not all(torch.equal(a, b) for a, b in zip(before, raw_maps(model), strict=True))
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32)
    spec = assert_same_maps(path, model)
    written = getattr(spec, part)[row][3]
    assert written[: len(args)] == args or effective(written)[: len(args)] == effective(args)
    others = [each for i, each in enumerate(getattr(spec, part)) if i != row]
    if change is not both_strides:
        assert others == [each for i, each in enumerate(getattr(model.spec, part)) if i != row]


def effective(args):
    """A convolution's arguments with the padding that None means."""
    if len(args) < 4 or args[3] is not None:
        return args
    dilation = args[5] if len(args) > 5 else 1
    return (*args[:3], dilation * (args[1] - 1) // 2, *args[4:])


def test_an_upsampling_factor_of_four(tmp_path):
    """The map must join one of the same stride, so the network has it in its wiring too."""
    head = [
        [-1, 1, "nn.Upsample", ["None", 4, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 3, "C3", [64, False]],
        [[9, 4, 6], 1, "Detect", ["nc", "anchors"]],
    ]
    model = plain_model(head=head)
    yaml = model.spec.to_yaml()
    yaml["head"][0][3][1] = 2
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, yaml=yaml)
    assert assert_same_maps(path, model).head == model.spec.head


def test_the_wiring_of_the_modules_counts(tmp_path):
    model = plain_model()
    yaml = model.spec.to_yaml()
    yaml["backbone"][5][0] = 3
    yaml["head"][3][0] = [9, 3, 6]
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, yaml=yaml)
    spec = assert_same_maps(path, model)
    assert [layer.sources for layer in spec.layers] == [
        layer.sources for layer in model.spec.layers
    ]


def test_rows_that_repeat(tmp_path):
    backbone = tiny_yaml()["backbone"]
    backbone[2] = [-1, 6, "Conv", [32, 3, 1]]
    backbone[1] = [-1, 1, "Conv", [32, 3, 4]]
    model = plain_model(backbone=backbone)
    for block in model.layers[2]:
        block.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32)
    assert_same_maps(path, model.eval())
    model.layers[2][1].conv = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2, bias=False)
    text = refusal(save_yolov5(tmp_path / "y.pt", model))
    assert text.startswith("layer 2 (model.2.1.conv): padding is (2, 2)")


def test_focus_and_parallel_pools_of_v5(tmp_path):
    """The first layers of YOLOv5 v1 to v5; SPP has three pools beside each other."""
    backbone = tiny_yaml()["backbone"]
    backbone[0], backbone[6] = [-1, 1, "Focus", [32, 3]], [-1, 1, "SPP", [64, [5, 9, 13]]]
    model = plain_model(backbone=backbone)

    def edit_with(sizes):
        def edit(root, classes):
            spp = classes["models.common", "SPP"]()
            spp.__dict__.update(root.model[6].__dict__)
            spp.m = nn.ModuleList([nn.MaxPool2d(k, 1, k // 2) for k in sizes])
            root.model[6] = spp

        return edit

    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, edit=edit_with((5, 9, 13)))
    assert_same_maps(path, model)
    model.layers[6].m = nn.MaxPool2d(3, 1, 1)
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32, edit=edit_with((3, 5, 7)))
    assert assert_same_maps(path, model).backbone[6][3] == (64, (3, 5, 7))
    text = refusal(save_yolov5(tmp_path / "y.pt", model, edit=edit_with((5, 9, 11))))
    assert_message(text, "backbone row 6 (layer 6, SPP): k", "(5, 9, 11) ... 5 9 13")


@pytest.mark.parametrize(("eps", "momentum"), [(1e-5, 0.03), (1e-3, 0.1), (1e-5, 0.1)])
def test_numbers_of_norms(tmp_path, eps, momentum):
    model = plain_model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = eps, momentum
    path = save_yolov5(tmp_path / "y.pt", model, dtype=torch.float32)
    assert_same_maps(path, model)
    built = build_from_checkpoint(read_weights(path))
    norms = {(m.eps, m.momentum) for m in built.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {(eps, momentum)}
    deployed = to_deploy(built)
    assert equivalence_error(built, deployed, [IMAGES]) < 1e-5
    for network in (built, deployed):
        assert equivalence_error(network, expand(network, "RepVGG"), [IMAGES]) < 1e-5


def test_norms_that_synchronized_processes(tmp_path):
    model = plain_model()
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(plain_model())
    path = save_yolov5(tmp_path / "y.pt", twin, dtype=torch.float32)
    assert_same_maps(path, model)
