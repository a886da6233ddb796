"""What a reader has beside the project: `python -m tests.documents.givens` draws it all.

It is written into the working directory, a copy of the project: a data set `my.yaml`, networks,
images, a video, and a training run that was cut off. The networks are the shipped ones, and some
with random weights in YOLOv5's own format; the data sets are drawn. Nothing real is needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import export
from data.synthetic.dataset import SyntheticConfig, write_dataset
from models.export.request import ExportConfig
from models.network.detector import build_model
from models.network.model_spec import SPECS_FOLDER, ModelSpec
from tests.checkpoint_builders import save_yolov5
from tests.documents.rules import SIZE
from train import TrainConfig, train
from utils.engine.epoch_row import EpochRow
from utils.logs import SHIPPED_WEIGHTS
from utils.strict_yaml import read_yaml, write_yaml

IMAGES, CALIBRATING = 12, 6
VIDEO_HW, FRAMES, FPS = (1080, 1920), 12, 25.0
COPIES = ("best.pt", "best-deploy.pt", "a.pt", "other.pt", "runs/train/large/weights/best.pt")
CUT_RUN = Path("runs/train/exp")


class CutOffError(Exception):
    """What stops the training run."""


def main() -> None:
    """Everything, into the working directory."""
    write_data(Path("datasets/mine"))
    write_media()
    write_networks()
    cut_training(CUT_RUN)


def write_data(folder: Path) -> None:
    """`my.yaml` of drawn blood cells, and a coco128 of them where its yaml looks for it."""
    write_dataset(folder, SyntheticConfig(IMAGES, 640, kind="cells"))
    names = read_yaml(folder / "data.yaml")["names"]
    splits = {"train": "images/train", "val": "images/val", "test": "images/val"}
    write_yaml(Path("my.yaml"), {"path": folder.as_posix(), **splits, "names": names})
    for kind in ("images", "labels"):
        shutil.copytree(folder / kind / "val", Path("../datasets/coco128") / kind / "train2017",
                        dirs_exist_ok=True)  # fmt: skip


def write_media() -> None:
    """Images of one's own, and a video of a street with nobody in it."""
    drawn = sorted(Path("datasets/mine/images/train").iterdir())
    for folder, count in (("images", CALIBRATING), ("aerial", 1)):
        Path(folder).mkdir()
        for path in drawn[:count]:
            shutil.copy(path, folder)
    shutil.copy(drawn[0], "bus.jpg")
    height, width = VIDEO_HW
    writer = cv2.VideoWriter("street.mp4", cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
    image = cv2.imread(str(drawn[0]))
    for number in range(FRAMES):
        frame = np.full((height, width, 3), 200, np.uint8)
        frame[300 : 300 + image.shape[0], 20 * number : 20 * number + image.shape[1]] = image
        writer.write(frame)
    writer.release()


def write_networks() -> None:
    """Copies of a shipped checkpoint, files exported from it, and networks as YOLOv5 saves them."""
    shipped = SHIPPED_WEIGHTS / "repyolov5n-bccd.pt"
    for name in COPIES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shipped, name)
    request = ExportConfig("best.pt", imgsz=(SIZE,), device="cpu")
    export.export(request)
    shutil.copy("best.onnx", "b.onnx")
    shutil.copy("best.onnx", "best-int8.onnx")
    names = read_yaml(Path("data/datasets/coco128.yaml"))["names"]
    spec = ModelSpec.from_yaml(read_yaml(SPECS_FOLDER / "yolov5n.yaml"), "yolov5n.yaml")
    for name in ("yolov5n.pt", "yolov5s.pt"):
        save_yolov5(Path(name), build_model(spec), names=names)


def cut_training(run: Path) -> None:
    """A run of two epochs that ended after the first one."""

    def stop(row: EpochRow) -> bool | None:
        raise CutOffError(str(row.epoch))

    config = TrainConfig(
        data="my.yaml", cfg="repyolov5n.yaml", epochs=2, imgsz=SIZE, batch_size=4, workers=0,
        noplots=True, project=run.parent.as_posix(), name=run.name,
    )  # fmt: skip
    _ends_with(CutOffError, lambda: train(config, on_epoch=stop))


def _ends_with(kind: type[Exception], action: Callable[[], object]) -> None:
    try:
        action()
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}")


if __name__ == "__main__":
    main()
