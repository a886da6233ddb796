"""No file that one flag names is written over by another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from utils.cli import check_options, option
from utils.errors import ConfigError
from utils.flag_rules import PathRule


@dataclass(frozen=True, slots=True)
class Config:
    """What a script reads and writes."""

    weights: tuple[str, ...] = option((), "read", rule=PathRule("weights"))
    data: str = option("", "read")
    name: str = option("", "no path")
    output: str = option("", "written", rule=PathRule("file", suffixes=(".pt", ".pth")))
    report: str = option("", "written", rule=PathRule("file"))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt", "my.yaml"):
        Path(name).write_text(name)
    Path("link.pt").symlink_to("b.pt")
    os.link("b.pt", "hard.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(weights=("a.pt", "b.pt"), output="b.pt"), "--output b.pt: is the file of"),
        (Config(weights=("b.pt",), output="./link.pt"), "--output link.pt: is the file of"),
        (Config(weights=("b.pt",), report="hard.pt"), "--report hard.pt: is the file of --weights"),
        (Config(data="my.yaml", report="my.yaml"), "--report my.yaml: is the file of --data"),
        (Config(output="new.pt", report="new.pt"), "--output new.pt: is the file of --report"),
        (Config(output="new.onnx"), "--output new.onnx: must end in .pt or .pth"),
        (Config(weights=("",)), "--weights: is empty; name a file"),
        (Config(output="new"), "--output new: must end in .pt or .pth"),
    ],
    ids=str,
)  # fmt: skip
def test_refused(config: Config, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(config, Config)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(weights=("a.pt",), output="b.pt", report="new.json"),
        Config(weights=("missing.pt",), data="http://host/a.yaml", output="NEW.PT"),
        Config(name="results", report="results"),  # a name is no path
    ],
    ids=str,
)
def test_allowed(config: Config) -> None:
    check_options(config, Config)
