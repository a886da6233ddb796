"""What the console shows: log lines, progress of long work, what is missing, commands to run next.

It imports Python's own library alone, so that it can say which package is missing.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, TypeVar

ItemT = TypeVar("ItemT")
SCRIPTS_FOLDER = Path(__file__).resolve().parents[1]
SHIPPED_WEIGHTS = SCRIPTS_FOLDER / "models" / "weights"
SAMPLE_IMAGES = SCRIPTS_FOLDER / "data" / "images"  # where no others are known
PLAIN_INTERVAL_SECONDS, BAR_INTERVAL_SECONDS = 15.0, 1.0
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # that torchrun sets
SECONDS_TO_REPORT = 30.0
SILENT = logging.CRITICAL + 1
# Module -> what pip calls it: those of requirements-runtime.txt that every script may need.
ALWAYS_NEEDED = MappingProxyType(
    {
        "numpy": "numpy",
        "cv2": "opencv-python-headless",
        "PIL": "pillow",
        "simplejpeg": "simplejpeg",
        "yaml": "pyyaml",
    }
)
# Of them those that all runs load; the others are loaded where they are used.
_ALWAYS_LOADED = ("numpy", "cv2", "simplejpeg")
# Words of class names whose plural no ending makes; YOLOv5's `persons` is kept.
IRREGULAR = {
    "aircraft": "aircraft", "child": "children", "deer": "deer", "epoch": "epochs",
    "fish": "fish", "foot": "feet", "goose": "geese", "knife": "knives", "man": "men",
    "mouse": "mice", "sheep": "sheep", "shelf": "shelves", "tooth": "teeth", "woman": "women",
}  # fmt: skip


def counted(count: int, noun: str) -> str:
    """`1 bus`, `2 buses`, `2 traffic lights`, `2 skis`: a number and a noun that suits it.

    The last word gets the ending: `es` after s, x, z, ch and sh, `ies` for y after a consonant,
    else `s`. A plural already (`skis`, `scissors`: an s after anything but s and u) stays, and so
    does a name that ends in no Latin letter (`class_3`); IRREGULAR has the rest.
    """
    word = re.split(r"[\s_-]", noun)[-1]
    folded = word.lower()
    if count == 1 or not re.search("[A-Za-z]$", word) or re.search("[^su]s$", folded):
        return f"{count} {noun}"
    if folded in IRREGULAR:
        irregular = IRREGULAR[folded]
        plural = irregular.capitalize() if word[0].isupper() else irregular
    elif re.search("[^aeiou]y$", folded):
        plural = f"{word[:-1]}ies"
    else:
        plural = word + ("es" if folded.endswith(("s", "x", "z", "ch", "sh")) else "s")
    return f"{count} {noun.removesuffix(word)}{plural}"


def configure_logging(
    environment: Mapping[str, str] = os.environ, *, keep_stdout_clear: bool = False
) -> None:
    """Plain messages: information on standard output, warnings and errors on standard error.

    With `keep_stdout_clear` all of them go to standard error, for results on standard output.

    Of the processes that torchrun starts, the first one speaks. Errors that all of them meet are
    reported by the first one of each machine, which may have a console of its own.

    What a console cannot show is escaped: a character of a file name must not cost the line.
    """
    level = _level_of(environment)
    # Pillow warns about odd metadata, which users cannot change, and about large images.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if level > logging.INFO:  # the first process has the same warnings
        warnings.filterwarnings("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    to_stdout = logging.StreamHandler(sys.stderr if keep_stdout_clear else sys.stdout)
    to_stdout.addFilter(
        lambda record: record.levelno < logging.WARNING and not record.name.startswith("torch.")
    )  # torch counts its caches when a program ends
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setLevel(logging.WARNING)
    logging.basicConfig(
        level=level, format="%(message)s", handlers=[to_stdout, to_stderr], force=True
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody may look on; a stream that is closed when Python starts is None."""
    return stream is not None and stream.isatty()


def require_packages(*others: str) -> None:
    """End the program with one sentence where a package is missing or broken.

    Args:
        *others: modules that this script needs besides. They are looked for and not imported, since
            they are slow to load and the command line is read before.

    Raises:
        SystemExit: with code 2.
    """
    for module, package in ALWAYS_NEEDED.items():
        try:
            if module in _ALWAYS_LOADED:
                importlib.import_module(module)
            elif find_spec(module) is None:
                _end_with(f"the package {package} is not installed: pip install {package}")
        except ModuleNotFoundError as error:
            needed = ALWAYS_NEEDED.get(error.name or "", error.name)
            _end_with(f"the package {needed} is not installed: pip install {needed}")
        except ImportError as error:  # a library of the system, or of another version
            reason = " ".join(str(error).split())[:200]
            _end_with(f"{module} cannot be imported: {reason}; pip install --upgrade {package}")
    for module in others:
        if find_spec(module) is None:
            _end_with(f"the package {module} is not installed: pip install -r requirements.txt")


def _end_with(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def _level_of(environment: Mapping[str, str]) -> int:
    """From which level on a process logs."""
    if not environment.keys() >= set(RANK_VARIABLES) or int(environment["RANK"]) == 0:
        return logging.INFO
    return logging.ERROR if int(environment["LOCAL_RANK"]) == 0 else SILENT


def reports_errors() -> bool:
    """Whether this process may say why it ends; False where another one does."""
    return logging.getLogger().isEnabledFor(logging.CRITICAL)


def report_errors(*, allowed: bool) -> None:
    """Let this process say why it ends, or leave that to another one."""
    root = logging.getLogger()
    root.setLevel(min(root.level, logging.ERROR) if allowed else SILENT)


def exit_code_after_report(code: int) -> int:
    """The exit code of a process that fails, once the one that reports the failure has ended.

    torchrun stops all processes as soon as one has failed, so a silent one that fails sooner would
    stop the other before its message. Usually torchrun ends the wait.
    """
    if code != 0 and not reports_errors():
        time.sleep(SECONDS_TO_REPORT)
    return code


def format_duration(seconds: float) -> str:
    """A length of time: 45 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


class Progress(Iterable[ItemT]):
    """Iterates over work while showing rate and time left.

    On a terminal a bar is drawn (where tqdm is installed); elsewhere (a file, CI) plain lines
    appear every 15 seconds.

    Args:
        items: the work.
        total: how many there are.
        title: before the rate; a function is called for each line, or once per second for a bar.
        unit: what an item is.
        leave: whether a bar stays on the terminal when the work is done.
    """

    def __init__(
        self,
        items: Iterable[ItemT],
        total: int,
        title: str | Callable[[], str],
        unit: str = "batch",
        *,
        leave: bool = True,
    ) -> None:
        self.items, self.total, self.unit, self.leave = items, total, unit, leave
        self.title = title

    def _title(self) -> str:
        return self.title if isinstance(self.title, str) else self.title()

    def __iter__(self) -> Iterator[ItemT]:
        spoken = logging.getLogger(__name__).isEnabledFor(logging.INFO)
        has_bar = spoken and is_terminal(sys.stderr) and find_spec("tqdm") is not None
        return self._with_bar() if has_bar else self._with_lines()

    def _with_bar(self) -> Iterator[ItemT]:
        from tqdm import tqdm  # here, so that importing this module stays cheap

        with tqdm(
            total=self.total,
            desc=self._title(),
            unit=self.unit,
            dynamic_ncols=True,
            leave=self.leave,
        ) as bar:
            last = time.monotonic()
            for item in self.items:
                yield item
                now = time.monotonic()
                if not isinstance(self.title, str) and now - last >= BAR_INTERVAL_SECONDS:
                    last = now
                    bar.set_description_str(self._title(), refresh=False)
                bar.update()

    def _with_lines(self) -> Iterator[ItemT]:
        logger = logging.getLogger(__name__)
        start = last = time.monotonic()
        for done, item in enumerate(self.items, 1):
            yield item
            now = time.monotonic()
            if now - last < PLAIN_INTERVAL_SECONDS or not logger.isEnabledFor(logging.INFO):
                continue
            last = now
            rate = done / (now - start)
            left = format_duration((self.total - done) / rate)
            logger.info("%s: %d/%d %s, %.2f/s, %s left",
                        self._title(), done, self.total, self.unit, rate, left)  # fmt: skip


def command_text(script: str, *arguments: str | Path) -> str:
    """A command that runs a script of this project, for a shell in the working directory.

    Args:
        script: its file name.
        *arguments: not quoted yet.
    """
    import shlex  # here, so that importing this module stays cheap

    file = from_working_directory(SCRIPTS_FOLDER / script)
    return shlex.join(str(each) for each in (_python(), file, *arguments))


def from_working_directory(path: Path) -> Path:
    """Relative if it is below the working directory, else absolute."""
    folder, absolute = Path.cwd(), path.absolute()
    return absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute


def _python() -> Path:
    """What starts the running Python: a name that the shell finds, else its path."""
    import shutil

    executable = Path(sys.executable)
    for name in ("python", executable.name):
        if (found := shutil.which(name)) is not None and Path(found) == executable:
            return Path(name)
    return from_working_directory(executable)


def arguments_of(config: Any, omit: Sequence[str] = ()) -> list[str]:
    """The shortest arguments that `utils.cli.parse` reads as the config.

    Args:
        config: a dataclass instance whose fields were made by `option`.
        omit: fields that are left at their defaults.
    """
    arguments: list[str] = []
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), flag_of(field.name)
        if field.name in omit or value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple | list):
            arguments += [flag, *map(str, value)]
        else:
            arguments += [flag, str(value)]
    return arguments


def flag_of(name: str) -> str:
    """The flag of a field, with dashes."""
    return "--" + name.replace("_", "-")
