"""The peer in a Python of its own, kept alive between rounds and told to do one turn at a time.

Requests and answers are lines of JSON; benchmarks/peer_program.py is the other side.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measurement import PeerFailedError
from benchmarks.rounds import Contestant, Turn
from experiments.peer_package import peer_environment

PROGRAM = Path(__file__).parent / "peer_program.py"
LIMIT_SECONDS = 600.0  # of one answer


class PeerProcess(AbstractContextManager["PeerProcess"]):
    """One process of the peer.

    Attributes:
        versions: of its packages, as it says when it starts.
    """

    def __init__(self, python: Path, folder: Path, program: Path = PROGRAM) -> None:
        """Start it in a folder, where it writes and where peer.log has what it prints.

        Raises:
            PeerFailedError: there is no such Python, or the package is not installed in it.
        """
        self._log = folder / "peer.log"
        # Isolated: neither this project's packages nor the user's are on its path.
        command = [str(python), "-I", str(program)]
        environment = {**os.environ, **peer_environment(folder)}
        with self._log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command, cwd=folder, env=environment, text=True, encoding="utf-8",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                )  # fmt: skip
            except OSError as error:
                raise PeerFailedError(
                    f"{python.name}: {error.strerror}; `make bench` installs the peer"
                ) from None
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except PeerFailedError:
            self.__exit__(None, None, None)
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            PeerFailedError: the process ended; the message is the last line that it printed.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended: there is no answer either
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
        return self._answer()

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def _answer(self) -> dict[str, Any]:
        timer = threading.Timer(LIMIT_SECONDS, self._process.kill)
        timer.start()
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        timer.cancel()
        if not line:
            self._process.wait()
            said = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((each.strip() for each in reversed(said) if each.strip()), "no message")
            raise PeerFailedError(last[:300])
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close its standard input, which ends it, and wait."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Peer(AbstractContextManager["Peer"]):
    """Contestants of the peer.

    Attributes:
        versions: see PeerProcess.
    """

    def __init__(self, python: Path, folder: Path, program: Path = PROGRAM) -> None:
        """As PeerProcess.

        Raises:
            PeerFailedError: as PeerProcess.
        """
        self._arguments = python, folder, program
        self._process = PeerProcess(*self._arguments)
        self.versions = self._process.versions

    def contestant(self, name: str, task: str, **arguments: Any) -> Contestant:
        """A series that takes its turns in the process that stays, which prepares it once.

        Args:
            name: of the series.
            task: of benchmarks/peer_program.py.
            **arguments: its arguments, as JSON.
        """

        def turn() -> Turn:
            if not self._process.is_alive():
                self._process.__exit__(None, None, None)
                self._process = PeerProcess(*self._arguments)
            return _turn(self._process.ask(key=name, task=task, arguments=arguments))

        return Contestant(name, turn)

    def run(self, name: str, task: str, **arguments: Any) -> Contestant:
        """A series in which every turn is a process, timed from its start to its end."""

        def turn() -> Turn:
            start = time.perf_counter()
            with PeerProcess(*self._arguments) as process:
                found = _turn(process.ask(key=name, task=task, arguments=arguments))
            return Turn(time.perf_counter() - start, found.facts, found.also)

        return Contestant(name, turn)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.__exit__(kind, error, traceback)


def _turn(answer: dict[str, Any]) -> Turn:
    return Turn(answer["seconds"], answer.get("facts", {}), answer.get("also", {}))
