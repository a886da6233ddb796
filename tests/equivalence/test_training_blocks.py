"""Blocks while they train: averaged, spread over processes, copied and saved."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.conversion.deploy import to_deploy
from models.network.detector import Detector, build_model
from models.reparam.families import FAMILIES
from tests.block_equivalence import BlockCase, randomise_norms
from tests.equivalence.block_cases import WITH_OPTIONS
from tests.kernel_references import composed_kernel, randomise
from tests.model_builders import tiny_spec, trained_model
from tests.network_equivalence import equivalence_error
from utils.engine.ema import ModelEMA

BOUND = 1e-10
EVERY = [*FAMILIES, "OREPA(post_bn=false)", "OREPA(pointwise=true, stem=true)"]
each_family = pytest.mark.parametrize("family", EVERY)


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64).to(dtype)


# The average


@torch.no_grad()
def after_some_steps(model: Detector, seed: int) -> None:
    """Change every parameter and all statistics, as an epoch would."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    randomise_norms(model)


@each_family
def test_the_average_has_a_deploy_form(family):
    """Branches are averaged, then folded: the average is a network like any other."""
    model = trained_model(tiny_spec(rep_block=family)).double().train()
    first = copy.deepcopy(model).eval()
    average = ModelEMA(model, updates=2000)  # of which an update keeps 63%
    for seed in range(3):
        after_some_steps(model, seed)
        average.update(model)
    assert equivalence_error(average.model, to_deploy(average.model), [images()]) <= BOUND
    # It is neither end of the way.
    model.eval()
    assert equivalence_error(average.model, model, [images()]) > 1e-3
    assert equivalence_error(average.model, first, [images()]) > 1e-3


def test_the_average_of_folded_kernels_is_another_network():
    model = trained_model(tiny_spec(rep_block="OREPA")).double()
    average, folded = ModelEMA(model, updates=2000), ModelEMA(to_deploy(model), updates=2000)
    after_some_steps(model, seed=0)
    average.update(model)
    folded.update(to_deploy(model))
    assert equivalence_error(to_deploy(average.model), folded.model, [images()]) > 1e-3


# Several processes, of which one is here


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A group of one process, on the CPU."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    meeting = tmp_path_factory.mktemp("process_group") / "file"
    torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


def three_steps(model: nn.Module) -> None:
    """Which fail where a parameter takes no part: its gradient would be waited for."""
    parallel = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        sum(raw.square().mean() for raw in parallel(images(torch.float32))).backward()
        optimizer.step()


@each_family
@pytest.mark.usefixtures("process_group")
def test_every_parameter_takes_part(family):
    """A fresh network, where many scales are still zero."""
    torch.manual_seed(0)
    model = build_model(tiny_spec(rep_block=family)).train()
    three_steps(model)
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.usefixtures("process_group")
def test_a_parameter_that_takes_no_part_is_noticed():
    model = build_model(tiny_spec(rep_block="OREPA")).train()
    model.layers[0].idle = nn.Parameter(torch.zeros(1))
    with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
        three_steps(model)


# Copies


COMPOSED = ["OREPA", "OREPAVGG", *(text for text in WITH_OPTIONS if text.startswith("OREPA"))]
COPIED = {
    f"{text}: {name}": BlockCase(text, 4, 6, kernel_size=size, stride=stride, groups=groups)
    for text in COMPOSED
    for name, (size, stride, groups) in {
        "3x3": (3, 1, 1), "3x3, stride 2, 2 groups": (3, 2, 2), "1x1": (1, 1, 1), "5x5": (5, 1, 1),
    }.items()
}  # fmt: skip
each_copied = pytest.mark.parametrize("case", COPIED.values(), ids=COPIED.keys())


each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@each_copied
@each_mode
def test_a_deep_copy_computes_the_same_and_shares_nothing(case, training):
    block, x = case.build().train(training), case.input()
    expected = block(x)
    copied = copy.deepcopy(block)
    randomise(block)
    assert torch.equal(copied(x), expected)
    assert not torch.equal(block(x), expected)


@each_copied
@each_mode
def test_saved_and_loaded(case, training):
    """Into a block of other numbers; what is not saved is the same in both."""
    block, other, x = case.build(seed=0), case.build(seed=1), case.input()
    assert not torch.equal(composed_kernel(block)(), composed_kernel(other)())
    other.load_state_dict(block.state_dict(), strict=True)
    block.train(training)
    other.train(training)
    assert torch.equal(block(x), other(x))
    assert torch.equal(composed_kernel(block)(), composed_kernel(other)())
