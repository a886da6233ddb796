"""How large the environment of a device is: `python -m experiments.runtime_size`.

Installs requirements-runtime.txt, with what its packages need, into an empty folder and adds up the
sizes of the installed files. Compiled bytecode is not counted.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from experiments.training_runs import REPORTS, ROOT, checked_out
from utils.output_files import write_text

REQUIREMENTS = ROOT / "requirements-runtime.txt"
MB = 1e6


def install(requirements: Path, folder: Path) -> None:
    """Install a requirements file with everything it needs into a folder.

    Raises:
        CalledProcessError: pip failed, and has said why.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    flags = ["--no-compile", "--ignore-installed", "--target", str(folder)]
    subprocess.run([*pip, *flags, "-r", str(requirements)], check=True)


def size_of(distribution: Distribution) -> int:
    """Bytes of its installed files."""
    paths = [Path(str(file.locate())) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def rows(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Name, version and bytes of each distribution in a folder, the largest first."""
    found = list(distributions(path=[str(folder)]))
    sized = [(each.metadata["Name"], each.version, size_of(each)) for each in found]
    yield from sorted(sized, key=lambda row: -row[2])


def report(folder: Path, date: str) -> str:
    """The whole report in Markdown."""
    found = list(rows(folder))
    lines = [
        f"# Size of a device's environment, {date}", "",
        f"`{REQUIREMENTS.name}` and what it needs, without bytecode: "
        f"{sum(size for _, _, size in found) / MB:.0f} MB. {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}. "
        f"Commit {checked_out()}. Made by `python -m experiments.runtime_size`.", "",
        "| package | version | MB |", "|---|---|---|",
        *(f"| {name} | {version} | {size / MB:.1f} |" for name, version, size in found),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Install, measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPORTS)
    out: Path = parser.parse_args().out
    date = datetime.date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        install(REQUIREMENTS, Path(folder))
        content = report(Path(folder), date)
    path = out / f"runtime_size_{platform.machine()}_{date}.md"
    write_text(path, content)


if __name__ == "__main__":
    main()
