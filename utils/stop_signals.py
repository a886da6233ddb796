"""The end of a run by a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from utils.logs import RANK_VARIABLES
from utils.process_end import end_process

# What ends a program: Ctrl-C, `kill` and service managers, a closed terminal (not on Windows).
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class StopSignals(AbstractContextManager["StopSignals"]):
    """In the block, a signal that ends programs asks the run to end; a second one ends it.

    The end of the block, by an error too, asks the same: no thread may read on.

    Attributes:
        received: the number of the signal that came; None where none did.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        """Choose what a signal does.

        Args:
            stop: called from the signal handler, so it must not wait for anything, and again at
                the end of the block.
        """
        self.received: int | None = None
        self._stop = stop
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Take the signals over; only a program's main thread can."""
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and not _outlives(name, number):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        self._stop()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        self._restore()
        self._stop()


def _outlives(name: str, number: int) -> bool:
    """Whether this is the end of a terminal that the program is to outlive, as nohup arranges."""
    return name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN


class Stopped(KeyboardInterrupt):
    """A signal ends the program, as Ctrl-C does.

    Attributes:
        code: the exit code, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        """Take the number of the signal."""
        super().__init__()
        self.code = 128 + number


@contextmanager
def raised_as_interrupts() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP raise Stopped, so that what was begun is put in order.

    A second one ends the program at once; so does the first one in processes of torchrun, which
    sends it to those that wait for a process that failed.
    """

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        restore()
        raise Stopped(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    before: dict[int, Any] = {}
    is_main = threading.current_thread() is threading.main_thread()
    for name in SIGNALS[1:] if is_main and not os.environ.keys() >= set(RANK_VARIABLES) else ():
        number = getattr(signal, name, None)
        if number is not None and not _outlives(name, number):
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def end_program(code: int) -> NoReturn:
    """End it with this exit code, also while a thread hangs inside a library.

    Python's own end would abort there: such a thread is unwound through the library's frames.
    """
    hanging = [each for each in threading.enumerate() if each is not threading.main_thread()]
    if hanging:
        logging.shutdown()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):  # closed by the reader
                stream.flush()
        os._exit(code)
    end_process(code)
