from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from models.network.detector import block_counts
from models.reparam.families import FAMILIES
from tests.model_builders import meta_model, tiny_spec
from utils.engine.optim import (
    MAX_GRADIENT_NORM,
    OptimizerConfig,
    ParameterGroups,
    build_optimizer,
    clip_gradients,
    describe_optimizer,
    load_optimizer_state,
)
from utils.engine.schedule import StepSettings

WORDS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 5, 1), nn.SyncBatchNorm(5), nn.GroupNorm(1, 5)),
        nn.LayerNorm(7),
    )


def test_every_parameter_is_in_one_group():
    model = network()
    groups = ParameterGroups.of(model)
    inner = model[2]
    assert groups.weights[0] is model[0].weight and groups.weights[1] is inner[0].weight
    assert groups.biases[0] is model[1].bias and groups.biases[1] is inner[0].bias
    assert groups.norms[0] is model[1].weight and groups.norms[1] is inner[1].weight
    together = [*groups.biases, *groups.weights, *groups.norms]
    assert sorted(map(id, together)) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("name", ["yolov5n.yaml", "repyolov5n.yaml"])
def test_whole_networks(name):
    """Only kernels of convolutions decay; all their branches do."""
    model = meta_model(name)
    groups = ParameterGroups.of(model)
    assert all(parameter.ndim == 4 for parameter in groups.weights)
    assert all(parameter.ndim == 1 for parameter in [*groups.biases, *groups.norms])
    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    counts = (len(groups.biases), len(groups.weights), len(groups.norms))
    assert counts == (norms + 3, convs, norms)


REP_BLOCKS = [
    *FAMILIES,
    "OREPA(scaling=scalar)",
    "OREPA(scaling=none)",
    "OREPA(post_bn=false)",
    "OREPA(pointwise=true, stem=true)",
    "OREPAVGG(scaling=scalar)",
    "ACB(branch_bn=false)",
]


@pytest.mark.parametrize("rep_block", REP_BLOCKS)
def test_every_family(rep_block):
    """By what a parameter is, not by its shape: kernels decay, scales and biases do not."""
    model = meta_model(tiny_spec(rep_block=rep_block)).train()
    expected: dict[str, list[int]] = {"biases": [], "weights": [], "norms": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_scale = isinstance(module, nn.BatchNorm2d | nn.ParameterDict)
            group = "biases" if name == "bias" else "norms" if is_scale else "weights"
            expected[group].append(id(parameter))
    groups = ParameterGroups.of(model)
    for group, parameters in expected.items():
        assert sorted(map(id, getattr(groups, group))) == sorted(parameters), group
    assert all(parameter.ndim == 4 for parameter in groups.weights)
    optimizer = build_optimizer(model, "SGD", **WORDS)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decays)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert decays.keys() == trained
    assert {key for key, decay in decays.items() if decay} == set(expected["weights"])


def test_how_many_scales_an_orepa_network_has():
    """One for each term of each block beside its norm, or none."""
    networks = [
        ParameterGroups.of(meta_model(tiny_spec(rep_block=f"OREPA({options})")))
        for options in ("scaling=vector", "scaling=scalar", "scaling=none", "post_bn=false")
    ]
    vector, scalar, none, without_norm = (len(groups.norms) for groups in networks)
    blocks = block_counts(meta_model(tiny_spec(rep_block="OREPA")))["OREPA"]
    assert vector == scalar == none + 6 * blocks == without_norm + blocks


@pytest.mark.parametrize(("name", "kind"), [("SGD", SGD), ("Adam", Adam), ("AdamW", AdamW)])
def test_kinds(name, kind):
    optimizer = build_optimizer(network(), name, **WORDS)
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0.0005, 0]
    for group in optimizer.param_groups:
        assert group["lr"] == 0.01
        if kind is SGD:
            assert group["momentum"] == 0.9 and group["nesterov"] is True
        else:
            assert group["betas"] == (0.9, 0.999)


def test_an_unknown_kind():
    with pytest.raises(ValueError) as caught:
        build_optimizer(network(), "Lion", **WORDS)
    assert str(caught.value) == "unknown optimizer 'Lion'"


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        (64, 0.0005),
        (16, 0.0005),  # 4 batches per step
        (1, 0.0005),
        (128, 0.001),  # more than the nominal 64
        (24, 0.0005 * 24 * 3 / 64),  # 64 / 24 rounds to 3: 72 images per step
    ],
)
def test_weight_decay_follows_the_images_per_step(batch_size, expected):
    assert OptimizerConfig(weight_decay=0.0005).scaled_weight_decay(batch_size) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("norm", [3.0, 10.0, 50.0])
def test_gradients_are_clipped(norm):
    model = nn.Linear(4, 4)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    for parameter in model.parameters():
        parameter.grad *= norm / before
    assert float(clip_gradients(model)) == pytest.approx(norm, rel=1e-5)
    after = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    assert after == pytest.approx(min(norm, MAX_GRADIENT_NORM), rel=1e-4)


def test_groups_are_described_without_what_is_frozen():
    model = network()
    optimizer = build_optimizer(model, "AdamW", lr=0.01, momentum=0.9, weight_decay=0.0005)
    hyp = OptimizerConfig(lr0=0.01, lrf=0.1)
    assert describe_optimizer(optimizer, hyp, 24) == (
        "Optimizer: AdamW, lr 0.01 to 0.001, 2 weights (decay 0.0005), 4 norms (decay 0), "
        "5 biases (decay 0), 72 images per step"
    )
    model[0].requires_grad_(False)
    assert "1 weights (decay 0.0005)" in describe_optimizer(optimizer, hyp, 24)


def convolutions(dtype: torch.dtype = torch.float32, *, channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    order = torch.channels_last if channels_last else torch.contiguous_format
    layers = (nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 1))
    return nn.Sequential(*layers).to(dtype=dtype, memory_format=order).train()


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(3, 8, 5, 6, generator=generator, dtype=torch.float64)
        StepSettings(0.1, 0.02, 0.03, 0.8 + 0.01 * number, 1).apply(optimizer)
        model(images.to(model[0].weight.dtype)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_fused_steps_are_those_of_the_loop(name, dtype, bound, channels_last):
    fused, looped = (convolutions(dtype, channels_last=channels_last) for _ in range(2))
    one = build_optimizer(fused, name, **WORDS)
    other = build_optimizer(looped, name, **WORDS)
    assert all(group["fused"] for group in one.param_groups)
    for group in other.param_groups:
        group.update(fused=False, foreach=False)
    steps(fused, one, 5)
    steps(looped, other, 5)
    for found, expected in zip(fused.parameters(), looped.parameters(), strict=True):
        assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("stored_fused", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_state_is_taken_up_whatever_its_order_in_memory(name, stored_fused):
    """Also one that steps without a kernel of their own left, as older versions took them."""
    whole, first = (convolutions(channels_last=True) for _ in range(2))
    optimizer = build_optimizer(whole, name, **WORDS)
    steps(whole, optimizer, 4)

    before = build_optimizer(first, name, **WORDS)
    for group in before.param_groups:
        group["fused"] = stored_fused
    steps(first, before, 2)
    state = {number: {key: value.contiguous() for key, value in values.items()}
             for number, values in before.state_dict()["state"].items()}  # fmt: skip
    resumed = convolutions(channels_last=True)
    resumed.load_state_dict(first.state_dict())
    after = build_optimizer(resumed, name, **WORDS)
    load_optimizer_state(after, state)
    for parameter, values in after.state.items():
        for value in values.values():
            assert value.ndim == 0 or value.stride() == parameter.stride()
    assert all(group["fused"] for group in after.param_groups)
    steps(resumed, after, 2, first=2)
    for found, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        if stored_fused:
            assert torch.equal(found, expected)
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
