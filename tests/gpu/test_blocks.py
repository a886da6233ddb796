"""Every block family on a GPU: a step of training, and the deploy form."""

from __future__ import annotations

import pytest
import torch

from models.conversion.deploy import to_deploy
from models.network.detector import build_model
from models.reparam.families import FAMILIES
from tests.block_equivalence import randomise_constants, randomise_norms
from tests.model_builders import tiny_spec
from tests.network_equivalence import equivalence_error

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_a_step_and_the_deploy_form(machine, family, memory_format):
    device = machine.torch_device
    torch.manual_seed(0)
    model = build_model(tiny_spec(rep_block=family)).to(device, memory_format=memory_format).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    images = torch.rand(2, 3, 64, 96, device=device).contiguous(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    dtype = torch.float16 if machine.is_gpu else torch.bfloat16
    with torch.autocast(device.type, dtype=dtype):
        loss = sum(level.float().square().mean() for level in model(images))
    loss.backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)

    randomise_norms(model)
    randomise_constants(model)
    # In float64: a GPU may compute float32 convolutions with fewer bits (TF32).
    model = model.double().eval()
    folded = to_deploy(model)
    assert next(folded.parameters()).device == device
    assert equivalence_error(model, folded, [images.double()]) < 1e-10
