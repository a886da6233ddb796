"""The command line of detect.py, declared once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

from utils.cli import option
from utils.detect.tile_limits import MAX_OVERLAP, MERGES, MIN_TILE
from utils.errors import ConfigError, missing_weights
from utils.flag_rules import Choices, DeviceRule, FreeName, PathRule
from utils.flag_values import Flags, check_values
from utils.logs import SAMPLE_IMAGES, SHIPPED_WEIGHTS
from utils.path_kind import path_kind
from utils.postprocess import IOU_THRESHOLD, SCORE_THRESHOLD, PostprocessConfig
from utils.strict_mapping import check_keys

DEFAULT_WEIGHTS = SHIPPED_WEIGHTS / "repyolov5n-npu-deeppcb.pt"
REFUSED = {
    "--update": "weights files are never changed in place; write a smaller one with convert.py",
    "--visualize": "feature maps are not drawn; export.py and a graph viewer show the network",
    "--dnn": "OpenCV's network module is not used; .onnx files run in onnxruntime without the flag",
}
# What a run may write into its folder, besides the file of --save-jsonl.
OWN_FILES = frozenset(
    ("progress.jsonl", "predictions.csv", "predictions.json", "counts.csv", "compare.csv",
     "compare.json")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DetectConfig(Flags):
    """Find objects in images, videos and streams.

    Examples:
        python detect.py --weights runs/train/exp/weights/best.pt
        python detect.py --weights best.pt --source images/ --conf 0.4 --save-txt
        python detect.py --weights best.onnx --source street.mp4 --save-json
        python detect.py --weights best.pt --source aerial/ --tile 640
        python detect.py --weights best.pt --source 0 --view-img
        python detect.py --weights best.onnx --source street.mp4 --track --zones zones.yaml
        python detect.py --weights best.pt --source 0 --nosave --web 8080
        python detect.py --weights best.onnx --source rtsp://door rtsp://yard --save-jsonl -
        python detect.py --weights best.pt --compare best.onnx --source images/
    """

    weights: tuple[str, ...] | str = option(
        "",
        "checkpoint (.pt) or exported file (.onnx), or several whose predictions count together "
        "(default: a shipped network that finds defects of circuit boards)",
        rule=PathRule("weights"),
    )
    source: tuple[str, ...] | str = option(
        "", "images, videos, folders, patterns, list.txt, - for standard input; or live: camera "
        "numbers, addresses, list.streams, screen (default: the images shipped in data/images)",
    )  # fmt: skip
    compare: str | None = option(
        None, "a second network: images show the boxes of both side by side, compare.csv and "
        "compare.json which of them agree; other outputs are those of --weights",
        rule=PathRule("weights"),
    )  # fmt: skip
    shard: str | None = option(
        None, "3/16: the third of sixteen parts, every 16th file from the 3rd, of one video a "
        "sixteenth of its frames",
    )  # fmt: skip
    resume: bool = option(False, "go on with the newest run of this --name, where it was cut")
    track: bool = option(False, "give each object of a video or stream an id that it keeps")
    zones: str | None = option(
        None, "count what crosses the lines and is in the zones of this yaml (needs --track)"
    )
    recursive: bool = option(False, "look into folders below --source, too")
    poll: float | None = option(
        None, "fetch the image at an address again every so many seconds", minimum=0.01
    )
    every_frame: bool = option(False, "of live sources every frame, however late, not the newest")
    reconnect: float | None = option(
        None, "give up a live source that is away for so many seconds (default: never)", minimum=0
    )
    data: str | None = option(None, "data yaml with class names, for a file that has none inside")
    imgsz: tuple[int, ...] | int | None = option(
        None, "input size: one number, or height and width (default: as the file was made, else "
        "640)", "--img", "--img-size", minimum=1, max_values=2,
    )  # fmt: skip
    conf_thres: float = option(
        SCORE_THRESHOLD, "detections must score above this", "--conf", minimum=0, maximum=1
    )
    iou_thres: float = option(
        IOU_THRESHOLD, "boxes of a class that overlap more than this are one object", "--iou",
        minimum=0, maximum=1,
    )  # fmt: skip
    max_det: int = option(1000, "at most this many detections per image", minimum=1)
    augment: bool = option(False, "each image is seen at three sizes: finds more, takes longer")
    tile: int | None = option(
        None, "see images also in tiles of this side in pixels, for small objects (bare: the "
        "network's input size)", const=0, minimum=MIN_TILE, besides=(0,),
    )  # fmt: skip
    tile_overlap: float = option(
        0.2, "with --tile: part of its side that a tile shares with the next",
        minimum=0, maximum=MAX_OVERLAP,
    )  # fmt: skip
    tile_merge: str = option(
        "nms", "with --tile: how boxes of tiles become one", rule=Choices(MERGES)
    )
    device: str = option(
        "", "cpu, a GPU number, mps; empty for the best there is",
        rule=DeviceRule(),
    )  # fmt: skip
    half: bool = option(False, "compute in float16 (GPU)")
    view_img: bool = option(False, "show the results in a window")
    web: str | None = option(
        None, "PORT or HOST:PORT: show the results in a browser, and answer POST /detect; without "
        "--source that alone", const="8080",
    )  # fmt: skip
    save_txt: bool = option(False, "write labels/*.txt in YOLO format")
    save_conf: bool = option(False, "with --save-txt: the score as last column")
    save_format: int = option(
        0, "with --save-txt: 0 centre and size, 1 left top right bottom", minimum=0, maximum=1
    )
    save_csv: bool = option(False, "write predictions.csv")
    save_json: bool = option(False, "write predictions.json")
    save_jsonl: str | None = option(
        None, "write a JSON line per frame to this file in the run's folder; - is standard output",
        const="predictions.jsonl", rule=FreeName(OWN_FILES),
    )  # fmt: skip
    save_crop: bool = option(False, "write each detection as an image to crops/<class>/")
    nosave: bool = option(False, "do not write images and videos with boxes drawn on them")
    classes: tuple[int, ...] | None = option(None, "only these class ids", minimum=0)
    agnostic_nms: bool = option(False, "boxes suppress each other across classes")
    project: str = option("runs/detect", "folder of runs", rule=PathRule("folder"))
    name: str = option("exp", "name of this run's folder; a number is added if it exists")
    exist_ok: bool = option(False, "use an existing folder again")
    segment: float | None = option(
        None, "without --nosave: begin a new video file after so many seconds", minimum=1
    )
    line_thickness: int | None = option(
        None, "of boxes, in pixels (default: suits the image)", minimum=1, maximum=100
    )
    hide_labels: bool = option(False, "draw boxes without names")
    hide_conf: bool = option(False, "without --hide-labels: draw names without scores")
    vid_stride: int = option(1, "process every N-th frame of a video", minimum=1)
    batch_size: int = option(1, "images per run of the network", "--batch", minimum=1)
    rect: bool = option(
        True, "pad images no more than the network needs; --no-rect: to one size, for full batches"
    )
    strict: bool = option(False, "an image that cannot be read is an error")
    report: str | None = option(None, "write counts and times to this .json", rule=PathRule("file"))

    @property
    def weights_files(self) -> tuple[str, ...]:
        """What `--weights` names, or the shipped file; a tuple comes from the command line."""
        if not self.weights:
            return (str(DEFAULT_WEIGHTS),)
        return (self.weights,) if isinstance(self.weights, str) else self.weights

    @property
    def weights_text(self) -> str:
        """The weights files, for messages."""
        return " + ".join(self.weights_files)

    @property
    def sources(self) -> tuple[str, ...]:
        """What `--source` names, or the shipped images that suit the weights."""
        if not self.source:
            return (str(SAMPLE_IMAGES if self.weights else SAMPLE_IMAGES / "deeppcb_*.jpg"),)
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def rules(self) -> PostprocessConfig:
        """Which boxes become detections."""
        return PostprocessConfig(
            score_threshold=self.conf_thres,
            iou_threshold=self.iou_thres,
            max_detections=self.max_det,
            class_agnostic=self.agnostic_nms,
            classes=self.classes,
        )


class FurtherFlags(TypedDict, total=False):
    """Flags of a detector called from Python that are given by their names only."""

    data: str
    max_det: int
    agnostic_nms: bool
    augment: bool
    tile: int | None
    tile_overlap: float
    tile_merge: str
    half: bool
    rect: bool
    batch_size: int


class DetectorFlags(FurtherFlags, total=False):
    """All flags that concern a detector called from Python, and not its sources and files."""

    conf_thres: float
    iou_thres: float
    device: str | int | None
    classes: int | Sequence[int] | None


def given_classes(classes: Any) -> tuple[Any, ...] | None:
    """One class id or several, from Python, as the flag has them; text stays whole."""
    if classes is None:
        return None
    several = isinstance(classes, Iterable) and not isinstance(classes, str | bytes)
    return tuple(classes) if several else (classes,)


def detector_config(
    weights: str | PathLike[str], imgsz: int | Sequence[int] | None, flags: DetectorFlags
) -> DetectConfig:
    """The flags of a detector called from Python, checked.

    Raises:
        ConfigError: there is no such flag, or a value is out of its range.
        CheckpointError: there is no such weights file.
    """
    check_keys("load_detector", flags, (), DetectorFlags.__annotations__)
    given: dict[str, Any] = dict(flags)
    given["classes"] = given_classes(flags.get("classes"))
    device = flags.get("device")
    given["device"] = "" if device is None else str(device)
    sides = tuple(imgsz) if isinstance(imgsz, Iterable) and not isinstance(imgsz, str) else imgsz
    config = DetectConfig(weights=weights, imgsz=sides, **given)  # type: ignore[arg-type]
    check_values(config)
    if not isinstance(config.weights, str):
        raise ConfigError(f"--weights {weights!r}: expected one file")
    if not config.weights:  # which stands for the shipped network on the command line
        raise ConfigError("--weights: is empty; name a file")
    if path_kind(Path(config.weights)) is None:
        raise missing_weights(Path(config.weights))
    return config
