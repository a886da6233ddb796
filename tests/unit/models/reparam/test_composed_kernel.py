"""A composed kernel is the scaled sum of its parts, whatever the precision around it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from models.conversion.deploy import relative_error
from models.reparam import composed_kernel as module
from models.reparam.composed_kernel import ComposedKernel
from models.reparam.families import block_family
from models.reparam.rep_block import ConvGeometry
from tests.block_equivalence import randomise_norms
from tests.kernel_references import composed_kernel, randomise

SIX = ["origin", "1x1_avg", "1x1_prior", "1x1_kxk", "separable", "1x1"]
# what a yaml says, geometry, the names of the terms, what their scales start at
STARTS = [
    ("OREPA(start=paper)", ConvGeometry(4, 6, 3), SIX, [0.25, 0.25, 0, 0.5, 0.5, 1]),
    ("OREPA(start=paper)", ConvGeometry(4, 6, 3, 2, groups=2), SIX, [0.25, 0.25, 0, 0.5, 0.5, 1]),
    ("OREPA(start=paper)", ConvGeometry(4, 6, 1), ["origin", "1x1_1x1"], [1, 0.5]),
    ("OREPA(start=paper)", ConvGeometry(4, 6, 6, 2, 2), ["origin", "stack"], [0.25, 1]),
    # The 1x1 is a branch, and there is no stack:
    ("OREPAVGG(start=paper)", ConvGeometry(4, 6, 3), SIX[:5], [0.25, 0.25, 0, 0.5, 0.5]),
    ("OREPAVGG(start=paper)", ConvGeometry(4, 6, 5), SIX[:5], [0.25, 0.25, 0, 0.5, 0.5]),
    ("OREPAVGG(start=paper)", ConvGeometry(4, 6, 1), ["origin", "1x1_1x1"], [1, 0.5]),
    ("OREPA", ConvGeometry(4, 6, 3), SIX, [0.8305, 0.2076, 0, 0.4152, 0.4152, 0.8305]),
    ("OREPA", ConvGeometry(4, 6, 1), ["origin", "1x1_1x1"], [0.8305, 0.4152]),
    ("OREPA", ConvGeometry(4, 6, 6, 2, 2), ["origin", "stack"], [0.8305, 0.8305]),
    ("OREPAVGG", ConvGeometry(4, 6, 3), SIX[:5], [0.8305, 0.2076, 0, 0.4152, 0.4152]),
    ("LinearAdd", ConvGeometry(4, 6, 3), ["kxk", "1x1"], [1, 1]),
    ("LinearAdd(scale_1x1=0.5)", ConvGeometry(4, 4, 3), ["kxk", "1x1", "identity"], [1, 0.5, 1]),
]
GEOMETRIES = {
    "3x3": ConvGeometry(4, 4, 3),
    "3x3, 2 groups": ConvGeometry(4, 6, 3, groups=2),
    "depthwise": ConvGeometry(6, 6, 3, groups=6),
    "1x1": ConvGeometry(4, 6, 1),
    "5x5": ConvGeometry(4, 6, 5),
}
SCALINGS = ("vector", "scalar", "none")
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
each_scaling = pytest.mark.parametrize("scaling", SCALINGS)
each_text = pytest.mark.parametrize("text", ["OREPA", "OREPA(post_bn=false)", "OREPAVGG"])


def block_of(text: str, geometry: ConvGeometry, *, activation: nn.Module | None = None):
    """A block in train mode, no number of its composed kernel zero."""
    torch.manual_seed(0)
    make = block_family(text, "test").make
    block = make(geometry, activation or nn.Identity(), identity=True)
    randomise(composed_kernel(block))
    randomise_norms(block)
    return block


def kernel_of(geometry: ConvGeometry, scaling: str = "vector") -> ComposedKernel:
    return composed_kernel(block_of(f"OREPA(scaling={scaling})", geometry))


def input_of(geometry: ConvGeometry, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, geometry.in_channels, 7, 8, dtype=dtype)


@pytest.mark.parametrize(("text", "geometry", "names", "starts"), STARTS)
def test_terms_and_the_scales_they_start_at(text, geometry, names, starts):
    kernel = composed_kernel(block_family(text, "test").make(geometry, nn.SiLU(), identity=True))
    assert list(kernel.terms) == names
    assert kernel.scales.keys() == set(names)
    for name, start in zip(names, starts, strict=True):
        scale = kernel.scales[name].detach()
        assert torch.allclose(scale, torch.tensor(float(start)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scaling", "shape"), [("vector", (6,)), ("scalar", (1,))])
def test_scales(scaling, shape):
    kernel = kernel_of(ConvGeometry(4, 6, 3), scaling)
    assert {name: tuple(scale.shape) for name, scale in kernel.scales.items()} == dict.fromkeys(
        SIX, shape
    )
    assert all(scale.requires_grad for scale in kernel.scales.values())


def test_no_scales():
    kernel = kernel_of(ConvGeometry(4, 6, 3), "none")
    assert list(kernel.scales) == [] and list(kernel.terms) == SIX


@each_geometry
@each_scaling
def test_the_kernel_is_the_sum_of_its_parts(geometry, scaling):
    """Each part is its term times its scale, output channel by output channel."""
    kernel = kernel_of(geometry, scaling).double()
    parts = kernel.parts(torch.float64)
    assert list(parts) == list(kernel.terms)
    assert relative_error([sum(parts.values())], [kernel()]) <= 1e-15
    for name, part in parts.items():
        term = kernel.terms[name].kernel(torch.float64)
        scale = kernel.scales[name] if name in kernel.scales else torch.ones(1)
        for channel, filters in enumerate(part):
            by_hand = term[channel] * scale[channel if len(scale) > 1 else 0]
            assert torch.equal(filters, by_hand)


@each_geometry
@each_scaling
def test_it_becomes_any_kernel_and_only_the_free_one_changes(geometry, scaling):
    kernel = kernel_of(geometry, scaling).double()
    before = copy.deepcopy(kernel.state_dict())
    wanted = torch.randn(geometry.kernel_shape, dtype=torch.float64)
    kernel.set_kernel(wanted)
    assert relative_error([wanted], [kernel()]) <= 1e-12
    changed = {n for n, value in kernel.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"terms.origin.weight"}
    assert kernel.weight.requires_grad and kernel.weight.is_leaf


@pytest.mark.parametrize(("scaling", "channel"), [("vector", 5), ("scalar", 0)])
def test_a_free_kernel_that_counts_nothing_is_refused(scaling, channel):
    """One output channel is enough."""
    kernel = kernel_of(ConvGeometry(4, 6, 3), scaling)
    before = kernel.weight.detach().clone()
    with torch.no_grad():
        kernel.scales["origin"][channel] = 0
    with pytest.raises(ValueError) as caught:
        kernel.set_kernel(torch.zeros(6, 4, 3, 3))
    assert str(caught.value) == "a free kernel whose scale is zero cannot represent any kernel"
    assert torch.equal(kernel.weight, before)


# Precision


@each_geometry
@each_scaling
@pytest.mark.parametrize("gradients", [True, False])
def test_autocast_does_not_reach_the_composition(geometry, scaling, gradients):
    kernel = kernel_of(geometry, scaling)
    with torch.set_grad_enabled(gradients):
        expected = kernel()
        with torch.autocast("cpu", torch.bfloat16):
            found = kernel()
            again = torch.mm(torch.ones(1, 1), torch.ones(1, 1))  # autocast is on again
    assert found.dtype == expected.dtype == torch.float32 and again.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_what_autocast_would_do_to_the_composition():
    """Else the test above could not fail."""
    kernel = kernel_of(ConvGeometry(4, 4, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(kernel.compose(torch.float32), kernel())


@each_text
@each_geometry
def test_gradients_under_autocast(text, geometry):
    """The composition is made again in the backward pass: without autocast there too."""
    block, x = block_of(text, geometry), input_of(geometry, torch.float32)
    kernel = composed_kernel(block)
    direction = torch.randn(geometry.kernel_shape)
    expected = gradients((kernel() * direction).sum(), kernel)
    with torch.autocast("cpu", torch.bfloat16):  # which ends before the backward pass
        total, loss = (kernel() * direction).sum(), block(x).float().square().mean()
    found = gradients(total, kernel)
    loss.backward()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in block.parameters())


@each_text
@each_geometry
def test_blocks_and_their_deploy_form_under_autocast(text, geometry):
    """As far apart as rounding to 8 bits before and after the norm."""
    block, x = block_of(text, geometry, activation=nn.SiLU()), input_of(geometry, torch.float32)
    block.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert relative_error([block(x)], [block.to_deploy()(x)]) <= 2**-6


@each_geometry
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_compose_in_float32(geometry, dtype):
    kernel = kernel_of(geometry).to(dtype)
    found = kernel()
    assert found.dtype == torch.float32
    assert torch.equal(found, kernel.float()())  # which rounds no further


@each_geometry
def test_double_weights_compose_in_double(geometry):
    assert kernel_of(geometry).double()().dtype == torch.float64


# What is kept for the backward pass


@each_geometry
@each_scaling
def test_gradients_are_those_of_plain_composing(geometry, scaling):
    kernel = kernel_of(geometry, scaling).double()
    direction = torch.randn(geometry.kernel_shape, dtype=torch.float64)
    plain = gradients((kernel.compose(torch.float64) * direction).sum(), kernel)
    found = gradients((kernel() * direction).sum(), kernel)
    assert all(plain[name].abs().max() > 0 for name in plain)
    assert max(relative_error([plain[name]], [found[name]]) for name in plain) <= 1e-12


@each_text
@each_geometry
def test_nothing_of_the_composition_is_kept(text, geometry, monkeypatch):
    """A forward pass keeps what a convolution and norm with a plain kernel would, no more."""
    block, x = block_of(text, geometry), input_of(geometry, torch.float32)
    branch, kernel = block.branches["kxk"], composed_kernel(block)
    with kept_numbers(branch) as saved:
        y = branch(x)
    norm = 0 if branch.bn is None else y.numel() + 2 * geometry.out_channels
    assert sum(saved.values()) <= x.numel() + kernel.weight.numel() + norm
    # Without the checkpoint it is more: the count can fail.
    monkeypatch.setattr(module, "checkpoint", lambda compose, dtype, **_: compose(dtype))
    with kept_numbers(branch) as kept_of_all:
        branch(x)
    assert sum(kept_of_all.values()) > sum(saved.values())


def gradients(total: Tensor, kernel: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*kernel.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(total, parameters), strict=True))


@contextmanager
def kept_numbers(block: nn.Module) -> Iterator[dict[int, int]]:
    """How many numbers autograd keeps, by memory: parameters and buffers are there anyway."""
    there = {t.untyped_storage().data_ptr() for t in (*block.parameters(), *block.buffers())}
    saved: dict[int, int] = {}
    alive = []  # so that no memory is used twice

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        address = tensor.untyped_storage().data_ptr()
        if address not in there:
            saved[address] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
