"""Rooms inside models/: which may import which, and no paths from one room into another."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_tree import (
    ROOT,
    SCRIPTS,
    findings,
    imported_modules,
    module_name,
    parse,
    product_files,
)

# Room of models/ -> the other rooms of it that it may import, and does.
MAY_IMPORT = {
    "network": {"reparam"},
    "reparam": set(),  # blocks know nothing of the detector, its head or its yaml
    "conversion": {"network", "reparam"},
    "checkpoints": {"network", "reparam", "conversion"},
    "losses": {"network", "conversion", "checkpoints"},  # a teacher is a checkpoint in deploy form
    "runtimes": {"network", "conversion", "checkpoints", "formats"},
    "formats": {"runtimes", "quantization"},
    "export": {"network", "conversion", "runtimes", "formats", "quantization"},
    "quantization": {"network", "reparam", "conversion", "losses", "runtimes", "formats", "export"},
}


DIAGRAM = ROOT / "docs" / "images" / "architecture.svg"


def models_files() -> list[Path]:
    """Product files inside the rooms of models/."""
    return [path for path in product_files() if path.parent.parent == ROOT / "models"]


def test_rooms_of_models_import_in_one_direction() -> None:
    assert findings(lambda path: forbidden_rooms(path, parse(path)), models_files()) == ""


def test_every_room_has_a_rule_and_needs_what_it_may_import() -> None:
    used: dict[str, set[str]] = {}
    for path in models_files():
        room = used.setdefault(path.parent.name, set())
        modules = (module.split(".") for _, module in imported_modules(parse(path)))
        room |= {parts[1] for parts in modules if parts[0] == "models" and len(parts) > 1}
    assert {room: found - {room} for room, found in used.items()} == MAY_IMPORT


def test_the_page_for_contributors_has_the_same_table() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `models/(\w+)` \|[^|]+\|([^|]*)\|$", page, re.M)
    assert {room: set(re.findall(r"`(\w+)`", cell)) for room, cell in rows} == MAY_IMPORT


def test_no_path_leads_into_another_room() -> None:
    assert findings(lambda path: paths_upwards(path, parse(path)), product_files()) == ""


def test_the_diagram_has_every_room() -> None:
    folders = {path.parent.name for path in (ROOT / "models").glob("*/__init__.py")}
    assert set(rooms_in_diagram()) == {
        "scripts", "data", "utils", *(f"models/{name}" for name in folders),
    }  # fmt: skip


def test_imports_point_downwards_in_the_diagram() -> None:
    assert findings(lambda path: imports_upwards(path, parse(path)), product_files()) == ""


# The rules above must be able to fail: each is shown code that breaks it.


@pytest.mark.parametrize(
    ("name", "code", "count"),
    [
        ("models/network/detector.py", "from models.losses.loss import DetectionLoss", 1),
        ("models/network/detector.py", "from models.conversion import deploy", 1),
        ("models/network/detector.py", "import models.export.parity", 1),
        ("models/network/detector.py", "from models.network.layers import C3", 0),  # its own room
        ("models/losses/loss.py", "def f():\n    from models.export import parity", 1),
        ("models/reparam/orepa.py", "from models.network.layers import DetectHead", 1),
        ("models/reparam/orepa.py", "from models.reparam.rep_block import ConvGeometry", 0),
        ("models/reparam/orepa.py", "from models.network import detector", 1),
    ],
)
def test_wrong_rooms_are_noticed(name: str, code: str, count: int) -> None:
    assert len(list(forbidden_rooms(ROOT / name, ast.parse(code)))) == count


@pytest.mark.parametrize(
    ("name", "code", "count"),
    [
        ("models/reparam/orepa.py", "from models.network import detector", 1),
        ("models/formats/rknn.py", "from models.runtimes import runner", 0),  # the same row
        ("utils/boxes.py", "from data.labels import read_label_file", 1),
        ("data/labels.py", "from models.network import anchors", 1),  # side by side, no arrow
        ("data/labels.py", "from utils.boxes import box_area", 0),
        ("utils/boxes.py", "import train", 1),
    ],
)
def test_imports_upwards_are_noticed(name: str, code: str, count: int) -> None:
    assert len(list(imports_upwards(ROOT / name, ast.parse(code)))) == count


@pytest.mark.parametrize(
    ("name", "code", "count"),
    [
        ("data/lint.py", "A = Path(__file__).parents[1] / 'models'", 1),
        ("data/lint.py", "A = Path(__file__).resolve().parent.parent / 'models'", 1),
        ("data/lint.py", "A = Path(__file__).parent / '..' / 'models'", 1),
        ("data/lint.py", "A = Path(__file__).parent / 'datasets'", 0),  # its own room
        ("models/formats/rknn.py", "A = Path(__file__).parents[2] / '.venv-rknn'", 0),  # no room
        ("experiments/runs.py", "A = Path(__file__).parents[1]", 0),  # above the rooms
    ],
)
def test_paths_into_other_rooms_are_noticed(name: str, code: str, count: int) -> None:
    assert len(list(paths_upwards(ROOT / name, ast.parse(code)))) == count


def forbidden_rooms(path: Path, tree: ast.Module) -> Iterator[str]:
    """Imports of rooms of models/ that the file's own room may not import."""
    room = module_name(path).split(".")[1]
    for line, module in imported_modules(tree):
        parts = module.split(".")
        if parts[0] != "models" or len(parts) < 2 or parts[1] == room:
            continue
        if parts[1] not in MAY_IMPORT[room]:
            yield f"{path.name}:{line}: models.{room} imports {module}"


def paths_upwards(path: Path, tree: ast.Module) -> Iterator[str]:
    """Paths built from `__file__` that leave the folder of the file and enter a room."""
    if path.relative_to(ROOT).parts[0] not in ("models", "data", "utils"):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return | ast.Call):
            continue
        code = ast.unparse(node)
        leaves = any(step in code for step in (".parents[", ".parent.parent", "'..'"))
        rooms = any(f"'{room}" in code for room in ("models", "data", "utils"))
        if "__file__" in code and leaves and rooms:
            yield f"{path.name}:{node.lineno}: {code}"
            return


@functools.cache
def rooms_in_diagram() -> dict[str, tuple[int, int]]:
    """Room -> upper and lower edge of its box."""
    boxes = re.findall(
        r'data-room="([^"]+)" x="\d+" y="(\d+)" width="\d+" height="(\d+)"',
        DIAGRAM.read_text(encoding="utf-8"),
    )
    return {room: (int(y), int(y) + int(height)) for room, y, height in boxes}


def room_of(module: str) -> str | None:
    """The room of a module, as in the diagram; None for what is not in it."""
    parts = module.split(".")
    if parts[0] in SCRIPTS:
        return "scripts"
    if parts[0] == "models" and len(parts) > 1:
        return f"models/{parts[1]}"
    return parts[0]


def imports_upwards(path: Path, tree: ast.Module) -> Iterator[str]:
    """Imports of a room that is drawn neither below the file's own nor in the same row."""
    rooms, module = rooms_in_diagram(), module_name(path)
    own = room_of(module)
    if own not in rooms or path.stem == "__main__":  # a command, which may import as scripts do
        return
    top, bottom = rooms[own]
    for line, imported in imported_modules(tree):
        other = room_of(imported)
        if other == own or other not in rooms:
            continue
        is_row = rooms[other] == (top, bottom)
        if not is_row and rooms[other][0] < bottom:
            yield f"{path.name}:{line}: {own} imports {imported}"
