"""Adding a block family: the log of a newcomer, repeated by the tests.

1. Read `models/reparam/rep_block.py`: a block sums what it likes in `forward`, and says in
   `equivalent_conv` which single convolution computes the same in eval mode.
2. Write one file, `models/reparam/toy.py`: TOY below, a class of three methods and a forward pass.
   Its constructor takes the geometry, the activation and, by keyword, `identity`; what else it
   takes by keyword are the options that a yaml may give: `rep_block: Toy(kernels=3)`.
3. Add one row to FAMILIES in `models/reparam/families.py`, and the import that it needs.
4. Nothing else: model yamls (as `rep_block` and as the name of a row), `train.py --rep-block`,
   `convert.py` both ways, and the reports know the family by its row.
5. To ship it, add a row to `tests/equivalence/block_cases.py`: the laws that every family keeps.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.conversion.deploy import is_deployed, to_deploy
from models.conversion.expand import expand
from models.network.detector import block_counts, build_model
from models.reparam.families import FAMILIES
from tests.block_equivalence import randomise_norms
from tests.house.source_tree import ROOMS, ROOT
from tests.model_builders import shapes, tiny_spec, tiny_yaml, trained_model
from tests.network_equivalence import equivalence_error
from utils.strict_yaml import write_yaml

TOY = '''"""Toy: several k x k kernels side by side, and one norm after their sum."""

import torch
from torch import nn

from models.reparam.rep_block import batch_norm
from models.reparam import algebra
from models.reparam.rep_block import ConvParams, RepBlock, params_of


class Toy(RepBlock):
    def __init__(self, geometry, activation, *, identity: bool, kernels: int = 2) -> None:
        super().__init__()
        del identity  # the family has none
        self.convs = nn.ModuleList(geometry.conv(bias=False) for _ in range(kernels))
        self.norm = batch_norm(geometry.out_channels)
        self.act = activation

    def forward(self, x):
        return self.act(self.norm(sum(conv(x) for conv in self.convs)))

    @torch.no_grad()
    def equivalent_conv(self) -> ConvParams:
        kernel = sum(conv.weight.double() for conv in self.convs)
        return params_of(self.convs[0], *algebra.fuse_bn(kernel, None, self.norm))

    @torch.no_grad()
    def load_conv_bn(self, conv, norm) -> None:
        for own in self.convs:
            own.weight.copy_(conv.weight / len(self.convs))
        algebra.copy_batch_norm(norm, self.norm)

    def main_kernel(self) -> torch.Tensor:
        return self.convs[0].weight
'''
IMPORT = "from models.reparam.toy import Toy\n"
ROW = '    "Toy": Toy,\n'
TABLE = "FAMILIES: dict[str, BlockMaker] = {\n"
INPUTS = (64, 64), (96, 160)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The family in the running program."""
    file = tmp_path / "toy.py"
    file.write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(FAMILIES, "Toy", module.Toy)
    return module.Toy


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand((2, 3, *hw), generator=generator, dtype=torch.float64) for hw in INPUTS]


def test_it_is_built_trained_and_folded(toy):
    spec = tiny_spec(rep_block="Toy(kernels=3)")
    model = build_model(spec).train()
    blocks = [module for module in model.modules() if isinstance(module, toy)]
    assert blocks and all(len(block.convs) == 3 for block in blocks)
    assert block_counts(model)["Toy"] == len(blocks)

    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sum(level.square().mean() for level in model(images()[0].float())).backward()
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(changed)

    randomise_norms(model)
    model = model.double().eval()
    folded = to_deploy(model)
    assert is_deployed(folded)
    assert equivalence_error(model, folded, images()) < 1e-10
    assert shapes(folded) == shapes(build_model(spec, form="deploy"))


def test_a_plain_network_is_expanded_into_it(toy):
    plain = trained_model(tiny_spec(rep_block=None)).double()
    expanded = expand(plain, "Toy")
    assert block_counts(expanded)["Toy"] == 6
    assert equivalence_error(plain, expanded, images()) < 1e-10


def run(script: str, *arguments: object, cwd: Path) -> None:
    command = [sys.executable, script, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_one_file_and_one_row_are_enough_for_the_scripts(tmp_path):
    """Steps 2 and 3 in a copy of the source, then train.py and convert.py."""
    copy = tmp_path / "source"
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, copy)
    (copy / "models" / "reparam" / "toy.py").write_text(TOY)
    families = copy / "models" / "reparam" / "families.py"
    text = families.read_text()
    assert text.count(TABLE) == 1
    text = text.replace("\nfrom models", f"\n{IMPORT}from models", 1)
    families.write_text(text.replace(TABLE, TABLE + ROW))

    data = write_dataset(tmp_path / "data", SyntheticConfig(images=10, size=64, seed=0))
    yaml = tiny_yaml(rep_block="Toy(kernels=3)")
    yaml["backbone"][1] = [-1, 1, "Toy", [32, 3, 2]]
    write_yaml(tmp_path / "toy.yaml", yaml)
    run(
        "train.py", "--cfg", tmp_path / "toy.yaml", "--data", data, "--imgsz", 64, "--epochs", 1,
        "--batch-size", 4, "--workers", 0, "--device", "cpu", "--noplots", "--project", tmp_path,
        cwd=copy,
    )  # fmt: skip
    weights = tmp_path / "exp" / "weights" / "best.pt"
    run("convert.py", "--weights", weights, "--report", tmp_path / "r.json", cwd=copy)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["blocks"]["Toy"] == 6
