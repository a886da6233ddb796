"""Every mistake in a yaml file is one sentence that names the file and the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.error_messages import assert_message
from utils.errors import ConfigError, suggest
from utils.strict_mapping import check_keys, to_dataclass
from utils.strict_yaml import find_shipped, read_yaml, write_yaml


@dataclass(frozen=True, slots=True)
class Settings:
    """An example with a required key, a float, a flag, and one that may be null."""

    steps: int
    rate: float = 0.1
    nesterov: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, must not be negative")


def message(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_round_trip_keeps_values_and_order(tmp_path: Path) -> None:
    content = {"b": 1, "a": [1.5, None, "x"], "names": {0: "person", 1: "bicycle"}}
    write_yaml(tmp_path / "a.yaml", content)
    back = read_yaml(tmp_path / "a.yaml")
    assert back == content
    assert list(back) == list(content)


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "\ufeffnc: 3\n")) == {"nc": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "`key: value` ... NoneType"),  # empty file
        ("- 1\n- 2\n", "`key: value` ... list"),  # no mapping
        ("hello", "`key: value` ... str"),  # a word
    ],
)
def test_file_must_be_a_mapping(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    assert_message(message(read_yaml, path), f"{path}: ", expected)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert message(read_yaml, path) == f"{path}: no such file"


def test_folder_is_no_file(tmp_path: Path) -> None:
    assert message(read_yaml, tmp_path).startswith(f"{tmp_path}: cannot be read as text: ")


def test_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    assert message(read_yaml, path).startswith(f"{path}: cannot be read as text: ")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1, 2\n", "not valid yaml"),  # unclosed
        ("a: 1\nb: 2\na: 3\n", "key 'a' is written twice"),  # plain yaml keeps the last
        ("a: {b: 1, b: 2}\n", "key 'b' is written twice"),  # inner mapping
        ("a: !!python/object/apply:os.system ['true']\n", "not valid yaml"),  # code
        ("a: 2001-99-99\n", "not valid yaml"),  # no such day: the library's ValueError
        ("a: !!bool x\n", "not valid yaml"),  # its KeyError
        ("a: !!int x\n", "not valid yaml"),
        ("a: " + "[" * 3000, "not valid yaml"),  # its RecursionError
        ("a: &a [x]\nb: [" + "*a, " * 33 + "]\n", "aliases"),
    ],
)
def test_bad_yaml_is_one_line_naming_the_file(tmp_path: Path, text: str, part: str) -> None:
    path = written(tmp_path, text)
    said = message(read_yaml, path)
    assert said.startswith(f"{path}: not valid yaml: ")
    assert part in said
    assert "\n" not in said


def test_keys() -> None:
    check_keys("a.yaml", {"nc": 1}, ["nc"], ["names"])
    unknown = message(check_keys, "a.yaml", {"nc": 1, "name": 2}, ["nc"], ["names"])
    assert_message(unknown, "a.yaml: ", "'name' ... did you mean 'names'? ... nc, names")
    assert_message(message(check_keys, "a.yaml", {}, ["nc"]), "a.yaml: ", "'nc' is missing")


def test_to_dataclass_fills_defaults_and_takes_whole_numbers_as_floats() -> None:
    assert to_dataclass("a.yaml", {"steps": 3}, Settings) == Settings(3)
    made = to_dataclass("a.yaml", {"steps": 3, "rate": 1, "name": "x"}, Settings)
    assert made == Settings(3, 1.0, name="x")
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # wrong type
        ({"steps": "3"}, "steps is '3' ... str ... expected int"),
        # a float is no count
        ({"steps": 3.0}, "steps is 3.0 ... expected int"),
        # a flag is no count
        ({"steps": True}, "steps is True ... expected int"),
        # a flag is no rate
        ({"steps": 1, "rate": True}, "rate is True ... expected float"),
        # yaml 1.1 reads 1e-3 as text
        ({"steps": 1, "rate": "1e-"}, "rate is '1e-' ... expected float"),
        # one of two types
        ({"steps": 1, "name": 4}, "name is 4 ... expected str or NoneType"),
        # missing
        ({}, "'steps' is missing"),
        # the dataclass's own rule
        ({"steps": -1}, "steps is -1 ... negative"),
    ],
)
def test_to_dataclass_errors(content, expected) -> None:
    assert_message(message(to_dataclass, "a.yaml", content, Settings), "a.yaml: ", expected)


def test_find_shipped_prefers_the_users_file(tmp_path: Path, monkeypatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "coco.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert find_shipped("coco.yaml", shipped) == shipped / "coco.yaml"
    assert find_shipped("data/coco.yaml", shipped) == shipped / "coco.yaml"
    (tmp_path / "coco.yaml").write_text("a: 2\n")
    assert find_shipped("coco.yaml", shipped) == Path("coco.yaml")
    missing = message(find_shipped, "cocoa.yaml", shipped)
    assert_message(missing, "cocoa.yaml: no such file", "did you mean 'coco.yaml'?")


def test_suggest_without_anything_close() -> None:
    assert suggest("zzz", ["Conv", "C3"]) == " (known: Conv, C3)"
