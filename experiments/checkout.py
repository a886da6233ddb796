"""A checkout of the project whose own scripts run in processes of their own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from utils.child_process import run_child

_DATA_YAML = """path: .
train: images/train
val: images/train
names: [ball, star, ring, crate, cross, moon]
"""


class RunFailedError(Exception):
    """A command that the rest needs ended with an error."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended.

    Attributes:
        code: exit code: 0 done, 1 a check failed or the program crashed, 2 the user's mistake.
        output: standard output, then standard error.
    """

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """Where a script that fails says why."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder that holds train.py and the packages it imports."""

    root: Path

    def run(self, *command: object) -> Finished:
        """`python COMMAND` in the root, on one thread, with this checkout's modules.

        One thread: the order of floating-point additions must not depend on the machine's load.
        """
        arguments = [sys.executable, *(str(word) for word in command)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",  # of argparse's help
        }
        done = run_child(arguments, cwd=self.root, env=environment, capture=True, check=False)
        return Finished(done.returncode, done.stdout + done.stderr)

    def require(self, *command: object) -> None:
        """Run a command without which there is nothing to compare or count.

        Raises:
            RunFailedError: its exit code is not 0.
        """
        done = self.run(*command)
        if done.code != 0:
            shown = " ".join(str(word) for word in command)
            raise RunFailedError(f"exit code {done.code} from {shown}: {done.last_line}")

    def draw_data(self, folder: Path, images: int, size: int) -> Path:
        """Draw a data set that is evaluated on its training images; returns the data yaml.

        A network trained for seconds finds something only in images it has seen.

        Raises:
            RunFailedError: data.synthetic failed.
        """
        self.require("-m", "data.synthetic", folder, "--images", images, "--size", size)
        path = folder / "training_images.yaml"
        path.write_text(_DATA_YAML, encoding="utf-8")
        return path
