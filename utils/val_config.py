"""The command line of val.py, declared once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from utils.cli import option
from utils.detect.tile_limits import MAX_OVERLAP, MERGES, MIN_TILE
from utils.flag_rules import Choices, DeviceRule, PathRule
from utils.flag_values import Flags
from utils.postprocess import VAL_POSTPROCESS, PostprocessConfig

REFUSED = {
    "--save-hybrid": "it mixes labels into detections and so inflates AP; use --save-txt",
    "--dnn": "ONNX files are run by onnxruntime; give the .onnx file to --weights",
}


@dataclass(frozen=True, slots=True)
class ValConfig(Flags):
    """Measure a network's AP on labelled images.

    Examples:
        python val.py --weights runs/train/exp/weights/best.pt --data my.yaml
        python val.py --weights best.onnx --data coco.yaml --save-json
        python val.py --weights best.pt --data my.yaml --task test --report result.json
    """

    weights: tuple[str, ...] | str = option(
        "yolov5s.pt", "checkpoint or exported file, or several whose predictions count together",
        rule=PathRule("weights"),
    )  # fmt: skip
    data: str = option("coco128.yaml", "data yaml")
    batch_size: int = option(32, "images per batch", "--batch", minimum=1)
    imgsz: int | None = option(
        None, "side of the network input in pixels (default: as the file was made, else 640)",
        "--img", "--img-size", minimum=1,
    )  # fmt: skip
    conf_thres: float = option(
        VAL_POSTPROCESS.score_threshold, "score threshold; above 0.001 AP is too low", "--conf",
        minimum=0, maximum=1,
    )  # fmt: skip
    iou_thres: float = option(
        VAL_POSTPROCESS.iou_threshold, "IoU above which NMS drops a box", "--iou",
        minimum=0, maximum=1,
    )  # fmt: skip
    max_det: int = option(VAL_POSTPROCESS.max_detections, "maximum detections per image", minimum=1)
    task: str = option(
        "val", "which split", rule=Choices(("train", "val", "test"), instead={
            "speed": "the times of each stage are in --report of every run",
            "study": "run val.py once for each --imgsz",
        }),
    )  # fmt: skip
    device: str = option(
        "", "cpu, mps, a GPU number; empty for the best there is",
        rule=DeviceRule(),
    )  # fmt: skip
    workers: int = option(8, "threads that load images", minimum=0)
    single_cls: bool = option(
        False, "treat all classes as one; networks trained so are known without the flag"
    )
    half: bool = option(False, "compute in float16 (GPU)")
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
    rect: bool | None = option(
        None, "pad each batch as little as possible (default: where the file accepts it)"
    )
    verbose: bool = option(False, "print every class, however many there are")
    save_txt: bool = option(False, "write detections as YOLO label files")
    save_conf: bool = option(False, "with --save-txt: the score as last column")
    save_json: bool = option(False, "write detections as COCO results")
    project: str = option("runs/val", "folder of runs", rule=PathRule("folder"))
    name: str = option("exp", "name of this run's folder; a number is added if it exists")
    exist_ok: bool = option(False, "use an existing folder again")
    noplots: bool = option(False, "save no curves and images")
    gallery: bool = option(False, "write gallery.html: false positives, misses and confusions")
    gallery_crops: int = option(
        20, "with --gallery: crops of each kind and cell of the confusion matrix in it",
        minimum=1, maximum=1000,
    )  # fmt: skip
    strict: bool = option(False, "any bad image or label row is an error")
    no_cache_index: bool = option(
        False, "read every image and label file anew, not only what has changed"
    )
    fail_under: float | None = option(
        None, "exit with 1 when AP is below this", minimum=0, maximum=1
    )
    report: str = option("", "write the result to this JSON file", rule=PathRule("file"))

    @property
    def weights_files(self) -> tuple[str, ...]:
        """What `--weights` names; a tuple comes from the command line."""
        return (self.weights,) if isinstance(self.weights, str) else self.weights

    @property
    def weights_text(self) -> str:
        """The weights files, for messages."""
        return " + ".join(self.weights_files)

    @property
    def rules(self) -> PostprocessConfig:
        """Which boxes become detections."""
        return replace(
            VAL_POSTPROCESS,
            score_threshold=self.conf_thres,
            iou_threshold=self.iou_thres,
            max_detections=self.max_det,
            class_agnostic=self.single_cls,
        )
