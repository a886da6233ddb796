"""The project's own Python files, parsed, for the rules about them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "data", "utils")
SCRIPTS = ("train", "val", "detect", "convert", "export")
HUB = "hubconf"  # beside the scripts, where torch.hub looks for it


@functools.cache
def product_files() -> tuple[Path, ...]:
    """Everything that is not a test."""
    folders = (*ROOMS, "examples", "experiments", "benchmarks")
    inner = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return tuple(sorted([*ROOT.glob("*.py"), *inner]))


@functools.cache
def all_files() -> tuple[Path, ...]:
    """Everything, tests included."""
    return (*product_files(), *sorted((ROOT / "tests").rglob("*.py")))


def file_name(path: Path) -> str:
    """`models/network/detector.py`, on every system."""
    return path.relative_to(ROOT).as_posix()


def findings(rule: Callable[[Path], Iterable[str]], paths: Sequence[Path]) -> str:
    """`file: finding` of all that a rule finds in the files, one per line: a test asserts none.

    One test per rule, not per file and rule: those would be thousands.

    Raises:
        AssertionError: there are no files, so the rule could find nothing.
    """
    assert paths
    return "\n".join(f"{file_name(path)}: {found}" for path in paths for found in rule(path))


def module_name(path: Path) -> str:
    """`models/reparam/algebra.py` -> `models.reparam.algebra`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parse(path: Path) -> ast.Module:
    """The file as a tree, which nobody changes: all rules share it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions too; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported.

    Not the bodies of functions, nor of `if __name__ == "__main__"` and `if TYPE_CHECKING`.
    """
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults]
            waiting += [default for default in node.args.kw_defaults if default is not None]
        elif isinstance(node, ast.Lambda):
            waiting += node.args.defaults
        elif isinstance(node, ast.If) and _never_on_import(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def dotted_name(node: ast.AST) -> str:
    """`Path(x).resolve` -> `Path.resolve`; what is called, without the arguments on the way."""
    if isinstance(node, ast.Attribute):
        return f"{dotted_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return dotted_name(node.func)
    if isinstance(node, ast.Subscript):
        return dotted_name(node.value)
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def _never_on_import(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "__name__ == '__main__'")
