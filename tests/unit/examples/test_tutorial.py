"""The tutorial runs from its first cell to its last, and says what to do outside of a checkout."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.source_tree import ROOT

TUTORIAL = ROOT / "examples" / "tutorial.ipynb"
# What papermill would be given: a cell with these follows the cell tagged `parameters`.
SMALL = {"images": 8, "imgsz": 96, "epochs": 1}


def cells() -> list[dict]:
    return json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"]


def test_nothing_of_a_run_is_kept():
    for cell in cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_outside_of_a_checkout_it_asks_for_the_repository(tmp_path):
    first = next("".join(each["source"]) for each in cells() if each["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", first], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "this is no checkout: name the repository in the first line"
    assert list(tmp_path.iterdir()) == []


def test_every_cell_runs(tmp_path, monkeypatch):
    """In this process; the next test is the one that takes a kernel's time."""
    monkeypatch.chdir(TUTORIAL.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shown: list[object] = []
    names: dict[str, object] = {"display": shown.append}
    for number, cell in enumerate(each for each in cells() if each["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102
        if "parameters" in cell["metadata"].get("tags", []):
            names.update(SMALL, folder=str(tmp_path / "tutorial"))
    assert len(shown) >= 7
    assert (tmp_path / "tutorial" / "train" / "weights" / "best-deploy.onnx").is_file()


@pytest.mark.slow
def test_every_cell_runs_in_a_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    (at,) = [n for n, cell in enumerate(notebook.cells)
             if "parameters" in cell.metadata.get("tags", [])]  # fmt: skip
    given = {**SMALL, "folder": str(tmp_path / "tutorial")}
    lines = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(lines))
    resources = {"metadata": {"path": str(TUTORIAL.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    images = [each for each in shown if "image/png" in each.get("data", {})]
    assert len(images) >= 7
    warnings = [each["text"] for each in shown if each.get("name") == "stderr"]
    assert all("at other sizes it finds less" in text for text in warnings)  # SMALL is small
    assert (tmp_path / "tutorial" / "train" / "weights" / "best-deploy.onnx").is_file()
