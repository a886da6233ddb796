"""A dataclass is a command line: same defaults, every spelling, clear refusals, exit codes."""

from __future__ import annotations

import importlib.machinery
import json
import logging
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from utils import logs
from utils.cli import log_idle_flags, option, parse, run_script
from utils.errors import CheckFailedError, ConfigError
from utils.flag_rules import Choices
from utils.flag_values import Flags, check_values
from utils.logs import report_errors
from utils.stop_signals import Stopped

REFUSED = {"--bucket": "copy the files yourself", "--quad": "use --batch-size"}


@dataclass(frozen=True, slots=True)
class Config(Flags):
    """What an example script takes.

    Only the first line is shown by --help, and what follows.

    Examples:
        python script.py --imgsz 320
    """

    weights: str = option("yolov5s.pt", "weights to start from")
    imgsz: int = option(640, "input size", "--img", "--img-size")
    batch_size: int = option(16, "images at a time (100% used)", "--batch")
    sizes: tuple[int, ...] = option((640,), "one or two")
    classes: tuple[int, ...] | None = option(None, "keep only these")
    half: bool = option(False, "half precision")
    rect: bool | None = option(None, "rectangular; the script decides when not given")
    resume: str | None = option(None, "checkpoint; bare means the newest", const="newest")
    amp: str = option(
        "auto", "precision", rule=Choices(("auto", "off"), instead={"O1": "use auto"})
    )
    block: str | None = option(None, "family", rule=Choices(("RepVGG", "ACB"), may_call=True))
    kinds: tuple[str, ...] = option(("a",), "some", "--include", rule=Choices(("a", "b", "c")))
    epochs: int = option(3, "at least one, or -1", minimum=1, besides=(-1,))
    score: float | None = option(None, "a share", minimum=0, maximum=1)
    sides: tuple[int, ...] = option((64,), "one or two", minimum=1, max_values=2)
    limit: float = option(2.0, "at most", maximum=9.5)
    power: int = option(2, "with --half: by how much")
    seed: int = option(0, "with --block: of it")
    width: int = option(1, "without --half: how wide")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_no_flags_means_the_defaults() -> None:
    assert parse(Config, [], REFUSED) == Config()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--imgsz", "320"], {"imgsz": 320}),  # the name
        (["--img", "320"], {"imgsz": 320}),  # short alias
        (["--img-size", "320"], {"imgsz": 320}),  # long alias
        (["--img_size=320"], {"imgsz": 320}),  # underscores and equals sign
        (["--batch_size", "8"], {"batch_size": 8}),  # underscores
        (["--weights", "my_run/best_1.pt"], {"weights": "my_run/best_1.pt"}),  # values keep theirs
        (["--weights=a_b=c.pt"], {"weights": "a_b=c.pt"}),  # and behind the equals sign
        (["--weights", ""], {"weights": ""}),  # from scratch
        (["--sizes", "320", "640"], {"sizes": (320, 640)}),  # several
        (["--classes", "0", "2"], {"classes": (0, 2)}),  # several where none is the default
        (["--half"], {"half": True}),  # switch
        (["--rect"], {"rect": True}),  # three states: on
        (["--no-rect"], {"rect": False}),  # off
        (["--no_rect"], {"rect": False}),  # off, with an underscore
        (["--resume"], {"resume": "newest"}),  # bare
        (["--resume", "last.pt"], {"resume": "last.pt"}),  # with its value
        (["--amp", "off"], {"amp": "off"}),  # one of the choices
        (["--block", "ACB(a=1)"], {"block": "ACB(a=1)"}),  # with arguments
        (["--block", "nn.ACB()"], {"block": "nn.ACB()"}),  # as PyTorch spells names
        (["--kinds", "b", "--include", "c", "a"], {"kinds": ("b", "c", "a")}),  # repeated
        (["--epoch", "2"], {"epochs": 2}),  # cut off, as YOLOv5's parser takes it
        (["--batch_s=2"], {"batch_size": 2}),  # cut off, with an underscore
        (["--half", "--no-half"], {"half": False}),  # taken back, as --resume may need it
    ],
    ids=" ".join,
)
def test_spellings(argv: list[str], expected: dict[str, object]) -> None:
    assert parse(Config, argv, REFUSED) == Config(**expected)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--bucket", "x"], "--bucket: copy the files yourself"),  # refused with a value
        (["--quad"], "--quad: use --batch-size"),  # refused bare
        (["--bucket=x"], "--bucket: copy the files yourself"),  # refused with an equals sign
        (["--epocs", "3"], "error: --epocs: no such flag; did you mean --epochs?"),  # a slip
        (["--zz", "3"], "error: --zz: no such flag (--help"),  # like none
        (["--si", "3"], "ambiguous option: --si could match --sizes, --sides"),  # cut off too far
        (["--imgsz", "640", "320"], "error: 320: no flag takes this; one value too many"),
        (["--weights", "my", "best.pt"], "error: best.pt: no flag takes this"),
        (["--imgsz", "big"], "--imgsz big: must be an integer (--help"),  # wrong type
        (["--amp", "fp8"], "--amp fp8: no such choice (choices: auto, off)"),
        (["--amp", "AUTO"], "--amp AUTO: no such choice; did you mean 'auto'?"),
        (["--amp", "O1"], "--amp O1: use auto"),  # what other programs call it
        (["--block", "repvgg(1)"], "--block repvgg(1): no such choice; did you mean 'RepVGG'?"),
        (["--include", "a", "d"], "--kinds d: no such choice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_exit_with_2(argv: list[str], part: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Config, argv, REFUSED)
    assert caught.value.code == 2
    assert part in capsys.readouterr().err


OUT_OF_RANGE = [
    ({"epochs": 0}, "--epochs 0: must be at least 1, or -1"),
    ({"epochs": -2}, "--epochs -2: must be at least 1, or -1"),
    ({"score": -0.1}, "--score -0.1: must be from 0 to 1"),
    ({"score": 1.1}, "--score 1.1: must be from 0 to 1"),
    ({"score": math.nan}, "--score nan: must be from 0 to 1"),
    ({"sides": (64, 0)}, "--sides 64 0: must be at least 1"),
    ({"sides": (1, 2, 3)}, "--sides 1 2 3: expected 2 numbers at most"),
    ({"limit": 10}, "--limit 10: must be at most 9.5"),
    ({"limit": math.nan}, "--limit nan: must be at most 9.5"),
]
IN_RANGE = [
    *({"epochs": number} for number in (-1, 1, 2, np.int64(2))),
    *({"score": number} for number in (None, 0, 1, 0.5)),
    *({"sides": numbers} for numbers in ((1,), (1, 2))),
    *({"limit": number} for number in (-math.inf, 9.5)),
]


@pytest.mark.parametrize(("given", "message"), OUT_OF_RANGE, ids=str)
def test_numbers_out_of_range(given, message, capsys):
    """From the command line and from Python."""
    with pytest.raises(ConfigError) as caught:
        check_values(Config(**given))
    assert str(caught.value) == message
    ((name, value),) = given.items()
    argv = [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    with pytest.raises(SystemExit) as ended:
        parse(Config, argv, REFUSED)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


OF_ANOTHER_TYPE = [
    ({"epochs": 3.0}, "--epochs 3.0: must be an integer, at least 1, or -1"),
    ({"epochs": True}, "--epochs True: must be an integer, at least 1, or -1"),
    ({"sides": (64, 32.5)}, "--sides 64 32.5: must be an integer, at least 1"),
    ({"batch_size": "16"}, "--batch-size 16: must be an integer"),
    ({"score": True}, "--score True: must be a number, from 0 to 1"),
    ({"score": "high"}, "--score high: must be a number, from 0 to 1"),
    ({"half": "no"}, "--half no: must be True or False"),
    ({"rect": 1}, "--rect 1: must be True or False"),
    ({"imgsz": (64, 96)}, "--imgsz 64 96: expected one value"),
    ({"imgsz": None}, "--imgsz None: leave it out for its default"),
    ({"weights": None}, "--weights None: leave it out for its default"),
    ({"weights": {"a": 1}}, "--weights {'a': 1}: must be text, is of type dict"),
    ({"kinds": []}, "--kinds: is empty; name one or more"),
    ({"resume": True}, "--resume True: must be text, is of type bool"),
    ({"amp": False}, "--amp False: must be text, is of type bool"),
    ({"kinds": ("a", 1.5)}, "--kinds a 1.5: must be text, is of type float"),
]


def test_values_of_another_type_from_python():
    for given, message in OF_ANOTHER_TYPE:
        with pytest.raises(ConfigError) as caught:
            check_values(Config(**given))
        assert str(caught.value) == message


PLAIN = [
    ({"weights": Path("a") / "b.pt"}, {"weights": str(Path("a/b.pt"))}),
    ({"resume": Path("last.pt")}, {"resume": "last.pt"}),
    ({"weights": 0}, {"weights": "0"}),
    ({"epochs": np.int64(5), "score": np.float32(0.5)}, {"epochs": 5, "score": 0.5}),
    ({"sides": [np.int32(8), 9]}, {"sides": (8, 9)}),
    ({"sides": 8, "classes": 1, "kinds": "b"}, {"sides": (8,), "classes": (1,), "kinds": ("b",)}),
    ({"classes": []}, {"classes": ()}),
]


def test_values_from_python_become_those_of_the_command_line():
    for given, expected in PLAIN:
        config = Config(**given)
        check_values(config)
        found = {name: getattr(config, name) for name in expected}
        assert json.dumps(found) == json.dumps(expected)  # numpy's numbers cannot be dumped
        assert config == Config(**expected)


@pytest.mark.parametrize("given", IN_RANGE, ids=str)
def test_numbers_in_range(given):
    check_values(Config(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        ({"power": 3, "half": True}, []),
        ({"power": 2}, []),  # as by default
        ({"power": 3}, ["--power: changes nothing without --half"]),
        ({"seed": 1, "block": "ACB"}, []),
        ({"seed": 1}, ["--seed: changes nothing without --block"]),
        ({"seed": 1, "block": ""}, ["--seed: changes nothing without --block"]),
        ({"width": 2}, []),
        ({"width": 2, "half": True}, ["--width: changes nothing with --half"]),
    ],
)
def test_flags_that_change_nothing_are_named(given, said, caplog) -> None:
    log_idle_flags(Config(**given))
    assert caplog.messages == said


def test_help_shows_lines_choices_and_examples_but_no_refused_flags(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--help"], REFUSED)
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "What an example script takes.\n" in shown
    assert "Only the first line" not in shown
    assert shown.endswith("examples:\n  python script.py --imgsz 320\n")
    assert "(100% used)" in shown
    assert "(default: 640)" in shown and "(default: None)" not in shown
    assert "precision: auto, off (default: auto)" in shown
    assert "--bucket" not in shown
    assert "--rect, --no-rect" in shown and "--no-half" not in shown


@pytest.mark.parametrize(
    ("module", "typed"),
    [(None, "script.py"), ("data.lint.__main__", "python -m data.lint"), ("a.b", "python -m a.b")],
)
def test_help_names_the_program_as_it_is_typed(monkeypatch, capsys, module, typed) -> None:
    spec = module and importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["/a/folder/script.py", "--help"])
    with pytest.raises(SystemExit):
        parse(Config, ["--help"], REFUSED)
    assert capsys.readouterr().out.startswith(f"usage: {typed} [flags]\n")


@pytest.mark.parametrize(("speaks", "lines"), [(True, 1), (False, 0)])
def test_one_process_of_several_speaks(monkeypatch, capsys, speaks, lines) -> None:
    monkeypatch.setattr(logs, "SECONDS_TO_REPORT", 0.0)
    level = logging.getLogger().level
    try:
        report_errors(allowed=speaks)
        with pytest.raises(SystemExit) as caught:
            parse(Config, ["--amp", "fp8"], REFUSED)
    finally:
        logging.getLogger().setLevel(level)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == lines


def run(action) -> int:
    return run_script(Config, action, [], REFUSED)


def raising(error: BaseException):
    def action(config: Config) -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a.yaml: key 'nc' is missing"), 2, "error: a.yaml: key 'nc' is missing\n"),
        (CheckFailedError("AP 0.1 is below 0.5"), 1, "failed: AP 0.1 is below 0.5\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Stopped(15), 143, "interrupted\n"),
    ],
    ids=["user's mistake", "failed check", "control-C", "SIGTERM"],
)
def test_errors_become_one_line_and_a_code(error, code, text, capsys) -> None:
    assert run(raising(error)) == code
    assert capsys.readouterr().err == text


def test_other_errors_are_bugs_and_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_action_gets_the_config_and_decides_the_code() -> None:
    seen = []

    def action(config: Config) -> int:
        seen.append(config)
        return 1

    assert run(action) == 1
    assert seen == [Config()]
