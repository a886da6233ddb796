"""Find objects in images, videos and streams.

python detect.py --weights best.pt --source images/
python detect.py --weights best.onnx --source street.mp4 --save-txt --save-json

From Python: `detector = load_detector("best.pt"); found = detector("bus.jpg")`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from data.dataset_spec import SHIPPED, load_dataset_spec
from utils.cli import check_command_line, check_options, check_values, run_script
from utils.detect_config import REFUSED, DetectConfig

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(DetectConfig, REFUSED, data=SHIPPED)

from data.captures import CaptureOptions
from data.given_images import GivenImage, given_frames
from data.sources import FittedFrame, Source, SourceOptions, grouped, open_source
from data.streams import StreamOptions
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.detect.frame_detections import FrameDetections
from utils.detect.output import DetectionOutput, OutputOptions
from utils.detect.pipeline import Found, StopSignals, ahead, in_order
from utils.detect.preview import PreviewWindow
from utils.detect.run_log import DetectionLog, DetectResult, StageClock
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import InputSize, choose_input_hw, network_input
from utils.logs import SAMPLE_IMAGES, configure_logging
from utils.output_files import run_folder, write_json
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import FloatArray, Frame, Skipped

ImageT = TypeVar("ImageT", bound=GivenImage)
logger = logging.getLogger(__name__)
AHEAD_BATCHES = 2  # read while the network works


@dataclass(frozen=True, slots=True)
class Detector:
    """A network and how its results are read. Threads must not share one: give each its own.

    Attributes:
        runner: the network.
        class_names: name of each class id.
        size: what images are letterboxed to.
        rules: which boxes become detections.
    """

    runner: Runner
    class_names: tuple[str, ...]
    size: InputSize
    rules: PostprocessConfig

    @overload
    def __call__(self, images: ImageT, *, bgr: bool | None = None) -> FrameDetections: ...
    @overload
    def __call__(
        self, images: list[ImageT] | tuple[ImageT, ...], *, bgr: bool | None = None
    ) -> list[FrameDetections]: ...
    @overload
    def __call__(
        self, images: Iterator[ImageT], *, bgr: bool | None = None
    ) -> Iterator[FrameDetections]: ...
    def __call__(self, images: Any, *, bgr: bool | None = None) -> Any:
        """Find objects.

        Args:
            images: a path, an http(s) address, an array (height, width, 3) of uint8, a PIL image;
                a list or tuple of them; or an iterator, of which each is asked for when its
                result is.
            bgr: how the colors of arrays are ordered: as OpenCV's, or (False) red, green, blue.

        Raises:
            DatasetError: an image cannot be read, or `bgr` is needed and not given.
        """
        if isinstance(images, Iterator):
            return self._found_in(given_frames(images, bgr=bgr))
        if isinstance(images, list | tuple):
            return list(self._found_in(given_frames(images, bgr=bgr, count=len(images))))
        (found,) = self._found_in(given_frames([images], bgr=bgr, count=1))
        return found

    def stream(
        self, source: str | Path | Sequence[str | Path], options: SourceOptions | None = None
    ) -> Iterator[FrameDetections]:
        """Find objects in whatever `--source` takes: folders, videos, cameras, addresses.

        Of live sources each result is of the newest frame; a file that cannot be read is logged
        and left out.

        Raises:
            DatasetError: there is no such source.
        """
        texts = (source,) if isinstance(source, str | Path) else source
        opened = open_source([str(text) for text in texts], options or SourceOptions())
        log = DetectionLog(self.class_names, 1, strict=False)
        for result in self.results(opened, 1, log):
            if isinstance(result, Skipped):
                log.skip(result)
            else:
                yield FrameDetections(result.frame, result.detections, self.class_names)

    def results(
        self, source: Source, batch_size: int, log: DetectionLog
    ) -> Iterator[Found | Skipped]:
        """What is found in each frame, in their order, and files to skip.

        Three threads: reading, the network, and the caller's. A live source reads by itself, and
        nothing of it may wait.
        """
        batch_size = self.runner.batch_size or max(batch_size, len(source.streams))
        batches = prepared(source.batches(self.size, batch_size), log.clock)
        if not source.is_live:
            batches = ahead(batches, AHEAD_BATCHES)
        return in_order(ahead(find(self.runner, batches, self.rules, log), 1))

    def _found_in(self, frames: Iterable[Frame]) -> Iterator[FrameDetections]:
        log = DetectionLog(self.class_names, 1, strict=True)
        batches = prepared(grouped(frames, self.size, self.runner.batch_size or 1), log.clock)
        for result in in_order(find(self.runner, batches, self.rules, log)):
            if isinstance(result, Found):
                yield FrameDetections(result.frame, result.detections, self.class_names)


def load_detector(
    weights: str | Path,
    imgsz: int | Sequence[int] | None = None,
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    device: str = "",
    classes: Sequence[int] | None = None,
) -> Detector:
    """A network to find objects with from Python; what it finds is what `detect.py` finds.

    Args:
        weights: a checkpoint (.pt) or an exported file; only checkpoints need torch.
        imgsz: as the flags of these names, and so are all below.
        conf_thres: detections score above this.
        iou_thres: boxes of a class that overlap more than this are one object.
        device: cpu, a GPU number, mps; empty for the best there is.
        classes: only these class ids; None for all.

    Raises:
        UserError: the weights cannot be read, or a value is out of its range.
    """
    sides = imgsz if imgsz is None or isinstance(imgsz, int) else tuple(imgsz)
    config = DetectConfig(
        weights=str(weights), imgsz=sides, conf_thres=conf_thres, iou_thres=iou_thres,
        device=device, classes=None if classes is None else tuple(classes),
    )  # fmt: skip
    check_values(config)
    return _open_detector(config)


def _open_detector(config: DetectConfig) -> Detector:
    weights = _weights(config)
    runner = open_runner(weights, device=config.device, half=config.half)
    class_names = _class_names(config, runner)
    input_hw = choose_input_hw(
        config.imgsz, weights, runner.stride, known_hw=runner.known_hw, fixed_hw=runner.input_hw
    )
    free = config.rect and runner.input_hw == (None, None)
    size = InputSize(input_hw, runner.stride if free else None)
    return Detector(runner, class_names, size, _postprocess_config(config))


def detect(config: DetectConfig) -> DetectResult:
    """Run the network over the source and write what it finds.

    Raises:
        UserError: a flag, the weights or the source is wrong; with `strict`, a file is unreadable.
    """
    check_options(config)
    source = open_source(_sources(config), _source_options(config))
    detector = _open_detector(config)
    preview = PreviewWindow() if config.view_img else None
    log = DetectionLog(detector.class_names, config.vid_stride, strict=config.strict)
    with (
        run_folder(config.project, config.name, exist_ok=config.exist_ok) as folder,
        DetectionOutput(folder, detector.class_names, OutputOptions.of(config)) as output,
        StopSignals(source.stop) as signals,
    ):
        for result in detector.results(source, config.batch_size, log):
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
    summary = log.result(folder, source.streams, signals.received)
    logger.info(summary.as_text())
    if config.report is not None:
        write_json(Path(config.report), summary.as_report())
    return summary


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
    """What `--source` names; the shipped images where it is not given."""
    if not config.source:
        return (str(SAMPLE_IMAGES),)
    return (config.source,) if isinstance(config.source, str) else config.source


def _source_options(config: DetectConfig) -> SourceOptions:
    capture = CaptureOptions(config.vid_stride, config.poll)
    streams = StreamOptions(capture, config.every_frame, config.reconnect)
    return SourceOptions(config.recursive, streams)


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


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(DetectConfig, _detect_for_exit_code, argv, REFUSED)


def _detect_for_exit_code(config: DetectConfig) -> int:
    if config.save_jsonl == "-":
        configure_logging(keep_stdout_clear=True)
    result = detect(config)
    if result.skipped and not result.frames:
        logger.error("failed: none of %d files could be read", len(result.skipped))
        return 1
    if any(stream.gave_up for stream in result.streams):
        return 1
    # A live run is ended by a signal; anything else is cut short by it, as the shell expects.
    return 128 + result.stopped_by if result.stopped_by and not result.streams else 0


if __name__ == "__main__":
    sys.exit(main())
