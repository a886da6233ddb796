"""How block families start and learn: `python -m experiments.block_training --shared DIR`.

Trains yolov5n with each row of ROWS and each seed, from scratch or from yolov5n.pt (`--start`), on
PASCAL VOC 2007 (2500 images of 20 classes) or, with `--data bccd`, on blood cells (205 images of 3
classes, on which a network gets somewhere in minutes). An optimizer step per batch, so that short
runs have many of them. VOC's boxes marked difficult are ignored, as VOC does.

Finished runs are not repeated, and the others go on where they were cut off, at the end of an epoch
to the last bit; each setting has runs of its own. `--parallel K` trains K runs at a time, on the
cores or on one GPU (`--device 0`). `--minutes 8` ends in that time, and the same command goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from experiments.block_runs import DATA_SETS, ROWS, SCRATCH, STARTS, Setting, runs_of
from experiments.block_training_report import write_report
from experiments.run_queue import run_jobs
from experiments.training_runs import REPORTS, ROOT
from utils.logs import configure_logging

logger = logging.getLogger(__name__)
WITHOUT_LIMIT = 1e6  # minutes


def main() -> int:
    """Train what is missing as far as the time goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder with data/ and weights/yolov5n.pt"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "blocks")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--data", choices=DATA_SETS, default="voc07")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="train only these")
    parser.add_argument("--start", choices=STARTS, default=SCRATCH, help="weights to start from")
    parser.add_argument("--teacher", default="", help="checkpoint that the rows learn from, too")
    parser.add_argument("--eval-interval", type=int, default=1)
    parser.add_argument("--amp", default="off", choices=("off", "bf16", "fp16", "auto"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="of each run (default: its share)")
    parser.add_argument("--minutes", type=float, default=WITHOUT_LIMIT, help="end in this time")
    given = parser.parse_args()
    configure_logging()
    setting = Setting(
        given.shared.resolve(), given.runs.resolve(), given.epochs, given.imgsz, given.data,
        given.batch_size, given.amp, given.start, given.eval_interval, given.device,
        given.threads or max(1, (os.cpu_count() or 1) // given.parallel),
    )  # fmt: skip
    rows = [row for row in ROWS if row.name in given.rows]
    if given.teacher:
        rows = [row.taught_by(str(Path(given.teacher).resolve())) for row in rows]
    jobs = runs_of(setting, rows, given.seeds)
    failed = run_jobs(jobs, given.parallel, 60 * given.minutes)
    logger.info("%d of %d runs finished", sum(job.is_finished() for job in jobs), len(jobs))
    write_report(given.out, setting, (*ROWS, *(row.taught_by("") for row in ROWS)), given.seeds)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
