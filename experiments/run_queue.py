"""Several runs at a time, until all are done or time is up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from experiments.deadline import Deadline

logger = logging.getLogger(__name__)
MIN_SECONDS = 45.0  # with less left, nothing is started


class Job(Protocol):
    """Something that is done in steps, which other programs take."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def needs(self) -> Sequence[Job]:
        """What must be finished before it can start."""

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""

    def advance(self, deadline: Deadline) -> None:
        """Do as much as can be done until then."""


def run_jobs(jobs: Sequence[Job], parallel: int, deadline: Deadline) -> list[str]:
    """Do the jobs in order, several at a time.

    Args:
        jobs: what to do.
        parallel: how many at once.
        deadline: by which all ends; what is not finished then goes on with the next call.

    Returns:
        The names of jobs that failed. Their errors are logged.
    """
    failed = list[str]()
    waiting = [job for job in jobs if not job.is_finished()]
    running: dict[Future[None], Job] = {}
    with ThreadPoolExecutor(parallel) as pool:
        while True:
            is_early = deadline.left() >= MIN_SECONDS
            ready = [job for job in waiting if all(need.is_finished() for need in job.needs)]
            for job in ready[: parallel - len(running)] if is_early else ():
                waiting.remove(job)
                running[pool.submit(job.advance, deadline)] = job
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if (error := future.exception()) is not None:
                    logger.error("%s failed: %s", job.name, error)
                    failed.append(job.name)
