"""The report of two forms of a network has a row per block, and a wrong block shows in its row."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.conversion.block_report import BlockReport
from models.conversion.deploy import to_deploy
from models.conversion.expand import expand
from models.network.detector import Detector
from models.reparam.rep_block import ConvAct
from tests.model_builders import tiny_spec, trained_model
from tests.network_equivalence import network_reports

BOUND = 1e-12
THREE_BY_THREE = {
    "layers.1", "layers.2", "layers.3.m.0.cv2", "layers.4", "layers.5", "layers.9.m.0.cv2",
}  # fmt: skip
NAMES = [  # by rows; inside a row as its class has them
    "layers.0", "layers.1", "layers.2",
    "layers.3.cv1", "layers.3.cv2", "layers.3.cv3", "layers.3.m.0.cv1", "layers.3.m.0.cv2",
    "layers.4", "layers.5", "layers.6.cv1", "layers.6.cv2",
    "layers.9.cv1", "layers.9.cv2", "layers.9.cv3", "layers.9.m.0.cv1", "layers.9.m.0.cv2",
]  # fmt: skip


@functools.cache
def network(rep_block: str | None) -> Detector:
    return trained_model(tiny_spec(rep_block=rep_block)).double()


@functools.cache
def deployed(rep_block: str | None) -> Detector:
    return to_deploy(network(rep_block))


def converted(rep_block: str | None) -> tuple[Detector, Detector]:
    """The second one may be changed."""
    return network(rep_block), copy.deepcopy(deployed(rep_block))


def expanded(family: str) -> tuple[Detector, Detector]:
    model = network(None)
    return model, expand(model, family)


def expanded_again(family: str) -> tuple[Detector, Detector]:
    """From the deploy form."""
    model = to_deploy(network(None))
    return model, expand(model, family)


# how, family, what a 3x3 was and is, what the others were and are
WAYS = [
    (converted, None, ("ConvBNAct", "ConvAct"), ("ConvBNAct", "ConvAct")),
    (converted, "RepVGG", ("RepVGG", "ConvAct"), ("ConvBNAct", "ConvAct")),
    (converted, "OREPA", ("OREPA", "ConvAct"), ("ConvBNAct", "ConvAct")),
    (converted, "OREPA(pointwise=true, stem=true)", ("OREPA", "ConvAct"), ("OREPA", "ConvAct")),
    (expanded, "RepVGG", ("ConvBNAct", "RepVGG"), ("ConvBNAct", "ConvBNAct")),
    (expanded, "OREPA", ("ConvBNAct", "OREPA"), ("ConvBNAct", "ConvBNAct")),
    (expanded_again, "RepVGG", ("ConvAct", "RepVGG"), ("ConvAct", "ConvBNAct")),
]


@pytest.mark.parametrize(("way", "family", "kinds", "others"), WAYS)
def test_a_row_per_block(way, family, kinds, others):
    reports = network_reports(*way(family))
    assert [report.name for report in reports] == NAMES
    for report in reports:
        expected = kinds if report.name in THREE_BY_THREE else others
        assert (report.block_before, report.block_after) == expected
        assert report.rel_error_float64 <= BOUND
        # no largest number is below one standard deviation
        assert report.weight_spread_before > 1 and report.weight_spread_after > 1


def test_the_error_is_that_of_the_outputs():
    """Twice the output has an error of 1, half of it one of 0.5."""
    for factor, error in ((2.0, 1.0), (0.5, 0.5), (1.0, 0.0)):
        before, after = (nn.Sequential(hand_made([[1.0, -2.0]])) for _ in range(2))
        with torch.no_grad():
            after[0].conv.weight.mul_(factor)
        (report,) = network_reports(before, after)
        assert report.rel_error_float64 == pytest.approx(error, abs=1e-15)


# A wrong block


def wrong_rows(before: nn.Module, after: nn.Module) -> list[str]:
    return [r.name for r in network_reports(before, after) if not r.rel_error_float64 <= BOUND]


def one_weight(block: nn.Module) -> None:
    block.conv.weight[-1, -1, 0, -1] += 1e-9


def one_bias(block: nn.Module) -> None:
    block.conv.bias[0] += 1e-9


def no_number(block: nn.Module) -> None:
    block.conv.weight[0, 0, 0, 0] = math.nan


def the_activation(block: nn.Module) -> None:
    block.act = nn.Identity()


def the_border(block: nn.Module) -> None:
    block.conv.padding_mode = "replicate"


Change = Callable[[nn.Module], None]
each_change = pytest.mark.parametrize("change", [one_weight, one_bias, no_number, the_activation])


@each_change
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_block_shows_in_its_row_alone(name: str, change: Change):
    before, after = converted("RepVGG")
    with torch.no_grad():
        change(after.get_submodule(name))
    assert wrong_rows(before, after) == [name]


@pytest.mark.parametrize("name", sorted(THREE_BY_THREE))
def test_a_wrong_border_shows(name):
    before, after = converted("RepVGG")
    the_border(after.get_submodule(name))
    assert wrong_rows(before, after) == [name]


@pytest.mark.parametrize("name", sorted(THREE_BY_THREE))
def test_a_wrong_branch_shows(name):
    before, after = expanded("RepVGG")
    with torch.no_grad():
        after.get_submodule(name).branches["1x1"].bn.weight[0] = 1e-6  # it should add nothing
    assert wrong_rows(before, after) == [name]


def test_a_block_that_is_no_convolution_is_refused():
    before, after = converted(None)
    after.layers[1] = nn.Sequential(after.layers[1])
    with pytest.raises(TypeError) as caught:
        network_reports(before, after)
    assert str(caught.value) == "Sequential is no convolution block"


# The spread of weights


@torch.no_grad()
def hand_made(weights: list[list[float]]) -> ConvAct:
    """One input channel, a filter of one row for each list."""
    conv = nn.Conv2d(1, len(weights), (1, len(weights[0])), dtype=torch.float64)
    conv.weight.copy_(torch.tensor(weights, dtype=torch.float64)[:, None, None])
    nn.init.zeros_(conv.bias)
    return ConvAct(conv, nn.Identity())


@pytest.mark.parametrize(
    ("weights", "spread"),
    [
        ([[1.0, -1.0]], 1.0),
        ([[0.0, 0.0, 0.0, 4.0]], 4 / math.sqrt(3)),  # mean 1, variance (9 + 3) / 4
        ([[0.0, 0.0, 0.0, -4.0]], 4 / math.sqrt(3)),
        ([[3.0, 5.0]], 5.0),  # of its own mean, not of zero
        ([[1.0, -1.0], [3.0, -3.0]], 3 / math.sqrt(5)),  # of all filters together
    ],
)
def test_spread(weights, spread):
    block = nn.Sequential(hand_made(weights))
    (report,) = network_reports(block, block)
    assert report.weight_spread_before == pytest.approx(spread)


def test_each_form_has_its_own_spread():
    before, after = (nn.Sequential(hand_made(row)) for row in ([[1.0, -1.0]], [[3.0, 5.0]]))
    (report,) = network_reports(before, after)
    spreads = report.weight_spread_before, report.weight_spread_after
    assert spreads == pytest.approx((1.0, 5.0))


def test_an_expanded_block_keeps_the_spread_of_its_kernel():
    """RepVGG's main branch takes over the kernel itself."""
    for report in network_reports(*expanded("RepVGG")):
        assert report.weight_spread_after == report.weight_spread_before


# What the report leaves alone


def test_two_reports_are_the_same_and_change_nothing():
    before, after = converted("OREPA")
    states = [
        {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for model in (before, after)
    ]
    torch.manual_seed(0)
    first = network_reports(before, after)
    torch.manual_seed(1)
    assert network_reports(before, after) == first
    assert all(isinstance(report, BlockReport) for report in first)
    for model, state in zip((before, after), states, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
