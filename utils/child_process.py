"""Other programs that this one starts, and which end with it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.stop_signals import StopSignals


@contextmanager
def ends_with_this(child: subprocess.Popen[Any]) -> Iterator[None]:
    """In the block, which waits for the child, a signal that ends this program ends the child too.

    So does an error. Ctrl-C reaches the child by itself.

    Raises:
        SystemExit: with 128 and the signal's number after a signal, when the child has ended.
    """

    def stop() -> None:
        if signals.received != signal.SIGINT:
            child.terminate()

    with child, (signals := StopSignals(stop)):
        yield
    if signals.received is not None:
        raise SystemExit(128 + signals.received)


def run_child(
    command: Sequence[str],
    *,
    cwd: Path,
    check: bool = True,
    capture: bool = False,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, or to that of this one, by SIGTERM or SIGHUP.

    `subprocess.run` leaves it running there. Ctrl-C reaches both of them by itself.

    Args:
        command: the program and its arguments.
        cwd: the folder that it runs in.
        check: whether an exit code other than 0 is an error.
        capture: keep what it prints, instead of showing it.
        env: its environment; None for that of this process.

    Raises:
        subprocess.CalledProcessError: it failed.
        OSError: it cannot be started.
        SystemExit: as `ends_with_this`.
    """
    pipe = subprocess.PIPE if capture else None
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True)
    with ends_with_this(child):
        printed, errors = child.communicate()
    done = subprocess.CompletedProcess(command, child.returncode, printed, errors)
    if check:
        done.check_returncode()
    return done
