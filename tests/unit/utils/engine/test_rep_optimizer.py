"""RepOptimizer's law: a RepOpt block learns as branches with constant scales (CSLA) do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from models.reparam.branched_conv import BranchedConv
from models.reparam.families import block_family
from models.reparam.rep_block import ConvGeometry
from models.reparam.rep_opt import TapScaledConv
from utils.engine.optim import build_optimizer, clip_gradients
from utils.engine.schedule import StepSettings

STEPS, BOUND = 8, 1e-10
GEOMETRIES = {
    "identity": ConvGeometry(6, 6, 3),
    "in != out": ConvGeometry(4, 6, 3),
    "stride 2": ConvGeometry(6, 6, 3, stride=2),
    "3 groups": ConvGeometry(6, 6, 3, groups=3),
    "2 groups, stride 2": ConvGeometry(4, 8, 3, stride=2, groups=2),
    "depthwise": ConvGeometry(6, 6, 3, groups=6),
    "1x1": ConvGeometry(6, 6, 1),
    "1x1, 2 groups": ConvGeometry(4, 6, 1, groups=2),
    "5x5": ConvGeometry(4, 4, 5),
    "dilated": ConvGeometry(4, 4, 3, dilation=2),
}
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))


class ConstantScales(nn.Module):
    """The branches one by one, written without the product's algebra; float64."""

    def __init__(self, geometry: ConvGeometry, scales: dict[str, Tensor]) -> None:
        super().__init__()
        self.kxk = geometry.conv(bias=False).double()
        self.pointwise = geometry.conv(bias=False, kernel_hw=(1, 1)).double()
        # As (C, 1, 1, 1), so that it decays like any kernel.
        start = scales.get("identity")
        self.identity = None if start is None else nn.Parameter(start[:, None, None, None].clone())
        self.scales = scales
        self.bn = nn.BatchNorm2d(geometry.out_channels, eps=1e-3, momentum=0.03).double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.scales["kxk"][:, None, None] * self.kxk(x)
        y = y + self.scales["1x1"][:, None, None] * self.pointwise(x)
        if self.identity is not None:
            y = y + self.identity[:, 0] * x
        return F.silu(self.bn(y))


@torch.no_grad()
def pair(geometry: ConvGeometry) -> tuple[BranchedConv, TapScaledConv, ConstantScales]:
    """A RepOpt block with random scales of both signs, and the branches that it stands for."""
    torch.manual_seed(0)
    block = block_family("RepOpt", "test").make(geometry, nn.SiLU(), identity=True).double()
    conv = block.branches["kxk"]
    for scale in conv.scales.values():
        signs = torch.randint_like(scale, 0, 2) * 2 - 1
        scale.uniform_(0.3, 1.7).mul_(signs)
    branches = ConstantScales(geometry, {k: v.clone() for k, v in conv.scales.items()})
    conv.set_kernel(conv.merged(branches.kxk.weight, branches.pointwise.weight, conv.scales))
    return block, conv, branches


def kernel_of(branches: ConstantScales, geometry: ConvGeometry) -> Tensor:
    """The kernel of the branches, from their response to single taps."""
    size, groups = geometry.kernel_size, geometry.groups
    centre, per_group = size // 2, geometry.in_channels // groups
    kernel = branches.scales["kxk"][:, None, None, None] * branches.kxk.weight.detach()
    pointwise = branches.pointwise.weight.detach()[:, :, 0, 0]
    kernel[:, :, centre, centre] += branches.scales["1x1"][:, None] * pointwise
    if branches.identity is not None:
        for channel in range(geometry.out_channels):
            weight = branches.identity.detach()[channel, 0, 0, 0]
            kernel[channel, channel % per_group, centre, centre] += weight
    return kernel


def train(module: nn.Module, optimizer: Optimizer, geometry: ConvGeometry):
    """Steps with rates and momenta that change, each after the gradients of two batches."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.linspace(0.5, 2, geometry.out_channels, dtype=torch.float64)[:, None, None]
    for step in range(STEPS):
        rate, momentum = 0.1 / (1 + step), 0.8 + 0.01 * step
        StepSettings(rate, rate, rate, momentum, 2).apply(optimizer)
        for _ in range(2):
            x = torch.randn(3, geometry.in_channels, 7, 6, generator=generator, dtype=torch.float64)
            (module.train()(x) * weights).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def difference(conv: TapScaledConv, branches: ConstantScales, geometry: ConvGeometry) -> float:
    expected = kernel_of(branches, geometry)
    return float((conv.kernel().detach() - expected).abs().max() / expected.abs().max())


def trained_pair(name: str, geometry: ConvGeometry, *, weight_decay: float, eps: float | None):
    block, conv, branches = pair(geometry)
    assert difference(conv, branches, geometry) < 1e-15  # they start as one
    for module in (block, branches):
        optimizer = build_optimizer(module, name, lr=0.1, momentum=0.9, weight_decay=weight_decay)
        for group in optimizer.param_groups:
            group.update({} if eps is None else {"eps": eps})
        train(module, optimizer, geometry)
    return block, conv, branches


@each_geometry
def test_sgd_is_the_same_training(geometry):
    """Momentum, Nesterov, weight decay, a schedule and gathered gradients included."""
    start = pair(geometry)[1].kernel().detach().clone()
    _, conv, branches = trained_pair("SGD", geometry, weight_decay=0.02, eps=None)
    assert difference(conv, branches, geometry) < BOUND
    assert (conv.kernel().detach() - start).abs().max() > 0.01 * start.abs().max()  # it learnt
    for one, other in zip(conv.bn.state_dict().values(), branches.bn.state_dict().values(),
                          strict=True):  # fmt: skip
        assert torch.allclose(one.double(), other.double(), rtol=0, atol=BOUND)


@each_geometry
@pytest.mark.parametrize(("name", "weight_decay"), [("AdamW", 0.02), ("Adam", 0.0)])
def test_adam_is_the_same_training_without_eps(name, weight_decay, geometry):
    """What holds exactly: decoupled decay, and the eps that guards the division at zero."""
    _, conv, branches = trained_pair(name, geometry, weight_decay=weight_decay, eps=0.0)
    assert difference(conv, branches, geometry) < BOUND


def test_adam_with_its_usual_eps():
    """1e-8, beside the gradients of each branch."""
    geometry = GEOMETRIES["identity"]
    _, conv, branches = trained_pair("AdamW", geometry, weight_decay=0.02, eps=None)
    assert 1e-14 < difference(conv, branches, geometry) < 1e-4


def test_decay_within_adams_gradient_is_another_training():
    """Adam divides each branch's decay by that branch's gradients: no multiplier does."""
    geometry = GEOMETRIES["identity"]
    _, conv, branches = trained_pair("Adam", geometry, weight_decay=0.02, eps=0.0)
    assert difference(conv, branches, geometry) > 1e-3


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_without_the_multipliers_it_is_another_training(name):
    geometry = GEOMETRIES["identity"]
    block, conv, branches = pair(geometry)
    groups = [{"params": [p for p in block.parameters() if p.ndim == 4]},
              {"params": [p for p in block.parameters() if p.ndim == 1]},
              {"params": []}]  # fmt: skip
    plain = {"SGD": SGD, "AdamW": AdamW}[name](groups, lr=0.1)
    train(block, plain, geometry)
    train(branches, build_optimizer(branches, name, lr=0.1, momentum=0.9, weight_decay=0), geometry)
    assert difference(conv, branches, geometry) > 1e-2


@each_geometry
def test_multipliers_are_those_of_the_article(geometry):
    """G = s_kxk^2, + s_1x1^2 at the centre tap, + 1 at [o, o, centre]; first powers for Adam."""
    _, conv, _ = pair(geometry)
    size, per_group = geometry.kernel_size, geometry.in_channels // geometry.groups
    for power in (1, 2):
        ((weight, found),) = conv.gradient_multipliers(power).items()
        assert weight is conv.conv.weight and found.shape == weight.shape
        taps = found.flatten(2).tolist()
        for o in range(geometry.out_channels):
            for i in range(per_group):
                for tap in range(size * size):
                    expected = float(conv.scale_kxk[o].abs() ** power)
                    if tap == size * size // 2:
                        expected += float(conv.scales["1x1"][o].abs() ** power)
                        if geometry.keeps_shape and i == o % per_group:
                            expected += 1
                    assert math.isclose(taps[o][i][tap], expected, rel_tol=1e-12)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_plain_network_has_no_hooks(kind):
    optimizer = build_optimizer(
        nn.Conv2d(3, 4, 3), kind.__name__, lr=0.1, momentum=0.9, weight_decay=0
    )
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_frozen_and_unused_weights_stay(name):
    block = pair(GEOMETRIES["identity"])[0]
    optimizer = build_optimizer(block, name, lr=0.1, momentum=0.9, weight_decay=0.1)
    before = copy.deepcopy(block.state_dict())
    optimizer.step()  # no gradients at all
    block.branches["kxk"].conv.requires_grad_(False)
    block.train()(torch.randn(2, 6, 5, 5, dtype=torch.float64)).sum().backward()
    optimizer.step()
    name_of_weight = "branches.kxk.conv.weight"
    assert torch.equal(block.state_dict()[name_of_weight], before[name_of_weight])


def test_the_clip_measures_the_plain_gradient():
    """So it acts where it acts on the plain network; the multiplication comes after it."""
    geometry = GEOMETRIES["identity"]
    block, conv, _ = pair(geometry)
    plain = copy.deepcopy(block)
    x = torch.randn(4, 6, 9, 9, dtype=torch.float64)
    for module in (block, plain):
        (1e3 * module.train()(x)).square().sum().backward()
        assert clip_gradients(module) > 10
    clipped = plain.branches["kxk"].conv.weight.grad
    before, factor = conv.kernel().clone(), conv.gradient_multipliers(2)[conv.conv.weight]
    build_optimizer(block, "SGD", lr=0.1, momentum=0.9, weight_decay=0.0).step()
    # Nesterov's first step is (1 + momentum) times the gradient.
    assert torch.allclose(before - conv.kernel(), 0.1 * 1.9 * factor * clipped, rtol=1e-12)
