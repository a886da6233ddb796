"""Focus and the 6x6 convolution are one function; what is neither is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.yolov5_weights import read_yolov5
from models.conversion.deploy import to_deploy
from models.conversion.expand import expand
from models.conversion.stem import conv_kernel, focus_kernel, stem_name, with_stem
from models.network.detector import Detector, build_model
from models.network.early_layers import Focus, SpaceToDepth
from models.network.layers import ConvAct, ConvBNAct
from tests.checkpoint_builders import save_yolov5, tensors_equal
from tests.model_builders import shapes, tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error, network_reports
from utils.errors import ConfigError

CONV, FOCUS, NO_ACT = ["Conv", [32, 6, 2, 2]], ["Focus", [32, 3]], (1, 1, False)
BOUND = 1e-14  # float64: nothing but the order of one sum differs


def network(module: str = "Conv", args=(32, 6, 2, 2), rep_block: str | None = None) -> Detector:
    """In float64, with random weights and statistics, and this stem."""
    rows = [[-1, 1, module, list(args)], *tiny_yaml()["backbone"][1:]]
    return trained_model(tiny_spec(backbone=rows, rep_block=rep_block)).double()


def images(height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)


def slices(x: Tensor) -> Tensor:
    """What YOLOv5's Focus does, in its order."""
    corners = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    return torch.cat(corners, 1)


def same_outputs(model: Detector, other: Detector) -> bool:
    sizes = [(32, 32), (64, 96), (96, 32)]
    return equivalence_error(model, other, [images(*hw) for hw in sizes]) <= BOUND


# The layer


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_space_to_depth_is_four_slices(channels, dtype):
    x = torch.randn(2, channels, 6, 10, dtype=dtype)
    assert torch.equal(SpaceToDepth(channels).to(dtype)(x), slices(x))


def test_nothing_of_space_to_depth_is_learnt_or_saved():
    layer = network(*FOCUS).layers[0]
    assert [name for name, _ in layer.space_to_depth.named_parameters()] == []
    assert list(layer.space_to_depth.state_dict()) == []
    copied = copy.deepcopy(layer).half()
    assert copied.space_to_depth.weight.dtype == torch.float16
    assert set(copied.space_to_depth.weight.unique().tolist()) == {0.0, 1.0}


def test_focus_is_slices_and_a_convolution():
    layer, x = network(*FOCUS).layers[0], images()
    assert torch.equal(layer(x), layer.conv(slices(x)))
    assert layer(x).shape == (2, 8, 32, 48)


def test_focus_learns():
    layer = network(*FOCUS).layers[0].train()
    layer(images()).square().sum().backward()
    assert layer.conv.conv.weight.grad.abs().min() > 0


def test_focus_takes_the_arguments_of_yolov5():
    layer = network("Focus", (32, 3, 1, 1, 2, False)).layers[0]  # out, k, s, p, g, act
    assert (layer.conv.conv.groups, layer.conv.conv.padding) == (2, (1, 1))
    assert isinstance(layer.conv.act, nn.Identity)
    assert network("Focus", (32,)).layers[0].conv.conv.kernel_size == (1, 1)


def test_a_yolov5_file_with_focus_is_read(tmp_path):
    model = network(*FOCUS).float()
    path = tmp_path / "v5.pt"
    save_yolov5(path, model, dtype=torch.float32, yaml=_as_yolov5(model))
    assert tensors_equal(read_yolov5(path).weights, model.state_dict())
    assert "layers.0.conv.conv.weight" in model.state_dict()


def _as_yolov5(model: Detector) -> dict:
    keys = ("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head")
    return {key: model.spec.to_yaml()[key] for key in keys}


@pytest.mark.parametrize("family", ["RepVGG", "OREPA", "DBB"])
def test_blocks_in_focus_fold_and_expand(family):
    """The 3x3 convolution inside is one of the network's."""
    model = network(*FOCUS, rep_block=family)
    folded = to_deploy(model)
    reports = network_reports(model, folded)
    assert (reports[0].name, reports[0].block_before) == ("layers.0.conv", family)
    assert max(report.rel_error_float64 for report in reports) <= 1e-12
    assert equivalence_error(model, folded, [images()]) <= 1e-10
    plain = network(*FOCUS)
    assert equivalence_error(plain, expand(plain, family), [images()]) <= 1e-10


# The kernels


def test_kernels_by_definition():
    """Each of the 108 numbers goes where the sum needs it."""
    focus = torch.randn(2, 12, 3, 3)
    conv = conv_kernel(focus)
    for j in (0, 1):
        for i in (0, 1):
            for colour in range(3):
                for m in range(3):
                    for n in range(3):
                        there = focus[:, (2 * j + i) * 3 + colour, m, n]
                        assert torch.equal(conv[:, colour, 2 * m + i, 2 * n + j], there)


def test_kernels_there_and_back():
    kernel = torch.randn(5, 3, 6, 6)
    assert torch.equal(conv_kernel(focus_kernel(kernel)), kernel)
    assert conv_kernel(torch.zeros(0, 12, 3, 3)).shape == (0, 3, 6, 6)
    assert focus_kernel(torch.zeros(0, 3, 6, 6)).shape == (0, 12, 3, 3)


@pytest.mark.parametrize("hw", [(2, 2), (4, 6), (10, 8), (7, 9)])
def test_kernels_compute_the_same_inside_and_on_the_border(hw):
    height, width = hw
    x = torch.randn(1, 3, height, width, dtype=torch.float64)
    kernel = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    even = x[..., : height // 2 * 2, : width // 2 * 2]  # Focus needs whole squares
    expected = nn.functional.conv2d(even, kernel, stride=2, padding=2)
    found = nn.functional.conv2d(slices(even), focus_kernel(kernel), padding=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


# The network


@pytest.mark.parametrize("folded", [False, True], ids=["with norms", "folded"])
@pytest.mark.parametrize(
    ("row", "form", "expected"),
    [
        (CONV, "focus", ("Focus", (32, 3))),
        (("Conv", (32, 6, 2)), "focus", ("Focus", (32, 3))),  # its own padding is 2
        (("nn.Conv", (32, 6, 2, None)), "focus", ("Focus", (32, 3))),
        (("Conv", (32, 6, 2, 2, *NO_ACT)), "focus", ("Focus", (32, 3, 1, None, 1, False))),
        (FOCUS, "conv", ("Conv", (32, 6, 2, 2))),
        (("Focus", (32, 3, 1, 1, 1, True)), "conv", ("Conv", (32, 6, 2, 2))),
        (("Focus", (32, 3, 1, None, 1, False)), "conv", ("Conv", (32, 6, 2, 2, *NO_ACT))),
    ],
)
def test_another_stem_computes_the_same(row, form, expected, folded):
    model = to_deploy(network(*row)) if folded else network(*row)
    before = copy.deepcopy(model.state_dict())
    changed = with_stem(model, form)
    assert same_outputs(model, changed)
    assert changed.spec.backbone == ((-1, 1, *expected), *model.spec.backbone[1:])
    block = changed.layers[0].conv if form == "focus" else changed.layers[0]
    assert isinstance(block, ConvAct if folded else ConvBNAct)
    assert not changed.training
    rebuilt = build_model(changed.spec, form="deploy" if folded else "train")
    assert shapes(rebuilt) == shapes(changed)
    assert tensors_equal(before, model.state_dict())  # left as it was


@pytest.mark.parametrize("folded", [False, True], ids=["with norms", "folded"])
@pytest.mark.parametrize(("row", "ways"), [(CONV, ("focus", "conv")), (FOCUS, ("conv", "focus"))])
def test_there_and_back_is_the_same_to_the_last_bit(row, ways, folded):
    model = to_deploy(network(*row)) if folded else network(*row)
    there = with_stem(model, ways[0])
    back = with_stem(there, ways[1])
    assert back.spec == model.spec
    assert tensors_equal(model.state_dict(), back.state_dict())
    assert not tensors_equal(model.state_dict(), there.state_dict())


@pytest.mark.parametrize(("row", "form"), [(CONV, "conv"), (FOCUS, "focus")])
def test_the_stem_it_has_is_kept(row, form):
    model = network(*row)
    same = with_stem(model, form)
    assert same is not model and same.spec == model.spec
    assert tensors_equal(model.state_dict(), same.state_dict())


@pytest.mark.parametrize(
    ("row", "family", "form"),
    [
        (CONV, "OREPA(stem=true)", "focus"),  # the stem is a block
        (CONV, "RepVGG", "focus"),  # others are
        (FOCUS, "RepVGG", "conv"),
        (("OREPA", (32, 6, 2, 2)), None, "focus"),  # by its row
    ],
)
def test_blocks_are_folded_first(row, family, form):
    model = network(*row, rep_block=family)
    with pytest.raises(ValueError, match="have to be folded before the stem is changed"):
        with_stem(model, form)
    folded = to_deploy(model)
    assert stem_name(folded) == stem_name(model)
    assert same_outputs(folded, with_stem(folded, form))
    assert isinstance(with_stem(folded, "focus").layers[0], Focus)


@pytest.mark.parametrize(
    ("module", "args", "name"),
    [
        ("Conv", (32, 6, 2, 2), "Conv 6x6/2"),
        ("Focus", (32, 3), "Focus 3x3"),
        ("Conv", (32, 3, 2), "Conv 3x3/2"),
        ("RepVGGBlock", (32, 3, 2), "Conv 3x3/2"),
        ("Conv", (32, 6, 2, 1), "Conv 6x6/2 padding 1"),
        ("Conv", (30, 6, 2, 5, 1, 2), "Conv 6x6/2 padding 5 dilation 2"),
        ("Focus", (32, 3, 1, 1, 4), "Focus 3x3 groups 4"),
        ("Focus", (32, 5), "Focus 5x5"),
        ("Bottleneck", (32,), "Bottleneck"),
    ],
)
def test_names(module, args, name):
    model = network(module, args)
    assert stem_name(model) == name
    assert stem_name(to_deploy(model)) == name


TRAIN_ONE = "for accelerators train a 3x3 stem: train.py --cfg repyolov5n-npu.yaml"


@pytest.mark.parametrize(
    ("module", "args", "form", "message"),
    [
        ("Conv", (32, 3, 2), "focus",
         "the stem is Conv 3x3/2, and only Conv 6x6/2 can become Focus 3x3 without changing what "
         "the network computes; keep it: accelerators run no stem faster"),
        ("Conv", (32, 3, 2), "conv",
         "the stem is Conv 3x3/2, and only Focus 3x3 can become Conv 6x6/2 without changing what "
         "the network computes; keep it: accelerators run no stem faster"),
        ("Conv", (32, 6, 2, 1), "focus",
         "the stem is Conv 6x6/2 padding 1, and only Conv 6x6/2 can become Focus 3x3 without "
         f"changing what the network computes; {TRAIN_ONE}"),
        ("Focus", (32, 3, 1, 1, 4), "conv",
         "the stem is Focus 3x3 groups 4, and only Focus 3x3 can become Conv 6x6/2 without "
         f"changing what the network computes; {TRAIN_ONE}"),
        ("C3", (32,), "focus",
         "the stem is C3, and only Conv 6x6/2 can become Focus 3x3 without changing what the "
         f"network computes; {TRAIN_ONE}"),
    ],
)  # fmt: skip
def test_other_stems_are_refused(module, args, form, message):
    with pytest.raises(ConfigError) as caught:
        with_stem(to_deploy(network(module, args)), form)
    assert str(caught.value) == f"--stem {form}: {message}"


def test_several_in_the_first_row_are_refused():
    rows = [[-1, 6, "Conv", [32, 3, 1]], *tiny_yaml()["backbone"][1:]]  # two after scaling
    model = trained_model(tiny_spec(backbone=rows, rep_block=None))
    with pytest.raises(ConfigError, match="the stem is Sequential, and only Conv 6x6/2"):
        with_stem(model, "focus")
