"""Whole networks compute in deploy form what they compute in train form."""

from __future__ import annotations

import copy

import pytest
import torch

from models.conversion.deploy import is_deployed, relative_error, to_deploy
from models.network.detector import build_model
from models.network.model_spec import REP_POLICIES, SPECS_FOLDER, ModelSpec
from models.reparam.algebra import BatchNorm
from models.reparam.families import FAMILIES
from models.reparam.rep_block import RepBlock
from tests.model_builders import meta_model, shapes, tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error

FLOAT64_BOUND, FLOAT32_BOUND = 1e-10, 1e-5
SHIPPED = sorted(path.name for path in SPECS_FOLDER.glob("*.yaml"))

BACKBONE, HEAD = tiny_yaml()["backbone"], tiny_yaml()["head"]
VARIANTS = {
    "RepVGG everywhere": {},
    "plain": {"rep_block": None},
    "only where stride is 2": {"rep_policy": "downsample"},
    "no identity in residuals": {"rep_policy": "no-identity-in-residual"},
    "SiLU": {"activation": "SiLU"},
    "families as rows": {
        "rep_block": None,
        "backbone": [
            *BACKBONE[:2],
            [-1, 1, "RepVGGBlock", [32, 3, 2]],
            *([-1, 1, family, [32, 3, 1, "None", 2]] for family in FAMILIES),
            [-1, 1, "Conv", [64, 3, 2]],
            [-1, 1, "Conv", [64, 3, 2]],
        ],
        "head": [[[2, 9, 10], 1, "Detect", []]],
    },
    "MobileOne with an option": {"rep_block": "MobileOne(branches=2)"},
    **{f"{family} everywhere": {"rep_block": family} for family in FAMILIES if family != "RepVGG"},
    "OREPA for all kernels": {"rep_block": "OREPA(pointwise=true, stem=true)"},
    "OREPA without norm": {"rep_block": "OREPA(post_bn=false)"},
    "rows repeated": {"backbone": [*BACKBONE[:3], [-1, 9, "Conv", [32, 3]], *BACKBONE[4:]]},
    "bottlenecks with groups": {
        "backbone": [*BACKBONE[:3], [-1, 3, "Bottleneck", [32, True, 2]], *BACKBONE[4:]]
    },
    "C3 with groups": {"backbone": [*BACKBONE[:3], [-1, 3, "C3", [32, True, 4]], *BACKBONE[4:]]},
    "one class, one level": {"nc": 1, "anchors": [[10, 13]], "head": [[3, 1, "Detect", []]]},
}


def images(dtype: torch.dtype) -> list[torch.Tensor]:
    """Odd and even numbers of cells, square and not."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(96, 160), (64, 64), (32, 224)]
    return [torch.rand(2, 3, *hw, generator=generator).to(dtype) for hw in sizes]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_small_networks(changes):
    spec = tiny_spec(**changes)
    model = trained_model(spec).double()
    before = copy.deepcopy(model.state_dict())

    deployed = to_deploy(model)

    assert equivalence_error(model, deployed, images(torch.float64)) <= FLOAT64_BOUND
    assert is_deployed(deployed) and not is_deployed(model)
    assert not any(isinstance(m, RepBlock | BatchNorm) for m in deployed.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    single = copy.deepcopy(model).float()
    own = equivalence_error(model, single, images(torch.float64))
    error = equivalence_error(single, to_deploy(single), images(torch.float32))
    assert error <= max(FLOAT32_BOUND, 4 * own)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_both_ways_to_a_deploy_form_agree(changes):
    """Built as such and loaded, or folded: the same names, the same outputs."""
    spec = tiny_spec(**changes)
    folded = to_deploy(trained_model(spec))
    built = build_model(spec, form="deploy").eval()
    assert shapes(built) == shapes(folded)
    assert list(built.state_dict()) == list(folded.state_dict())
    built.load_state_dict(folded.state_dict())
    assert equivalence_error(folded, built, images(torch.float32)) == 0


@pytest.mark.slow  # test_shelf.py loads folded weights of narrower ones into those built as such
@pytest.mark.parametrize("name", SHIPPED)
def test_both_ways_give_the_same_shapes_for_shipped_networks(name):
    assert shapes(to_deploy(meta_model(name))) == shapes(meta_model(name, "deploy"))


@pytest.mark.slow  # as above, on tiny networks
@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_give_the_same_shapes_for_every_family(family):
    spec = ModelSpec.from_file("yolov5n.yaml").replaced(rep_block=family)
    assert shapes(to_deploy(meta_model(spec))) == shapes(meta_model(spec, "deploy"))


@pytest.mark.parametrize("policy", REP_POLICIES)
def test_repyolov5n(policy):
    spec = ModelSpec.from_file("repyolov5n.yaml").replaced(rep_policy=policy)
    model = trained_model(spec).double()
    inputs = images(torch.float64)[:1]
    assert equivalence_error(model, to_deploy(model), inputs) <= FLOAT64_BOUND


def test_converting_twice_changes_nothing():
    once = to_deploy(trained_model(tiny_spec()))
    twice = to_deploy(once)
    assert twice is not once
    assert shapes(twice) == shapes(once)
    assert equivalence_error(once, twice, images(torch.float32)) == 0


def test_a_network_that_trains_is_refused():
    with pytest.raises(ValueError) as caught:
        to_deploy(trained_model(tiny_spec()).train())
    assert str(caught.value) == "only a network in eval mode has a deploy form; call .eval()"


def test_relative_error():
    a, b = torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0])
    assert relative_error([a], [b]) == 0.25
    assert relative_error([b], [a]) == pytest.approx(1 / 3)
    assert relative_error([a, a], [a, b]) == 0.25  # the worst map counts
    assert relative_error([a], [torch.tensor([1.0, float("nan")])]) == float("inf")
    assert relative_error([a * 0], [b]) == float("inf")
