from __future__ import annotations

import dataclasses

import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.network.model_spec import ModelSpec
from tests.checkpoint_builders import checkpoint_of, save_model, tensors_equal
from tests.foreign_files import foreign_network, save_foreign
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckpointError


@pytest.fixture(scope="module")
def model():
    return trained_model(tiny_spec())


@pytest.mark.parametrize("form", ["train", "deploy"])
def test_save_and_build(tmp_path, model, form):
    network = to_deploy(model) if form == "deploy" else model
    built = build_from_checkpoint(read_weights(save_model(tmp_path / "a.pt", network, form)))
    assert not built.training
    assert built.strides == model.strides
    assert tensors_equal(built.state_dict(), network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(network(images), built(images), strict=True):
            assert torch.equal(a, b)


def test_the_average_is_built(tmp_path, model):
    average = trained_model(model.spec, seed=1).state_dict()
    checkpoint = read_weights(save_model(tmp_path / "a.pt", model, ema_weights=average))
    assert tensors_equal(build_from_checkpoint(checkpoint).state_dict(), average)


def test_half_precision_weights_run_in_float32(model):
    built = build_from_checkpoint(checkpoint_of(trained_model(model.spec).half()))
    assert {p.dtype for p in built.parameters()} == {torch.float32}


def test_the_wrong_form(model):
    with pytest.raises(CheckpointError) as caught:
        build_from_checkpoint(checkpoint_of(to_deploy(model), form="train"))
    assert str(caught.value).startswith("checkpoint: weights do not fit the architecture: ")


def test_an_error_names_the_file(tmp_path, model):
    path = save_model(tmp_path / "a.pt", to_deploy(model), "train")
    with pytest.raises(CheckpointError) as caught:
        build_from_checkpoint(read_weights(path))
    assert str(caught.value).startswith(f"{path}: weights do not fit the architecture: ")


def test_weights_of_a_training_that_diverged(tmp_path):
    broken = trained_model(tiny_spec())
    with torch.no_grad():
        broken.layers[0].conv.weight[0, 0, 0, 0] = torch.nan
    path = save_model(tmp_path / "a.pt", broken)
    with pytest.raises(CheckpointError) as caught:
        build_from_checkpoint(read_weights(path))
    assert str(caught.value).startswith(f"{path}: layers.0.conv.weight holds NaN")


def test_a_size_that_the_weights_do_not_have(model):
    """A network of terabytes is refused before it is built."""
    checkpoint = checkpoint_of(model)
    huge = {**checkpoint.spec, "width_multiple": 50_000.0}
    state = torch.get_rng_state()
    with pytest.raises(CheckpointError) as caught:
        build_from_checkpoint(dataclasses.replace(checkpoint, spec=huge))
    assert str(caught.value).startswith("checkpoint: weights do not fit the architecture: layers.0")
    assert torch.equal(torch.get_rng_state(), state)


def test_tensors_that_are_taken_over(model):
    """They are not copied; each has memory of its own, and no random number is drawn."""
    names = [name for name, each in model.state_dict().items() if each.shape == (8,)][:3]
    shared = torch.arange(24.0)
    weights = model.state_dict() | {name: shared[8 * i : 8 * i + 8] for i, name in enumerate(names)}
    weights[names[2]] = weights[names[1]]
    checkpoint = dataclasses.replace(checkpoint_of(model), weights=weights)
    state = torch.get_rng_state()
    built = build_from_checkpoint(checkpoint, take_over=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert tensors_equal(built.state_dict(), weights)
    found = built.state_dict()
    kept = [name for name in weights if found[name].data_ptr() == weights[name].data_ptr()]
    assert set(kept) >= set(weights) - set(names)
    starts = [each.untyped_storage().data_ptr() for each in found.values()]
    assert len(set(starts)) == len(starts)
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_networks_of_one_checkpoint_do_not_change_each_other(model):
    checkpoint = checkpoint_of(model)
    before = {name: each.clone() for name, each in checkpoint.weights.items()}
    one, other = build_from_checkpoint(checkpoint), build_from_checkpoint(checkpoint)
    one.train()(torch.rand(2, 3, 64, 64))  # statistics of the norms
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1)
    assert tensors_equal(other.state_dict(), before)
    assert tensors_equal(checkpoint.weights, before)


@pytest.mark.parametrize("kind", ["ours", "YOLOv5's"])
def test_a_file_is_checked_once(tmp_path, monkeypatch, model, kind):
    """Which takes as long as reading it."""
    if kind == "ours":
        path = save_model(tmp_path / "a.pt", model)
    else:
        yaml = ModelSpec.from_file("v5lite-s.yaml").to_yaml()
        path = save_foreign(tmp_path / "a.pt", foreign_network(yaml, (8, 16, 32)))
    scans = []
    scan = torch.serialization.get_unsafe_globals_in_checkpoint
    monkeypatch.setattr(
        torch.serialization, "get_unsafe_globals_in_checkpoint",
        lambda file: scans.append(file) or scan(file),
    )  # fmt: skip
    read_weights(path)
    assert scans == [str(path)]
