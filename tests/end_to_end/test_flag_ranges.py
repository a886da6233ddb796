"""Every number a script takes is checked where the command line is read, and in Python."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import convert
import detect
import export
import train
import val
from data.lint import __main__ as lint
from models.export.request import ExportConfig
from utils.errors import ConfigError
from utils.limits import Limits
from utils.logs import flag_of
from utils.train_config import TrainConfig

SCRIPTS: dict[Any, Any] = {
    TrainConfig: (train.main, train.train),
    val.ValConfig: (val.main, val.validate),
    detect.DetectConfig: (detect.main, detect.detect),
    convert.ConvertConfig: (convert.main, convert.convert),
    ExportConfig: (export.main, export.export),
    lint.LintConfig: (lint.main, lint.lint),
}


def numeric_fields() -> Iterator[tuple[Any, str, Limits, bool]]:
    """Config class, name of a field that takes numbers, its limits, whether floats are taken."""
    for config_class in SCRIPTS:
        hints = typing.get_type_hints(config_class)
        for field in dataclasses.fields(config_class):
            kinds = [hints[field.name], *typing.get_args(hints[field.name])]
            kinds += [inner for kind in kinds for inner in typing.get_args(kind)]
            if int in kinds or float in kinds:
                yield config_class, field.name, field.metadata["limits"], float in kinds


FIELDS = list(numeric_fields())


def outside(limits: Limits, *, is_float: bool) -> Iterator[float]:
    """Numbers next to the limits that are not allowed."""
    step = 0.5 if is_float else 1
    if limits.minimum is not None and math.isfinite(limits.minimum):
        yield limits.minimum - step
    if limits.maximum is not None and math.isfinite(limits.maximum):
        yield limits.maximum + step
    if is_float:
        yield math.nan


CASES = [
    (config_class, name, value)
    for config_class, name, limits, is_float in FIELDS
    for value in outside(limits, is_float=is_float)
]
BY_NAME = [f"{each.__name__}.{name}" for each, name, *_ in FIELDS]


def test_all_scripts_have_numbers():
    assert {config_class for config_class, *_ in FIELDS} == set(SCRIPTS)
    assert len(FIELDS) > 40


@pytest.mark.parametrize("limits", [limits for _, _, limits, _ in FIELDS], ids=BY_NAME)
def test_every_number_has_a_minimum(limits):
    assert limits.minimum is not None


@pytest.mark.parametrize(
    ("config_class", "name", "value"),
    CASES,
    ids=[f"{each.__name__}.{name}={value}" for each, name, value in CASES],
)
def test_a_number_out_of_range_costs_one_line(
    tmp_path, monkeypatch, capsys, config_class, name, value
):
    monkeypatch.chdir(tmp_path)
    main, call = SCRIPTS[config_class]
    with pytest.raises(SystemExit) as ended:
        main([f"{flag_of(name)}={value}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"error: {flag_of(name)} {value}: must be ")
    given = (value,) if isinstance(getattr(config_class(), name), tuple) else value
    with pytest.raises(ConfigError, match=rf"^{flag_of(name)} {value}: must be "):
        call(config_class(**{name: given}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", [detect, export])
def test_three_sides_are_refused(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        script.main(["--imgsz", "1", "2", "3"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --imgsz 1 2 3: expected 2 numbers at most")
