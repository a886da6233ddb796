"""Several processes that train one network: what they share, and how they agree.

Started by `torchrun`, which tells each process its rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from utils.errors import ConfigError, UserError
from utils.logs import RANK_VARIABLES, exit_code_after_report, report_errors, reports_errors

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: its number in the run; 0 writes the files.
        local_rank: its number on its machine, which picks its GPU.
        count: how many there are.
        local_count: how many of them are on its machine.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    local_count: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """What torchrun sets; one process alone where not all of it is set."""
        if not environment.keys() >= set(RANK_VARIABLES):
            return cls()
        return cls(*(int(environment[name]) for name in RANK_VARIABLES))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def average(self, values: Tensor) -> Tensor:
        """The mean over all processes, without gradient."""
        if self.count == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.count

    def all_true(self, conditions: Tensor) -> list[bool]:
        """Which of (N,) conditions hold in every process; the device is read once."""
        if self.count > 1:
            conditions = conditions.float()
            dist.all_reduce(conditions, op=dist.ReduceOp.MIN)
        return [bool(each) for each in conditions.tolist()]

    def shard(self, items: Sequence[ItemT]) -> Sequence[ItemT]:
        """This process's part of a list: consecutive, as long as the others' or one longer."""
        whole, left = divmod(len(items), self.count)
        start = self.rank * whole + min(self.rank, left)
        return items[start : start + whole + (self.rank < left)]

    def gather(self, value: ItemT) -> list[ItemT]:
        """Every process's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, make: Callable[[], ItemT]) -> ItemT:
        """What the first process makes, in all processes."""
        if self.count == 1:
            return make()
        values: list[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(values, src=0)
        made: ItemT = values[0]
        return made

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Take over the first process's buffers: the statistics of norms, above all."""
        self._broadcast_tensors(module.buffers())

    def broadcast_weights(self, module: nn.Module) -> None:
        """Take over the first process's parameters and buffers."""
        self._broadcast_tensors([*module.parameters(), *module.buffers()])

    @torch.no_grad()
    def _broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def parallel(
        self, model: nn.Module, device: torch.device, *, shared_norms: bool = False
    ) -> nn.Module:
        """A module that runs `model` and averages gradients over all processes in backward.

        With `shared_norms`, the batch-norms of `model` are replaced by ones whose statistics are
        taken over all processes' images.

        Raises:
            ConfigError: these are asked for without several GPUs; PyTorch has none for the CPU.
        """
        if shared_norms:
            if self.count == 1 or device.type != "cuda":
                raise ConfigError(
                    "--sync-bn: needs several GPUs (torchrun --nproc-per-node 2 train.py ...); "
                    "leave it out"
                )
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        if self.count == 1:
            return model
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    @staticmethod
    def averaging(module: nn.Module, *, when: bool) -> AbstractContextManager[None]:
        """The region of a forward and backward pass of what `parallel` made.

        Gradients are averaged over all processes, those gathered before with them, only `when`
        they are about to be used; until then each process adds up its own.
        """
        if when or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """The region in which the processes of a run can talk: NCCL between GPUs, gloo elsewhere.

    The first process that fails in it raises its error. The others, which then meet the same error
    or a lost connection, end without a word, with the exit code of their own.

    Raises:
        SystemExit: another process has failed before.
    """
    if ranks.count == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # The first process evaluates the best checkpoint alone while the others wait.
    backend = "nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(hours=2)
    store, *_ = next(iter(rendezvous("env://", timeout=timeout)))
    dist.init_process_group(
        backend, store=store, rank=ranks.rank, world_size=ranks.count, timeout=timeout
    )
    try:
        yield
    except BaseException as error:
        report_errors(allowed=_is_first_failure(store))
        if reports_errors():
            raise
        code = exit_code_after_report(2 if isinstance(error, UserError) else 1)
        raise SystemExit(code) from None
    finally:
        dist.destroy_process_group()


def _is_first_failure(store: Any) -> bool:
    """Note in what all processes share that this one has failed; whether no other has before."""
    try:
        return bool(store.add("failed", 1) == 1)
    except dist.DistError:  # the process that held the store has ended: it has failed, too
        return False
