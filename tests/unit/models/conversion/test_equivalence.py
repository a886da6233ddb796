"""The check of a conversion, layer by layer, finds what whole networks in float64 show."""

from __future__ import annotations

import copy
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from models.conversion.block_report import BlockReport
from models.conversion.deploy import relative_error, to_deploy
from models.conversion.equivalence import check_equivalence, measure_equivalence
from models.conversion.expand import expand
from models.conversion.form_change import (
    FOLDED,
    SEED,
    UNCHANGED,
    FormChange,
    expanded,
    in_yolov5_layers,
)
from models.conversion.stem import with_stem
from models.conversion.yolov5_form import as_yolov5
from models.network.detector import Detector
from models.network.module_copy import copy_with, in_float64
from tests.case_loop import for_all
from tests.model_builders import tiny_spec, trained_model
from tests.network_equivalence import equivalence_error, network_reports, raw_maps
from utils.errors import ConversionError

INPUTS = [torch.rand(2, 3, 96, 64), torch.rand(1, 3, 64, 64)]


def plain(rep_block: str | None = None) -> Detector:
    return trained_model(tiny_spec(rep_block=rep_block))


def whole_expansion(model: Detector) -> Detector:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        return expand(model, "OREPA")


CASES = {
    "folded": (plain(), FOLDED, to_deploy),
    "folded RepVGG": (plain("RepVGG"), FOLDED, to_deploy),
    "folded OREPA": (plain("OREPA(pointwise=true, stem=true)"), FOLDED, to_deploy),
    "plain in YOLOv5's layers": (plain(), in_yolov5_layers(plain()), as_yolov5),
    "DBB in YOLOv5's layers": (plain("DBB"), in_yolov5_layers(plain("DBB")), as_yolov5),
    "expanded": (plain(), expanded(plain(), "OREPA", None), whole_expansion),
    "expanded from the deploy form": (
        to_deploy(plain()), expanded(to_deploy(plain()), "OREPA", None), whole_expansion,
    ),
    "unchanged": (to_deploy(plain()), UNCHANGED, copy.deepcopy),
}  # fmt: skip


def rounded(report: BlockReport) -> dict[str, object]:
    """Without what float64 rounds."""
    return {name: f"{value:.9f}" if isinstance(value, float) else value
            for name, value in asdict(report).items()}  # fmt: skip


@for_all(CASES)
def test_errors_are_those_of_whole_networks(case):
    model, change, whole = case
    exact = copy.deepcopy(model).double()
    exact_new, saved = whole(exact), change.network(model)
    found = measure_equivalence(model, saved, INPUTS, change)
    assert found.float32 == equivalence_error(model, saved, INPUTS)
    assert found.float64 <= 1e-12 and equivalence_error(exact, exact_new, INPUTS) <= 1e-12
    own = max(
        relative_error(*pair)
        for pair in zip(raw_maps(exact, INPUTS), raw_maps(model, INPUTS), strict=True)
    )
    assert found.allowed == pytest.approx(max(1e-5, 4 * own))
    reports = network_reports(exact, exact_new) if change.replaces_blocks else []
    for block, report in zip(found.blocks, reports, strict=True):
        assert rounded(block) == rounded(report)
    check_equivalence(found)


def test_another_stem_is_compared_with_the_one_it_came_from():
    model = to_deploy(plain())
    saved = with_stem(model, "focus")
    found = measure_equivalence(model, saved, INPUTS, UNCHANGED)
    assert found.float64 <= 1e-12 and found.float32 <= 1e-5
    with torch.no_grad():
        saved.layers[0].conv.conv.weight[0, 0, 0, 0] += 1
    assert measure_equivalence(model, saved, INPUTS, UNCHANGED).float32 > 1e-4


def wrong(layer: nn.Module) -> nn.Module:
    changed = to_deploy(layer)
    for parameter in changed.parameters():
        parameter.data.view(-1)[0] += 0.1
    return changed


def test_a_wrong_conversion_is_refused():
    """In the networks saved, or in float64 alone."""
    model = plain("RepVGG")
    saved = to_deploy(model)
    change = FormChange(to_deploy, lambda saved, layer: wrong(layer))
    with pytest.raises(ConversionError, match=r"layers\.0 .*float64 error"):
        check_equivalence(measure_equivalence(model, saved, INPUTS, change))
    with torch.no_grad():
        saved.layers[2].conv.weight[0, 0, 0, 0] += 1
    with pytest.raises(ConversionError, match="float32 error"):
        check_equivalence(measure_equivalence(model, saved, INPUTS, FOLDED))


def test_a_copy_in_float64_leaves_the_module():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: each.clone() for name, each in block.state_dict().items()}
    doubled = copy_with(block, in_float64)
    for name, each in doubled.state_dict().items():
        assert each.dtype == (torch.float64 if before[name].is_floating_point() else torch.int64)
        assert torch.equal(each.to(before[name].dtype), before[name])
        each.add_(1)
    after: dict[str, Tensor] = block.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.requires_grad for parameter in doubled.parameters())
