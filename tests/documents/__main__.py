"""Run every command of README and docs: `python -m tests.documents`, or `make docs-check`.

A folder is made with a copy of the tracked files and what a reader has beside them (givens.py).
The commands of each page are run in a copy of that folder, in their order, two pages at a time; one
that an earlier page has is not run again (plan.py). rules.py says what is smaller than on the page,
and what is not run and why. Exit code 1: a command failed, or a file that its comment names is not
there.
"""

from __future__ import annotations

import argparse
import compileall
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.documents.commands import Command
from tests.documents.pages import ROOT, code_of, tokens_of, user_pages
from tests.documents.plan import plan
from tests.documents.rules import IN_YAMLS
from tests.documents.session import Outcome, Session

logger = logging.getLogger("docs-check")
AT_A_TIME = 2


def make_template(folder: Path) -> None:
    """The tracked files as they are in this checkout, and what a reader has beside them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    compileall.compile_dir(folder, quiet=1)  # once, for all copies
    subprocess.run([sys.executable, "-m", "tests.documents.givens"], cwd=folder, check=True)


def run_page(page: str, steps: Sequence[tuple[Command, str]], work: Path) -> list[Outcome]:
    """Run a page's commands in a folder of their own."""
    session = Session.open(work / "project", work / page.removesuffix(".md").replace("/", "-"))
    write_yamls(page, session.folder)
    outcomes = []
    for command, text in steps:
        outcome = session.run(command, text)
        state = "FAILED" if outcome.problem else "ok"
        shown = outcome.ran.splitlines()
        logger.info("%-6s %5.1f s  %s  %s%s", state, outcome.seconds, command.position, shown[0],
                    " ..." if shown[1:] else "")  # fmt: skip
        outcomes.append(outcome)
    if problem := session.close():
        outcomes.append(Outcome(steps[-1][0], "Ctrl-C", 0.0, problem))
    return outcomes


def write_yamls(page: str, folder: Path) -> None:
    """`zones.yaml`, which a command reads, is what the page shows."""
    for code in code_of(page, tokens_of(page)):
        if code.language == "yaml" and "zones:" in code.text:
            text = code.text
            for rule in IN_YAMLS:
                text = rule.apply(text)
            (folder / "zones.yaml").write_text(text, encoding="utf-8")


def check(pages: Sequence[str], work: Path) -> list[Outcome]:
    """Run the commands of some pages; returns what failed."""
    planned = plan(pages)
    (work / "project").mkdir(parents=True)
    make_template(work / "project")
    longest_first = sorted(planned, key=lambda page: -len(planned[page]))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        waiting = [pool.submit(run_page, page, planned[page], work) for page in longest_first]
        return [each for done in waiting for each in done.result() if each.problem]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="README.md, docs/web.md, ... (default: all)")
    parser.add_argument("--list", action="store_true", help="show what is run, and run nothing")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    pages = given.pages or user_pages()
    if given.list:
        for steps in plan(pages).values():
            for command, text in steps:
                logger.info("%s  %s\n    %s", command.position, command.text.strip(), text.strip())
        return 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        failed = check(pages, given.keep or Path(temporary) / "docs")
    for outcome in failed:
        logger.error("\n%s  %s\nrun as: %s\n%s", outcome.command.position, outcome.command.text,
                     outcome.ran, outcome.problem)  # fmt: skip
    used = os.times()
    logger.info("%d failed, %.0f s, %.0f s of processor time", len(failed),
                time.monotonic() - start, used.children_user + used.children_system)  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
