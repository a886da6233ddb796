"""How many modules one whole run needs: `python -m experiments.module_trace --weights yolov5n.pt`.

Counts the project's files (the five scripts, models/, data/, utils/) that have a function called in
one run of export.py to ONNX, of detect.py of one image with that file, and of train.py for one
epoch from the same weights (main process, no plots). Modules that are only imported do not count.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.checkout import Checkout, RunFailedError

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
TRACER = ROOT / "experiments" / "called_modules.py"
RUNS = ("detect", "export", "train")
_SHORT = ("--epochs", 1, "--batch-size", 8, "--imgsz", 64, "--workers", 0, "--device", "cpu")


@dataclass(frozen=True, slots=True)
class Tracer:
    """Runs scripts of a checkout and reads which modules they called.

    Attributes:
        checkout: whose scripts and modules.
        folder: for everything that is written.
    """

    checkout: Checkout
    folder: Path

    def called(self, script: str, *flags: object) -> list[str]:
        """The files with a called function, as paths below the root.

        Raises:
            RunFailedError: the script ended with an error.
        """
        out = self.folder / f"{script}.modules.json"
        self.checkout.require(TRACER, self.checkout.root, out, script, *flags)
        files: list[str] = json.loads(out.read_text(encoding="utf-8"))
        return files


def trace(tracer: Tracer, weights: Path | None) -> dict[str, list[str]]:
    """The modules that each of RUNS called.

    Raises:
        RunFailedError: one of the runs ended with an error.
    """
    folder = tracer.folder
    data = tracer.checkout.draw_data(folder / "data", images=16, size=96)
    if weights is None:
        project = ("--project", folder, "--name", "trained", "--noplots")
        tracer.checkout.require(
            "train.py", "--cfg", "yolov5n.yaml", "--data", data, *_SHORT, *project
        )
        weights = folder / "trained" / "weights" / "last.pt"
    onnx = folder / "network.onnx"
    exported = tracer.called("export.py", "--weights", weights, "--output", onnx)
    image = next((folder / "data" / "images" / "unseen").iterdir())
    found = tracer.called(
        "detect.py", "--weights", onnx, "--source", image, "--project", folder / "detect"
    )
    trained = tracer.called(
        "train.py", "--weights", weights, "--data", data, *_SHORT, "--noplots",
        "--project", folder / "train",
    )  # fmt: skip
    return {"detect": found, "export": exported, "train": trained}


def exceeded(modules: Mapping[str, Sequence[str]], limits: Sequence[int]) -> list[str]:
    """Which runs call more modules than allowed, as messages; limits in the order of RUNS."""
    return [
        f"{name}.py calls {len(modules[name])} modules, at most {limit} are allowed"
        for name, limit in zip(RUNS, limits, strict=True)
        if len(modules[name]) > limit
    ]


def log_modules(modules: Mapping[str, Sequence[str]]) -> None:
    """The counts, then the files of each run."""
    for name in RUNS:
        logger.info("%s.py: %d modules", name, len(modules[name]))
    for name in RUNS:
        logger.info("\n%s.py\n  %s", name, "\n  ".join(modules[name]))


def main(argv: Sequence[str] | None = None) -> int:
    """Trace the three runs; returns the exit code: 1 above a limit, 2 where a run failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to count in")
    parser.add_argument("--weights", type=Path, help="checkpoint; one is trained without it")
    parser.add_argument(
        "--limits", type=int, nargs=3, metavar=tuple(name.upper() for name in RUNS),
        help="exit with 1 where a run calls more modules",
    )  # fmt: skip
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    weights = None if given.weights is None else given.weights.resolve()
    with tempfile.TemporaryDirectory() as folder:
        try:
            tracer = Tracer(Checkout(given.root.resolve()), Path(folder).resolve())
            modules = trace(tracer, weights)
        except RunFailedError as error:
            logger.error("%s", error)
            return 2
    log_modules(modules)
    problems = exceeded(modules, given.limits) if given.limits else []
    for problem in problems:
        logger.error("%s", problem)
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
