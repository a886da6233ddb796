"""Every plot is written, for few classes, many and none, and leaves nothing else behind."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import ConfigError, MissingPackageError
from utils.plots.confusion import plot_confusion_matrix
from utils.plots.figure import make_figure, printable, tick_step
from utils.plots.label_statistics import plot_labels
from utils.plots.score_curves import plot_pr_curve, plot_score_curves
from utils.plots.training_curves import AP, AP50, best_row, plot_results, read_results

HEADER = (
    "epoch,train/box_loss,train/obj_loss,train/cls_loss,metrics/precision,metrics/recall,"
    "metrics/mAP_0.5,metrics/mAP_0.5:0.95,val/box_loss,val/obj_loss,val/cls_loss,x/lr0,x/lr1,x/lr2"
)
NAMES = {
    0: [],  # no class at all
    3: ["a $cat$ and", "_hidden", "名前"],  # formula, legend and font traps
    80: [f"class {number}" for number in range(80)],  # as many as COCO
}


def results_csv(folder: Path, *quality: tuple[str, str]) -> Path:
    """results.csv with cells padded as YOLOv5 pads them; `quality` is AP50 and AP per epoch."""
    lines = [",".join(f"{name:>20}" for name in HEADER.split(","))]
    for epoch, (ap50, ap) in enumerate(quality):
        cells = [str(epoch), *["0.1"] * 5, ap50, ap, *["0.2"] * 3, *["0.01"] * 3]
        lines.append(",".join(f"{cell:>20}" for cell in cells))
    path = folder / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def assert_image(path: Path) -> None:
    image = cv2.imread(str(path))
    assert image is not None
    assert min(image.shape[:2]) > 300
    assert image.std() > 1  # not blank
    assert not list(path.parent.glob(".*"))  # no temporary file left


@pytest.mark.parametrize(
    ("quality", "best"),
    [
        ([("0.1", "0.05"), ("0.6", "0.4"), ("0.5", "0.3")], 1),  # the middle one
        ([("0.9", "0.1"), ("0.1", "0.2")], 1),  # AP counts nine times as much as AP50
        ([("0.5", "0.3"), ("0.5", "0.3")], 0),  # the first of equals
        ([("nan", "nan"), ("0.2", "0.1")], 1),  # not validated: nan
        ([("", ""), ("0.2", "0.1")], 1),  # not validated: nothing
        ([("nan", "nan")], None),  # never validated
        ([], None),  # stopped before the first epoch ended
    ],
)
def test_results(tmp_path: Path, quality, best) -> None:
    path = results_csv(tmp_path, *quality)
    columns = read_results(path)
    assert [len(columns[AP50]), len(columns[AP])] == [len(quality)] * 2
    assert best_row(columns) == best
    plot_results(path, tmp_path / "results.png")
    assert_image(tmp_path / "results.png")


def test_results_of_a_killed_run_lose_the_half_row(tmp_path: Path) -> None:
    path = results_csv(tmp_path, ("0.1", "0.1"))
    path.write_text(path.read_text() + "                   1,     0.1")
    assert read_results(path)["epoch"].tolist() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metrics/recall", "recall"), ": column 'metrics/recall' is missing; found epoch, "),
        ((" 0.05", " high"), ":2: 'high' is not a number"),
    ],
)
def test_results_errors_name_file_and_place(tmp_path: Path, change, message) -> None:
    path = results_csv(tmp_path, ("0.1", "0.05"))
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError) as caught:
        plot_results(path, tmp_path / "results.png")
    assert str(caught.value).startswith(f"{path}{message}")


@pytest.mark.parametrize("num_classes", NAMES)
@pytest.mark.parametrize("count", [0, 1, 1500])
def test_labels(tmp_path: Path, num_classes: int, count: int) -> None:
    count = count if num_classes else 0
    generator = np.random.default_rng(0)
    class_ids = generator.integers(0, max(num_classes, 1), count)
    boxes = generator.uniform(0, 1, (count, 4)).astype(np.float32)
    before = boxes.copy()
    plot_labels(class_ids, boxes, NAMES[num_classes], tmp_path / "labels.jpg")
    assert_image(tmp_path / "labels.jpg")
    assert np.array_equal(boxes, before)


@pytest.mark.parametrize("num_classes", NAMES)
@pytest.mark.parametrize("seen", ["all", "one missing"])
def test_score_and_pr_curves(tmp_path: Path, num_classes: int, seen: str) -> None:
    confidence = np.linspace(0, 1, 1000)
    precision = np.tile(confidence, (num_classes, 1))
    ap50 = np.full(num_classes, 0.5)
    if seen == "one missing":
        precision[:1], ap50[:1] = np.nan, np.nan
    names = NAMES[num_classes]
    plot_score_curves(confidence, precision, 1 - precision, names, tmp_path)
    plot_pr_curve(confidence, 1 - precision, ap50, names, tmp_path / "PR_curve.png")
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["F1_curve.png", "PR_curve.png", "P_curve.png", "R_curve.png"]
    for name in made:
        assert_image(tmp_path / name)


@pytest.mark.parametrize("num_classes", NAMES)
@pytest.mark.parametrize("count", [0, 7])
def test_confusion_matrix(tmp_path: Path, num_classes: int, count: int) -> None:
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    matrix[0, 0] = count  # every other column is empty
    plot_confusion_matrix(matrix, NAMES[num_classes], tmp_path / "confusion_matrix.png")
    assert_image(tmp_path / "confusion_matrix.png")


def test_printable() -> None:
    assert printable(["a $x$", "naïve", "名"]) == [r"a \$x\$", "naïve", "?"]


@pytest.mark.parametrize(("count", "step"), [(0, 1), (30, 1), (31, 2), (80, 3)])
def test_tick_step(count, step) -> None:
    assert tick_step(count, max_labels=30) == step


def test_missing_matplotlib_names_the_package(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="pip install matplotlib"):
        make_figure((1, 1), 1, 1)


def test_no_global_plot_state() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from utils.plots.figure import make_figure; make_figure((1, 1), 1, 1);"
        "raise SystemExit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
