"""What is measured is what a training step, an inference and an exported file really are."""

from __future__ import annotations

import copy

import pytest
import torch

from experiments.block_costs import (
    FAMILIES,
    PLAIN,
    Setting,
    TrainingStep,
    interleaved_ms,
    onnx_nodes,
)
from models.conversion.deploy import to_deploy
from models.network.detector import Detector, block_counts
from models.reparam import families

CPU = torch.device("cpu")
SMALLEST = Setting("yolov5n.yaml", 64, 1, inference_size=64, rounds=1, device=CPU, amp="off")


def test_every_family_is_measured_and_plain_first():
    assert FAMILIES[0] == PLAIN
    assert {*families.FAMILIES} <= {*FAMILIES}
    assert len(set(FAMILIES)) == len(FAMILIES)


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        (PLAIN, {"ConvBNAct"}),
        ("RepVGG", {"RepVGG", "ConvBNAct"}),
        ("OREPA(pointwise=true, stem=true)", {"OREPA"}),
    ],
)
def test_networks_are_of_their_family_and_the_same_every_time(family, kinds):
    first, second = SMALLEST.build(family), SMALLEST.build(family)
    assert set(block_counts(first)) == kinds
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_nodes_of_a_file():
    """Branches and norms are nodes until a network is converted; then all are as the plain one."""
    nodes = {
        (family, form): onnx_nodes(change(SMALLEST.build(family).eval()))
        for family in (PLAIN, "RepVGG")
        for form, change in (("train", copy.copy), ("deploy", to_deploy))
    }
    assert nodes["RepVGG", "train"] > nodes["RepVGG", "deploy"] == nodes[PLAIN, "deploy"]
    assert nodes[PLAIN, "deploy"] > 60  # its convolutions, and what lies between them


@pytest.mark.parametrize("family", [PLAIN, "RepVGG", "OREPA"])
def test_a_training_step(family):
    """It changes every layer and the average, and leaves everything finite."""
    step = TrainingStep(family, SMALLEST)
    before, average = copy.deepcopy(step.model), copy.deepcopy(step.ema.model)
    step()
    rows = {row_of(name) for name, _ in before.named_parameters()}
    assert len(rows) == 19  # of 25: the others only join and enlarge
    assert changed_rows(before, step.model) == rows
    assert changed_rows(average, step.ema.model) == rows
    assert all(parameter.isfinite().all() for parameter in step.model.parameters())
    assert all(parameter.grad is None for parameter in step.model.parameters())
    with torch.no_grad():
        total = step.loss(step.model(step.batch.images), step.batch).total
    assert total.isfinite() and total > 0


def row_of(name: str) -> int:
    return int(name.split(".")[1])


def changed_rows(before: Detector, after: Detector) -> set[int]:
    """Rows in which some parameter is not what it was."""
    return {
        row_of(name)
        for name, parameter in after.named_parameters()
        if not torch.equal(parameter, before.get_parameter(name))
    }


def test_every_family_learns_from_the_same_batch():
    first, second = (TrainingStep(family, SMALLEST).batch for family in (PLAIN, "RepVGG"))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.boxes, second.boxes)
    assert first.images.shape == (1, 3, 64, 64) and len(first.boxes) == 8
    assert (first.boxes[:, 2:] > first.boxes[:, :2]).all()


def test_rounds_take_each_in_turn():
    """The first round warms up and is not counted."""
    calls: list[str] = []
    work = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    found = interleaved_ms(work, 3, CPU)
    assert calls == ["a", "b"] * 4
    assert list(found) == ["a", "b"]
    assert all(len(times) == 3 and min(times) >= 0 for times in found.values())
