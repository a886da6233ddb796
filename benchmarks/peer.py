"""The training loop of ultralytics/yolov5 beside ours: a process of its own that takes orders.

It is the package yolov5 from PyPI, in a Python that has it (`make clients` makes one): its licence
and requirements are not ours.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from experiments.block_costs import Setting
from experiments.training_runs import ROOT
from models.memory_probe import OBJECTS_PER_IMAGE

CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
MAX_SECONDS = 90.0  # without an answer
SECONDS_TO_END = 10.0


class NoPeerError(Exception):
    """The package is not there, or cannot do what is asked; the message says why."""


def peer_python(given: str = "") -> str:
    """The Python that has the package: the one given, this one, or that of `make clients`.

    Raises:
        NoPeerError: none has it.
    """
    if given:
        return given
    if find_spec("yolov5") is not None:
        return sys.executable
    if CLIENTS.exists():
        return str(CLIENTS)
    raise NoPeerError("the package yolov5 is not installed")


class Peer(AbstractContextManager["Peer"]):
    """A running process of `peer_training`.

    Attributes:
        version: of the package.
    """

    def __init__(self, python: str, setting: Setting) -> None:
        """Start it and wait until its network is built.

        Raises:
            NoPeerError: it cannot be built there.
        """
        content = {
            "cfg": setting.cfg,
            "image_size": setting.image_size,
            "batch_size": setting.batch_size,
            "boxes_per_image": OBJECTS_PER_IMAGE,
            "device": str(setting.device),
            "amp": setting.amp,
        }
        script = Path(__file__).with_name("peer_training.py")
        self._home = tempfile.TemporaryDirectory()  # it would write settings into the user's
        quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLOv5_AUTOINSTALL": "false",
                 "YOLO_CONFIG_DIR": self._home.name, "YOLOV5_CONFIG_DIR": self._home.name,
                 "MPLCONFIGDIR": self._home.name}  # fmt: skip
        try:
            self._process = subprocess.Popen(
                [python, str(script), json.dumps(content)], cwd=self._home.name, text=True,
                env={**os.environ, **quiet}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            self._home.cleanup()
            raise NoPeerError(f"{python}: {error.strerror}") from None
        try:
            self.version = str(self._answer()["version"])
        except NoPeerError:
            self.__exit__(None, None, None)
            raise

    def step(self, count: int) -> float:
        """Let it take so many steps; returns their seconds as it measured them."""
        return float(self._ask(f"step {count}")["seconds"])

    def peak_mb(self) -> float:
        """MB it had at the most."""
        return float(self._ask("peak")["peak_mb"])

    def _ask(self, command: str) -> dict[str, Any]:
        if self._process.stdin is None:
            raise RuntimeError("started without a pipe")
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise NoPeerError("its process has ended") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise RuntimeError("started without a pipe")
        if not select.select([self._process.stdout], [], [], MAX_SECONDS)[0]:
            raise NoPeerError(f"its process did not answer for {MAX_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise NoPeerError("its process has ended")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise NoPeerError(str(found["error"]))
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process, by force if it does not end by itself."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()
