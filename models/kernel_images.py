"""Draw where a checkpoint's 3x3 kernels have their weight: `python -m models.kernel_images`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.kernel_statistics import FloatGrid, layer_kernels, mean_parts, mean_similarity, skeleton
from utils.cli import check_options, option, run_script
from utils.errors import ConfigError
from utils.flag_rules import PathRule
from utils.flag_values import Flags
from utils.output_files import write_json
from utils.plots.kernel_plots import plot_contributions, plot_similarity, plot_skeletons
from utils.run_folder import run_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KernelImagesConfig(Flags):
    """Draw the 3x3 kernels of a checkpoint, before and after conversion.

    Examples:
        python -m models.kernel_images --weights runs/train/exp/weights/best.pt
    """

    weights: str = option("", "checkpoint of any form: ours, or a YOLOv5 .pt")
    project: str = option("runs/kernels", "folder of runs", rule=PathRule("folder"))
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "use an existing folder again")
    report: str = option("", "write the figures to this JSON file", rule=PathRule("file"))


@dataclass(frozen=True, slots=True)
class KernelImagesResult:
    """The figures behind the images.

    Attributes:
        main: (3, 3) mean magnitude of the main branch's kernels, fractions of their largest.
        merged: (3, 3) likewise, of the kernels after folding.
        branches: branch -> root mean square of its part, as a share of the merged kernel's.
        names: of the B branches.
        cosines: (B, B) mean |cosine| of what two branches add; nan where none adds beside another.
        folder: of the images.
    """

    main: FloatGrid
    merged: FloatGrid
    branches: Mapping[str, float]
    names: Sequence[str]
    cosines: FloatGrid
    folder: Path

    def as_report(self) -> dict[str, Any]:
        """The content of `--report`; nan becomes null."""
        rows = self.cosines.tolist()
        cosines = [[None if math.isnan(value) else value for value in row] for row in rows]
        return {
            "skeleton": {"main": self.main.tolist(), "merged": self.merged.tolist()},
            "branches": dict(self.branches),
            "similarity": {"names": list(self.names), "cosine": cosines},
            "folder": str(self.folder),
        }


def draw_kernels(config: KernelImagesConfig) -> KernelImagesResult:
    """Write kernel_skeleton.png and, of a train form, branch_contributions and branch_similarity.

    Raises:
        UserError: the checkpoint cannot be read, or has no 3x3 convolution.
    """
    check_options(config, KernelImagesConfig)
    layers = layer_kernels(build_from_checkpoint(read_weights(config.weights)))
    if not layers:
        raise ConfigError(f"{config.weights}: has no 3x3 convolution to draw")
    branched = [layer for layer in layers if layer.parts]
    main = skeleton([layer.main for layer in layers])
    merged = skeleton([layer.merged for layer in layers])
    names, cosines = mean_similarity(branched)
    grids = {"when it runs: the merged kernel": merged}
    with run_folder(config.project, config.name, exist_ok=config.exist_ok) as folder:
        if branched:
            grids = {"while it trains: the main branch": main, **grids}
            plot_contributions(
                [layer.name.removeprefix("layers.") for layer in branched],
                [layer.parts for layer in branched],
                [layer.merged_rms for layer in branched],
                folder / "branch_contributions.png",
            )
            plot_similarity(names, cosines, folder / "branch_similarity.png")
        plot_skeletons(grids, folder / "kernel_skeleton.png")
    return KernelImagesResult(main, merged, mean_parts(branched), names, cosines, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(KernelImagesConfig, _run, argv, {})


def _run(config: KernelImagesConfig) -> int:
    if not config.weights:
        raise ConfigError("give a checkpoint: --weights runs/train/exp/weights/best.pt")
    result = draw_kernels(config)
    for name, grid in (("main", result.main), ("merged", result.merged)):
        rows = " / ".join(" ".join(f"{value:.3f}" for value in row) for row in grid)
        logger.info("%s kernels, magnitude per position: %s", name, rows)
    for name, share in result.branches.items():
        logger.info("%-12s adds %.3f of the merged kernel's root mean square", name, share)
    if config.report:
        write_json(Path(config.report), result.as_report())
    logger.info("Images saved to %s", result.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
