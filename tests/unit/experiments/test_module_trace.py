"""Files whose functions ran are counted; files that were only imported are not."""

from __future__ import annotations

import json

import pytest

from experiments.called_modules import project_file
from experiments.checkout import Checkout, RunFailedError
from experiments.module_trace import TRACER, Tracer, exceeded

FILES = {
    "export.py": """
import threading
from dataclasses import dataclass
import models.body, models.generated, utils.called, utils.threaded, experiments_like, data.lambdas
def main():
    models.generated.Point(1)
    utils.called.one()
    experiments_like.one()
    thread = threading.Thread(target=utils.threaded.one)
    thread.start()
    thread.join()
    data.lambdas.one()
if __name__ == "__main__":
    main()
    raise SystemExit(EXIT)
""",
    "models/body.py": "class A:\n    x = [n for n in range(3)]\ny = {n for n in range(3)}\n",
    "models/generated.py": (
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
        "    @property\n    def y(self):\n        return 1\n"
    ),
    "utils/called.py": "def one():\n    return 1\n",
    "utils/threaded.py": "def one():\n    return 1\n",
    "data/lambdas.py": "one = lambda: 1\n",
    "experiments_like.py": "def one():\n    return 1\n",
}


@pytest.fixture
def tracer(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("EXIT", "0"))
    return Tracer(Checkout(tmp_path / "root"), tmp_path)


def test_called_files(tracer):
    assert tracer.called("export.py") == [
        "data/lambdas.py", "export.py", "utils/called.py", "utils/threaded.py",
    ]  # fmt: skip


def test_a_script_that_fails_still_leaves_its_list(tracer, tmp_path):
    script = tracer.checkout.root / "export.py"
    script.write_text(FILES["export.py"].replace("EXIT", "3"))
    with pytest.raises(RunFailedError, match="exit code 3"):
        tracer.called("export.py")
    assert len(json.loads((tmp_path / "export.py.modules.json").read_text())) == 4


@pytest.mark.parametrize(
    ("inner", "counted"),
    [
        ("train.py", True),
        ("models/a/b.py", True),
        ("other.py", False),
        ("tests/models/a.py", False),
        ("models/a.yaml", False),
    ],
)
def test_project_file(tmp_path, inner, counted):
    assert project_file(str(tmp_path / inner), tmp_path) == (inner if counted else None)
    assert project_file("/elsewhere/models/a.py", tmp_path) is None


def test_limits():
    modules = {"detect": ["a"] * 2, "export": ["a"] * 3, "train": ["a"] * 4}
    assert exceeded(modules, (2, 3, 4)) == []
    (message,) = exceeded(modules, (2, 2, 4))
    assert "export.py calls 3" in message
    assert TRACER.is_file()
