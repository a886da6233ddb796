"""What other systems lack is used in one guarded place each.

Functions and signals that Windows lacks are found by `mypy --platform win32` (`make lint`), which
knows them from Python's type stubs; here are modules, and files that Linux alone has.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.house.source_tree import (
    ROOT,
    findings,
    imported_modules,
    module_name,
    parse,
    product_files,
)

# Modules of Python that Windows lacks, and the one place of each that is used, behind a guard.
UNIX_MODULES = {
    *("crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource"),
    *("spwd", "syslog", "termios", "tty"),
}
MAY_IMPORT = {"resource": "utils.device"}
LINUX_FOLDERS = ("/proc/", "/sys/", "/dev/")
MAY_NAME_LINUX_FOLDERS = {
    *("utils.device", "utils.machine", "data.addresses"),  # /dev/video0
    *("benchmarks.peer_loop_program", "benchmarks.process_memory"),  # of other processes
}
# Third parties come first: what they need is theirs.
AS_ON_WINDOWS = """
import importlib, json, os, signal, sys
import cv2, numpy, PIL.Image, torch, torchvision, torch.distributed, yaml

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked, modules = json.loads(sys.argv[1])
for name in blocked:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGCHLD", "alarm", "setitimer"):
    delattr(signal, name)
for name in ("fork", "getuid", "killpg", "sysconf", "sched_getaffinity", "getloadavg", "nice"):
    delattr(os, name)
for name in modules:
    importlib.import_module(name)

from pathlib import Path
import utils.device
def no_file(self, *arguments, **keywords):
    raise FileNotFoundError(2, "No such file or directory", str(self))
Path.read_text = Path.write_text = no_file
sys.platform = "win32"
cpu = torch.device("cpu")
found = {"peak": utils.device.peak_memory_mb(cpu), "free": utils.device.free_memory()}
try:
    utils.device.peak_memory(cpu, lambda: None)
except utils.device.ConfigError as error:
    found["measuring"] = str(error)
sys.stdout.write("\\n" + json.dumps(found))
"""


def test_everything_is_imported_where_there_is_no_unix() -> None:
    modules = [
        module_name(path)
        for path in product_files()
        if path.name != "__main__.py" and path.parent.name != "examples"
    ]
    command = [sys.executable, "-c", AS_ON_WINDOWS, json.dumps([[*UNIX_MODULES], modules])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "peak": None,
        "free": None,
        "measuring": "--batch-size -1: memory can be measured on NVIDIA GPUs and on Linux only; "
        "give a number",
    }


def test_unix_is_used_in_one_place() -> None:
    assert findings(lambda path: unix_only(module_name(path), parse(path)), product_files()) == ""


# The rules above must be able to fail: each is shown code that breaks it.


@pytest.mark.parametrize(
    ("module", "code", "count"),
    [
        ("utils.logs", "import fcntl", 1),
        ("utils.logs", "def f():\n    from resource import getrusage", 1),
        ("utils.device", "def f():\n    import resource", 0),
        ("utils.device", "import resource", 1),  # not guarded
        ("utils.device", "if sys.platform != 'win32':\n    import resource", 1),  # nor this
        ("utils.logs", "A = Path('/proc/cpuinfo')", 1),
        ("utils.logs", "A = '/dev/null'", 1),
        ("utils.logs", "A = '/developer'", 0),
        ("utils.logs", "def f():\n    '''Reads /proc/stat.'''", 0),
        ("utils.device", "A = Path('/proc/cpuinfo')", 0),
    ],
)
def test_unix_in_other_places_is_noticed(module: str, code: str, count: int) -> None:
    assert len(list(unix_only(module, ast.parse(code)))) == count


def unix_only(module: str, tree: ast.Module) -> Iterator[str]:
    """Uses of what only Unix or Linux has, outside the places that may."""
    inside = {
        imported
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for imported in imported_modules(function)
    }
    for line, name in imported_modules(tree):
        root = name.split(".")[0]
        allowed = MAY_IMPORT.get(root) == module and (line, name) in inside
        if root in UNIX_MODULES and not allowed:
            yield f"{module}:{line}: imports {name}"
    if module in MAY_NAME_LINUX_FOLDERS:
        return
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text.startswith(LINUX_FOLDERS):
            yield f"{module}:{node.lineno}: names {text}"
