"""A deploy form trains on: with norms that change nothing, and that fit what they see."""

from __future__ import annotations

import pytest
import torch

from models.checkpoints.initial_weights import initial_model
from models.conversion.deploy import relative_error, to_deploy
from models.conversion.norm_statistics import measure_norms
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from models.reparam.algebra import BatchNorm
from tests.block_equivalence import randomise_norms
from tests.model_builders import tiny_spec
from utils.checkpoint import Checkpoint, save_checkpoint

FAMILIES = (None, "RepVGG", "OREPA", "DBB", "ACB", "QARepVGG", "RepOpt", "MobileOne(2)")


def images(seed=0, count=3):
    torch.manual_seed(seed)
    return [torch.rand(4, 3, 64, 64) for _ in range(count)]


def deploy_file(folder, rep_block, spec=None):
    """A checkpoint in deploy form of a trained-looking network, and the network."""
    torch.manual_seed(1)
    spec = spec or ModelSpec.from_file("yolov5n.yaml")
    spec = spec.replaced(num_classes=3, rep_block=rep_block)
    network = build_model(spec)
    randomise_norms(network)
    network = to_deploy(network.eval())
    path = folder / "deploy.pt"
    save_checkpoint(path, Checkpoint("deploy", spec.to_yaml(), ("a", "b", "c"),
                                     network.state_dict(), 64))  # fmt: skip
    return path, network


@pytest.mark.parametrize("rep_block", FAMILIES)
def test_a_deploy_form_starts_as_what_it_computes(rep_block, tmp_path):
    path, deployed = deploy_file(tmp_path, rep_block, tiny_spec())
    start = initial_model("", str(path), 3, {})
    assert start.assumed_norms and start.model.spec.rep_block == rep_block
    model = start.model.double().eval()
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = deployed.double()(x)
        assert relative_error(expected, model(x)) < 1e-6  # float32 on the way
        before = model(x)
        assert measure_norms(model, [batch.double() for batch in images()]) >= 17  # convolutions
        assert relative_error(before, model(x)) < 1e-10


def test_in_train_mode_measured_norms_compute_about_the_same(tmp_path):
    """Without measuring, a norm divides by a deviation that its scale knows nothing of."""
    path, deployed = deploy_file(tmp_path, None)
    model = initial_model("", str(path), 3, {}).model
    (x,) = images(seed=5, count=1)
    with torch.no_grad():
        expected = deployed(x)
        assumed = relative_error(expected, model.train()(x))
        measure_norms(model, images(count=8))
        measured = relative_error(expected, model.train()(x))
    assert measured < assumed / 3


def test_other_blocks_and_other_classes_start_from_a_deploy_form(tmp_path):
    path, _ = deploy_file(tmp_path, "RepVGG")
    start = initial_model("yolov5n.yaml", str(path), 5, {"rep_block": "OREPA"})
    assert start.model.spec.rep_block == "OREPA" and start.model.spec.num_classes == 5
    plain = initial_model("", str(path), 3, {"rep_block": "none"})
    assert plain.model.spec.rep_block is None


def test_norms_that_see_one_value_keep_their_statistics():
    network = build_model(ModelSpec.from_file("yolov5n.yaml").replaced(num_classes=3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert network.training
    assert measure_norms(network, [torch.rand(1, 3, 32, 32)]) < len(
        [module for module in network.modules() if isinstance(module, BatchNorm)]
    )
    assert network.training
    assert measure_norms(network, []) == 0
    assert len(before) == len(network.state_dict())
