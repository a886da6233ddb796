"""Importing changes nothing outside the module, and detection imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.source_tree import ROOT, module_name, product_files

WITHOUT_TORCH = (
    "utils.structures",
    "utils.boxes",
    "utils.letterbox",
    "utils.postprocess",
    "utils.draw",
    "utils.fonts",
    "models.runtimes.runner",
    "models.runtimes.open_runner",
    "models.formats.table",
    "models.runtimes.runner_predictor",
    "data.array_loader",
    "utils.engine.evaluate",
    "utils.evaluation_images",
    "utils.evaluation_report",
    "utils.machine",
    "detect",
    "val",
)
# Third parties come first: what they set up at import is theirs.
STATE_CHECK = """
import importlib, json, locale, logging, os, random, signal, sys
import cv2, numpy, PIL.Image, torch, torchvision, yaml
def state():
    printing = vars(torch._tensor_str.PRINT_OPTS)
    return {
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "sys.path": list(sys.path),
        "cv2 threads": cv2.getNumThreads(),
        "torch threads": torch.get_num_threads(),
        "torch dtype": str(torch.get_default_dtype()),
        "torch printing": {key: repr(value) for key, value in printing.items()},
        "torch gradients": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch random": torch.random.get_rng_state().tolist(),
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "numpy errors": numpy.geterr(),
        "numpy printing": repr(numpy.get_printoptions()),
        "random": repr(random.getstate()),
        "log handlers": len(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "recursion": sys.getrecursionlimit(),
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "locale": locale.setlocale(locale.LC_ALL),
    }
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
sys.stdout.write("\\n" + json.dumps(changed))
"""


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_every_module_changes_nothing_else() -> None:
    modules = [
        module_name(path)
        for path in product_files()
        if path.name != "__main__.py" and path.parent.name != "examples"
    ]
    printed, _, changed = run_python(STATE_CHECK, *modules).rpartition("\n")
    assert json.loads(changed) == {}
    assert printed == ""


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_module_works_where_torch_is_not_installed(module: str) -> None:
    # None in sys.modules makes `import torch` fail as if it were missing.
    code = (
        "import importlib, sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
        "importlib.import_module(sys.argv[1])"
    )
    run_python(code, module)
