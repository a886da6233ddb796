"""detect.py on a video against its floor: `python -m benchmarks.detect_video --video street.mp4`.

Boxes are drawn and the video is written. The floor is the larger of two times, measured in the same
rounds: that of the network alone, and what all stages take on all cores together, divided by the
number of cores. `--peer` names a Python that has the package yolov5 of PyPI, which then detects in
the same video with the checkpoint. Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import RunFailedError, Spread, measured_with, script, seconds_of
from benchmarks.stage_times import STAGES, StageTimes, time_stages
from experiments.training_runs import REPORTS
from utils.logs import configure_logging

logger = logging.getLogger(__name__)
# It unpickles its checkpoints, which torch has refused by default since version 2.6.
PEER_VARIABLES = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of one round.

    Attributes:
        stages: each by itself.
        frames: how many the video has.
        process: of detect.py, from its start to its end.
        loop: of its frames, loading the network not counted.
        peer: of the peer's process; None where it is skipped.
    """

    stages: StageTimes
    frames: int
    process: float
    loop: float
    peer: float | None


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    Attributes:
        video: the source.
        weights: the exported file.
        checkpoint: what it was exported from, for the peer.
        peer: the peer's Python; None for none.
    """

    video: Path
    weights: Path
    checkpoint: Path
    peer: Path | None

    @property
    def peer_python(self) -> Path | None:
        """The peer's Python; a link to another one stays a link, or it would find no packages."""
        return self.peer and self.peer.absolute()

    def peer_command(self, folder: Path) -> list[str]:
        """yolov5's own detect, drawing and writing."""
        video, weights = self.video.resolve(), self.checkpoint.resolve()
        arguments = ["-m", "yolov5.detect", "--weights", weights, "--source", video]
        flags = ["--project", folder, "--name", "peer", "--device", "cpu"]
        return [str(self.peer_python), *map(str, [*arguments, *flags])]


def run_round(setting: Setting, folder: Path, *, with_peer: bool) -> Round:
    """Measure everything once.

    Raises:
        RunFailedError: detect.py or the peer failed.
    """
    stages = time_stages(setting.weights, setting.video, folder)
    report = folder / "report.json"
    process = seconds_of(script(
        "detect.py", "--weights", setting.weights, "--source", setting.video, "--device", "cpu",
        "--project", folder, "--report", report,
    ))  # fmt: skip
    counted = json.loads(report.read_text(encoding="utf-8"))
    loop = counted["frames"] / counted["frames_per_second"]
    # In a folder of its own: its modules `models` and `utils` have the names of ours.
    peer = seconds_of(setting.peer_command(folder), folder, PEER_VARIABLES) if with_peer else None
    return Round(stages, counted["frames"], process, loop, peer)


def reason_against_peer(setting: Setting) -> str | None:
    """Why the peer cannot be measured; None where it can."""
    if setting.peer is None:
        return "no --peer given"
    try:
        seconds_of(
            [str(setting.peer_python), "-c", "import yolov5.detect"], Path(tempfile.gettempdir())
        )
    except RunFailedError as error:
        return str(error)
    return None


def report(rounds: Sequence[Round], setting: Setting, skipped: str | None, date: str) -> str:
    """The whole report in Markdown."""
    num_cores = os.cpu_count() or 1
    frames = rounds[0].frames
    loops = Spread(tuple(each.loop for each in rounds))
    floors = Spread(tuple(each.stages.floor(num_cores) for each in rounds))
    ratios = Spread(tuple(each.loop / each.stages.floor(num_cores) for each in rounds))
    lines = [
        f"# Detection in a video, {date}", "",
        f"{setting.video.name}, {frames} frames, {setting.weights.name}: boxes drawn, video "
        "written. Seconds, over all frames.", "",
        measured_with("benchmarks.detect_video", len(rounds)), "",
        "| stage alone | wall | all cores |", "|---|---|---|",
    ]  # fmt: skip
    for stage in STAGES:
        wall = Spread(tuple(each.stages.wall[stage] for each in rounds))
        cores = Spread(tuple(each.stages.cores[stage] for each in rounds))
        lines.append(f"| {stage} | {wall.as_text()} | {cores.as_text()} |")
    process = Spread(tuple(each.process for each in rounds))
    lines += [
        "", f"The floor is the larger of the network's wall time and the sum of the last column "
        f"divided by {num_cores} cores.",
        "", "| | seconds |", "|---|---|",
        f"| floor | {floors.as_text()} |",
        f"| detect.py, frames | {loops.as_text()} |",
        f"| detect.py, whole process | {process.as_text()} |",
    ]  # fmt: skip
    peers = tuple(each.peer for each in rounds if each.peer is not None)
    if peers:
        times = Spread(tuple(each.peer / each.process for each in rounds if each.peer is not None))
        lines += [
            f"| yolov5's detect with {setting.checkpoint.name}, whole process | "
            f"{Spread(peers).as_text()} |", "",
            f"detect.py takes {ratios.as_text()} times the floor; yolov5 takes {times.as_text()} "
            "times as long as detect.py.",
        ]  # fmt: skip
    else:
        lines += ["", f"detect.py takes {ratios.as_text()} times the floor. Peer: {skipped}."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--video", type=Path, required=True, help="street.mp4, for example")
    parser.add_argument("--checkpoint", type=Path, required=True, help="yolov5n.pt, for example")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", type=Path, help="a Python with the package yolov5 (optional)")
    parser.add_argument("--out", type=Path, default=REPORTS)
    given = parser.parse_args(argv)
    configure_logging()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = folder / f"{given.checkpoint.stem}.onnx"
        setting = Setting(given.video.resolve(), weights, given.checkpoint.resolve(), given.peer)
        skipped = reason_against_peer(setting)
        try:
            exported = script("export.py", "--weights", setting.checkpoint, "--dynamic")
            seconds_of([*exported, "--output", str(weights)])
            rounds = [run_round(setting, folder, with_peer=skipped is None)
                      for _ in range(given.rounds)]  # fmt: skip
        except RunFailedError as error:
            logger.error("%s", error)
            return 1
    date = datetime.date.today().isoformat()
    path = given.out / f"detect_video_cpu_{date}.md"
    path.write_text(report(rounds, setting, skipped, date), encoding="utf-8")
    logger.info("%s", path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
