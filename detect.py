"""Find objects in images, videos and streams.

python detect.py --weights best.pt --source images/
python detect.py --weights best.onnx --source street.mp4 --save-txt --save-json
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data.dataset_spec import SHIPPED, load_dataset_spec
from utils.cli import check_command_line, check_options, run_script
from utils.detect_config import REFUSED, DetectConfig

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(DetectConfig, REFUSED, data=SHIPPED)

from data.sources import FittedFrame, batches, open_source
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.detect.output import DetectionOutput, OutputOptions
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import DetectionLog, DetectResult
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import InputSize, choose_input_hw, network_input
from utils.logs import SAMPLE_IMAGES
from utils.output_files import run_folder, write_json
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections, Frame, Skipped

logger = logging.getLogger(__name__)


def detect(config: DetectConfig) -> DetectResult:
    """Run the network over the source and write what it finds.

    Raises:
        UserError: a flag, the weights or the source is wrong; with `strict`, a file is unreadable.
    """
    check_options(config)
    source = open_source(config.source or str(SAMPLE_IMAGES), config.vid_stride)
    runner = open_runner(_weights(config), device=config.device, half=config.half)
    class_names = _class_names(config, runner)
    input_hw = choose_input_hw(
        config.imgsz, _weights(config), runner.stride, known_hw=runner.known_hw,
        fixed_hw=runner.input_hw,
    )  # fmt: skip
    size = InputSize(input_hw, runner.stride if runner.input_hw == (None, None) else None)
    # A frame of a live stream does not wait for others.
    batch_size = 1 if source.is_stream else runner.batch_size or config.batch_size
    preview = PreviewWindow() if config.view_img else None
    log = DetectionLog(class_names, config.vid_stride, strict=config.strict)
    with (
        run_folder(config.project, config.name, exist_ok=config.exist_ok) as folder,
        DetectionOutput(folder, class_names, _output_options(config)) as output,
    ):
        try:
            frames = batches(log.clock.each("decode", source), size, batch_size)
            for frame, found in find(runner, frames, _postprocess_config(config), log):
                with log.clock.stage("write"):
                    output.write(frame, found)
                if preview is not None:
                    drawn = output.draw(frame, found)
                    if not preview.show(drawn, is_video=frame.is_video):
                        break
        except KeyboardInterrupt:
            if not source.is_stream:
                raise
            logger.info("stopped; the frames so far are saved")
        result = log.result(folder)
    logger.info(result.as_text())
    if config.report is not None:
        write_json(Path(config.report), result.as_report())
    return result


def find(
    runner: Runner,
    frames: Iterable[list[FittedFrame] | Skipped],
    rules: PostprocessConfig,
    log: DetectionLog,
) -> Iterator[tuple[Frame, Detections]]:
    """Preprocess, run and postprocess batch after batch.

    Args:
        runner: the network.
        frames: batches of one input size, and files to skip.
        rules: which boxes become detections.
        log: counts frames, skipped files and times.

    Yields:
        Each frame with its detections, boxes in pixels of the frame.
    """
    for batch in frames:
        if isinstance(batch, Skipped):
            log.skip(batch)
            continue
        with log.clock.stage("preprocess"):
            images = network_input([box.apply_image(frame.image) for frame, box in batch])
        with log.clock.stage("inference"):
            decoded = runner.run(images)
        milliseconds = 1000 * log.clock.last["inference"] / len(batch)
        _check_num_classes(decoded.shape[2] - 5, log.class_names)
        for (frame, box), rows in zip(batch, decoded, strict=True):
            with log.clock.stage("postprocess"):
                found = postprocess(rows, rules).in_original(box)
            log.add(frame, box.input_hw, found, milliseconds)
            yield frame, found


def _weights(config: DetectConfig) -> str:
    """The one weights file; a tuple comes from the command line."""
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


def _output_options(config: DetectConfig) -> OutputOptions:
    return OutputOptions(
        images=not config.nosave,
        labels=config.save_txt,
        label_scores=config.save_conf,
        label_corners=config.save_format == 1,
        csv=config.save_csv,
        json=config.save_json,
        crops=config.save_crop,
        line_thickness=config.line_thickness,
        hide_labels=config.hide_labels,
        hide_scores=config.hide_conf,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(DetectConfig, _detect_for_exit_code, argv, REFUSED)


def _detect_for_exit_code(config: DetectConfig) -> int:
    result = detect(config)
    if result.skipped and not result.frames:
        logger.error("failed: none of %d files could be read", len(result.skipped))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
