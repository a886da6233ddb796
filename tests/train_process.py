"""train.py in a process of its own: it can be killed, and what it sets ends with it.

Forked from a process that has imported torch and what training needs, it starts in milliseconds
instead of seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PATIENCE_SECONDS = 120
# torch._dynamo is what torch's optimizers import first.
PRELOADED = [__name__, "train", "torch._dynamo", "torch.utils.tensorboard"]


@dataclass(frozen=True, slots=True)
class TrainProcess:
    """A running train.py.

    Attributes:
        process: its process.
        errors: what it writes to stderr.
    """

    process: ForkServerProcess
    errors: Path

    def finish(self) -> tuple[int, str]:
        """Wait; the exit code, negative for a signal, and what was written to stderr."""
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, f"not done after {PATIENCE_SECONDS} s"
        return self.process.exitcode, self.errors.read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL, to a process that has not ended."""
        self.process.kill()
        assert self.finish()[0] < 0, "it ended before it was killed"


def start(folder: Path, *arguments: object) -> TrainProcess:
    """Start train.py with some arguments; `folder` keeps what it writes to stderr."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder.mkdir(exist_ok=True)
    errors = folder / f"stderr{len(list(folder.glob('stderr*')))}"
    process = context.Process(target=_run, args=([str(each) for each in arguments], errors))
    process.start()
    return TrainProcess(process, errors)


def _run(arguments: list[str], errors: Path) -> None:
    import train

    with errors.open("w") as file, Path(os.devnull).open("w") as nowhere:
        os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    sys.exit(train.main(arguments))
