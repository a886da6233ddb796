"""Equalized networks compute the same function, with equal channel ranges."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.conversion.deploy import to_deploy
from models.network.detector import Detector, build_model
from models.quantization.equalization import equalization_pairs, equalized
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from utils.errors import ConfigError

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(**changes: object) -> Detector:
    return to_deploy(trained_model(tiny_spec(**changes)))


def unbalanced(detector: Detector, seed: int = 0) -> Detector:
    """The same function, with channels 1 to 100 times as large as they were."""
    detector, rng = copy.deepcopy(detector), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for pair in equalization_pairs(detector):
            conv = pair.first.conv
            factors = 10 ** (2 * torch.rand(conv.out_channels, generator=rng).to(conv.weight))
            conv.weight *= factors[:, None, None, None]
            conv.bias *= factors
            for reader in pair.readers:
                reader.conv.weight /= factors[:, None, None]
    return detector


@torch.no_grad()
def sqnr_db(detector: Detector) -> float:
    """Of the head maps, with weights rounded to 8 bits, one scale for each convolution."""
    rounded = copy.deepcopy(detector)
    for module in rounded.modules():
        if isinstance(module, nn.Conv2d):
            scale = module.weight.abs().max() / 127
            module.weight.copy_((module.weight / scale).round() * scale)
    wanted, found = (torch.cat([m.flatten() for m in net(IMAGES)]) for net in (detector, rounded))
    return float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))


@pytest.mark.parametrize("changes", [
    {},
    {"activation": "ReLU"},
    {"activation": "Identity"},
    {"rep_block": "DBB"},
    {"backbone": [[-1, 1, "Conv", [32, 6, 2, 2]], [-1, 2, "Conv", [32, 3]],
                  [-1, 1, "Conv", [32, 3, 4]], [-1, 2, "Bottleneck", [32, False]],
                  [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]],
                  [-1, 1, "SPPF", [64, 5]]],
     "depth_multiple": 1.0},
], ids=["leaky", "relu", "none", "dbb", "chains"])  # fmt: skip
def test_the_function_stays(changes):
    before = unbalanced(network(**changes).double())
    original = copy.deepcopy(before.state_dict())
    after, names = equalized(before)
    x = IMAGES.double()
    with torch.no_grad():
        for a, b in zip(before(x), after(x), strict=True):
            assert (a - b).abs().max() <= 1e-10 * a.abs().max()
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in original.items())
    weights = [key for key in original if key.endswith("weight")]
    changed = [key for key in weights if not torch.equal(original[key], after.state_dict()[key])]
    assert names and {key.removesuffix(".conv.weight") for key in changed} == set(names)


def test_ranges_are_equal():
    after, _ = equalized(unbalanced(network()))
    assert len(equalization_pairs(after)) > 5
    for pair in equalization_pairs(after):
        made = pair.first.conv.weight.abs().amax((1, 2, 3))
        read = torch.stack([r.conv.weight.abs().amax((0, 2, 3)) for r in pair.readers]).amax(0)
        torch.testing.assert_close(made, read, rtol=1e-2, atol=0)


def test_an_unbalanced_network_loses_in_8_bits_and_is_restored():
    original = network()
    spoilt = unbalanced(original)
    assert sqnr_db(spoilt) < sqnr_db(original) - 10
    assert sqnr_db(equalized(spoilt)[0]) > sqnr_db(original) - 1


def test_which_convolutions_are_paired():
    detector = network()
    names = {module: name for name, module in detector.named_modules()}
    found = {names[j.first]: [names[r] for r in j.readers] for j in equalization_pairs(detector)}
    assert found == {
        "layers.0": ["layers.1"],
        "layers.1": ["layers.2"],
        "layers.2": ["layers.3.cv1", "layers.3.cv2"],
        "layers.3.m.0.cv1": ["layers.3.m.0.cv2"],  # its cv1 is added to as well; 3 feeds the head
        "layers.5": ["layers.6.cv1"],  # 4 is joined on too
        "layers.9.cv1": ["layers.9.m.0.cv1"],  # without shortcut
        "layers.9.m.0.cv1": ["layers.9.m.0.cv2"],
    }


def test_grouped_convolutions_are_left_alone():
    rows = tiny_yaml()["backbone"]
    rows[1] = [-1, 1, "Conv", [32, 3, 2, None, 4]]
    _, names = equalized(network(backbone=rows))
    assert "layers.0" not in names and "layers.1" not in names and "layers.2" in names


def test_empty_channels_stay_empty_and_almost_empty_ones_as_they_are():
    detector = network()
    with torch.no_grad():
        detector.layers[0].conv.weight[0] = 0
        detector.layers[0].conv.weight[1] *= 1e-6
    after, _ = equalized(detector)
    assert all(torch.isfinite(value).all() for value in after.state_dict().values())
    for channel in (0, 1):
        for part in ("weight", "bias"):
            before, now = (getattr(d.layers[0].conv, part)[channel] for d in (detector, after))
            assert torch.equal(before, now)


@pytest.mark.parametrize("activation", ["SiLU", "ReLU6", "Hardswish"])
def test_activations_that_do_not_scale(activation):
    with pytest.raises(ConfigError) as caught:
        equalized(network(activation=activation))
    assert str(caught.value) == (
        f"tiny.yaml: channels cannot be equalized across {activation}: that needs "
        "act(s x) = s act(x) for every s > 0; train with ReLU or LeakyReLU"
    )


def test_networks_with_branches():
    with pytest.raises(ValueError, match="deploy form"):
        equalized(build_model(tiny_spec()).eval())
