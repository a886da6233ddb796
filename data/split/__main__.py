"""The command `python -m data.split my.yaml --val 0.2`: lists of a split, and a yaml of them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset_spec import load_dataset_spec
from data.split.split_lists import write_split
from utils.cli import option, run_script
from utils.errors import ConfigError
from utils.flag_values import Flags
from utils.logs import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SplitConfig(Flags):
    """Divide the images of `train` into lists; the images stay where they are.

    Examples:
        python -m data.split my.yaml --val 0.2 --output lists
    """

    data: str = option("coco128.yaml", "data yaml")
    val: float = option(0.2, "share of the images to validate on")
    test: float = option(0.0, "share of the images to test on")
    output: str = option("", "folder of the lists and their yaml; default: the yaml's name-split")


def main(argv: Sequence[str] | None = None) -> int:
    """Run on the given arguments, or the process's; a bare first one is `--data`."""
    return run_script(SplitConfig, _run, argv, {}, first="--data")


def _run(config: SplitConfig) -> int:
    shares = {"val": config.val, "test": config.test}
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(f"--{name} {share}: must be from 0 and below 1")
    shares = {name: share for name, share in shares.items() if share}
    if not shares:
        raise ConfigError("--val 0 --test 0: nothing to hold out; give one of them a share")
    spec = load_dataset_spec(config.data, shares)
    folder = Path(config.output or f"{spec.name}-split")
    counts = write_split(spec, folder)
    logger.info(
        "%s", ", ".join(f"{counted(count, 'image')} in {name}" for name, count in counts.items())
    )
    yaml = shlex.quote(str(folder / f"{spec.name}.yaml"))
    logger.info("Next: python train.py --data %s", yaml)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
