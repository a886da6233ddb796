"""Pickled networks of YOLOv5-Lite, YOLOv3, early YOLOv5 and YOLOv7, read as networks of ours.

`tests.foreign_modules` computes what their layers compute, `tests.foreign_files` writes the files.
"""

from __future__ import annotations

import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import equivalence_error, is_deployed, relative_error, to_deploy
from models.conversion.expand import expand
from models.network.detector import Detector
from models.network.model_spec import ModelSpec
from tests.foreign_files import foreign_network, save_foreign
from tests.foreign_modules import Model

IMAGES = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
STRIDES = (8, 16, 32)


def published_yaml(name: str, **changes) -> dict:
    """A shipped yaml as the file's own: without keys of ours, for three classes, narrow."""
    spec = (
        ModelSpec.from_file(name).replaced(num_classes=3, width_multiple=0.25, **changes).to_yaml()
    )
    ours = ("activation", "rep_block", "rep_policy", "channel_multiple")
    return {key: value for key, value in spec.items() if key not in ours}


def read_back(path, model: Model) -> Detector:
    """The network of ours, which computes what the file's does and keeps that in deploy form."""
    built = build_from_checkpoint(read_weights(path))
    model, built = model.double(), built.double()
    with torch.no_grad():
        assert relative_error(model(IMAGES.double()), built(IMAGES.double())) < 1e-12
    deployed = to_deploy(built)
    assert is_deployed(deployed)
    assert equivalence_error(built, deployed, [IMAGES]) < 1e-10
    return built


@pytest.mark.parametrize("size", ["e", "s", "c", "g"])
def test_yolov5_lite(tmp_path, size):
    yaml = published_yaml(f"v5lite-{size}.yaml")
    model = foreign_network(yaml, STRIDES)
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    shipped = ModelSpec.from_file(f"v5lite-{size}.yaml")
    assert (built.spec.backbone, built.spec.head) == (shipped.backbone, shipped.head)
    assert built.spec.activation == "SiLU"
    assert equivalence_error(built, expand(built, "RepVGG"), [IMAGES]) < 1e-10


@pytest.mark.parametrize("gate", ["SiLU", "hardsigmoid"])
def test_gates_of_lcnet_blocks(tmp_path, gate):
    """PP-LCNet has a hard sigmoid where YOLOv5-Lite's published networks have SiLU."""
    model = foreign_network(published_yaml("v5lite-c.yaml"), STRIDES)
    for block in model.model:
        if gate == "hardsigmoid" and getattr(block, "use_se", False):
            del block.se.SiLU
            block.se.hardsigmoid = torch.nn.Hardsigmoid()
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    written = built.spec.backbone[13][3]
    assert written[:4] == (512, 2, 5, True)
    assert written[4:] == (("Hardsigmoid",) if gate == "hardsigmoid" else ())


def test_a_gate_after_a_repvgg_block_stays(tmp_path):
    """YOLOv5-Lite's own conversion deletes it."""
    yaml = published_yaml("v5lite-g.yaml")
    for index in (1, 3):
        yaml["backbone"][index][3] = [64 * index, 3, 2, 1, 1, 1, "zeros", False, True]
    model = foreign_network({**yaml, "width_multiple": 0.5}, STRIDES)
    for index in (1, 3):
        model.yaml["backbone"][index][3] = [64 * index, 3, 2]
    built = read_back(save_foreign(tmp_path / "lite.pt", model), model)
    gated = [layer for layer in built.layers if hasattr(layer, "se")]
    assert len(gated) == 2
    deployed = to_deploy(built)
    for layer in deployed.layers:
        if hasattr(layer, "se"):
            layer.se = torch.nn.Identity()
    assert equivalence_error(built, deployed, [IMAGES]) > 1e-3
