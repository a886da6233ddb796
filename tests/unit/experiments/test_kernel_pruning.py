"""Zeros are where they were asked for, and as many, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from experiments.kernel_pruning import PRUNED_SHARES, REGIONS, prune, save_pruned
from models.checkpoints.loading import build_from_checkpoint, read_weights
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model

CORNERS = {(0, 0), (0, 2), (2, 0), (2, 2)}
CROSS = {(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)}
POSITIONS = {"corners": CORNERS, "skeleton": CROSS, "anywhere": CORNERS | CROSS}


def network() -> nn.Sequential:
    """3x3 kernels of several kinds between others; no weight is zero."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 6),
        nn.Conv2d(8, 10, 3),
        nn.BatchNorm2d(10),
        nn.Conv2d(10, 10, 3, groups=10),  # depthwise
        nn.Conv2d(10, 20, 1),
        nn.Sequential(nn.Conv2d(20, 30, 3, stride=2, groups=2), nn.Conv2d(30, 6, (3, 1))),
        nn.ConvTranspose2d(6, 6, 3),
    )


def three_by_three(model: nn.Module) -> list[nn.Conv2d]:
    """Convolutions alone: a transposed one is none."""
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [conv for conv in convs if conv.kernel_size == (3, 3)]


def zero_taps(weight: torch.Tensor) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for *_, row, column in (weight == 0).nonzero()}


def test_the_regions_are_a_cross_and_its_corners():
    for name, positions in POSITIONS.items():
        rows = REGIONS[name]
        assert {
            (r, c) for r, row in enumerate(rows) for c, tap in enumerate(row) if tap
        } == positions


@pytest.mark.parametrize("share", [*PRUNED_SHARES, 0.0, 4 / 9])
@pytest.mark.parametrize("region", REGIONS)
def test_as_many_zeros_as_asked_for_in_the_region_alone(region, share):
    model = network()
    before = copy.deepcopy(model)
    prune(model, region, share)
    pruned = dict(zip(three_by_three(model), three_by_three(before), strict=True))
    assert len(pruned) == 3
    for conv, old in pruned.items():
        zeros = conv.weight == 0
        assert int(zeros.sum()) == round(share * conv.weight.numel())
        assert zero_taps(conv.weight) <= POSITIONS[region]
        assert torch.equal(conv.weight[~zeros], old.weight[~zeros])


@pytest.mark.parametrize("region", REGIONS)
def test_the_rest_of_the_network_stays(region):
    model = network()
    before = copy.deepcopy(model).state_dict()
    prune(model, region, 0.3)
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    ]
    assert changed == ["1.weight", "3.weight", "5.0.weight"]


@pytest.mark.parametrize(("region", "share"), [("corners", 4 / 9), ("skeleton", 5 / 9)])
def test_a_whole_region(region, share):
    model = network()
    prune(model, region, share)
    for conv in three_by_three(model):
        taps = conv.weight.abs().amax((0, 1))
        assert {(int(r), int(c)) for r, c in (taps == 0).nonzero()} == POSITIONS[region]


@pytest.mark.parametrize(
    ("region", "share", "message"),
    [
        ("corners", 0.5, "corners hold less than 50% of the weights"),
        ("skeleton", 0.6, "skeleton hold less than 60% of the weights"),
        ("anywhere", 1.1, "anywhere hold less than 110% of the weights"),
    ],
)
def test_more_than_a_region_has_is_refused(region, share, message):
    with pytest.raises(ValueError) as caught:
        prune(network(), region, share)
    assert str(caught.value) == message


def test_positions_are_random_but_the_same_every_time():
    first, second = network(), network()
    prune(first, "anywhere", 0.2)
    torch.manual_seed(5)
    prune(second, "anywhere", 0.2)
    pairs = list(zip(three_by_three(first), three_by_three(second), strict=True))
    assert all(torch.equal(a.weight, b.weight) for a, b in pairs)
    zeros = pairs[-1][0].weight == 0  # 2700 weights
    per_filter, per_tap = zeros.sum((1, 2, 3)), zeros.sum((0, 1))
    assert per_filter.min() > 0 and per_filter.max() < 45  # of 90
    assert per_tap.min() > 0 and per_tap.max() < 150  # of 300


def test_a_pruned_checkpoint_is_the_deploy_form_with_zeros(tmp_path):
    weights = save_model(tmp_path / "a.pt", trained_model(tiny_spec()), image_size=64)
    before = weights.read_bytes()
    save_pruned(weights, tmp_path / "b.pt", "corners", 0.3)
    assert weights.read_bytes() == before
    checkpoint = read_weights(tmp_path / "b.pt")
    assert (checkpoint.form, checkpoint.image_size) == ("deploy", 64)
    convs = three_by_three(build_from_checkpoint(checkpoint))
    assert len(convs) == 6
    for conv in convs:
        assert int((conv.weight == 0).sum()) == round(0.3 * conv.weight.numel())
        assert zero_taps(conv.weight) <= CORNERS
