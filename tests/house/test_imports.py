"""Importing changes nothing outside the module, and detection imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from tests.house.source_tree import ROOMS, ROOT, SCRIPTS, module_name, product_files

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

WITHOUT_TORCH_CHECK = """
import importlib, json, sys
sys.modules["torch"] = sys.modules["torchvision"] = None
own, failed = tuple(json.loads(sys.argv[1])), {}
for name in sys.argv[2:]:
    for earlier in [each for each in sys.modules if each.split(".")[0] in own]:
        del sys.modules[earlier]
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
sys.stdout.write(json.dumps(failed))
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


def test_modules_work_where_torch_is_not_installed() -> None:
    assert modules_without_torch(WITHOUT_TORCH) == {}


def test_a_module_that_needs_torch_is_noticed() -> None:
    # The second one is imported after the first has failed.
    failed = modules_without_torch(["models.network.detector", "train", "utils.boxes"])
    assert set(failed) == {"models.network.detector", "train"}
    assert "torch" in failed["train"]


def modules_without_torch(modules: Sequence[str]) -> dict[str, str]:
    """Those of some modules that cannot be imported where torch is not installed, with the error.

    In one process, where each is the first of the project's modules to be imported. None in
    sys.modules makes `import torch` fail as if it were missing.
    """
    own = json.dumps([*ROOMS, *SCRIPTS])
    return json.loads(run_python(WITHOUT_TORCH_CHECK, own, *modules))
