"""What a training run starts from."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.checkpoints.initial_weights import initial_model
from models.network.detector import block_counts
from tests.checkpoint_builders import checkpoint_of, save_model, save_yolov5, tensors_equal
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error
from utils import class_order
from utils.checkpoint import save_checkpoint
from utils.errors import CheckpointError, ConfigError
from utils.strict_yaml import write_yaml


@pytest.fixture(scope="module")
def model():
    return trained_model(tiny_spec())


@pytest.fixture
def cfg(tmp_path):
    write_yaml(tmp_path / "tiny.yaml", tiny_yaml())
    return str(tmp_path / "tiny.yaml")


@pytest.fixture
def weights(tmp_path, model):
    return str(save_model(tmp_path / "w.pt", model))


def started_model(*arguments):
    return initial_model(*arguments).model


def test_from_a_yaml(cfg):
    model = started_model(cfg, "", 7, {})
    assert model.spec.num_classes == model.head.num_classes == 7  # the data set's, not the yaml's
    assert model.training


def test_from_a_checkpoint(weights, model, caplog):
    with caplog.at_level(logging.INFO):
        started = started_model("", weights, 3, {})
    assert tensors_equal(started.state_dict(), model.state_dict())
    count = len(model.state_dict())
    assert caplog.messages == [f"{weights}: {count} of {count} tensors taken over"]


def test_the_average_is_taken_over(tmp_path, model):
    average = trained_model(model.spec, seed=1).state_dict()
    path = save_model(tmp_path / "w.pt", model, ema_weights=average)
    assert tensors_equal(started_model("", str(path), 3, {}).state_dict(), average)


def test_another_number_of_classes_changes_the_head_alone(weights, model):
    started, old = started_model("", weights, 5, {}).state_dict(), model.state_dict()
    changed = {name for name in started if not torch.equal(started[name], old[name])}
    head = {f"layers.10.m.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert changed == head


def test_from_both(weights, cfg, model):
    started = started_model(cfg, weights, 3, {})
    assert tensors_equal(started.state_dict(), model.state_dict())


def test_from_yolov5(tmp_path):
    plain = trained_model(tiny_spec(rep_block=None, activation="SiLU"))
    path = save_yolov5(tmp_path / "y.pt", plain, dtype=torch.float32)
    started = started_model("", str(path), 3, {})
    assert tensors_equal(started.state_dict(), plain.state_dict())


def test_overrides(cfg):
    model = started_model(cfg, "", 3, {"rep_block": None, "activation": "ReLU"})
    assert not any(".branches." in name for name in model.state_dict())
    assert any(isinstance(m, nn.ReLU) for m in model.modules())
    model = started_model(cfg, "", 3, {"rep_policy": "downsample"})
    assert sum("branches.1x1.conv" in name for name in model.state_dict()) == 4


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"rep_block": "RepVG"}, "unknown rep_block 'RepVG'; did you mean 'RepVGG'?"),
        ({"rep_policy": "none-at-all"}, "unknown rep_policy 'none-at-all'"),
        ({"activation": "SiLu"}, "activation: unknown activation 'SiLu'; did you mean 'SiLU'?"),
    ],
)
def test_wrong_overrides(cfg, overrides, expected):
    with pytest.raises(ConfigError) as caught:
        started_model(cfg, "", 3, overrides)
    assert expected in str(caught.value)


def test_a_policy_of_a_yaml_without_blocks(tmp_path):
    path = tmp_path / "plain.yaml"
    spec = tiny_spec(rep_block=None, activation="SiLU", rep_policy="downsample")
    write_yaml(path, spec.to_yaml())
    with pytest.raises(ConfigError) as caught:
        started_model(str(path), "", 3, {})
    assert_message(str(caught.value), f"{path}: rep_policy is 'downsample', ", "rep_block")
    started_model(str(path), "", 3, {"rep_block": "RepVGG"})
    started_model(str(path), "", 3, {"rep_block": None})  # `--rep-block none` means it
    weights = save_model(tmp_path / "plain.pt", trained_model(spec))
    started_model("", str(weights), 3, {})  # of such a yaml, or of `--rep-block none`


def test_nothing_is_given():
    with pytest.raises(ConfigError) as caught:
        started_model("", "", 3, {})
    assert_message(str(caught.value), "give an architecture", "--cfg ... --weights")


def test_a_missing_checkpoint(cfg):
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such weights file"):
        started_model(cfg, "gone.pt", 3, {})


def test_weights_of_another_network(tmp_path, cfg):
    head = [[0, 1, "Detect", []]]
    backbone = [[-1, 1, "Conv", [8, 1, 4, 0, 1, 1, False]]]
    other = trained_model(tiny_spec(backbone=backbone, head=head, anchors=[[10, 13]]))
    state = {f"other.{name}": tensor for name, tensor in other.state_dict().items()}
    path = save_model(tmp_path / "o.pt", other, ema_weights=state)
    with pytest.raises(ConfigError) as caught:
        started_model(cfg, str(path), 3, {})
    assert_message(str(caught.value), f"{path}: none of ", "--cfg ... --weights")


def test_norms_and_counters_are_no_start(tmp_path, cfg):
    """`--weights yolov5n.pt --cfg yolov5s.yaml`: the names agree, the widths do not."""
    path = str(save_model(tmp_path / "wide.pt", trained_model(tiny_spec(width_multiple=0.5))))
    with pytest.raises(ConfigError) as caught:
        initial_model(cfg, path, 3, {})
    assert_message(str(caught.value), f"{path}: ", "--partial-weights")
    start = initial_model(cfg, path, 3, {}, partial=True)
    assert start.model.spec.width_multiple == tiny_spec().width_multiple
    assert not start.head_is_trained


def test_half_of_the_kernels_is_a_start(tmp_path, cfg, model, caplog):
    """A head may be another one altogether, and so may be less than half of the rest."""
    kernels = {name: tensor.numel() for name, tensor in model.state_dict().items()
               if tensor.dim() > 1 and not name.startswith("layers.10.")}  # fmt: skip
    share, missing, said = 1.0, set[str](), []
    for name in sorted(kernels, key=lambda name: kernels[name]):
        missing.add(name)
        share -= kernels[name] / sum(kernels.values())
        kept = {key: tensor for key, tensor in model.state_dict().items() if key not in missing}
        path = str(save_model(tmp_path / "part.pt", model, ema_weights=kept))
        if share < 0.5:
            break
        said.append(f", {100 * share:.0f} % of the kernels before the head")
        with caplog.at_level(logging.INFO):
            initial_model(cfg, path, 3, {})
    assert len(said) > 5
    assert all(note in line for note, line in zip(said, caplog.messages, strict=True))
    with pytest.raises(ConfigError, match=" % of the network's weights fit"):
        initial_model(cfg, path, 3, {})


@pytest.mark.parametrize("size", [320, None])
def test_the_size_that_weights_were_trained_with(tmp_path, model, size):
    path = str(save_model(tmp_path / "w.pt", model, image_size=size))
    assert initial_model("", path, 5, {}).image_hw == (None if size is None else (size, size))


@pytest.mark.parametrize("rep_block", ["RepVGG", "OREPA"])
def test_a_plain_checkpoint_in_a_network_of_blocks_is_expanded(tmp_path, rep_block):
    plain = trained_model(tiny_spec(rep_block=None))
    path = save_yolov5(tmp_path / "y.pt", plain, dtype=torch.float32)
    started = started_model(
        "", str(path), 3, {"rep_block": rep_block, "activation": "LeakyReLU(0.1)"}
    )
    assert block_counts(started)[rep_block] > 0
    assert equivalence_error(plain, started, [torch.rand(1, 3, 64, 64)]) < 1e-5


@pytest.mark.parametrize(
    ("known", "wanted"),
    [("LinearAdd", "RepOpt"), ("RepVGG", "RepOpt"), ("RepOpt", "RepVGG"), ("RepVGG", "ACB"),
     ("RepVGG", None), ("RepOpt", None), ("MobileOne", "MobileOne(branches=2)")],
)  # fmt: skip
def test_a_checkpoint_of_other_blocks_starts_from_what_it_computes(tmp_path, cfg, known, wanted):
    trained = trained_model(tiny_spec(rep_block=known))
    path = str(save_model(tmp_path / "other.pt", trained))
    for yaml in ("", cfg):
        start = initial_model(yaml, path, 3, {"rep_block": wanted})
        assert start.model.spec.rep_block == wanted
        assert start.assumed_norms and start.head_is_trained
        x = [torch.rand(1, 3, 64, 64)]
        assert equivalence_error(trained, start.model.eval(), x) < 1e-5


def test_branches_of_the_same_tensors_are_taken_over_as_they_are(weights, model):
    start = initial_model("", weights, 3, {"rep_block": "RepVGG(start=paper)"})
    assert tensors_equal(start.model.state_dict(), model.state_dict())
    assert not start.assumed_norms


def test_a_policy_of_other_branches_starts_from_what_is_computed(weights, model):
    start = initial_model("", weights, 3, {"rep_policy": "downsample"})
    assert equivalence_error(model, start.model.eval(), [torch.rand(1, 3, 64, 64)]) < 1e-5


def test_a_head_knows_the_anchors_it_was_trained_with(tmp_path, weights, cfg, caplog):
    others = [[9, 9, 20, 20], [40, 40, 50, 50], [90, 90, 150, 150]]
    path = save_model(tmp_path / "others.pt", trained_model(tiny_spec(anchors=others)))

    kept, fresh = initial_model("", str(path), 3, {}), initial_model("", str(path), 4, {})
    assert kept.head_is_trained and not fresh.head_is_trained
    assert kept.model.spec.anchors == tuple(tuple(map(float, level)) for level in others)
    assert "other anchors" not in caplog.text

    other = initial_model(cfg, str(path), 3, {})  # whose anchors the user asked for
    assert not other.head_is_trained
    assert other.model.spec.anchors == tiny_spec().anchors
    assert "was trained with other anchors than those of --cfg" in caplog.text
    assert initial_model(cfg, weights, 3, {}).head_is_trained  # the same anchors
    assert not initial_model(cfg, "", 3, {}).head_is_trained


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def save_named(path, model, class_names):
    """A checkpoint of these classes."""
    save_checkpoint(path, replace(checkpoint_of(model), class_names=class_names))
    return path


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (("a", "B", "c"), ""),  # the same, letter case aside
        (("a", "c", "b"), "other classes (1 b, here c; 2 c, here b)"),  # a yaml in another order
        (("x", "y", "z"), "other classes (0 a, here x; 1 b, here y; and 1 more)"),
        (("a", "b", "c", "d"), ""),  # its head starts fresh
    ],
)
def test_a_head_of_other_classes_is_named(tmp_path, model, caplog, monkeypatch, wanted, said):
    monkeypatch.setattr(class_order, "MAX_CLASSES_SHOWN", 2)
    path = save_named(tmp_path / "w.pt", model, ("a", "b", "c"))
    initial_model("", str(path), len(wanted), {}).warn_of_other_classes(wanted)
    found = warnings(caplog)
    assert not found if not said else said in found[0]


def test_a_head_without_names_is_not_compared(tmp_path, model, caplog):
    path = save_named(tmp_path / "w.pt", model, ("class_0", "1", "item"))
    initial_model("", str(path), 3, {}).warn_of_other_classes(("a", "b", "c"))
    assert not warnings(caplog)
