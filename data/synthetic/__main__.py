"""`python -m data.synthetic OUT`: draw the demo data set (see data.synthetic.dataset)."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from data.synthetic.dataset import KINDS, SyntheticConfig, write_dataset
from utils.errors import UserError
from utils.logs import configure_logging

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run on the given arguments, or the process's. Exit code 0: done; 2: wrong arguments."""
    defaults = SyntheticConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic",
        description="Draw a small detection data set in YOLO's layout.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder to make; its own files are replaced")
    parser.add_argument("--images", type=int, default=defaults.images, help="labelled images")
    parser.add_argument("--size", type=int, default=defaults.size, help="long side in pixels")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="same seed, same bytes")
    parser.add_argument("--kind", default=defaults.kind, choices=KINDS, help="what to draw")
    flags = parser.parse_args(sys.argv[1:] if argv is None else argv)
    configure_logging()
    try:
        write_dataset(flags.out, SyntheticConfig(flags.images, flags.size, flags.seed, flags.kind))
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
