"""What training does on a GPU that it cannot do elsewhere, or does otherwise there."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import torch

from benchmarks.synchronisations import counted_synchronisations
from data.dataset_spec import load_dataset_spec
from data.eval_dataset import EvalDataset
from data.loader import eval_loader
from data.records import read_records
from models.losses.loss import DetectionLoss
from tests.gpu.machine import Machine, train_config, trained
from tests.house.source_tree import ROOT
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError
from utils.strict_yaml import write_yaml
from utils.train_config import TrainConfig

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

# Of an epoch of 16 batches: its mean loss, and what begins and ends it.
SYNCHRONISATIONS_PER_EPOCH = 6


def finite(run) -> bool:
    weights = load_checkpoint(run.last).weights.values()
    return all(torch.isfinite(tensor).all() for tensor in weights) and all(
        math.isfinite(loss) for epoch in run.losses for loss in epoch
    )


# The same pixels in every epoch, so that a few steps are enough to learn something.
UNAUGMENTED = dict.fromkeys(
    ("mosaic", "scale", "translate", "fliplr", "hsv_h", "hsv_s", "hsv_v", "warmup_bias_lr"), 0.0
)


def test_float16_with_a_scaled_loss_learns(machine, data, tmp_path):
    hyp = tmp_path / "hyp.yaml"
    write_yaml(hyp, {**UNAUGMENTED, "lr0": 0.05})
    amp = "fp16" if machine.is_gpu else "off"  # a CPU takes minutes for it
    flags = {"amp": amp, "epochs": 8, "batch_size": 4, "noval": True, "hyp": str(hyp)}
    run = trained(machine, data, tmp_path, **flags)
    assert finite(run)
    box = [losses[0] for losses in run.losses]
    assert sum(box[4:]) < sum(box[:4])
    # While the scale of the loss is searched for, some steps overflow.
    assert run.report["skipped_steps"] <= 10
    scaler = load_checkpoint(run.last).training["scaler"]
    assert (scaler.get("scale", 0) >= 1) == machine.is_gpu


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_float16_and_float32_start_alike(machine, data, tmp_path, amp):
    auto = trained(machine, data, tmp_path / "auto", amp="auto", epochs=1)
    other = trained(machine, data, tmp_path / "other", amp=amp, epochs=1)
    assert other.losses[0] == pytest.approx(auto.losses[0], rel=0.02)


def test_channels_last_is_the_same_training(machine, data, tmp_path):
    plain = trained(machine, data, tmp_path / "plain", epochs=1)
    last = trained(machine, data, tmp_path / "last", epochs=1, channels_last=True)
    assert finite(last)
    assert last.losses[0] == pytest.approx(plain.losses[0], rel=0.01)


def test_a_compiled_network_is_the_same_training(machine, data, tmp_path):
    if not any(shutil.which(name) for name in ("g++", "clang++")):
        pytest.skip("needs a C++ compiler")
    plain = trained(machine, data, tmp_path / "plain", epochs=1)
    compiled = trained(machine, data, tmp_path / "compiled", epochs=1, compile=True)
    assert finite(compiled)
    assert compiled.losses[0] == pytest.approx(plain.losses[0], rel=0.01)


def test_the_same_seed_gives_the_same_weights(machine, data, tmp_path):
    """In processes of their own: what --deterministic sets holds for the whole process."""
    weights = []
    for name in ("first", "second"):
        config = train_config(machine, data, tmp_path / name, deterministic=True, amp="auto")
        done = subprocess.run(
            [sys.executable, "train.py", *as_flags(config)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        weights.append(load_checkpoint(tmp_path / name / "exp" / "weights" / "last.pt").weights)
    different = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert different == []


def as_flags(config: TrainConfig) -> list[str]:
    """Every setting that is not the default, as the command line has it."""
    flags = []
    for name, value in asdict(config).items():
        if value == asdict(TrainConfig())[name]:
            continue
        flags.append(f"--{name.replace('_', '-')}")
        if value is not True:
            flags.append(str(value))
    return flags


@pytest.mark.parametrize("sync_bn", [False, True])
def test_two_gpus_train_together(machine, data, tmp_path, sync_bn):
    if machine.is_gpu and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    if sync_bn and not machine.is_gpu:
        pytest.skip("needs two GPUs")
    devices = "0,1" if machine.is_gpu else "cpu"
    config = train_config(machine, data, tmp_path, sync_bn=sync_bn, epochs=1)
    flags = as_flags(config)
    flags[flags.index("--device") + 1] = devices
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "train.py", *flags],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = load_checkpoint(tmp_path / "exp" / "weights" / "last.pt").weights
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_lie_in_pinned_memory(machine, data, workers):
    records = read_records(load_dataset_spec(data), "val")
    dataset = EvalDataset(records, machine.image_size, 2, rect=False)
    loader = eval_loader(dataset, workers=workers, device_is_cuda=machine.is_gpu)
    for batch in loader:
        tensors = (batch.images, batch.image_index, batch.class_ids, batch.boxes)
        assert {tensor.is_pinned() for tensor in tensors} == {machine.is_gpu}
        moved = batch.to(machine.torch_device)
        assert moved.images.device == machine.torch_device
        assert torch.equal(moved.images.cpu(), batch.images)
        assert torch.equal(moved.boxes.cpu(), batch.boxes)


def test_peak_memory_is_that_of_the_device(machine, data, tmp_path):
    run = trained(machine, data, tmp_path, epochs=1)
    megabytes = run.report["peak_memory_mb"]
    weights = sum(t.numel() * t.element_size() for t in load_checkpoint(run.last).weights.values())
    assert megabytes > 3 * weights / 1e6  # with gradients and momentum
    if machine.is_gpu:
        assert megabytes <= torch.cuda.max_memory_allocated(0) / 1e6


@contextmanager
def little_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """1 GB of the GPU's memory; in a rehearsal, a loss that takes batches of up to 4 images."""
    if machine.is_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e9 / total, 0)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, 0)
        return
    loss = DetectionLoss.__call__

    def limited(self, raw_predictions, batch):
        if len(raw_predictions[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss(self, raw_predictions, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionLoss, "__call__", limited)
        yield


def test_out_of_memory_names_the_batch_that_fits(machine, data, tmp_path, monkeypatch):
    size = 1280 if machine.is_gpu else machine.image_size
    flags = {"imgsz": size, "epochs": 1, "noval": True}
    images = machine.images * 4 // 5
    with little_memory(machine, monkeypatch):
        with pytest.raises(ConfigError, match="out of memory") as caught:
            trained(machine, data, tmp_path / "large", batch_size=images, **flags)
        fits = int(str(caught.value).split("--batch-size ")[1].split()[0])
        assert 0 < fits < images
        # Two thirds: how much is free changes, and the drawn objects are not the measured ones.
        smaller = max(fits * 2 // 3, 1)
        assert finite(trained(machine, data, tmp_path / "small", batch_size=smaller, **flags))


def test_the_gpu_is_not_waited_for_in_every_batch(machine, data, tmp_path):
    """Runs of 2 and of 4 epochs differ by what two epochs synchronise.

    Nothing is evaluated, saved or shown between these epochs. With float16 there would be one more
    for each step: the scaler asks whether the gradients were finite.
    """
    batch_size = machine.images // 20  # 16 batches to an epoch
    amp = "bf16" if machine.is_gpu else "off"
    flags = {"amp": amp, "batch_size": batch_size, "noval": True, "nosave": True}
    counts = []
    for epochs in (2, 4):
        with counted_synchronisations(machine.torch_device) as found:
            trained(machine, data, tmp_path / str(epochs), epochs=epochs, **flags)
        counts.append(found)
    more = counts[1] - counts[0]
    assert more.total() <= 2 * SYNCHRONISATIONS_PER_EPOCH, more.most_common()
