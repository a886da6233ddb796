"""The equivalence check, row by row and of whole networks, and with little memory."""

from __future__ import annotations

import weakref

import pytest
import torch

from models.conversion import equivalence
from models.conversion.deploy import equivalence_error, relative_error, to_deploy
from models.conversion.equivalence import (
    check_equivalence,
    compare_exactly,
    measure_equivalence,
)
from models.conversion.expand import expand
from models.conversion.stem import with_stem
from models.network.changed_copy import changed_copy
from models.reparam.families import FAMILIES
from tests.model_builders import tiny_spec, trained_model
from utils.errors import ConversionError

RANDOM = torch.Generator().manual_seed(0)
INPUTS = [torch.rand(shape, generator=RANDOM) for shape in ((2, 3, 96, 64), (1, 3, 64, 64))]


def compared(model, change_form, change_stem=None):
    return compare_exactly(model, INPUTS, change_form=change_form, change_stem=change_stem)


@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_row_by_row_is_as_whole_networks(family):
    """What is not `to_deploy` itself is compared as whole networks."""
    model = trained_model(tiny_spec(rep_block=family))
    by_row, whole = compared(model, to_deploy), compared(model, lambda each: to_deploy(each))
    assert by_row.error == whole.error
    assert by_row.blocks == whole.blocks and len(by_row.blocks) == 17
    exact = model.double()
    changed = to_deploy(exact)
    assert by_row.error == equivalence_error(exact, changed, INPUTS)
    for x, one, other in zip(INPUTS, by_row.maps, whole.maps, strict=True):
        assert relative_error(exact(x.double()), one) == 0
        assert relative_error(one, other) == 0


def test_the_network_does_not_change():
    model = trained_model(tiny_spec())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compared(model, to_deploy)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("row", [0, 3, 9])
def test_a_wrong_row_is_noticed(row):
    """Whatever the way, by whole networks."""

    def wrong(model):
        folded = to_deploy(model)
        kernel = next(folded.layers[row].parameters())
        with torch.no_grad():
            kernel.mul_(1.01)
        return folded

    found = compared(trained_model(tiny_spec()), wrong)
    assert found.error > 1e-7
    worst = max(found.blocks, key=lambda block: block.rel_error_float64)
    assert worst.name.startswith(f"layers.{row}") and worst.rel_error_float64 > 1e-4


@pytest.mark.parametrize(
    ("change_form", "change_stem"),
    [
        (to_deploy, lambda each: with_stem(each, "focus")),
        (lambda each: expand(to_deploy(each), "OREPA"), None),
        (None, lambda each: with_stem(each, "focus")),
    ],
)
def test_other_conversions(change_form, change_stem):
    model = trained_model(tiny_spec(rep_block=None))
    found = compared(model, change_form, change_stem)
    assert 0 <= found.error < 1e-12
    assert len(found.blocks) == (0 if change_form is None else 17)


def test_the_limit_follows_the_rounding_of_the_network_itself():
    model = trained_model(tiny_spec())
    exact, deployed = compared(model, to_deploy), to_deploy(model)
    found = measure_equivalence(model, deployed, INPUTS, exact)
    assert found.float64 == exact.error and found.blocks == exact.blocks
    assert 0 < found.float32 <= found.allowed
    assert found.float32 == equivalence_error(model, deployed, INPUTS)
    check_equivalence(found)
    strict = measure_equivalence(model, deployed, INPUTS, exact, tolerance=1e-12)
    assert strict.allowed == 1e-12
    with pytest.raises(ConversionError, match="float32 error"):
        check_equivalence(strict)


def test_one_row_lives_at_a_time(monkeypatch):
    """In float64; all of them together would take four times the memory of the network."""
    made: list[weakref.ref[torch.nn.Module]] = []
    most = 0

    def counted(module, change):
        nonlocal most
        copied = changed_copy(module, change)
        made.append(weakref.ref(copied))
        most = max(most, sum(each() is not None for each in made))
        return copied

    monkeypatch.setattr(equivalence, "changed_copy", counted)
    model = trained_model(tiny_spec())
    compared(model, to_deploy)
    assert len(made) == len(model.layers) and most == 1
