"""What training costs on a GPU: time and memory of every block family, and what a step is made of.

Each function measures one section of `benchmarks.gpu`. It yields what it has so far, so that a run
that is cut off keeps it; milliseconds are of all rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu_setting import BLOCKS, GpuSetting
from benchmarks.measurement import PeerFailedError
from benchmarks.peer_loop import PeerLoop, peer_python
from benchmarks.synchronisations import counted_synchronisations
from benchmarks.time_budget import RoundLimit
from benchmarks.timed_training import TimedTraining, loss_call, training_peak_mb
from experiments.block_costs import PLAIN, interleaved_ms
from utils.errors import UserError

PEER = "ultralytics/yolov5"
COMPILE_ROUNDS = 3
# Name -> precision, channels last, and whether cuDNN tries its algorithms.
VARIANTS = {
    "float32": (False, False, False),
    "float32, channels last": (False, True, False),
    "AMP": (True, False, False),
    "AMP, channels last": (True, True, False),
    "AMP, channels last, cudnn.benchmark": (True, True, True),
}


def families(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """Each family and the peer in turn, AMP and channels last, not compiled."""
    batches = bench.training_batches()
    work: dict[str, Callable[[], object]] = {
        family: TimedTraining(family, bench.steps, bench.how(), batches)
        for family in bench.families
    }
    found: dict[str, Any] = {"images": bench.images}
    with ExitStack() as opened:
        try:
            peer = opened.enter_context(PeerLoop(peer_python(bench.peer_python), bench.steps))
            peer.step(1)
        except PeerFailedError as error:
            found["peer"] = {"reason": str(error)}
            found["ms"] = interleaved_ms(work, bench.steps.rounds, bench.device, limit.reached)
        else:
            steps = work[PEER] = _PeerSteps(peer, bench.batches)
            ms = interleaved_ms(work, bench.steps.rounds, bench.device, limit.reached)
            found["peer"] = steps.summary()
            found["ms"] = {name: ms[name] for name in ms if name != PEER or steps.reason is None}
    found["skipped_steps"] = {
        name: each.state.skipped_steps
        for name, each in work.items()
        if isinstance(each, TimedTraining)
    }
    yield found


class _PeerSteps:
    """Steps of the peer; if its process ends, ours are measured without it.

    Attributes:
        reason: why it takes no more steps; None while it does.
    """

    def __init__(self, peer: PeerLoop, count: int) -> None:
        self._peer, self._count = peer, count
        self.reason: str | None = None

    def __call__(self) -> None:
        """Take so many steps."""
        try:
            if self.reason is None:
                self._peer.step(self._count)
        except PeerFailedError as error:
            self.reason = str(error)

    def summary(self) -> dict[str, Any]:
        """Version and peak memory, or the reason."""
        if self.reason is not None:
            return {"reason": self.reason}
        return {"version": self._peer.version, "peak_mb": self._peer.peak_mb()}


def memory(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """Peak memory of each family, one after the other; those for which there is no time lack."""
    batches = bench.training_batches()[:1] * 2
    found: dict[str, float] = {}
    for family in bench.families:
        if found and limit.reached():
            return
        found[family] = training_peak_mb(family, bench.steps, bench.how(), batches)
        yield {"peak_mb": found}


def variants(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """Precision and memory format, for the plain network and RepVGG blocks."""
    batches = bench.training_batches()
    work: dict[str, Callable[[], object]] = {}
    for family in (PLAIN, BLOCKS):
        for name, (amp, channels_last, tuned) in VARIANTS.items():
            how = replace(
                bench.how(), amp=bench.steps.amp if amp else "off", channels_last=channels_last
            )
            training = TimedTraining(family, bench.steps, how, batches)
            work[f"{family}: {name}"] = _tuned(training) if tuned else training
    ms = interleaved_ms(work, bench.steps.rounds, bench.device, limit.reached)
    yield {"images": bench.images, "ms": ms}


def _tuned(call: Callable[[], object]) -> Callable[[], object]:
    def tuned() -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            call()

    return tuned


def parts(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """The loss by itself beside the whole step, and how often the host waits for the GPU."""
    batches = bench.training_batches()
    training = TimedTraining(PLAIN, bench.steps, bench.how(), batches)
    work: dict[str, Callable[[], object]] = {
        "step": training, "loss": loss_call(training, batches)
    }  # fmt: skip
    ms = interleaved_ms(work, bench.steps.rounds, bench.device, limit.reached)
    found: dict[str, Any] = {"images": bench.images, "batches": bench.batches, "ms": ms}
    yield found
    counts = []
    for times in (1, 2):
        with counted_synchronisations(bench.device) as counted:
            training.train(batches * times, len(batches) * times)
        counts.append(counted)
    of_batches = counts[1] - counts[0]
    yield {
        **found,
        "synchronisations": {
            "of_batches": dict(of_batches), "of_epoch": dict(counts[0] - of_batches)
        },
    }  # fmt: skip


def compiled(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """Families with torch.compile, and as they are, in turn; as many as there is time for."""
    found: dict[str, Any] = {}
    longest = 0.0
    for number, family in enumerate(bench.compiled):
        if number and limit.left < longest:
            found[family] = {"reason": "no time left"}
            continue
        start = time.monotonic()
        try:
            found[family] = _compiled(family, bench, limit)
        except (UserError, RuntimeError) as error:  # no compiler, or torch's own fault
            found[family] = {"reason": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        longest = max(longest, time.monotonic() - start)
        yield {"images": bench.images, "of": found}
    yield {"images": bench.images, "of": found}


def _compiled(family: str, bench: GpuSetting, limit: RoundLimit) -> dict[str, Any]:
    """Milliseconds of both, and the seconds of the first call of the compiled network."""
    torch.compiler.reset()  # each family anew
    batches = bench.training_batches()
    eager = TimedTraining(family, bench.steps, bench.how(), batches)
    faster = TimedTraining(family, bench.steps, replace(bench.how(), compile=True), batches)
    start = time.monotonic()
    faster()
    seconds = time.monotonic() - start
    rounds = min(COMPILE_ROUNDS, bench.steps.rounds)
    ms = interleaved_ms({"eager": eager, "compiled": faster}, rounds, bench.device,
                        limit.part(0.5).reached)  # fmt: skip
    return {"first_s": seconds, "ms": ms}
