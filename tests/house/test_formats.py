"""A format is one module and one row: nothing else of the product names it, or needs torch."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from models.formats.presets import FORMATS, PRESETS
from models.formats.table import TABLE
from models.runtimes.open_runner import runtime_of
from tests.house.source_tree import ROOMS, ROOT, SCRIPTS
from tests.house.test_imports import modules_without_torch

# Word of a format -> the modules it may occur in, beside the table. ONNX is not listed: it is the
# interchange file between exporters, runtimes and compilers, which most formats are made from.
OWN_MODULES = {
    r"ncnn|pnnx": {"ncnn"},
    r"openvino|nncf": {"openvino", "openvino_worker"},
    r"rknn|rockchip": {"rknn", "rknn_layers", "rknn_process", "rknn_worker", "sigmoid_maps"},
    r"deepstream": {"deepstream"},
    r'name="ultralytics"': {"ultralytics"},  # others read and write what its readers ask for
    r"hailo": {"hailo"},
    r"horizon(?!tal)|hb_mapper": {"horizon"},
    r"(?<!d)(?<!_)ascend(?!ing)|\batc\b": {"ascend"},
    r"axera|pulsar2": {"axera"},
    r"tensorrt|trtexec": {"tensorrt"},
    r"torchscript": {"torchscript"},
    r"qnn|\bhtp\b": {"qnn"},
    r"opencv4|cv2\.dnn|opencv's dnn": {"opencv"},
}
# Refuses files of other kinds where a checkpoint belongs, and so has to name them.
EXEMPT = {"utils/checkpoint.py"}
TABLE_FILE = "models/formats/table.py"

MODULES = sorted(
    f"models.formats.{path.stem}"
    for path in (ROOT / "models" / "formats").glob("*.py")
    if path.stem != "__init__"
)


def product_files() -> list[Path]:
    """Scripts and rooms."""
    inner = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return [*(ROOT / f"{name}.py" for name in SCRIPTS), *inner]


def places_of(pattern: str, files: list[Path]) -> set[str]:
    """The files in which a pattern occurs."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if re.search(pattern, path.read_text(encoding="utf-8"), re.IGNORECASE)
    }


@pytest.mark.parametrize("pattern", OWN_MODULES)
def test_a_format_is_named_in_its_own_module_only(pattern):
    own = {f"models/formats/{stem}.py" for stem in OWN_MODULES[pattern]}
    found = places_of(pattern, product_files())
    assert found - own - EXEMPT - {TABLE_FILE} == set()
    assert found >= own  # the pattern is one that finds


def test_a_format_named_elsewhere_is_noticed():
    tests = [ROOT / "tests" / "house" / "test_formats.py"]
    assert all(places_of(pattern, tests) for pattern in OWN_MODULES)
    assert not places_of("|".join(OWN_MODULES), [ROOT / "utils" / "boxes.py"])


def test_each_module_is_a_row():
    describing = [path for path in MODULES if hasattr(import_module(path), "FORMAT")]
    assert sorted(row.module for row in TABLE) == describing
    stems = {path.rpartition(".")[2] for path in MODULES}
    own = {stem for stems_ in OWN_MODULES.values() for stem in stems_}
    assert own <= stems
    assert len({each.name for each in FORMATS}) == len(FORMATS)  # no two of one name
    assert len(PRESETS) == sum(len(row.presets) for row in FORMATS)


def test_each_path_belongs_to_one_format():
    suffixes = [(suffix, row.module) for row in TABLE for suffix in row.suffixes]
    ambiguous = [
        (one, other)
        for one in suffixes
        for other in suffixes
        if one != other and one[0].endswith(other[0])
    ]
    assert ambiguous == []
    for preset in PRESETS.values():
        opened = [row for row in TABLE if preset.suffix.endswith(row.suffixes)]
        assert [row.format.runtime for row in opened] == [preset.runtime]


def test_a_format_has_suffixes_where_it_has_a_runtime():
    for row in TABLE:
        assert bool(row.suffixes) == (row.format.runtime is not None), row.module
        assert runtime_of(row) is row.format.runtime, row.module


def test_formats_are_imported_where_torch_is_not_installed():
    assert modules_without_torch(MODULES) == {}


def test_required_packages_are_in_their_requirement_file():
    packages = [package for preset in PRESETS.values() for package in preset.packages]
    packages += [row.second_runtime.package for row in FORMATS
                 if row.second_runtime is not None and row.second_runtime.package]  # fmt: skip
    assert {package.module for package in packages} >= {"openvino", "nncf", "ncnn", "pnnx"}
    for package in packages:
        text = (ROOT / package.requirements).read_text(encoding="utf-8")
        assert re.search(rf"^{package.module.replace('_', '-')}>=", text, re.MULTILINE)


def test_the_table_of_the_documentation_is_the_table_of_the_code():
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    shown = [line for line in text.splitlines() if re.match(r"\| `[a-z0-9-]+` \|", line)]
    assert shown[: len(PRESETS)] == [documented(name) for name in PRESETS]


def documented(name: str) -> str:
    """A preset's row in docs/deploy.md."""
    preset = PRESETS[name]
    flags = [
        *(["`--dynamic`"] if preset.dynamic else []),
        *(["`--half`"] if preset.may_be_half else []),
        *([f"`--int8` writes `{preset.int8_preset}`"] if preset.int8_preset else []),
        *(["`--data` required"] if preset.quantization else []),
    ]
    opsets = f"{preset.opset}" if len(preset.opsets) == 1 else (
        f"{preset.opset} ({preset.opsets.start} to {preset.opsets.stop - 1})"
    )  # fmt: skip
    opset = "" if preset.traced else opsets
    needs = ", ".join(package.module for package in preset.packages)
    needs = "`make rknn`" if preset.find_toolkit is not None else needs
    return f"| `{name}` | {preset.description} | {preset.outputs} | {', '.join(flags)} | {opset} | {needs} | {seen(name)} |"  # noqa: E501


def seen(name: str) -> str:
    """Where a preset's file is run, and what was not run."""
    preset = PRESETS[name]
    runtimes = [preset.runtime.name, *second_runtime_names(name)]
    not_run = f"; {preset.not_run} was not run" if preset.not_run else ""
    return f"{', '.join(runtimes)}{not_run}"


def second_runtime_names(name: str) -> list[str]:
    """The runtimes that a preset's ONNX file is compared in, at its defaults."""
    from models.export.parity import takes
    from models.formats.format import NetworkFile
    from models.runtimes.file_metadata import FileMetadata
    from models.runtimes.input_sizes import InputSizes

    preset = PRESETS[name]
    if preset.traced or (preset.convert is not None and not preset.keeps_onnx):
        return []
    sizes = InputSizes((640, 640))
    metadata = FileMetadata(("a",), (8, 16, 32), (), sizes, preset.head, preset.opset)
    file = NetworkFile(Path("x.onnx"), preset, sizes, preset.opset, metadata)
    second = [row.second_runtime for row in FORMATS if row.second_runtime is not None]
    return [runtime.name for runtime in second if takes(runtime, file)]
