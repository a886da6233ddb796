"""Which branches each family has, the kernel of each, and what a family cannot stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.reparam.branches import (
    Branch,
    ConvBranch,
    IdentityBranch,
    PointwiseThenAverage,
    PointwiseThenConv,
)
from models.reparam.families import FAMILIES, block_family
from models.reparam.rep_block import ConvGeometry
from tests.block_equivalence import norms, randomise_norms
from utils.errors import ConfigError

SAME = ConvGeometry(8, 8, 3)
HALVED = ConvGeometry(8, 8, 3, stride=2)
DEPTHWISE = ConvGeometry(8, 8, 3, groups=8)
POINTWISE = ConvGeometry(8, 8, 1)


def make(text, geometry, *, identity=True):
    return block_family(text, "a.yaml").make(geometry, nn.SiLU(), identity=identity)


# family, geometry, its branches in order, how many norms
BRANCHES = [
    ("RepVGG", SAME, ["kxk", "1x1", "identity"], 3),
    ("RepVGG", HALVED, ["kxk", "1x1"], 2),
    ("RepConvN", SAME, ["kxk", "1x1"], 2),
    ("ACB", SAME, ["kxk", "1xk", "kx1"], 3),
    ("DBB", SAME, ["kxk", "1x1", "1x1_kxk", "1x1_avg"], 6),
    ("DBB", DEPTHWISE, ["kxk", "1x1_kxk", "1x1_avg"], 5),
    ("MobileOne", SAME, ["kxk_0", "kxk_1", "kxk_2", "kxk_3", "1x1", "identity"], 6),
    ("MobileOne", HALVED, ["kxk_0", "kxk_1", "kxk_2", "kxk_3", "1x1"], 5),
    ("MobileOne(branches=1)", SAME, ["kxk_0", "1x1", "identity"], 3),
    ("MobileOne(2)", POINTWISE, ["kxk_0", "kxk_1", "identity"], 3),
    ("QARepVGG", SAME, ["kxk", "1x1", "identity"], 2),  # one of them after the sum
    ("QARepVGG", HALVED, ["kxk", "1x1"], 2),
    ("ACB(horizontal=false)", SAME, ["kxk", "kx1"], 2),
    ("ACB(vertical=false)", SAME, ["kxk", "1xk"], 2),
    ("ACB(branch_bn=false)", SAME, ["kxk", "1xk", "kx1"], 1),
    ("OREPA", SAME, ["kxk"], 1),
    ("OREPA(post_bn=false)", SAME, ["kxk"], 0),
    ("OREPAVGG", SAME, ["kxk", "1x1", "identity"], 3),
    ("OREPAVGG", HALVED, ["kxk", "1x1"], 2),
    ("RepVGG(start=paper)", SAME, ["kxk", "1x1", "identity"], 3),
    ("RepOpt", SAME, ["kxk"], 1),
    ("RepOpt", HALVED, ["kxk"], 1),
    ("LinearAdd", SAME, ["kxk"], 1),
]
POST_NORM = {"QARepVGG", "ACB(branch_bn=false)", "OREPA", "LinearAdd"}


@pytest.mark.parametrize(("text", "geometry", "names", "num_norms"), BRANCHES)
def test_branches(text, geometry, names, num_norms):
    block = make(text, geometry)
    assert list(block.branches) == names
    assert len(norms(block)) == num_norms
    assert all(norm.eps == 1e-3 for norm in norms(block))
    assert block.kind == text.split("(")[0]
    assert (block.post_bn is not None) == (text in POST_NORM)
    assert all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv2d))
    assert block.main_kernel().shape == geometry.kernel_shape
    without = make(text, geometry, identity=False)
    assert list(without.branches) == [name for name in names if name != "identity"]


def test_depthwise_dbb_has_twice_the_hidden_channels():
    assert make("DBB", DEPTHWISE).branches["1x1_kxk"].conv_1x1.out_channels == 16
    assert make("DBB", SAME).branches["1x1_kxk"].conv_1x1.out_channels == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_activation_comes_last_and_is_the_one_given(family):
    activation = nn.Hardswish()
    block = FAMILIES[family](SAME, activation, identity=True)
    assert block.act is activation
    bare = FAMILIES[family](SAME, nn.Identity(), identity=True)
    bare.load_state_dict(block.state_dict())
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        assert torch.equal(block.eval()(x), activation(bare.eval()(x)))


GEOMETRIES = [
    ConvGeometry(4, 6, 3),
    ConvGeometry(4, 4, 3, groups=2),
    ConvGeometry(4, 8, 5, stride=2, groups=4),
    ConvGeometry(6, 6, 1),
    ConvGeometry(4, 6, 3, stride=2, padding=2),
    ConvGeometry(4, 4, 3, dilation=2),
]
MAKERS = {
    "kxk": ConvBranch,
    "kxk without norm": lambda geometry: ConvBranch(geometry, norm=False),
    "1x1": lambda geometry: ConvBranch(geometry, (1, 1)),
    "1xk": lambda geometry: ConvBranch(geometry, (1, geometry.kernel_size)),
    "kx1": lambda geometry: ConvBranch(geometry, (geometry.kernel_size, 1)),
    "identity": IdentityBranch,
    "identity without norm": lambda geometry: IdentityBranch(geometry, norm=False),
    "1x1_kxk": lambda geometry: PointwiseThenConv(geometry, 2 * geometry.in_channels),
    "1x1_avg": PointwiseThenAverage,
}
PAIRS = [
    (name, geometry)
    for name in MAKERS
    for geometry in GEOMETRIES
    if (geometry.keeps_shape or "identity" not in name)
    and (geometry.dilation == 1 or name != "1x1_avg")
]


@pytest.mark.parametrize(("name", "geometry"), PAIRS)
def test_every_branch_is_its_kernel(name, geometry):
    torch.manual_seed(0)
    branch: Branch = MAKERS[name](geometry)
    randomise_norms(branch)
    branch = branch.double().eval()
    kernel, bias = branch.kernel_and_bias()
    side, per_group = geometry.kernel_size, geometry.in_channels // geometry.groups
    assert kernel.shape == (geometry.out_channels, per_group, side, side)
    assert kernel.dtype == bias.dtype == torch.float64
    x = torch.randn(2, geometry.in_channels, 7, 8, dtype=torch.float64)
    stride, padding = geometry.stride, geometry.resolved_padding
    found = F.conv2d(x, kernel, bias, stride, padding, geometry.dilation, geometry.groups)
    with torch.no_grad():
        assert torch.allclose(found, branch(x), rtol=0, atol=1e-12)


CENTRED_1X1 = "a 1x1 branch cannot be centred beside a {0}x{0} kernel with padding {1}"
CENTRED = [name for name in FAMILIES if name not in ("ACB", "OREPA")]  # a 1x1 beside k x k
EVEN, UNPADDED = ConvGeometry(4, 4, 4, padding=2), ConvGeometry(4, 4, 3, padding=0)
EVEN_DILATED = ConvGeometry(4, 4, 2, dilation=2)
REFUSED = [
    *((f, EVEN, CENTRED_1X1.format(4, 2)) for f in CENTRED),
    *((f, EVEN_DILATED, CENTRED_1X1.format(2, 1)) for f in CENTRED),
    *((f, UNPADDED, CENTRED_1X1.format(3, 0)) for f in CENTRED),
    ("ACB", EVEN, "a 1x4 branch cannot be centred beside a 4x4 kernel with padding 2"),
    ("ACB", EVEN_DILATED, "a 1x2 branch cannot be centred beside a 2x2 kernel with padding 1"),
    ("ACB", UNPADDED, "a 1x3 branch cannot be centred beside a 3x3 kernel with padding 0"),
    ("DBB", ConvGeometry(4, 4, 3, dilation=2), "pooling has no dilation"),
]


@pytest.mark.parametrize(("text", "geometry", "message"), REFUSED)
def test_what_a_family_cannot_stand_for_is_refused(text, geometry, message):
    with pytest.raises(ValueError) as caught:
        make(text, geometry)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "geometry", [ConvGeometry(4, 6, 3), HALVED, ConvGeometry(4, 4, 3, padding=2), EVEN_DILATED]
)
def test_an_identity_that_changes_the_shape_is_refused(geometry):
    with pytest.raises(ValueError) as caught:
        IdentityBranch(geometry)
    assert str(caught.value) == f"{geometry} changes the shape: there is no identity"


def test_a_depthwise_dbb_has_no_branch_that_needs_a_centre():
    assert make("DBB", ConvGeometry(4, 4, 4, padding=2, groups=4)).branches
    assert make("DBB", ConvGeometry(4, 4, 3, padding=0, groups=4)).branches


# (what the yaml says, the message after `a.yaml: `)
TEXTS = [
    ("repvgg", "unknown rep_block 'repvgg'; did you mean 'RepVGG'? (known: RepVGG, RepConvN, "
     "ACB, DBB, MobileOne, QARepVGG, OREPA, OREPAVGG, RepOpt, LinearAdd)"),
    ("MobileTwo", "unknown rep_block 'MobileTwo'; did you mean 'MobileOne'? (known: RepVGG, "
     "RepConvN, ACB, DBB, MobileOne, QARepVGG, OREPA, OREPAVGG, RepOpt, LinearAdd)"),
    ("QARepVGG(3)", "QARepVGG takes no options, got 'QARepVGG(3)'"),
    ("RepVGG(begin=plain)", "RepVGG takes only start, got 'RepVGG(begin=plain)'"),
    ("ACB(x=1)",
     "ACB takes only horizontal, vertical, branch_bn, start, got 'ACB(x=1)'"),
    ("OREPA(pointwise=1)", "OREPA: pointwise is 1, expected true or false"),
    ("OREPA(bn=true)",
     "OREPA takes only scaling, post_bn, start, pointwise, stem, got 'OREPA(bn=true)'"),
    ("DBB(geometry=1)", "DBB takes only start, got 'DBB(geometry=1)'"),
    ("MobileOne(1, plain, 2)",
     "MobileOne takes only branches, start, got 'MobileOne(1, plain, 2)'"),
    ("MobileOne(n=1)", "MobileOne takes only branches, start, got 'MobileOne(n=1)'"),
    ("MobileOne(1, branches=2)",
     "MobileOne takes only branches, start, got 'MobileOne(1, branches=2)'"),
    ("MobileOne(0)", "MobileOne: branches is 0, expected an integer from 1 to 64"),
    ("MobileOne(branches=True)", "MobileOne: branches is True, expected an integer from 1 to 64"),
    ("MobileOne('2')", "MobileOne: branches is '2', expected an integer from 1 to 64"),
    ("RepVGG(start=papers)", "RepVGG: start is 'papers', expected plain or paper"),
    ("OREPA(start=1)", "OREPA: start is 1, expected plain or paper"),
    ("RepOpt(scale_1x1=0)", "RepOpt: scale_1x1 is 0, expected a number above 0"),
    ("LinearAdd(scale_kxk=true)", "LinearAdd: scale_kxk is True, expected a number above 0"),
    ("RepOpt(scale_identity=x)", "RepOpt: scale_identity is 'x', expected a number above 0"),
    ("OREPA(post_bn=1)", "OREPA: post_bn is 1, expected true or false"),
    ("Rep VGG", "'Rep VGG' is not a name like `SiLU` or `LeakyReLU(0.1)`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), TEXTS)
def test_texts_that_name_no_family(text, message):
    with pytest.raises(ConfigError) as caught:
        block_family(text, "a.yaml")
    assert str(caught.value) == f"a.yaml: {message}"


def test_reading_a_family_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    block_family("OREPA", "a.yaml")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f not in ("QARepVGG", "OREPA", "LinearAdd")]
)
def test_a_fresh_block_computes_what_its_first_branch_does(family):
    """So that a network of such blocks starts training like the plain one."""
    block = FAMILIES[family](ConvGeometry(8, 8, 3), nn.Identity(), identity=True).double()
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    first = next(iter(block.branches.values()))
    for training in (True, False):
        block.train(training)
        assert torch.equal(block(x), first(x))


STARTING = ["RepVGG", "RepConvN", "ACB", "DBB", "MobileOne", "OREPAVGG"]


@pytest.mark.parametrize("family", STARTING)
def test_the_article_starts_with_all_branches(family):
    """Every norm's scale is 1, and each branch has a part in the kernel."""
    block = make(f"{family}(start=paper)", SAME)
    kernels = [branch.kernel_and_bias()[0] for branch in block.branches.values()]
    assert all(kernel.abs().max() > 0 for kernel in kernels)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms(block))
    plain = make(family, SAME)
    assert plain.state_dict().keys() == block.state_dict().keys()
    silent = [branch.kernel_and_bias()[0] for branch in list(plain.branches.values())[1:]]
    assert silent and all(kernel.abs().max() == 0 for kernel in silent)


OREPA_OPTIONS = ["", ", scaling=scalar", ", scaling=none", ", post_bn=false"]


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("options", OREPA_OPTIONS)
def test_orepa_can_start_with_the_kernel_of_a_plain_convolution(options, size):
    """torch's: uniform within 1 / sqrt(fan in); the authors' start is larger, and learns slower."""
    torch.manual_seed(0)
    geometry = ConvGeometry(32, 64, size)
    kernel = make(f"OREPA(start=plain{options})", geometry).main_kernel()
    bound = (32 * size * size) ** -0.5
    assert kernel.abs().max() == pytest.approx(bound, rel=0.01)
    assert float(kernel.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    paper = make(f"OREPA(start=paper{options})", geometry).main_kernel()
    assert paper.std() > 1.5 * kernel.std()


def test_linear_add_starts_as_its_scales_say():
    torch.manual_seed(0)
    block = make("LinearAdd(scale_kxk=2, scale_1x1=3, scale_identity=5)", ConvGeometry(64, 64, 3))
    parts = block.branches["kxk"].kernel_parts()
    bound = 1 / 64**0.5  # torch's, of the 1x1
    assert parts["kxk"].abs().max() == pytest.approx(2 * bound / 3, rel=0.01)
    assert parts["1x1"].abs().max() == pytest.approx(3 * bound, rel=0.01)
    assert torch.equal(parts["identity"][:, :, 1, 1], 5 * torch.eye(64, dtype=torch.float64))


def test_the_norm_after_the_sum_lets_all_branches_start_together():
    block = FAMILIES["QARepVGG"](ConvGeometry(8, 8, 3), nn.Identity(), identity=True)
    kernels = [branch.kernel_and_bias()[0] for branch in block.branches.values()]
    assert len(kernels) == 3 and all(kernel.abs().max() > 0 for kernel in kernels)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_with_norms_of_several_gpus_takes_over_a_convolution(family):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, eps=1e-3)
    randomise_norms(norm)
    plain = nn.Sequential(conv, norm).double().eval()
    block = FAMILIES[family](SAME, nn.Identity(), identity=True)
    block = nn.SyncBatchNorm.convert_sync_batchnorm(block).double().eval()
    block.load_conv_bn(conv, norm)
    x = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(block(x), plain(x), rtol=0, atol=1e-12)
