"""Find objects in images, videos and streams.

python detect.py --weights best.pt --source images/
python detect.py --weights best.onnx --source street.mp4 --save-txt --save-json
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from data.dataset_spec import SHIPPED, load_dataset_spec
from utils.cli import check_command_line, check_options, run_script
from utils.detect_config import REFUSED, DetectConfig

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(DetectConfig, REFUSED, data=SHIPPED)

from data.captures import CaptureOptions
from data.sources import FileSource, Source, SourceOptions, open_source
from data.streams import StreamOptions
from data.video import Shard
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.detect.output import DetectionOutput, OutputOptions
from utils.detect.pipeline import Found, StageClock, StopSignals, ahead, in_order
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import DetectionLog, DetectResult, Progress, cut_run
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import FittedFrame, InputSize, choose_input_hw, network_input
from utils.logs import SAMPLE_IMAGES, SHIPPED_WEIGHTS, configure_logging, counted
from utils.output_files import run_folder, write_json
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import FloatArray, Skipped

logger = logging.getLogger(__name__)
DEFAULT_WEIGHTS = SHIPPED_WEIGHTS / "repyolov5n-npu-deeppcb.pt"
AHEAD_BATCHES = 2  # read while the network works
# What may differ in a run that goes on: its outputs do not depend on it.
CHANGEABLE = frozenset(
    ("source", "recursive", "resume", "device", "batch_size", "view_img", "project", "name",
     "exist_ok", "strict", "report", "poll", "every_frame", "reconnect")
)  # fmt: skip


def detect(config: DetectConfig) -> DetectResult:
    """Run the network over the source and write what it finds.

    Raises:
        UserError: a flag, the weights or the source is wrong; with `strict`, a file is unreadable.
    """
    check_options(config)
    source = open_source(_sources(config), _source_options(config))
    runner = open_runner(_weights(config), device=config.device, half=config.half)
    class_names = _class_names(config, runner)
    input_hw = choose_input_hw(
        config.imgsz, _weights(config), runner.stride, known_hw=runner.known_hw,
        fixed_hw=runner.input_hw,
    )  # fmt: skip
    free = config.rect and runner.input_hw == (None, None)
    size = InputSize(input_hw, runner.stride if free else None)
    batch_size = runner.batch_size or max(config.batch_size, len(source.streams))
    preview = PreviewWindow() if config.view_img else None
    log = DetectionLog(class_names, config.vid_stride, strict=config.strict)
    with (
        _run_folder(config, source) as folder,
        _progress(config, source, folder) as progress,
        DetectionOutput(folder, class_names, _outputs(config), source.files, progress) as output,
        StopSignals(source.stop) as signals,
    ):
        # Three threads: reading, the network, and here what is done with its results. A live
        # source reads by itself, and nothing of it may wait.
        batches = prepared(source.batches(size, batch_size), log.clock)
        if not source.is_live:
            batches = ahead(batches, AHEAD_BATCHES)
        results = find(runner, batches, _postprocess_config(config), log)
        for result in in_order(ahead(results, 1)):
            if isinstance(result, Skipped):
                log.skip(result)
                continue
            log.add(result.frame, result.input_hw, result.detections, result.milliseconds)
            with log.clock.stage("write"):
                output.write(result.frame, result.detections)
            if preview is not None:
                drawn = output.draw(result.frame, result.detections)
                if not preview.show(drawn, is_video=result.frame.is_video):
                    break
        else:
            if signals.received is None:
                progress.finish()
    summary = log.result(folder, source.streams, signals.received)
    logger.info(summary.as_text())
    if config.report is not None:
        write_json(Path(config.report), summary.as_report())
    return summary


def _run_folder(config: DetectConfig, source: Source) -> AbstractContextManager[Path]:
    """A new folder, or that of the run to go on with."""
    shard = _shard(config)
    name = config.name if shard is None else f"{config.name}-{shard.part}of{shard.parts}"
    if config.resume and source.is_live:
        raise ConfigError("--resume: a live source has no frames left that a cut run missed")
    before = cut_run(config.project, name) if config.resume and not config.exist_ok else None
    if before is not None:
        return run_folder(before.parent, before.name, exist_ok=True)
    return run_folder(config.project, name, exist_ok=config.exist_ok)


def _progress(config: DetectConfig, source: Source, folder: Path) -> Progress:
    """Of a new run, or of the one to go on with, what `source` begins behind."""
    options = {name: value for name, value in asdict(config).items() if name not in CHANGEABLE}
    progress = Progress(folder, options)
    if config.resume and isinstance(source, FileSource):
        progress.resume(source.files, whole_videos=not config.nosave)
        source.done = progress.done
        files = f"file {progress.done[0]} of {len(source.files)}"
        logger.info("%s: %s", folder, "nothing is left to do" if progress.finished
                    else f"goes on after {files}, frame {progress.done[1]}" if progress.done[0]
                    else "nothing was written yet")  # fmt: skip
    return progress


def _shard(config: DetectConfig) -> Shard | None:
    """The part that `--shard` names."""
    if config.shard is None:
        return None
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", config.shard)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ConfigError(
            f"--shard {config.shard}: expected a part and the number of parts, from 1/16 to 16/16"
        )
    return Shard(int(numbers[1]), int(numbers[2]))


def prepared(
    batches: Iterable[list[FittedFrame] | Skipped], clock: StageClock
) -> Iterator[tuple[list[FittedFrame], FloatArray] | Skipped]:
    """Batches with the network inputs made of them, (B, 3, H, W), and files to skip."""
    for batch in clock.each("decode", batches):
        if isinstance(batch, Skipped):
            yield batch
            continue
        with clock.stage("preprocess"):
            images = network_input([item.letterbox.apply_image(item.frame.image) for item in batch])
        yield batch, images


def find(
    runner: Runner,
    batches: Iterable[tuple[list[FittedFrame], FloatArray] | Skipped],
    rules: PostprocessConfig,
    log: DetectionLog,
) -> Iterator[Found | Skipped]:
    """Run and postprocess batch after batch.

    Args:
        runner: the network.
        batches: of one input size, and files to skip.
        rules: which boxes become detections.
        log: counts times; has the names of the classes.

    Yields:
        What is found in each frame, in the order of the batches, and the files to skip.
    """
    for batch in batches:
        if isinstance(batch, Skipped):
            yield batch
            continue
        items, images = batch
        with log.clock.stage("inference"):
            decoded = runner.run(images)
        milliseconds = 1000 * log.clock.last["inference"] / len(items)
        _check_num_classes(decoded.shape[2] - 5, log.class_names)
        for item, rows in zip(items, decoded, strict=True):
            box = item.letterbox
            with log.clock.stage("postprocess"):
                detections = postprocess(rows, rules).in_original(box)
            yield Found(item.number, item.frame, box.input_hw, detections, milliseconds)


def _sources(config: DetectConfig) -> tuple[str, ...]:
    """What `--source` names; where it is not given, the shipped images that suit the weights."""
    if not config.source:
        return (str(SAMPLE_IMAGES if config.weights else SAMPLE_IMAGES / "deeppcb_*.jpg"),)
    return (config.source,) if isinstance(config.source, str) else config.source


def _source_options(config: DetectConfig) -> SourceOptions:
    capture = CaptureOptions(config.vid_stride, config.poll)
    streams = StreamOptions(capture, config.every_frame, config.reconnect)
    return SourceOptions(config.recursive, _shard(config), streams)


def _weights(config: DetectConfig) -> str:
    """The one weights file, or the shipped one; a tuple comes from the command line."""
    if not config.weights:
        return str(DEFAULT_WEIGHTS)
    names = (config.weights,) if isinstance(config.weights, str) else config.weights
    if len(names) != 1:
        raise ConfigError(
            f"--weights {' '.join(names)}: networks are not averaged; give one file and "
            "run detect.py once for each"
        )
    return names[0]


def _class_names(config: DetectConfig, runner: Runner) -> tuple[str, ...]:
    """From the weights file; from `--data` where the file has none.

    Raises:
        CheckpointError: neither has them.
        ConfigError: `--classes` has other ids.
    """
    if runner.class_names:
        if config.data is not None:
            logger.info("--data %s: not needed, %s has names", config.data, _weights(config))
        names = runner.class_names
    elif config.data is not None:
        names = load_dataset_spec(config.data).class_names
    else:
        raise CheckpointError(
            f"{_weights(config)}: has no class names inside; give --data, a yaml that lists them"
        )
    if config.classes and not 0 <= min(config.classes) <= max(config.classes) < len(names):
        raise ConfigError(
            f"--classes {' '.join(map(str, config.classes))}: the classes of {_weights(config)} "
            f"are 0 to {len(names) - 1}"
        )
    return names


def _check_num_classes(num_classes: int, class_names: Sequence[str]) -> None:
    if num_classes != len(class_names):
        raise CheckpointError(
            f"the network has {num_classes} classes but there are names for {len(class_names)}; "
            "give the --data that it was trained with"
        )


def _postprocess_config(config: DetectConfig) -> PostprocessConfig:
    return PostprocessConfig(
        score_threshold=config.conf_thres,
        iou_threshold=config.iou_thres,
        max_detections=config.max_det,
        class_agnostic=config.agnostic_nms,
        classes=config.classes,
    )


def _outputs(config: DetectConfig) -> OutputOptions:
    return OutputOptions(
        images=not config.nosave,
        labels=config.save_txt,
        label_scores=config.save_conf,
        label_corners=config.save_format == 1,
        csv=config.save_csv,
        json=config.save_json,
        json_lines=config.save_jsonl,
        segment_seconds=config.segment,
        crops=config.save_crop,
        line_thickness=config.line_thickness,
        hide_labels=config.hide_labels,
        hide_scores=config.hide_conf,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(DetectConfig, _detect_for_exit_code, argv, REFUSED)


def _detect_for_exit_code(config: DetectConfig) -> int:
    if config.save_jsonl == "-":
        configure_logging(keep_stdout_clear=True)
    result = detect(config)
    if result.skipped and not result.frames:
        logger.error("failed: none of %s could be read", counted(len(result.skipped), "file"))
        return 1
    if any(stream.gave_up for stream in result.streams):
        return 1
    # A live run is ended by a signal; anything else is cut short by it, as the shell expects.
    return 128 + result.stopped_by if result.stopped_by and not result.streams else 0


if __name__ == "__main__":
    sys.exit(main())
