"""Copies with other tensors: what is changed, what is shared, and what stays as it was."""

from __future__ import annotations

import torch

from models.network.changed_copy import as_double, changed_copy
from tests.model_builders import tiny_spec, trained_model


def test_a_copy_in_float64():
    model = trained_model(tiny_spec())
    copied = changed_copy(model, as_double)
    state = copied.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float64, torch.int64}
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name].to(tensor.dtype), tensor)
        assert state[name].data_ptr() != tensor.data_ptr()
    assert not copied.training
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    for one, other in zip(copied(x), model.double()(x), strict=True):
        assert torch.equal(one, other)


def test_what_one_module_shares_its_copy_shares():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].weight = module[0].weight
    module[0].weight.requires_grad_(False)
    copied = changed_copy(module, as_double)
    assert copied[0].weight is copied[1].weight is not module[0].weight
    assert not copied[0].weight.requires_grad and copied[0].bias.requires_grad
