"""The training loop of ultralytics/yolov5 beside ours: a process of its own that takes orders.

It is the package yolov5 from PyPI, in a Python that has it (`make clients` makes one): its licence
and requirements are not ours.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from benchmarks.measurement import PeerFailedError
from benchmarks.peer import PeerProcess
from experiments.block_costs import Setting
from experiments.training_runs import ROOT
from models.memory_probe import OBJECTS_PER_IMAGE

CLIENTS = ROOT / ".venv-clients" / "bin" / "python"


def peer_python(given: str = "") -> str:
    """The Python that has the package: the one given, this one, or that of `make clients`.

    Raises:
        PeerFailedError: none has it.
    """
    if given:
        return str(Path(given).absolute())  # not resolved: an environment is known by its link
    if find_spec("yolov5") is not None:
        return sys.executable
    if CLIENTS.exists():
        return str(CLIENTS)
    raise PeerFailedError("the package yolov5 is not installed")


class PeerLoop(AbstractContextManager["PeerLoop"]):
    """A running process of `peer_loop_program`.

    Attributes:
        version: of the package.
    """

    def __init__(self, python: str, setting: Setting) -> None:
        """Start it and wait until its network is built.

        Raises:
            PeerFailedError: it cannot be built there.
        """
        program = Path(__file__).with_name("peer_loop_program.py")
        with ExitStack() as opened:
            # It writes settings, which are none of the user's.
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            self._process = opened.enter_context(PeerProcess(Path(python), folder, program))
            self._process.ask(
                cfg=setting.cfg,
                image_size=setting.image_size,
                batch_size=setting.batch_size,
                boxes_per_image=OBJECTS_PER_IMAGE,
                device=str(setting.device),
                amp=setting.amp,
            )
            self._opened = opened.pop_all()
        self.version = self._process.versions["yolov5"]

    def step(self, count: int) -> float:
        """Let it take so many steps; returns their seconds as it measured them.

        Raises:
            PeerFailedError: its process has ended.
        """
        return float(self._process.ask(steps=count)["seconds"])

    def peak_mb(self) -> float:
        """MB it had at the most.

        Raises:
            PeerFailedError: its process has ended.
        """
        return float(self._process.ask()["peak_mb"])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self._opened.close()
