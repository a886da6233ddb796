"""How block families start and learn: `python -m experiments.block_training --shared DIR`.

Trains yolov5n with each row of ROWS and each seed, from scratch or from yolov5n.pt (`--start`), on
PASCAL VOC 2007 (2500 images of 20 classes) or, with `--data bccd`, on blood cells (205 images of 3
classes, on which a network gets somewhere in minutes). An optimizer step per batch, so that short
runs have many of them. VOC's boxes marked difficult are ignored, as VOC does.

Finished runs are not repeated, and the others go on after the last epoch that was saved; each
setting has runs of its own. `--parallel K` trains K runs at a time, on the cores or on one GPU
(`--device 0`). `--minutes 8` ends in that time, and the same command goes on; so it does after
Ctrl-C or SIGTERM. The report is written when a command ends, from all finished runs of its setting.

`--peer PYTHON` adds a run by the package yolov5 (ultralytics/yolov5 from PyPI), with the Python
that has it: `.venv-peer/bin/python` after `make bench`. Its weights are evaluated as ours are.

On a machine without a network it needs, besides the working tree, DIR/data/voc07 (52 MB), for
`--start yolov5n.pt` DIR/weights/yolov5n.pt (4 MB), and these packages of requirements.txt: torch,
torchvision, numpy, opencv-python, pillow, simplejpeg, pyyaml, tqdm, scipy, matplotlib, tensorboard.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.block_runs import DATA_SETS, ROWS, SCRATCH, STARTS, BlockRun, Setting, runs_of
from experiments.block_training_report import write_report
from experiments.deadline import Deadline
from experiments.peer_training import PEER, peer_run
from experiments.run_queue import run_jobs
from experiments.training_runs import REPORTS, ROOT
from utils.logs import configure_logging
from utils.stop_signals import StopSignals

logger = logging.getLogger(__name__)
WITHOUT_LIMIT = 1e6  # minutes
REPORT_SECONDS = 15.0  # kept for the report


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing as far as the time goes; 1 if a run failed, from 128 on a signal."""
    started, given = time.monotonic(), parse_arguments(argv)
    configure_logging()
    setting = Setting(
        given.shared.resolve(), given.runs.resolve(), given.epochs, given.imgsz, given.data,
        given.batch_size, given.amp, given.start, given.eval_interval, given.device,
        given.threads or max(1, (os.cpu_count() or 1) // given.parallel),
    )  # fmt: skip
    rows = [row for row in ROWS if row.name in given.rows]
    if given.teacher:
        rows = [row.taught_by(str(Path(given.teacher).resolve())) for row in rows]
    jobs: list[BlockRun] = runs_of(setting, rows, given.seeds)
    if given.peer:
        jobs.append(peer_run(setting, given.seeds[0], given.peer.absolute()))
    left = 60 * given.minutes - REPORT_SECONDS - (time.monotonic() - started)
    deadline = Deadline(left)
    with StopSignals(deadline.end_now) as signals:
        failed = run_jobs(jobs, given.parallel, deadline)
    logger.info("%d of %d runs finished", sum(job.is_finished() for job in jobs), len(jobs))
    taught = (row.taught_by("") for row in ROWS)
    rows_known = (*ROWS, PEER, *taught)
    timed, topic = not given.untimed, given.topic
    write_report(given.out, setting, rows_known, given.seeds, timed=timed, topic=topic)
    if signals.received is not None:
        return 128 + signals.received
    return 1 if failed else 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; None takes the process's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add, names = parser.add_argument, [row.name for row in ROWS]
    add("--shared", type=Path, required=True, help="folder with data/ and weights/yolov5n.pt")
    add("--runs", type=Path, default=ROOT / "runs" / "blocks", help="folder of runs")
    add("--out", type=Path, default=REPORTS, help="folder of the report")
    add("--topic", default="", help="a word for the report's name, beside another of the same day")
    add("--data", choices=DATA_SETS, default="voc07")
    add("--start", choices=STARTS, default=SCRATCH, help="weights to start from")
    add("--rows", nargs="+", metavar="ROW", choices=names, default=names,
        help=f"train only these, of: {'; '.join(names)}")  # fmt: skip
    add("--untimed", action="store_true", help="no seconds in the report: other work ran beside")
    add("--seeds", type=int, nargs="+", default=(0, 1, 2))
    add("--epochs", type=int, default=30)
    add("--imgsz", type=int, default=192)
    add("--batch-size", type=int, default=16)
    add("--amp", default="off", choices=("off", "bf16", "fp16", "auto"))
    add("--eval-interval", type=int, default=1, help="evaluate every so many epochs")
    add("--teacher", default="", help="checkpoint that the rows learn from, beside the labels")
    add("--peer", type=Path, metavar="PYTHON", help="train one run by the package yolov5, too")
    add("--device", default="cpu")
    add("--parallel", type=int, default=1, help="runs at a time")
    add("--threads", type=int, default=0, help="of each run (default: its share of the cores)")
    add("--minutes", type=float, default=WITHOUT_LIMIT, help="end in this time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
