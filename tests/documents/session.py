"""A copy of the project in which the commands of one page are typed, one after the other."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents.commands import Command
from tests.documents.rules import PORT

PATIENCE_SECONDS = 600.0  # many times what a command takes on an idle machine
TAIL_LINES = 25
CUT_RUN = Path("runs/train/exp")
RESUMES = re.compile(r"train\.py.*--resume|TrainConfig\(resume")
CALL = """
import cv2, torch
from detect import load_detector
detector = load_detector("best.pt")
print({text})
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command.

    Attributes:
        command: of the page.
        ran: what was run in its place.
        seconds: how long it took.
        problem: empty, or what is wrong: the end of its output, or a file that is not there.
    """

    command: Command
    ran: str
    seconds: float
    problem: str


@dataclass(slots=True)
class Session:
    """A folder with the project and what a reader has; a server of the live page, while it runs."""

    template: Path
    folder: Path
    server: subprocess.Popen[str] | None = None
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, template: Path, folder: Path) -> Session:
        """Copy the template; the cut training run is put where a command needs it."""
        shutil.copytree(template, folder, symlinks=True)
        shutil.rmtree(folder / CUT_RUN)
        make_environment(folder / ".venv")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"PATH": path, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / ".cache")}
        inherited = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
        return cls(template, folder, environment={**inherited, **own})

    def run(self, command: Command, text: str) -> Outcome:
        """Run `text`, which stands for the command."""
        start = time.monotonic()
        self._restore_training(text)
        if PORT in text and text.startswith("python"):
            text, problem = self._serve(text)
        else:
            text = text.replace(PORT, str(self.port))
            problem = self._call(command.kind, text)
        for name in () if problem else command.promised:
            if not any(self.folder.rglob(name)):
                problem = f"{name} was not written"
        return Outcome(command, text, time.monotonic() - start, problem)

    def _restore_training(self, text: str) -> None:
        """Put the cut run there, the newest one: as if it had been cut a moment ago."""
        run = self.folder / CUT_RUN
        if RESUMES.search(text) or (f"{CUT_RUN.as_posix()}/" in text and not run.exists()):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(self.template / CUT_RUN, run, copy_function=shutil.copyfile)

    def _call(self, kind: str, text: str) -> str:
        """The problem of a command, empty where there is none."""
        program = CALL.format(text=text) if kind == "call" else text
        argv = [sys.executable, "-c", program] if kind in ("python", "call") else self._shell(text)
        try:
            done = subprocess.run(
                argv, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                timeout=PATIENCE_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"not done after {PATIENCE_SECONDS:.0f} s"
        return "" if done.returncode == 0 else _problem(done.returncode, done.stdout)

    @staticmethod
    def _shell(text: str) -> list[str]:
        return ["bash", "-o", "pipefail", "-c", text]

    def _serve(self, text: str) -> tuple[str, str]:
        """Start a command that serves until it is interrupted; it answers when this returns."""
        self.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        text = text.replace(PORT, str(self.port))
        self.server = subprocess.Popen(
            self._shell(f"exec {text}"), cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and self.server.poll() is None:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return text, ""
            time.sleep(0.1)
        return text, self.close() or "nobody answers at its port"

    def close(self) -> str:
        """End the server as Ctrl-C does; its problem, empty where there is none."""
        server, self.server = self.server, None
        if server is None:
            return ""
        server.send_signal(signal.SIGINT)
        try:
            output, _ = server.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            return "does not end at Ctrl-C"
        return "" if server.returncode == 0 else _problem(server.returncode, output)


def make_environment(folder: Path) -> None:
    """What looks like a reader's environment and leads to this one; nothing is installed there."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "python3"):
        text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    text = f"PATH={shlex.quote(str(programs))}:$PATH\n"
    (programs / "activate").write_text(text, encoding="utf-8")


def _problem(code: int, output: str) -> str:
    return "\n".join([f"exit code {code}", *output.splitlines()[-TAIL_LINES:]])
