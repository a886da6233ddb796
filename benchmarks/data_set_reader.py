"""Reads a data set in a process of its own, without torch, for `benchmarks.image_index`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from utils.logs import configure_logging
from utils.machine import status_bytes


def read_once(data: Path) -> dict[str, float]:
    """Read a data yaml's training images: seconds, images and, where it is known, the memory."""
    spec = load_dataset_spec(data)
    before, start = status_bytes("VmHWM"), time.perf_counter()
    records = read_records(spec, "train")
    seconds, after = time.perf_counter() - start, status_bytes("VmHWM")
    found: dict[str, float] = {"seconds": seconds, "images": len(records)}
    if before is not None and after is not None:
        found["memory, MB"] = round((after - before) / 1e6, 1)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print what `read_once` found as JSON; the data yaml is the only argument."""
    (data,) = sys.argv[1:] if argv is None else argv
    configure_logging(keep_stdout_clear=True)
    sys.stdout.write(json.dumps(read_once(Path(data))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
