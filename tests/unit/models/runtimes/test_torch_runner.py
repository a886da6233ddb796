"""A checkpoint behind the face of an exported file."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.conversion.deploy import is_deployed
from models.network.box_coder import BoxCoder
from models.runtimes import torch_runner
from models.runtimes.torch_runner import TorchRunner, fastest_form
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model
from utils.errors import ConfigError


@pytest.fixture
def saved(tmp_path):
    model = trained_model(tiny_spec(), 0).eval()
    path = tmp_path / "net.pt"
    save_model(path, model)
    return path, model


def test_what_it_computes_is_the_network_decoded(saved):
    path, model = saved
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    with torch.inference_mode():
        expected = BoxCoder.of(model).decode(model(torch.from_numpy(images))).numpy()
    found = TorchRunner(path, device="cpu").run(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_half_needs_a_gpu(saved):
    with pytest.raises(ConfigError, match=r"^--half needs a GPU; the device is cpu$"):
        TorchRunner(saved[0], device="cpu", half=True)


def test_a_network_on_an_apple_gpu_is_folded_on_the_cpu(saved, monkeypatch):
    """Such a device has no float64."""
    weight = SimpleNamespace(device=torch.device("mps"))
    on_mps = SimpleNamespace(parameters=lambda: iter([weight]))
    copies = {torch.Tensor.cpu: saved[1]}
    monkeypatch.setattr(torch_runner, "copy_with", lambda model, change: copies[change])
    assert is_deployed(fastest_form(on_mps, torch.device("cpu"), torch.float32))
