"""The rules that no linter knows: rooms, directions of imports, sizes, quiet imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_tree import (
    HUB,
    ROOMS,
    ROOT,
    SCRIPTS,
    all_files,
    dotted_name,
    findings,
    imported_modules,
    module_name,
    parse,
    product_files,
    run_at_import,
)

MAX_LINES = (350, 50)  # of a product file, and of a function in it
MAX_TEST_LINES = (400, 60)
BANNED_STEMS = {
    "general",
    "misc",
    "common",
    "helpers",
    "tools",
    "functions",
    "core",
    "base",
    "stuff",
}
MAY_IMPORT = {
    "models": {"models", "utils"},
    "data": {"data", "utils"},
    "utils": {"utils"},
    HUB: {"models", "data", "utils", "detect"},  # an older name for what detect.py gives
    "examples": {"models", "data", "utils", "detect", "train"},  # as other programs do
    "experiments": {"models", "data", "utils", "experiments"},
    "benchmarks": {"models", "data", "utils", "experiments", "benchmarks"},
}
LAZY_LIBRARIES = {
    *("onnx", "onnxruntime", "onnxslim", "pycocotools", "matplotlib", "tensorboard"),
    *("optuna", "openvino", "ncnn", "pnnx"),  # extras
    *("pandas", "supervision", "mlflow", "ray", "trackers"),
}
QUIET_CALLS = {  # may run when a module is imported: they only name things
    "TypeVar",
    "ParamSpec",
    "NewType",
    "Path",
    "Path.resolve",
    "np.linspace",
    "dataclass",
    "dataclasses.dataclass",
    "dataclasses.field",
    "field",
    "option",
    "Choices",
    "DeviceRule",
    "FreeName",
    "PathRule",
    "frozenset",
    "tuple",
    "range",
    "functools.lru_cache",
    "functools.partial",
    "partial",
    "logging.getLogger",
    "re.compile",
    "np.array",
    "np.dtype",
    "torch.no_grad",
    "torch.inference_mode",
    "MappingProxyType",
    "types.MappingProxyType",
    "PostprocessConfig",  # a frozen dataclass of thresholds
    # models/formats: frozen dataclasses, of which each format's row is made
    "Format",
    "Package",
    "Preset",
    "QdqScheme",
    "Quantization",
    "Runtime",
    "SecondRuntime",
    # benchmarks: frozen dataclasses, of which each stage's table is made
    "Agreement",
    "Goal",
    "Row",
    "Stage",
    "StateConfig",
    # models/network: frozen dataclasses, of which the table of layers is made
    "LayerRow",
    "csp_row",
    "_rep_row",
}


MAX_PIXEL = 255
SCALING_CALLS = {"divide", "true_divide", "multiply", "div", "div_", "mul", "mul_"}
MAY_SCALE_PIXELS = {
    "utils.letterbox",
    "utils.draw",  # the luminance of colors
    "utils.text_ink",  # how much of a pixel a letter covers
    "benchmarks.bare_onnx",  # imports nothing of the project
    "experiments.class_palette",  # colors, not images
    "benchmarks.peer_loop_program",  # another program's loop, which runs without this project
    "benchmarks.peer_program",  # imports nothing of this project
}


def test_the_five_scripts_are_here() -> None:
    assert [name for name in SCRIPTS if not (ROOT / f"{name}.py").is_file()] == []


def test_modules_are_named_after_things() -> None:
    assert findings(vague_names, all_files()) == ""


def test_sizes() -> None:
    assert findings(sizes_above_limit, all_files()) == ""


def test_imports_point_downwards() -> None:
    assert findings(lambda path: forbidden_imports(path, parse(path)), product_files()) == ""


def test_heavy_optional_libraries_are_imported_where_they_are_used() -> None:
    assert findings(lambda path: early_imports(parse(path)), product_files()) == ""


def test_importing_only_defines_names() -> None:
    assert findings(lambda path: loud_calls(parse(path)), product_files()) == ""


def test_assert_is_for_tests() -> None:
    assert findings(lambda path: asserts(parse(path)), product_files()) == ""


def test_pixels_are_scaled_in_one_module() -> None:
    files = [path for path in product_files() if module_name(path) not in MAY_SCALE_PIXELS]
    assert findings(lambda path: pixel_scalings(parse(path)), files) == ""


# The rules above must be able to fail: each is shown code that breaks it.


def test_findings_name_their_files() -> None:
    files = [ROOT / "train.py", ROOT / "utils" / "boxes.py"]
    found = findings(lambda path: [f"line {n}" for n in (1, 2) if path.stem == "boxes"], files)
    assert found == "utils/boxes.py: line 1\nutils/boxes.py: line 2"


@pytest.mark.parametrize("name", ["utils/general.py", "data/image_utils.py"])
def test_vague_names_are_noticed(name: str) -> None:
    assert len(list(vague_names(ROOT / name))) == 1


@pytest.mark.parametrize(
    ("lines", "name", "count"),
    [
        (50, "utils/f.py", 0),
        (51, "utils/f.py", 1),
        (60, "tests/test_f.py", 0),
        (61, "tests/test_f.py", 1),
        (351, "utils/f.py", 2),  # the file, too
    ],
)
def test_long_files_and_functions_are_noticed(lines: int, name: str, count: int) -> None:
    code = "def f():\n" + "    g()\n" * (lines - 1)
    assert len(list(above_limit(code, ast.parse(code), is_test=name.startswith("tests")))) == count


def test_early_imports_are_noticed() -> None:
    code = "import onnx.helper\nfrom optuna import trial\ndef f():\n    import onnx"
    assert len(list(early_imports(ast.parse(code)))) == 2


def test_asserts_are_noticed() -> None:
    assert len(list(asserts(ast.parse("def f(x):\n    assert x")))) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("utils/boxes.py", "import models.network.detector"),  # upwards
        (
            "utils/boxes.py",
            "def f():\n    from data import labels",
        ),  # upwards, hidden in a function
        ("models/network/detector.py", "from data.labels import read"),  # across
        ("data/labels.py", "from models import head"),  # across
        ("models/network/detector.py", "import train"),  # a script
        ("val.py", "from train import train"),  # a script by a script
        ("hubconf.py", "from train import train"),  # more than detect.py
        ("detect.py", "import hubconf"),
        ("models/network/detector.py", "from tests import builders"),  # tests in the product
        ("models/network/detector.py", "from . import layers"),  # relative: hides where it points
        ("data/lint/duplicates.py", "from models.network import model_spec"),  # not the command
        ("val.py", "from data.lint.__main__ import lint"),  # a command
    ],
)
def test_wrong_imports_are_noticed(name: str, code: str) -> None:
    assert len(list(forbidden_imports(ROOT / name, ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "cv2.setNumThreads(0)",  # plain call
        "class A:\n    x = open('f')",  # in a class body
        "def f(x=load()):\n    pass",  # in a default
        "@register('x')\ndef f():\n    pass",  # in a decorator
        "if True:\n    seed(0)",  # in a branch
        "X = [g(y) for y in Y]",  # in a comprehension
    ],
)
def test_loud_imports_are_noticed(code: str) -> None:
    assert len(list(loud_calls(ast.parse(code)))) == 1


def test_quiet_imports_pass() -> None:
    code = (
        "HERE = Path(__file__).resolve().parent\nlogger = logging.getLogger(__name__)\n"
        "@dataclass(frozen=True)\nclass A:\n    x: int\nONE = A(1)\n"
        "def f():\n    g()\nif TYPE_CHECKING:\n    h()\nif __name__ == '__main__':\n    f()\n"
    )
    assert list(loud_calls(ast.parse(code))) == []


@pytest.mark.parametrize(
    "code",
    [
        "images / 255",
        "images / 255.0",
        "images / np.float32(255)",
        "images.astype(np.float32) * (1 / 255)",
        "np.divide(images, 255, out=images)",
        "images.div_(255)",
        "images /= 255",
        "np.rint(images * 255)",
    ],
)
def test_scaled_pixels_are_noticed(code: str) -> None:
    assert len(list(pixel_scalings(ast.parse(code)))) == 1


@pytest.mark.parametrize("code", ["SCALE = 1 / 255", "255 - image", "np.full((2, 2), 255)"])
def test_constants_are_no_scaled_pixels(code: str) -> None:
    assert list(pixel_scalings(ast.parse(code))) == []


def vague_names(path: Path) -> Iterator[str]:
    if path.stem in BANNED_STEMS or path.stem.endswith("_utils"):
        yield "names no thing"


def sizes_above_limit(path: Path) -> Iterator[str]:
    is_test = path.relative_to(ROOT).parts[0] == "tests"
    return above_limit(path.read_text(encoding="utf-8"), parse(path), is_test=is_test)


def above_limit(code: str, tree: ast.Module, *, is_test: bool) -> Iterator[str]:
    max_file_lines, max_function_lines = MAX_TEST_LINES if is_test else MAX_LINES
    if (lines := len(code.splitlines())) > max_file_lines:
        yield f"{lines} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (lines := node.end_lineno - node.lineno + 1) > max_function_lines:
                yield f"{node.name}: {lines} lines"


def early_imports(tree: ast.Module) -> Iterator[str]:
    """Imports of heavy libraries that run when the module is imported."""
    for node in run_at_import(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for _, module in imported_modules(node):
                if module.split(".")[0] in LAZY_LIBRARIES:
                    yield f"line {node.lineno}: {ast.unparse(node)}"


def asserts(tree: ast.Module) -> Iterator[str]:
    """`python -O` removes asserts: a check of the user's input must raise."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"


def pixel_scalings(tree: ast.Module) -> Iterator[str]:
    """Every division or multiplication of something that is no constant by 255 or 1 / 255."""
    for node in ast.walk(tree):
        factors: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Mult):
            factors = [] if isinstance(node.left, ast.Constant) else [node.right]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div | ast.Mult):
            factors = [node.value]
        elif isinstance(node, ast.Call) and dotted_name(node).split(".")[-1] in SCALING_CALLS:
            factors = node.args
        if any(_is_max_pixel(factor) for factor in factors):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _is_max_pixel(node: ast.expr) -> bool:
    """255, 255.0, np.float32(255) or 1 / 255."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return isinstance(node.left, ast.Constant) and _is_max_pixel(node.right)
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _is_max_pixel(node.args[0])
    return isinstance(node, ast.Constant) and node.value == MAX_PIXEL


def forbidden_imports(path: Path, tree: ast.Module) -> Iterator[str]:
    room = module_name(path).split(".")[0]
    house = {*ROOMS, *SCRIPTS, HUB, "tests", "examples", "experiments", "benchmarks"}
    is_command = path.name == "__main__.py"  # `python -m data.lint` composes as the scripts do
    allowed = set(ROOMS) if is_command else MAY_IMPORT.get(room, set(ROOMS))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            yield f"{path.name}:{node.lineno}: relative import"
    for line, module in imported_modules(tree):
        root = module.split(".")[0]
        if root in house and root not in allowed:
            yield f"{path.name}:{line}: {room} imports {module}"
        elif root in house and "__main__" in module:
            yield f"{path.name}:{line}: imports the command {module}"


def loud_calls(tree: ast.Module) -> Iterator[str]:
    quiet = {*QUIET_CALLS, *frozen_values(tree)}
    for node in run_at_import(tree):
        if isinstance(node, ast.Call) and dotted_name(node) not in quiet:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def frozen_values(tree: ast.Module) -> set[str]:
    """The module's own frozen dataclasses: constants may be made of them."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any("frozen=True" in ast.unparse(mark) for mark in node.decorator_list)
    }
