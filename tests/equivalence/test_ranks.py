"""Two processes that share a batch compute what one process computes with all of it."""

from __future__ import annotations

import functools
import json
import operator
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

import train
from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.epoch_sampler import EpochSampler
from data.eval_dataset import EvalDataset
from data.loader import eval_loader
from data.records import read_records
from data.synthetic.dataset import SyntheticConfig, write_dataset
from data.training_images import ImageConfig, TrainingImages
from models.losses.distillation import DistillationLoss
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from tests.house.source_tree import ROOT
from tests.model_builders import tiny_spec, trained_model, write_small_yolov5
from tests.unit.data.builders import record, write_image
from utils.batches import Batch
from utils.engine.distributed import Ranks
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.optim import OptimizerConfig, build_optimizer
from utils.engine.schedule import Schedule
from utils.engine.training_state import Precision, TrainingState
from utils.errors import DatasetError
from utils.strict_yaml import write_yaml

SIZE, COUNT = 64, 2


def whole_batch() -> Batch:
    """Five images with different numbers of boxes, one with none."""
    generator = torch.Generator().manual_seed(3)
    image_index = torch.tensor([0, 0, 0, 1, 3, 3, 4])
    corner = torch.rand(7, 2, generator=generator) * 30
    sides = torch.rand(7, 2, generator=generator) * 30 + 3
    return Batch(
        images=torch.rand(5, 3, SIZE, SIZE, generator=generator, dtype=torch.float64),
        image_index=image_index,
        class_ids=torch.tensor([0, 1, 2, 0, 1, 2, 0]),
        boxes=torch.cat((corner, corner + sides), 1),
        image_ids=(0,) * 5,
        letterboxes=(None,) * 5,
        paths=(Path(),) * 5,
    )


def part_of(batch: Batch, ranks: Ranks) -> Batch:
    """The images a process gets, numbered anew."""
    images = ranks.shard(range(5))
    mine = (batch.image_index >= images[0]) & (batch.image_index <= images[-1])
    return Batch(
        images=batch.images[images[0] : images[-1] + 1],
        image_index=batch.image_index[mine] - images[0],
        class_ids=batch.class_ids[mine],
        boxes=batch.boxes[mine],
        image_ids=(0,) * len(images),
        letterboxes=(None,) * len(images),
        paths=(Path(),) * len(images),
    )


def gradients(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Loss parts and gradient of every parameter, batch-norms frozen."""
    torch.manual_seed(0)
    model = build_model(tiny_spec(rep_block="OREPA")).double().eval()
    network = ranks.parallel(model, torch.device("cpu"))
    batch = part_of(whole_batch(), ranks)
    labels = DetectionLoss(BoxCoder.of(model), 3, SIZE, LossConfig(), ranks=ranks)
    teacher = trained_model(tiny_spec(), seed=5).double()
    terms = DistillationLoss(labels, teacher, 1.0)(network(batch.images), batch)
    terms.total.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {
        **found,
        "loss": ranks.average(terms.total.detach()),
        "parts": ranks.average(terms.parts()),
    }


RANK_PROGRAM = """
import sys, torch
from tests.equivalence.test_ranks import (
    epoch_with_a_bad_batch, gathered_gradients, gradients,
)
from utils.engine.distributed import Ranks, process_group
ranks = Ranks.of_environment()
with process_group(ranks, torch.device("cpu")):
    found = gradients(ranks)
    once, few = gathered_gradients(ranks, every_time=False)
    each, many = gathered_gradients(ranks, every_time=True)
    assert few > 0 and many == 2 * few, (few, many)
    for name in each:
        torch.testing.assert_close(once[name], each[name], rtol=1e-9, atol=1e-9)
    weights, state, skipped = epoch_with_a_bad_batch(ranks)
    assert (state.skipped_steps, state.ema.updates, skipped) == (1, 2, ["2 of 1.jpg"])
    assert all(torch.isfinite(tensor).all() for tensor in weights)
    of_all = ranks.gather(weights)
    assert all(torch.equal(a, b) for a, b in zip(of_all[0][:2], of_all[1][:2]))
    assert ranks.gather(ranks.rank) == [0, 1]
    assert ranks.broadcast(lambda: ranks.rank) == 0
    conditions = torch.tensor([True, ranks.is_first, not ranks.is_first, False])
    assert ranks.all_true(conditions) == [True, False, False, False]
    norm = torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.bias.fill_(ranks.rank), norm.running_mean.fill_(ranks.rank)
    ranks.broadcast_weights(norm)
    assert not norm.bias.any() and not norm.running_mean.any() and norm.bias.requires_grad
    if ranks.is_first:
        torch.save((found, once), sys.argv[1])
"""


def torchrun(*arguments: object, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """What it prints and answers; after `timeout` seconds its ranks are ended with it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", str(COUNT), *(str(word) for word in arguments)]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> tuple[Gradients, Gradients]:
    """What two processes computed together: `gradients` and `gathered_gradients`."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "ranks.py").write_text(RANK_PROGRAM)
    done = torchrun(folder / "ranks.py", folder / "two.pt")
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "two.pt")


def assert_near(found: Gradients, expected: Gradients) -> None:
    assert found.keys() == expected.keys() and len(expected) > 50
    worst = {
        name: float((found[name] - one).abs().max() / one.abs().max().clamp(min=1e-12))
        for name, one in expected.items()
    }
    assert max(worst.values()) < 1e-6, max(worst, key=worst.get)


def test_gradients_of_two_ranks_are_those_of_one(two_ranks):
    assert_near(two_ranks[0], gradients(Ranks()))


def gathered_gradients(ranks: Ranks, *, every_time: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of two batches together, and how often processes exchanged a bucket of them."""
    torch.manual_seed(0)
    model = build_model(tiny_spec()).double().eval()
    network, exchanges = ranks.parallel(model, torch.device("cpu")), []

    def average(_, bucket):
        exchanges.append(bucket.index())
        return default_hooks.allreduce_hook(None, bucket)

    if ranks.count > 1:
        network.register_comm_hook(None, average)
    loss = DetectionLoss(BoxCoder.of(model), 3, SIZE, LossConfig(), ranks=ranks)
    for number in range(2):
        whole = whole_batch()
        batch = part_of(
            replace(whole, images=whole.images if number == 0 else 1 - whole.images), ranks
        )
        with ranks.averaging(network, when=every_time or number == 1):
            loss(network(batch.images), batch).total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, len(exchanges)


def epoch_with_a_bad_batch(ranks: Ranks) -> tuple[list[torch.Tensor], TrainingState, list[str]]:
    """Eight batches, four to a step; the third has no finite loss in the last process."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    state = TrainingState(
        model,
        ranks.parallel(model, torch.device("cpu")),
        ModelEMA(model),
        build_optimizer(model, "SGD", lr=0.1, momentum=0.9, weight_decay=0.0),
        Precision.choose("off", torch.device("cpu")),
        last_step=-1 + 500 * 8,
        ranks=ranks,
    )

    def criterion(raw, batch):
        bad = batch.paths[0].stem == f"2 of {ranks.count - 1}"
        return SimpleNamespace(
            total=(raw**2).mean() * (torch.nan if bad else 1), parts=lambda: torch.zeros(3)
        )

    images = [
        replace(part_of(whole_batch(), Ranks(0, 0, 5)), paths=(Path(f"{n} of {ranks.rank}.jpg"),))
        for n in range(8)
    ]
    images = [
        replace(b, images=(b.images * 255 * (n + 1) / 8).byte()) for n, b in enumerate(images)
    ]
    schedule, skipped = Schedule(OptimizerConfig(warmup_epochs=0), 1000, 8, 16), []
    train_one_epoch(
        state, criterion, images, schedule, 500, device=torch.device("cpu"),
        on_skip=lambda epoch, paths, reason: skipped.extend(path.name for path in paths),
    )  # fmt: skip
    return list(model.state_dict().values()), state, skipped


def test_gradients_are_exchanged_once_per_step(two_ranks):
    one, exchanges = gathered_gradients(Ranks(), every_time=False)
    assert exchanges == 0
    assert_near(two_ranks[1], one)


@pytest.mark.parametrize(("images", "batch"), [(10, 4), (9, 4), (12, 4), (5, 5), (4, 64)])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("keep_batches", [False, True])
def test_every_image_is_seen_once_by_one_rank(images, batch, count, keep_batches):
    alone = EpochSampler(images, batch, 0, Ranks(), keep_batches=keep_batches)
    samplers = [
        EpochSampler(images, batch, 0, Ranks(r, r, count), keep_batches=keep_batches)
        for r in range(count)
    ]
    orders = []
    for epoch in range(2):
        for sampler in [alone, *samplers]:
            sampler.epoch = epoch
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])}  # as many steps in each
        assert all(len(keys) > 0 for part in parts for keys in part)
        together = [functools.reduce(operator.iadd, keys, []) for keys in zip(*parts, strict=True)]
        assert sorted(key.index for keys in together for key in keys) == list(range(images))
        if len(together) == len(alone):  # no small last batch had to join another
            assert together == list(alone)
        orders.append(together)
    assert orders[0] != orders[1] or len(orders[0]) == 1


def test_more_ranks_than_images_in_a_batch():
    with pytest.raises(DatasetError, match="3 processes need at least 3 images in a batch"):
        EpochSampler(10, 2, 0, Ranks(0, 0, 3), keep_batches=False)


def test_validation_images_are_shared_out(tmp_path):
    records = [record(write_image(tmp_path / f"{i}.png", seed=i), (48, 64)) for i in range(7)]
    dataset = EvalDataset(records, 64, 2, rect=False)
    loaders = [
        eval_loader(dataset, workers=0, device_is_cuda=False, ranks=Ranks(r, r, 2))
        for r in range(2)
    ]
    paths = [[path for batch in loader for path in batch.paths] for loader in loaders]
    assert sorted(paths[0] + paths[1]) == sorted(r.path for r in records)
    assert all(len(loader.unsharded()) == 4 for loader in loaders)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("items", [0, 1, 5, 8, 9])
def test_shares(items, count):
    shares = [list(Ranks(r, r, count).shard(range(items))) for r in range(count)]
    assert functools.reduce(operator.iadd, shares, []) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_torchrun_says():
    arguments = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert Ranks.of_environment(arguments) == Ranks(5, 1, 8, 4)
    assert Ranks.of_environment({}) == Ranks()
    assert Ranks.of_environment({"RANK": "3"}) == Ranks()  # some other launcher's word
    assert np.all([Ranks().is_first, not Ranks(1, 1, 2).is_first])


FAILING_PROGRAM = """
import torch
from utils.engine.distributed import Ranks, process_group
ranks = Ranks.of_environment()
with process_group(ranks, torch.device("cpu")):
    if not ranks.is_first:
        raise SystemExit("this rank cannot go on")
    ranks.average(torch.zeros(1))  # waits for the other
"""


def test_a_rank_that_fails_ends_all(tmp_path):
    program = tmp_path / "failing.py"
    program.write_text(FAILING_PROGRAM)
    done = torchrun(program)
    assert done.returncode != 0
    assert "this rank cannot go on" in done.stderr


def test_two_ranks_train_evaluate_and_write_one_folder(tmp_path):
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=12, size=SIZE, seed=0))
    cfg, report = write_small_yolov5(tmp_path / "small.yaml"), tmp_path / "report.json"
    done = torchrun(
        "train.py", "--data", data, "--cfg", cfg, "--imgsz", SIZE, "--epochs", 2, "--batch-size", 4,
        "--workers", 0, "--device", "cpu", "--amp", "off", "--noplots",
        "--project", tmp_path / "runs", "--report", report,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["exp"]
    rows = (tmp_path / "runs" / "exp" / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    found = json.loads(report.read_text())
    assert found["epochs"] == 2 and Path(found["weights"]["best"]).exists()
    assert done.stdout.count("Best checkpoint") == 1  # one process speaks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "0,1"], "torchrun --nproc-per-node 2 train.py --device 0,1"),
        (["--sync-bn", "--device", "cpu"], "--sync-bn: needs several GPUs"),
        (["--local-rank", "0"], "torchrun sets it"),
    ],
)
def test_messages(tmp_path, capsys, arguments, message):
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=12, size=SIZE, seed=0))
    cfg = write_small_yolov5(tmp_path / "small.yaml")
    given = ["--data", str(data), "--cfg", str(cfg), "--imgsz", str(SIZE), *arguments]
    try:
        code = train.main(given)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_rectangular_batches_of_two_ranks_have_one_shape_each(tmp_path):
    """Five images in batches of four: the fifth joins the others, whatever its proportions."""
    for number, hw in enumerate([(64, 30), (64, 32), (60, 32), (32, 64), (30, 64)]):
        write_image(tmp_path / "images" / f"{number}.png", hw, seed=number)
    yaml = tmp_path / "data.yaml"
    write_yaml(
        yaml,
        {
            "path": str(tmp_path),
            "train": "images",
            "val": "images",
            "names": ["a"],
            "background_only": True,
        },
    )
    config = ImageConfig(stride=32, batch_size=4, workers=0, seed=0, rect=True)
    records, seen = read_records(load_dataset_spec(yaml), "train"), []
    images = TrainingImages(records, records, ("a",), 64)
    for rank in range(2):
        ranks = Ranks(rank, rank, 2, 2)
        loader, _ = images.loaders(AugmentConfig(), config, ranks)
        batches = list(loader.epoch(0))  # fails where a batch mixes shapes
        seen += [path.name for batch in batches for path in batch.paths]
    assert sorted(seen) == [f"{number}.png" for number in range(5)]
