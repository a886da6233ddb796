"""Model yamls: what is understood, and which key, row and value an error names."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from models.network.detector import build_model
from models.network.model_spec import SPECS_FOLDER, ModelSpec
from tests.error_messages import assert_message
from tests.model_builders import meta_model, tiny_spec, tiny_yaml
from utils.errors import ConfigError
from utils.strict_yaml import write_yaml

SHIPPED = sorted(path.name for path in SPECS_FOLDER.glob("*.yaml"))
BACKBONE, HEAD = tiny_yaml()["backbone"], tiny_yaml()["head"]
ANCHORS = "anchors is {} ... [w1,h1, w2,h2"


def row_3(*row):
    """The yaml with another row 3 of the backbone."""
    return {"backbone": [*BACKBONE[:3], list(row), *BACKBONE[4:]]}


def detect_row(*row):
    return {"head": [*HEAD[:-1], list(row)]}


# (what is changed, parts of the message after `tiny.yaml: `)
KEY_ERRORS = [
    ({"bakcbone": []}, "'bakcbone' ... did you mean 'backbone'?"),
    ({"nc": 0}, "nc is 0 ... integer above 0"),
    ({"nc": "3"}, "nc is '3' ... integer above 0"),
    ({"nc": True}, "nc is True ... integer above 0"),
    ({"nc": 3.0}, "nc is 3.0 ... integer above 0"),
    ({"depth_multiple": -1}, "depth_multiple is -1 ... number above 0"),
    ({"width_multiple": "x"}, "width_multiple is 'x' ... number above 0"),
    ({"width_multiple": float("nan")}, "width_multiple is nan ... number above 0"),
    ({"width_multiple": float("inf")}, "width_multiple is inf ... number above 0"),
    ({"channel_multiple": 0}, "channel_multiple is 0 ... integer above 0"),
    ({"ch": 1}, "ch is 1 ... 3 channels"),
    # the same network for every number of anchors is not built
    ({"anchors": 0}, ANCHORS.format("0")),
    ({"anchors": 33}, ANCHORS.format("33")),
    ({"anchors": 3.0}, ANCHORS.format("3.0")),
    ({"anchors": []}, ANCHORS.format("[]")),
    ({"anchors": [[1, 2, 3]]}, ANCHORS.format("[[1, 2, 3]]")),  # a height is missing
    ({"anchors": [[1, 2], [1, 2, 3, 4]]}, ANCHORS.format("[[1, 2], [1, 2, 3, 4]]")),
    ({"anchors": [[1, -2]]}, ANCHORS.format("[[1, -2]]")),
    ({"anchors": [[1, "2"]]}, ANCHORS.format("[[1, '2']]")),
    ({"anchors": [[True, 2]]}, ANCHORS.format("[[True, 2]]")),
    (
        {"rep_policy": "al"},
        "unknown rep_policy 'al'; did you mean 'all'? "
        "(known: all, downsample, no-identity-in-residual)",
    ),
    (
        {"rep_block": "RepVG"},
        "rep_block 'RepVG' ... did you mean 'RepVGG'?",
    ),
    ({"rep_block": "Focus"}, "rep_block 'Focus' ... RepVGG"),
    ({"rep_block": "RepVGG(3)"}, "RepVGG: start is 3, expected plain or paper"),
    (
        {"rep_block": "ACB(x=1)"},
        "ACB takes only ... horizontal, vertical, branch_bn ... 'ACB(x=1)'",
    ),
    (
        {"rep_block": "OREPA(stem=3)"},
        "OREPA: stem is 3 ... true or false",
    ),
    (
        {"rep_block": "OREPA(scaling=vectr)"},
        "OREPA: scaling is 'vectr' ... vector, scalar, none",
    ),
    (
        {"rep_block": "MobileOne(brnaches=2)"},
        "MobileOne takes only branches ... 'MobileOne(brnaches=2)'",
    ),
    (
        {"rep_block": "MobileOne(identity=True)"},  # the network's to say, by rep_policy
        "MobileOne takes only branches ... 'MobileOne(identity=True)'",
    ),
    (
        {"rep_block": "MobileOne(2, branches=3)"},
        "MobileOne takes only branches ... 'MobileOne(2, branches=3)'",
    ),
    (
        {"rep_block": "MobileOne(0)"},
        "MobileOne: branches is 0 ... 1 to 64",
    ),
    (
        {"activation": "SiLu"},
        "activation: ... 'SiLu' ... did you mean 'SiLU'?",
    ),
    (
        {"activation": "__import__('os')"},
        "activation: ... \"__import__('os')\" ... SiLU",
    ),
    (
        {"activation": "SiLU(f(x))"},
        "activation: 'SiLU(f(x))' is not a name like `SiLU` or `LeakyReLU(0.1)`",
    ),
    (
        {"activation": "LeakyReLU(slope=1)"},
        "activation: 'LeakyReLU(slope=1)': "
        "LeakyReLU.__init__() got an unexpected keyword argument 'slope'",
    ),
    ({"backbone": []}, "backbone is [] ... [from, number, module, args]"),
    ({"head": "x"}, "head is 'x' ... [from, number, module, args]"),
    (
        {"backbone": [[-1, 1, "Conv"]]},
        "backbone row 0 is [-1, 1, 'Conv'] ... [from, number, module, args]",
    ),
    (
        {"backbone": [["-1", 1, "Conv", [3]]]},
        "backbone row 0: from is '-1' ... layer number",
    ),
    (
        {"backbone": [[[], 1, "Conv", [3]]]},
        "backbone row 0: from is [] ... layer number",
    ),
    (
        {"backbone": [[-1, 0, "Conv", [3]]]},
        "backbone row 0: number is 0 ... at least 1",
    ),
    ({"backbone": [[-1, 1, 7, [3]]]}, "backbone row 0: module is 7 ... name"),
    ({"backbone": [[-1, 1, "Conv", 3]]}, "backbone row 0: args is 3 ... list"),
]

# (row 3 of the backbone, parts of the message after `... row 3 (layer 3, <module>): `)
ROW_ERRORS = [
    ((-1, 1, "Cnv", [32]), "'Cnv' ... did you mean 'Conv'?"),
    ((-1, 1, "nn.Blur", [32]), "'nn.Blur' ... known: ... QARepVGG"),
    ((7, 1, "Conv", [32]), "from 7 ... layer 3"),
    ((3, 1, "Conv", [32]), "from 3 ... layer 3"),  # itself
    ((-9, 1, "Conv", [32]), "from -9 ... layer 3"),
    (
        ([-1, -2], 1, "Conv", [32]),
        "2 layers ... Conv ... Concat",
    ),
    ((-1, 1, "Conv", []), "args [] do not fit Conv(out, k, s, p, g, d, act)"),
    (
        (-1, 1, "C3", [8, True, 1, 0.5, 7]),
        "args [8, True, 1, 0.5, 7] do not fit C3(out, shortcut, g, e)",
    ),
    ((-1, 1, "Conv", ["x"]), "out is 'x' ... at least 1"),
    ((-1, 1, "Conv", [0]), "out is 0 ... at least 1"),
    ((-1, 1, "Conv", [32, -3]), "k is -3 ... at least 1"),
    ((-1, 1, "Conv", [32, "3"]), "k is '3' ... at least 1"),
    ((-1, 1, "Conv", [32, 3, 0]), "s is 0 ... at least 1"),
    ((-1, 1, "Conv", [32, 3, 1, -1]), "p is -1 ... at least 0"),
    ((-1, 1, "Conv", [32, 3, 1, "None", 0]), "g is 0 ... at least 1"),
    (
        (-1, 1, "Conv", [32, 3, 1, "None", 3]),
        "args [32, 3, 1, None, 3]: in_channels must be divisible by groups",
    ),
    (
        (-1, 1, "Conv", [32, 3, 1, "None", 1, 1, 0]),
        "act is 0 ... True, False, or an activation",
    ),
    (
        (-1, 1, "Conv", [32, 3, 1, "None", 1, 1, "nn.RelU()"]),
        "unknown activation 'nn.RelU()'; did you mean 'ReLU'?",
    ),
    ((-1, 1, "C3", [32, "Flase"]), "shortcut is 'Flase' ... True or False"),
    (
        (-1, 1, "C3", [32, True, 1, 0.0]),
        "e is 0.0 ... of 8 channels",
    ),
    ((-1, 1, "SPPF", [64, 4]), "k is 4 ... odd"),
    ((-1, 1, "SPP", [64, [5, 9]]), "k is (5, 9) ... [k, 2k - 1, 3k - 2]"),
    (
        (-1, 1, "RepVGG", [64, 4]),
        "args [64, 4]: a 1x1 branch cannot be centred beside a 4x4 kernel with padding 1",
    ),
    (
        (-1, 1, "DBB", [64, 3, 1, 0]),
        "args [64, 3, 1, 0]: a 1x1 branch cannot be centred beside a 3x3 kernel with padding 0",
    ),
    (
        (-1, 1, "ACB", [64, 3, 1, 1, 1, 2]),
        "args [64, 3, 1, 1, 1, 2] do not fit ACB(out, k, s, p, g)",
    ),
    ((-1, 1, "nn.Upsample", [3, 2]), "size is 3 ... None ... scale"),
    ((-1, 1, "nn.Upsample", ["None", 0]), "scale is 0 ... at least 1"),
    (
        (-1, 1, "Upsample", ["None", 2, "foo"]),
        "mode is 'foo' ... nearest, bilinear, bicubic",
    ),
    (([-1, -2], 1, "Concat", [1]), "strides ... 8, 4"),
    (([-1, -1], 1, "Concat", [2]), "dimension is 2 ... 1"),
    ((-1, 1, "Detect", []), "Detect ... last row"),
]

# (last row, parts of the message after `tiny.yaml: head row 3 (layer 10, `)
DETECT_ERRORS = [
    (([3, 9], 1, "Detect", []), "Detect): ... 2 maps ... 3 levels"),
    (([3, 9, 6], 1, "Detect", [80]), "Detect): ... nc is 80 ... 3"),
    (([3, 9, 6], 1, "Detect", ["nc", [[1, 2]]]), "Detect): ... `anchors`"),
    ((-1, 1, "Conv", [8]), "Conv): ... last row ... Detect"),
]


def message(changes):
    with pytest.raises(ConfigError) as caught:
        build_model(tiny_spec(**changes))
    return str(caught.value)


@pytest.mark.parametrize(("changes", "expected"), KEY_ERRORS)
def test_wrong_keys(changes, expected):
    assert_message(message(changes), "tiny.yaml: ", expected)


@pytest.mark.parametrize(("row", "expected"), ROW_ERRORS)
def test_wrong_rows(row, expected):
    assert_message(
        message(row_3(*row)), f"tiny.yaml: backbone row 3 (layer 3, {row[2]}): ", expected
    )


@pytest.mark.parametrize(("row", "expected"), DETECT_ERRORS)
def test_wrong_last_rows(row, expected):
    assert_message(message(detect_row(*row)), "tiny.yaml: head row 3 (layer 10, ", expected)


@pytest.mark.parametrize("key", ["nc", "depth_multiple", "anchors", "backbone", "head"])
def test_missing_keys(key):
    content = tiny_yaml()
    del content[key]
    with pytest.raises(ConfigError) as caught:
        ModelSpec.from_yaml(content, "tiny.yaml")
    assert_message(str(caught.value), "tiny.yaml: ", f"{key!r} is missing")


def test_a_key_written_twice(tmp_path):
    path = tmp_path / "twice.yaml"
    write_yaml(path, tiny_yaml())
    path.write_text(path.read_text() + "nc: 4\n")
    with pytest.raises(ConfigError) as caught:
        ModelSpec.from_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not valid yaml: key 'nc' is written twice")
    assert "\n" not in text


def test_a_missing_file_names_the_closest():
    with pytest.raises(ConfigError) as caught:
        ModelSpec.from_file("repyolov5n.yml")
    assert str(caught.value).startswith(
        "repyolov5n.yml: no such file; did you mean 'repyolov5n.yaml'? (shipped: "
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_round_trip(name):
    spec = ModelSpec.from_file(name)
    content = json.loads(json.dumps(spec.to_yaml()))
    assert dataclasses.replace(ModelSpec.from_yaml(content, name), name=spec.name) == spec


def test_the_working_directory_comes_before_the_shipped_files(tmp_path, monkeypatch):
    write_yaml(tmp_path / "yolov5n.yaml", tiny_yaml(nc=7))
    monkeypatch.chdir(tmp_path)
    assert ModelSpec.from_file("yolov5n.yaml").num_classes == 7


def test_defaults_are_those_of_yolov5():
    content = tiny_yaml()
    del content["activation"], content["rep_block"]
    spec = ModelSpec.from_yaml(content, "tiny.yaml")
    assert (spec.activation, spec.rep_block, spec.rep_policy) == ("SiLU", None, "all")
    assert spec.channel_multiple == 8
    assert spec == tiny_spec(rep_block="none", activation=None, rep_policy=None)


def test_layers_have_absolute_sources():
    layers = tiny_spec().layers
    assert [layer.sources for layer in layers] == [
        (-1,), (0,), (1,), (2,), (3,), (4,), (5,), (6,), (7, 4), (8,), (3, 9, 6),
    ]  # fmt: skip
    assert [layer.index for layer in layers] == list(range(11))
    assert layers[7].args == (None, 2, "nearest")  # yaml's text None is a value
    assert layers[8].where == "tiny.yaml: head row 1 (layer 8, Concat)"


def test_yolov5_spellings():
    """`nn.` before modules and activations, and both names of the block."""
    spec = tiny_spec(activation="nn.LeakyReLU(0.1)", **row_3(-1, 1, "RepVGGBlock", [32]))
    other = tiny_spec(**row_3(-1, 1, "RepVGG", [32]))
    names = [list(build_model(s).state_dict()) for s in (spec, other)]
    assert names[0] == names[1]


def test_a_number_of_anchors_stands_for_those_of_the_data():
    spec = tiny_spec(anchors=2)
    model = build_model(spec)

    assert spec.anchors_from_data and [len(level) for level in spec.anchors] == [4, 4, 4]
    assert spec.anchors[0] < spec.anchors[1] < spec.anchors[2]
    assert ModelSpec.from_yaml(spec.to_yaml(), spec.name) == spec
    settled = model.with_anchors(((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12))).spec
    assert not settled.anchors_from_data
    assert settled.to_yaml()["anchors"][0] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"depth_multiple": 1e6}, "tiny.yaml: backbone row 3 (layer 3, C3): repeats its block "),
        ({"depth_multiple": 10**400}, "tiny.yaml: depth_multiple is 1000"),
        ({"width_multiple": 1e300}, "tiny.yaml: width_multiple is 1e+300"),
        ({"nc": 10**10}, "tiny.yaml: nc is 10000000000"),
        ({"anchors": [[10**400, 1]]}, "tiny.yaml: anchors is [[1000"),
        ({"norm_eps": 0}, "tiny.yaml: norm_eps is 0, expected a number above 0"),
    ],
)
def test_sizes_without_bounds(changes, expected):
    with pytest.raises(ConfigError) as caught:
        meta_model(tiny_spec(**changes))
    assert str(caught.value).startswith(expected)


def test_numbers_of_norms_are_written_where_they_are_set():
    assert not {"norm_eps", "norm_momentum"} & tiny_spec().to_yaml().keys()
    spec = tiny_spec(norm_eps=1e-5, norm_momentum=0.1)
    assert ModelSpec.from_yaml(spec.to_yaml(), spec.name) == spec
    norms = [m for m in meta_model(spec).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
