"""Find objects in images, videos and streams.

python detect.py --weights best.pt --source images/

From Python: `detector = load_detector("best.pt"); found = detector("bus.jpg")`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from utils.logs import require_packages

if __name__ == "__main__":
    require_packages()

from data.datasets import DATASETS_FOLDER
from utils.cli import check_command_line, check_options, run_checked, run_script
from utils.detect_config import REFUSED, DetectConfig, FurtherFlags, detector_config
from utils.openmp import let_threads_sleep

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    checked = check_command_line(DetectConfig, REFUSED, data=DATASETS_FOLDER)
    let_threads_sleep()  # before torch is loaded

from data.idle_flags import log_idle_source_flags
from data.sources import FileSource, SourceOptions, open_source, source_texts
from models.runtimes.open_runner import open_networks
from utils.detect.output import DetectionOutput
from utils.detect.output_options import OutputOptions
from utils.detect.pipeline import Found, FrameDetector, Source
from utils.detect.progress import Progress, folder_of
from utils.detect.run_log import DetectionLog, DetectResult
from utils.errors import CheckpointError, ConfigError
from utils.letterbox import InputSize, choose_input_hw
from utils.logs import configure_logging, counted
from utils.output_files import write_json
from utils.postprocess import IOU_THRESHOLD, SCORE_THRESHOLD
from utils.stop_signals import StopSignals, end_program
from utils.structures import Frame, NamedFile, Skipped, StreamState

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from data.given_images import GivenImage, ImagePath
    from data.video import Shard
    from models.runtimes.runner import Runner
    from utils.detect.frame_detections import FrameDetections
    from utils.detect.second_network import SecondNetwork
    from utils.detect.tracking import ObjectTracker
    from utils.web.live_page import LivePage

ImageT = TypeVar("ImageT", bound="GivenImage")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds objects for other programs. Threads must not share one: give each its own.

    Attributes:
        finder: the network, its class names, and the rules for its boxes.
        batch_size: images per run of the network, which is how far an iterator is read ahead.
    """

    finder: FrameDetector
    batch_size: int = 1

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
            images: a path, an http(s) address, an array (height, width, 3) of uint8, a PIL image,
                the bytes of an image file; a list or tuple of them; or an iterator, of which each
                is asked for when its result is.
            bgr: how the colors of arrays are ordered: as OpenCV's, or (False) red, green, blue.

        Raises:
            DatasetError: an image cannot be read, or `bgr` is needed and not given.
        """
        from data.given_images import given_frames, is_iterator

        if is_iterator(images):
            return self._found_in(given_frames(images, bgr=bgr))
        if isinstance(images, list | tuple):
            return list(self._found_in(given_frames(images, bgr=bgr, count=len(images))))
        (found,) = self._found_in(given_frames([images], bgr=bgr, count=1))
        return found

    def stream(
        self,
        source: ImagePath | int | Sequence[ImagePath | int],
        options: SourceOptions | None = None,
    ) -> Iterator[FrameDetections]:
        """Find objects in whatever `--source` takes: folders, videos, cameras, addresses.

        Of live sources each result is of the newest frame. A file that cannot be read is logged
        and skipped. Closing the iterator closes the source.

        Raises:
            DatasetError: there is no such source, or it is none.
        """
        opened = open_source(source_texts(source), options or SourceOptions())
        log = DetectionLog(self.finder.class_names, 1, strict=False)
        try:
            for result in self.finder.results(opened, self.batch_size, log.clock):
                if isinstance(result, Skipped):
                    log.skip(result)
                else:
                    yield self._in_frame(result)
        finally:
            opened.stop()

    def _found_in(self, frames: Iterator[Frame]) -> Iterator[FrameDetections]:
        for found in self.finder.found_in(frames, self.batch_size):
            yield self._in_frame(found)

    def _in_frame(self, found: Found) -> FrameDetections:
        from utils.detect.frame_detections import FrameDetections

        return FrameDetections(found.frame, found.detections, self.finder.class_names)


def load_detector(
    weights: ImagePath, imgsz: int | Sequence[int] | None = None,
    conf_thres: float = SCORE_THRESHOLD, iou_thres: float = IOU_THRESHOLD,
    device: str | int | None = "", classes: int | Sequence[int] | None = None,
    **further: Unpack[FurtherFlags],
) -> Detector:  # fmt: skip
    """A network to find objects with from Python; what it finds is what `detect.py` finds.

    Args:
        weights: a checkpoint (.pt) or an exported file; only checkpoints need torch.
        imgsz: one side or height and width of the network input; None as the file was made.
        conf_thres: detections must score above this.
        iou_thres: boxes of a class that overlap more than this are one object.
        device: cpu, a GPU number, cuda, mps; None or empty for the best there is.
        classes: only these class ids; None for all.
        **further: other flags of `detect.py --help`: those of FurtherFlags.

    Raises:
        UserError: the weights cannot be read, or a value is out of its range.
    """
    config = detector_config(weights, imgsz, {"conf_thres": conf_thres, "iou_thres": iou_thres,
                             "device": device, "classes": classes, **further})  # fmt: skip
    return Detector(_open_detector(config), config.batch_size)


def detect(config: DetectConfig) -> DetectResult:
    """Run the network over the source and write what it finds.

    Raises:
        UserError: a flag, the weights or the source is wrong; with `strict`, a file is unreadable.
    """
    check_options(config, DetectConfig)
    options = SourceOptions.of(config)
    source = open_source(config.sources, options)
    log_idle_source_flags(config, source)
    with nullcontext() if config.web is None else _live_page(config, source.streams) as page:
        return _run(config, source, options.shard, page)


def _run(
    config: DetectConfig, source: Source, shard: Shard | None, page: LivePage | None
) -> DetectResult:
    """The run of `detect`; a page shows it."""
    detector, second, tracker = _open_all(config, source.files)
    preview = None
    if config.view_img:
        from utils.detect.preview import PreviewWindow

        preview = PreviewWindow()
    names = detector.class_names
    log = DetectionLog(names, config.vid_stride, strict=config.strict, tracks=config.track)
    outputs = OutputOptions.of(config)
    compared = None if second is None else second.files
    watchers = () if page is None else (page.watcher(names, outputs),)
    with (
        folder_of(config, shard, is_live=source.is_live) as folder,
        _progress(config, source, folder, tracker) as progress,
        DetectionOutput(folder, names, outputs, source.files, progress, compared,
                        watchers) as output,
        StopSignals(source.stop) as signals,
    ):  # fmt: skip
        results = detector.results(source, config.batch_size, log.clock)
        if tracker is not None:
            results = tracker.followed(results, log.clock)
        for result in results if second is None else second.compared(results):
            if isinstance(result, Skipped):
                log.skip(result)
                continue
            log.add(result.frame, result.input_hw, result.detections, result.milliseconds)
            more = result.counts, result.comparison
            with log.clock.stage("write"):
                output.write(result.frame, result.detections, *more)
            if preview is not None:
                drawn = output.draw(result.frame, result.detections, *more)
                if not preview.show(drawn, is_video=result.frame.is_video, signals=signals):
                    break
        else:
            if signals.received is None:
                progress.finish()
    comparison = None if second is None else second.write_summary(output, log.frames, folder)
    summary = log.result(folder, source.streams, signals.received, comparison)
    if tracker is not None:
        summary = replace(summary, tracks=tracker.tracks)
    logger.info(summary.as_text())
    if config.report is not None:
        write_json(Path(config.report), summary.as_report())
    return summary


def _live_page(config: DetectConfig, streams: Sequence[StreamState] | None) -> LivePage:
    """The page of `--web`; None for streams where there is no source."""
    from data.image_file import decode_image
    from data.image_formats import read_header
    from utils.web.live_page import LivePage
    from utils.web.uploads import ImageReader

    reader = ImageReader(read_header, decode_image)
    return LivePage(config.web or "", lambda: _open_detector(config), reader, streams)


def _progress(
    config: DetectConfig, source: Source, folder: Path, tracker: ObjectTracker | None
) -> Progress:
    """Of the run; `source` begins behind what a cut one has written."""
    zones = None if tracker is None else tracker.zones
    more = {} if zones is None else {"zones": f"{zones.path} (SHA-256 {zones.digest})"}
    progress = Progress.of(config, folder, source.files, **more)
    if isinstance(source, FileSource):
        source.done = progress.done
    return progress


def _open_all(
    config: DetectConfig, files: Sequence[NamedFile]
) -> tuple[FrameDetector, SecondNetwork | None, ObjectTracker | None]:
    """The network, the one of `--compare`, and what follows the objects of `--track`."""
    zones = None
    if config.track or config.zones is not None:
        from utils.detect.zones import zones_of  # first: networks take long to open

        zones = zones_of(config, files)
    detector, second = _open_detectors(config)
    if not config.track:
        return detector, second, None
    from utils.detect.tracking import with_tracker

    detector, tracker = with_tracker(detector, zones)
    return detector, second, tracker


def _open_detector(config: DetectConfig) -> FrameDetector:
    runner = open_networks(config.weights_files, device=config.device, half=config.half,
                           augment=config.augment)  # fmt: skip
    class_names = _class_names(config, runner)
    input_hw = choose_input_hw(config.imgsz, config.weights_text, runner.stride,
                               known_hw=runner.known_hw, fixed_hw=runner.input_hw)  # fmt: skip
    free = config.rect and runner.input_hw == (None, None)
    size = InputSize(input_hw, runner.stride if free else None)
    detector = FrameDetector(runner, class_names, size, config.rules)
    if config.tile is None:
        return detector
    from utils.detect.tiled_detector import with_tiles

    return with_tiles(detector, config)


def _open_detectors(config: DetectConfig) -> tuple[FrameDetector, SecondNetwork | None]:
    """The network, and the one of `--compare`; None without it.

    Raises:
        CheckpointError: they have other class names.
    """
    first = _open_detector(config)
    if config.compare is None:
        return first, None
    from utils.detect.second_network import compared_networks

    # Its class ids may be others, so the chosen ones are translated when the names are known.
    other = _open_detector(replace(config, weights=config.compare, classes=None))
    return compared_networks(first, other, (config.weights_text, config.compare))


def _class_names(config: DetectConfig, runner: Runner) -> tuple[str, ...]:
    """From the weights file; from `--data` where the file has none.

    Raises:
        CheckpointError: neither has them.
        ConfigError: `--classes` has other ids.
    """
    if runner.class_names:
        if config.data is not None:
            logger.info("--data %s: not needed, %s has names", config.data, config.weights_text)
        names = runner.class_names
    elif config.data is not None:
        from data.dataset_spec import load_dataset_spec

        names = load_dataset_spec(config.data).class_names
    else:
        raise CheckpointError(
            f"{config.weights_text}: has no class names inside; give --data, a yaml that lists them"
        )
    if config.classes and not 0 <= min(config.classes) <= max(config.classes) < len(names):
        raise ConfigError(
            f"--classes {' '.join(map(str, config.classes))}: the classes of {config.weights_text} "
            f"are 0 to {len(names) - 1}"
        )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(DetectConfig, _detect_for_exit_code, argv, REFUSED)


def _detect_for_exit_code(config: DetectConfig) -> int:
    if config.save_jsonl == "-":
        configure_logging(keep_stdout_clear=True)
    if config.web is not None and not config.source:
        with _live_page(config, None) as page:
            return page.serve()
    result = detect(config)
    if result.skipped and not result.frames:
        logger.error("failed: none of %s could be read", counted(len(result.skipped), "file"))
        return 1
    if any(stream.gave_up for stream in result.streams):
        return 1
    # A live run is ended by a signal; anything else is cut short by it, as the shell expects.
    return 128 + result.stopped_by if result.stopped_by and not result.streams else 0


if __name__ == "__main__":
    end_program(run_checked(checked, _detect_for_exit_code))
