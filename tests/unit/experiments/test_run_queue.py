"""Jobs run several at a time, in order, as far as the time goes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from experiments.deadline import Deadline
from experiments.run_queue import MIN_SECONDS, run_jobs


class Work:
    """A job of the test: calls `action`, then is finished if that says so."""

    def __init__(self, name: str, action: Callable[[], object] = lambda: True, needs=()) -> None:
        self.name, self.needs, self.action = name, needs, action
        self.finished, self.seconds = False, list[float]()

    def is_finished(self) -> bool:
        return self.finished

    def advance(self, deadline: Deadline) -> None:
        self.seconds.append(deadline.left())
        self.finished = bool(self.action())


def test_no_jobs():
    assert run_jobs([], 2, Deadline(100)) == []


def test_all_are_done_in_order():
    done: list[str] = []
    jobs = [Work(name, lambda name=name: done.append(name) or True) for name in "abc"]
    assert run_jobs(jobs, 1, Deadline(100)) == []
    assert done == ["a", "b", "c"]


def test_finished_jobs_are_skipped():
    job = Work("a")
    job.finished = True
    run_jobs([job], 1, Deadline(100))
    assert job.seconds == []


def test_as_many_at_once_as_asked():
    """Each waits for the other two; a queue with fewer at once would never end."""
    together = threading.Barrier(3, timeout=5)
    jobs = [Work(name, lambda: together.wait() >= 0) for name in "abc"]
    assert run_jobs(jobs, 3, Deadline(100)) == []


def test_a_job_waits_for_what_it_needs():
    first = Work("scales")
    second = Work("blocks", lambda: first.finished, needs=(first,))
    assert run_jobs([second, first], 2, Deadline(100)) == []
    assert second.finished


def test_without_what_it_needs_a_job_is_not_started():
    first = Work("scales", lambda: False)  # out of time, say
    second = Work("blocks", needs=(first,))
    assert run_jobs([first, second], 2, Deadline(100)) == []
    assert second.seconds == []


@pytest.mark.parametrize(("each", "started"), [(0.0, 3), (30.0, 2), (100.0, 1)])
def test_nothing_is_started_late(each, started):
    """With 100 seconds and `each` for a job, run one by one."""
    clock = [0.0]
    jobs = [Work(name, lambda: clock.append(clock[-1] + each)) for name in "abc"]
    run_jobs(jobs, 1, Deadline(100, lambda: clock[-1]))
    seconds = [left for job in jobs for left in job.seconds]
    assert len(seconds) == started and min(seconds) >= MIN_SECONDS


def test_a_failure_does_not_stop_the_others(caplog):
    bad, good = Work("bad", lambda: 1 / 0), Work("good")
    assert run_jobs([bad, good], 1, Deadline(100)) == ["bad"]
    assert good.finished and "bad failed: division by zero" in caplog.text


def test_a_deadline_that_is_moved_ends_the_work():
    """By a signal, say: a running job sees it, and no other one starts."""
    deadline, other = Deadline(100), Work("b")
    seen = list[bool]()

    def work() -> None:
        deadline.end_now()
        seen.append(deadline.has_passed())

    assert run_jobs([Work("a", work), other], 1, deadline) == []
    assert seen == [True] and other.seconds == []
