"""Find objects in images, videos and streams.

python detect.py --weights best.pt --source images/
python detect.py --weights best.onnx --source street.mp4 --save-txt --save-json
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset_spec import load_dataset_spec
from data.sources import FittedFrame, batches, open_source
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.cli import check_ranges, option, run_script
from utils.detect.output import DetectionOutput, OutputOptions
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import DetectionLog, DetectResult
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import InputSize, choose_input_hw, network_input
from utils.output_files import make_run_folder, write_json
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections, Frame, Skipped

logger = logging.getLogger(__name__)

REFUSED = {
    "--update": "weights files are never changed in place; write a smaller one with convert.py",
    "--visualize": "feature maps are not drawn; export.py and a graph viewer show the network",
    "--dnn": "OpenCV's network module is not used; .onnx files run in onnxruntime without the flag",
    "--augment": "there is no test-time augmentation; a larger --imgsz finds smaller objects",
}


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """Find objects in images, videos and streams."""

    weights: tuple[str, ...] | str = option(
        "yolov5s.pt", "checkpoint (.pt) or exported file (.onnx)"
    )
    source: str = option(
        "data/images", "image, video, folder, pattern, list.txt, camera number or stream address"
    )
    data: str | None = option(None, "data yaml with class names, for a file that has none inside")
    imgsz: tuple[int, ...] | int | None = option(
        None, "input size: one number, or height and width (default: as the file was made, else "
        "640)", "--img", "--img-size", minimum=1, max_values=2,
    )  # fmt: skip
    conf_thres: float = option(0.25, "detections must score above this", minimum=0, maximum=1)
    iou_thres: float = option(
        0.45, "boxes of a class that overlap more than this are one object", minimum=0, maximum=1
    )
    max_det: int = option(1000, "at most this many detections per image", minimum=1)
    device: str = option("", "cpu, a GPU number, mps; empty for the best there is")
    half: bool = option(False, "compute in float16 (GPU)")
    view_img: bool = option(False, "show the results in a window")
    save_txt: bool = option(False, "write labels/*.txt in YOLO format")
    save_conf: bool = option(False, "with --save-txt: the score as last column")
    save_format: int = option(
        0, "with --save-txt: 0 centre and size, 1 left top right bottom", minimum=0, maximum=1
    )
    save_csv: bool = option(False, "write predictions.csv")
    save_json: bool = option(False, "write predictions.json")
    save_crop: bool = option(False, "write each detection as an image to crops/<class>/")
    nosave: bool = option(False, "do not write images and videos with boxes drawn on them")
    classes: tuple[int, ...] | None = option(None, "only these class ids", minimum=0)
    agnostic_nms: bool = option(False, "boxes suppress each other across classes")
    project: str = option("runs/detect", "where the run's folder goes")
    name: str = option("exp", "name of the run's folder; a number is added if it exists")
    exist_ok: bool = option(False, "use the folder even if it exists")
    line_thickness: int | None = option(
        None, "of boxes, in pixels; default: suits the image", minimum=1
    )
    hide_labels: bool = option(False, "draw boxes without names")
    hide_conf: bool = option(False, "draw names without scores")
    vid_stride: int = option(1, "process every N-th frame of a video", minimum=1)
    batch_size: int = option(1, "images per run of the network", "--batch", minimum=1)
    strict: bool = option(False, "an image that cannot be read is an error")
    report: str | None = option(None, "write counts and times to this .json")


def detect(config: DetectConfig) -> DetectResult:
    """Run the network over the source and write what it finds.

    Raises:
        UserError: a flag, the weights or the source is wrong; with `strict`, a file is unreadable.
    """
    check_ranges(config)
    source = open_source(config.source, config.vid_stride)
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
    folder = make_run_folder(config.project, config.name, exist_ok=config.exist_ok)
    log = DetectionLog(class_names, config.vid_stride, strict=config.strict)
    with DetectionOutput(folder, class_names, _output_options(config)) as output:
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
