"""`--scales`: what a short training of LinearAdd blocks found, in RepOpt blocks."""

from __future__ import annotations

import copy

import pytest
import torch

from models.checkpoints.initial_weights import initial_model
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.conversion.expand import expand
from models.network.detector import build_model
from models.reparam.rep_opt import IDENTITY, KXK, POINTWISE, TapScaledConv, learnt_scales
from tests.checkpoint_builders import save_model
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error
from utils.engine.ema import ModelEMA
from utils.engine.optim import build_optimizer
from utils.errors import ConfigError
from utils.strict_yaml import write_yaml

REP_OPT = {"rep_block": "RepOpt"}


@pytest.fixture
def cfg(tmp_path):
    write_yaml(tmp_path / "tiny.yaml", tiny_yaml())
    return str(tmp_path / "tiny.yaml")


@pytest.fixture
def searched():
    """A network whose scales are all different."""
    return trained_model(tiny_spec(rep_block="LinearAdd"))


@pytest.fixture
def scales(tmp_path, searched):
    return str(save_model(tmp_path / "scales.pt", searched))


def convs_of(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, TapScaledConv)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_every_block_takes_the_scales_of_its_namesake(cfg, scales, searched, caplog):
    caplog.set_level("INFO")
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model
    convs, learnt = convs_of(model), learnt_scales(searched)
    assert convs.keys() == learnt.keys() and len(convs) > 4
    names = {frozenset(conv.scales) for conv in convs.values()}
    assert names == {frozenset((KXK, POINTWISE)), frozenset((KXK, POINTWISE, IDENTITY))}
    for name, conv in convs.items():
        assert same(conv.scales, learnt[name])
    assert f"{scales}: scales of {len(convs)} blocks taken over" in caplog.messages


def test_kernels_start_as_the_scales_have_it(cfg, scales):
    """W = s_kxk K_kxk + pad(s_1x1 K_1x1) + diag(s_identity), with torch's draws for K."""
    torch.manual_seed(0)
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model
    for conv in convs_of(model).values():
        ring = conv.kernel().detach().flatten(2)[:, :, 0]
        bound = (9 * ring.shape[1]) ** -0.5 * conv.scales[KXK].abs()
        assert (ring.abs().amax(1) <= bound * (1 + 1e-6)).all()
        assert (ring.abs().amax(1) > 0.3 * bound).all()  # of 4 or more uniform draws
        if IDENTITY in conv.scales:
            centre = conv.kernel().detach()[:, :, 1, 1]
            free = (9 * ring.shape[1]) ** -0.5 * conv.scales[KXK].abs()
            free = free + ring.shape[1] ** -0.5 * conv.scales[POINTWISE].abs()
            away = (centre.diagonal() - conv.scales[IDENTITY]).abs()
            assert (away <= free * (1 + 1e-6)).all()


def test_weights_that_are_given_stay(tmp_path, cfg, scales, searched):
    plain = trained_model(tiny_spec(rep_block=None))
    path = str(save_model(tmp_path / "plain.pt", plain))
    model = initial_model(cfg, path, 3, REP_OPT, scales=scales).model.eval()
    assert equivalence_error(plain, model, [torch.rand(1, 3, 64, 64)]) < 1e-6
    learnt = learnt_scales(searched)
    assert all(same(conv.scales, learnt[n]) for n, conv in convs_of(model).items())


def test_scales_are_in_the_checkpoint_and_not_in_deploy_form(tmp_path, cfg, scales, searched):
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model.eval()
    read = build_from_checkpoint(read_weights(save_model(tmp_path / "w.pt", model)))
    learnt = learnt_scales(searched)
    assert all(same(conv.scales, learnt[n]) for n, conv in convs_of(read).items())
    plain = build_model(model.spec.replaced(rep_block=None), form="deploy")
    assert to_deploy(read).state_dict().keys() == plain.state_dict().keys()


def train_on(model, optimizer, steps):
    for seed in steps:
        x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        sum(raw.square().mean() for raw in model.train()(x)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_network_read_back_trains_on_to_the_same_bits(tmp_path, cfg, scales, name):
    settings = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model
    optimizer = build_optimizer(model, name, **settings)
    train_on(model, optimizer, range(2))
    read = build_from_checkpoint(read_weights(save_model(tmp_path / "w.pt", model)))
    other = build_optimizer(read, name, **settings)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train_on(model, optimizer, range(2, 4))
    train_on(read, other, range(2, 4))
    assert same(model.state_dict(), read.state_dict())


def test_the_average_of_constants_is_the_constants(cfg, scales):
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model
    average = ModelEMA(model)
    for _ in range(3):
        average.update(model)
    for one, other in zip(convs_of(model).values(), convs_of(average.model).values(), strict=True):
        assert same(one.scales, other.scales)


def test_a_plain_network_as_rep_opt_is_the_same_parameters():
    plain = trained_model(tiny_spec(rep_block=None)).double()
    model = expand(plain, "RepOpt")
    count = sum(parameter.numel() for parameter in plain.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(plain(x)[0], model(x)[0])


def test_the_optimizer_has_the_multipliers_of_every_block(cfg, scales):
    model = initial_model(cfg, "", 3, REP_OPT, scales=scales).model.train()
    before = {name: conv.kernel().detach().clone() for name, conv in convs_of(model).items()}
    optimizer = build_optimizer(model, "SGD", lr=0.1, momentum=0.0001, weight_decay=0.0)
    sum(raw.square().mean() for raw in model(torch.rand(2, 3, 64, 64))).backward()
    gradients = {name: conv.conv.weight.grad.clone() for name, conv in convs_of(model).items()}
    optimizer.step()
    for name, conv in convs_of(model).items():
        factor = conv.gradient_multipliers(2)[conv.conv.weight]
        expected = before[name] - 0.1 * 1.0001 * factor * gradients[name]
        assert torch.allclose(conv.kernel(), expected, rtol=1e-5, atol=1e-7)


def refusal(*arguments, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        initial_model(*arguments, **options)
    return str(caught.value)


def test_scales_without_such_blocks(cfg, scales):
    message = refusal(cfg, "", 3, {"rep_block": "RepVGG"}, scales=scales)
    assert_message(message, "--scales: ", "no RepOpt blocks", "--rep-block RepOpt")


@pytest.mark.parametrize("rep_block", ["RepVGG", None])
def test_a_checkpoint_without_scales(tmp_path, cfg, rep_block):
    path = str(save_model(tmp_path / "other.pt", trained_model(tiny_spec(rep_block=rep_block))))
    message = refusal(cfg, "", 3, REP_OPT, scales=path)
    assert_message(message, f"--scales {path}: ", "LinearAdd", "--rep-block LinearAdd")


def test_a_deploy_form_has_no_scales_left(tmp_path, cfg, searched):
    path = str(save_model(tmp_path / "d.pt", to_deploy(searched), "deploy"))
    assert_message(refusal(cfg, "", 3, REP_OPT, scales=path), f"--scales {path}: ", "train form")


@pytest.mark.parametrize(
    "changes",
    [{"width_multiple": 0.5}, {"rep_policy": "downsample"}, {"depth_multiple": 0.1},
     {"rep_policy": "no-identity-in-residual"}],
    ids=["wider", "fewer blocks", "shallower", "other branches"],
)  # fmt: skip
def test_scales_of_another_network(tmp_path, cfg, changes):
    deep = {"backbone": [*tiny_yaml()["backbone"][:3], [-1, 9, "C3", [32]],
                         *tiny_yaml()["backbone"][4:]]}  # fmt: skip
    write_yaml(tmp_path / "tiny.yaml", tiny_yaml(**deep))
    spec = tiny_spec(**{**deep, "rep_block": "LinearAdd", **changes})
    path = str(save_model(tmp_path / "other.pt", trained_model(spec)))
    message = refusal(cfg, "", 3, REP_OPT, scales=path)
    assert_message(message, f"--scales {path}: is of another network: ", "layers. ... --cfg")
