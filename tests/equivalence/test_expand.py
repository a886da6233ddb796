"""A plain network expanded into branches computes the same, and its branches can learn."""

from __future__ import annotations

import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import relative_error, to_deploy
from models.conversion.expand import expand
from models.network.detector import block_counts, build_model
from models.reparam.families import FAMILIES
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error

BOUND = 1e-10
WITH_OPTIONS = [
    "MobileOne(branches=2)",
    "OREPA(post_bn=false)",
    "OREPA(scaling=none)",
    "OREPA(pointwise=true, stem=true)",
    "ACB(branch_bn=false)",
]
EVERY = [*FAMILIES, *WITH_OPTIONS]
# Those that take over running statistics in a kernel, where train mode has the batch's own.
EVAL_ONLY = {"QARepVGG", "OREPA(post_bn=false)"}
each_family = pytest.mark.parametrize("family", EVERY)


def plain(seed: int = 0):
    return trained_model(tiny_spec(rep_block=None), seed).double()


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 64, 96, generator=generator, dtype=torch.float64)


@each_family
def test_there_and_back_in_eval_mode(family):
    model = plain()
    expanded = expand(model, family)
    assert family.partition("(")[0] in block_counts(expanded)
    assert equivalence_error(model, expanded, [images()]) <= BOUND
    assert equivalence_error(model, to_deploy(expanded), [images()]) <= BOUND


@each_family
def test_from_a_deploy_form(family):
    deployed = to_deploy(plain())
    assert equivalence_error(deployed, expand(deployed, family), [images()]) <= BOUND


@pytest.mark.parametrize("family", [name for name in EVERY if name not in EVAL_ONLY])
def test_also_exact_in_train_mode(family):
    assert error_in_train_mode(family) <= BOUND


@pytest.mark.parametrize("family", sorted(EVAL_ONLY))
def test_what_is_exact_in_eval_mode_only(family):
    assert error_in_train_mode(family) > 1e-3


def error_in_train_mode(family: str) -> float:
    model = plain()
    expanded = expand(model, family).train()
    with torch.no_grad():
        return relative_error(model.train()(images()), expanded(images()))


@each_family
def test_every_parameter_has_a_gradient_by_the_second_step(family):
    expanded = expand(plain(), family).train()
    optimizer = torch.optim.SGD(expanded.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(raw.square().mean() for raw in expanded(images())).backward()
        optimizer.step()
    silent = [name for name, p in expanded.named_parameters() if not p.grad.abs().max() > 0]
    # The bias before a batch-norm that subtracts it, and only that, may stay without gradient.
    assert silent == []


def test_the_original_is_left_as_it_is():
    model = plain()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expand(model, "RepVGG")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_options_say_which_convolutions_are_replaced():
    every = block_counts(expand(plain(), "OREPA(pointwise=true, stem=true)"))
    assert list(every) == ["OREPA"]  # no plain one is left
    narrow, pointwise, stem = (
        block_counts(expand(plain(), f"OREPA{options}"))["OREPA"]
        for options in ("", "(pointwise=true)", "(stem=true)")
    )
    assert stem == narrow + 1 and narrow + 1 < pointwise == every["OREPA"] - 1


def test_the_policy_is_followed():
    counts = block_counts(expand(plain(), "RepVGG", "downsample"))
    in_all = block_counts(expand(plain(), "RepVGG"))
    assert 0 < counts["RepVGG"] < in_all["RepVGG"]


def test_a_network_with_branches_is_not_expanded_again():
    model = build_model(tiny_spec(rep_block="ACB"))
    with pytest.raises(ValueError, match="the network has ACB blocks already"):
        expand(model, "RepVGG")


@pytest.fixture(scope="module")
def official(shared):
    return build_from_checkpoint(read_weights(shared / "weights" / "yolov5n.pt")).double()


@pytest.mark.parametrize("family", FAMILIES)
def test_official_weights(official, family):
    model, x = official, images()
    expanded = expand(model, family)
    assert equivalence_error(model, expanded, [x]) <= BOUND
    assert equivalence_error(model, to_deploy(expanded), [x]) <= BOUND


def test_blocks_that_rows_name_are_taken_over():
    rows = tiny_yaml()["backbone"]
    spec = tiny_spec(rep_block=None, backbone=[*rows[:2], [-1, 1, "DBB", [32, 3, 2]], *rows[3:]])
    model = trained_model(spec).double()
    expanded = expand(model, "RepVGG")
    assert block_counts(expanded)["DBB"] == 1 and block_counts(expanded)["RepVGG"] == 5
    assert equivalence_error(model, expanded, [images()]) <= BOUND
