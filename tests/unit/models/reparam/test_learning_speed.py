"""OREPA's plain start learns as fast as the plain convolution whose kernel it starts with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.learning_speed import learning_speed
from models.reparam.families import block_family
from models.reparam.rep_block import ConvGeometry, RepBlock, batch_norm
from tests.kernel_references import composed_kernel

DRAWS = 8
OF_YOLOV5 = [
    ConvGeometry(16, 16, 3),
    ConvGeometry(16, 32, 3, 2),
    ConvGeometry(64, 64, 3),
    ConvGeometry(32, 64, 1),
    ConvGeometry(3, 32, 6, 2, 2),  # the stem
]
each_geometry = pytest.mark.parametrize("geometry", OF_YOLOV5, ids=str)


def block_of(text: str, geometry: ConvGeometry) -> RepBlock:
    torch.manual_seed(0)
    make = block_family(text, "test").make
    return make(geometry, nn.Identity(), identity=False).double()


def speed(block: RepBlock) -> float:
    return learning_speed(composed_kernel(block), DRAWS)


def moved(block: nn.Module, kernel: Callable[[], Tensor], x: Tensor) -> float:
    """How far one step of SGD moves the kernel, for a loss that differs from image to image."""
    before = kernel().detach().clone()
    of_image = torch.linspace(-1, 1, x.shape[0], dtype=x.dtype)
    (block(x) * of_image[:, None, None, None]).sum().backward()
    torch.optim.SGD(block.parameters(), lr=1e-3).step()
    return float((kernel().detach() - before).norm())


@each_geometry
@pytest.mark.parametrize("text", ["OREPA", "OREPA(scaling=scalar)"])
def test_the_plain_start_learns_as_fast_as_a_plain_convolution(text, geometry):
    assert speed(block_of(text, geometry)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("geometry", OF_YOLOV5[:-1], ids=str)
def test_so_does_the_composed_kernel_of_three_branches(geometry):
    assert speed(block_of("OREPAVGG", geometry)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("text", ["OREPA", "OREPAVGG"])
def test_one_step_moves_the_kernel_as_far_as_a_plain_one(text):
    geometry = ConvGeometry(32, 32, 3)
    block = block_of(text, geometry)
    conv = geometry.conv(bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(block.main_kernel())
    plain = nn.Sequential(conv, batch_norm(32).double())
    x = torch.randn(4, 32, 12, 12, dtype=torch.float64)
    ratio = moved(block, block.main_kernel, x) / moved(plain, lambda: conv.weight, x)
    assert ratio == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("text", ["OREPA", "OREPAVGG"])
def test_a_trained_kernel_learns_as_fast(text):
    """Of several times the starting size, taken from a trained network."""
    geometry = ConvGeometry(32, 32, 3)
    block = block_of(text, geometry)
    conv = geometry.conv(bias=False).double()
    nn.init.normal_(conv.weight, std=0.2)
    norm = batch_norm(32).double()
    block.load_conv_bn(conv, norm)
    assert speed(block) == pytest.approx(1, abs=0.15)
