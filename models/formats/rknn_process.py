"""rknn-toolkit2 in a process of its own: where it is, and talking to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy.typing as npt

from models.formats import rknn_worker
from models.formats.rknn_worker import read_message, write_message
from utils.errors import CheckFailedError, MissingPackageError

PYTHON = "RKNN_PYTHON"  # environment variable: the Python that has the toolkit
_OWN_PYTHON = Path(__file__).parents[2] / ".venv-rknn" / "bin" / "python"  # `make rknn` makes it
_LAST_CHARACTERS = 300  # of what the toolkit printed before it failed


def find_python() -> Path:
    """The Python that has rknn-toolkit2.

    Raises:
        MissingPackageError: there is none.
    """
    given = os.environ.get(PYTHON)
    python = Path(given).absolute() if given else _OWN_PYTHON
    if not python.is_file():
        raise MissingPackageError(
            f"RKNN files need rknn-toolkit2, whose packages are older than ours: `make rknn` "
            f"installs it into .venv-rknn, or set {PYTHON} to a Python that has it"
        )
    return python


class RknnProcess:
    """The toolkit, started; it ends with this object."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            MissingPackageError: the toolkit is not here.
        """
        python = find_python()
        self._folder = tempfile.TemporaryDirectory(prefix="rknn-")  # it leaves files where it runs
        self._log = Path(self._folder.name) / "log.txt"
        worker = Path(rknn_worker.__file__).resolve()
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [str(python), "-I", str(worker)],  # our modules stay out of its path
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                    cwd=self._folder.name, env=_own_environment(),
                )  # fmt: skip
        except OSError as error:
            self._folder.cleanup()
            raise MissingPackageError(f"{python}: cannot be run ({error.strerror})") from None
        self._questions = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        self._end = weakref.finalize(self, _stop, self._process, self._folder)

    def build(self, onnx_file: Path, dataset: Path, platform: str, output: Path | None) -> str:
        """Compile a network, and make it ready to run.

        Returns:
            What the toolkit printed.

        Raises:
            CheckFailedError: it cannot be compiled.
            MissingPackageError: that Python does not have the toolkit.
        """
        self._ask(
            {
                "onnx": str(onnx_file.resolve()),
                "dataset": str(dataset.resolve()),
                "platform": platform,
                "output": "" if output is None else str(output.resolve()),
            },
            {},
        )
        return self._printed()

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """(1, H, W, 3) uint8 RGB -> the outputs, in order."""
        found = self._ask({}, {"image": image})
        return [found[f"out{index}"] for index in range(len(found))]

    def _ask(self, fields: dict[str, str], arrays: dict[str, Any]) -> dict[str, Any]:
        answer = None
        try:
            write_message(self._questions, fields, arrays)
            answer = read_message(self._answers)
        except BrokenPipeError:
            pass  # reported below
        found, arrays = ({"error": "it ended"}, {}) if answer is None else answer
        if missing := found.get("missing"):
            raise MissingPackageError(f"this Python has no rknn-toolkit2 ({missing}): `make rknn`")
        if reason := found.get("error"):
            printed = " ".join(self._printed().split())[-_LAST_CHARACTERS:]
            raise CheckFailedError(f"rknn-toolkit2: {reason}: ...{printed}")
        return arrays

    def _printed(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


def _own_environment() -> dict[str, str]:
    """Ours without what would lead another Python to our packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _stop(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # it may hold what could not be sent
                stream.close()
    folder.cleanup()
