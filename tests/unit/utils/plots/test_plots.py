"""Every plot is written, for few classes, many and none, and leaves nothing else behind."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from utils.errors import ConfigError, MissingPackageError
from utils.plots.confusion import cell_shares, plot_confusion_matrix
from utils.plots.figure import line_color, make_figure, printable, save_figure, tick_step
from utils.plots.label_statistics import plot_labels
from utils.plots.score_curves import plot_pr_curve, plot_score_curves
from utils.plots.training_curves import AP, AP50, best_row, plot_results, read_results
from utils.structures import ImageArray
from utils.text_ink import text_ink

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
    if len(quality) != 2:  # every kind of figure once: drawing is slow
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


@pytest.mark.parametrize(("num_classes", "count"), [(0, 0), (3, 0), (3, 1), (3, 1500), (80, 1500)])
def test_labels(tmp_path: Path, num_classes: int, count: int) -> None:
    generator = np.random.default_rng(0)
    class_ids = generator.integers(0, max(num_classes, 1), count)
    boxes = generator.uniform(0, 1, (count, 4)).astype(np.float32)
    before = boxes.copy()
    plot_labels(class_ids, boxes, NAMES[num_classes], tmp_path / "labels.jpg")
    assert_image(tmp_path / "labels.jpg")
    assert np.array_equal(boxes, before)


@pytest.mark.parametrize(("num_classes", "seen"), [(0, "all"), (3, "one missing"), (80, "all")])
def test_score_and_pr_curves(tmp_path: Path, num_classes: int, seen: str) -> None:
    confidence = np.linspace(0, 1, 1000)
    precision = np.tile(confidence, (num_classes, 1))
    ap50 = np.full(num_classes, 0.5)
    if seen == "one missing":
        precision[:1], ap50[:1] = np.nan, np.nan
    names = dict(enumerate(NAMES[num_classes]))
    plot_score_curves(confidence, precision, 1 - precision, names, tmp_path)
    plot_pr_curve(confidence, 1 - precision, ap50, names, tmp_path / "PR_curve.png")
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["F1_curve.png", "PR_curve.png", "P_curve.png", "R_curve.png"]
    for name in made:
        assert_image(tmp_path / name)


@pytest.mark.parametrize(("num_classes", "count"), [(0, 0), (3, 0), (3, 7), (80, 7)])
def test_confusion_matrix(tmp_path: Path, num_classes: int, count: int) -> None:
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    matrix[0, 0] = count  # every other column is empty
    plot_confusion_matrix(matrix, NAMES[num_classes], tmp_path / "confusion_matrix.png")
    assert_image(tmp_path / "confusion_matrix.png")


def test_a_dollar_sign_starts_no_formula() -> None:
    assert printable(["a $x$", "naïve"]) == [r"a \$x\$", "\u2068naïve\u2069"]


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """What would be saved, in the order of the calls."""
    kept: list[Figure] = []
    for module in ("confusion", "training_curves", "score_curves"):
        monkeypatch.setattr(f"utils.plots.{module}.save_figure", lambda made, _: kept.append(made))
    return kept


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_matrix_shows_counts_their_shares_and_the_thresholds(figures) -> None:
    plot_confusion_matrix(np.array([[20, 5], [3, 0]]), ["person"], Path("x.png"))
    assert texts(figures[0]) == ["20\n0.87", "5\n0.20", "3\n0.13"]  # false positives: 5 of 25
    assert "score of at least 0.25, IoU above 0.45" in figures[0].get_suptitle()
    plot_confusion_matrix(np.eye(2, dtype=int), ["person"], Path("x.png"), score_threshold=0.4)
    assert "score of at least 0.4," in figures[1].get_suptitle()


def test_confusion_matrix_of_many_classes_shows_counts(figures) -> None:
    for num_classes, shown in ((80, ["7"]), (101, [])):
        matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
        matrix[3, 5] = 7
        plot_confusion_matrix(matrix, [str(n) for n in range(num_classes)], Path("x.png"))
        assert texts(figures[-1]) == shown


def test_shares_of_the_confusion_matrix() -> None:
    matrix = np.random.default_rng(0).integers(1, 20, (5, 5))
    matrix[-1, -1] = 0
    matrix[:, 2] = 0  # a class that never occurs
    shares = cell_shares(matrix)
    assert np.isnan(shares[:, 2]).all() and np.isnan(shares[-1, -1])
    np.testing.assert_allclose(shares[:, [0, 1, 3]].sum(axis=0), 1)
    of_true_classes = matrix[:-1, :-1].sum(axis=1)  # right class or not, on some object
    np.testing.assert_allclose(shares[:-1, -1], 1 - of_true_classes / matrix[:-1].sum(axis=1))


@pytest.mark.parametrize("count", [1, 2, 3, 120])
def test_epochs_are_counted_from_one(tmp_path: Path, figures, count: int) -> None:
    quality = [("0.5", f"{0.1 + 0.001 * epoch:.4f}") for epoch in range(count)]
    plot_results(results_csv(tmp_path, *quality), tmp_path / "results.png")
    assert figures[0].get_suptitle().startswith(f"best epoch {count}: ")
    for panel in figures[0].axes:
        assert panel.lines[0].get_xdata().tolist() == list(range(1, count + 1))
        left, right = panel.get_xlim()
        ticks = [tick for tick in panel.get_xticks() if left <= tick <= right]
        assert left == 0.5 and count + 0.5 <= right <= 1.05 * count + 0.5
        assert ticks and all(tick == int(tick) for tick in ticks)


def test_one_epoch_is_seen_against_zero(tmp_path: Path, figures) -> None:
    plot_results(results_csv(tmp_path, ("0", "0.4")), tmp_path / "results.png")
    *_, ap50, ap = figures[0].axes
    assert ap50.get_ylim() == (0, 1)
    assert ap.get_ylim() == pytest.approx((0, 0.6))


def test_lines_have_the_color_of_their_class(figures) -> None:
    points = np.linspace(0, 1, 5)
    plot_pr_curve(points, np.tile(points, (2, 1)), np.ones(2), {3: "a", 7: "b"}, Path("x.png"))
    colors = [line.get_color() for line in figures[0].axes[0].lines[:2]]
    assert colors == [line_color(3), line_color(7)]


@pytest.mark.parametrize("angle", [0, 90])
def test_names_in_figures_are_drawn_as_in_images(tmp_path: Path, angle: int) -> None:
    """The very ink that boxes are labelled with, upright or turned."""
    figure, _ = make_figure((3, 3), 1, 1)
    figure.axes[0].remove()
    name = "قطة собака"
    figure.text(0.2, 0.2, name, fontsize=24, rotation=angle)  # 24 points: 50 pixels
    save_figure(figure, tmp_path / "text.png", dots_per_inch=150)
    shown = 255 - cv2.imread(str(tmp_path / "text.png"), cv2.IMREAD_GRAYSCALE)
    expected = np.rot90(text_ink(name, 50).ink, angle // 90)
    np.testing.assert_allclose(cropped(shown), cropped(expected), atol=2)


def test_a_figure_drawn_again_at_another_size_is_as_drawn_at_once(tmp_path: Path) -> None:
    drawn = []
    for sizes in ((100,), (150, 150, 100)):
        figure, _ = make_figure((3, 3), 1, 1)
        for size in sizes:
            save_figure(figure, tmp_path / f"{size}.png", dots_per_inch=size)
        drawn.append(cv2.imread(str(tmp_path / "100.png")))
    assert drawn[0].shape == (300, 300, 3)
    assert np.array_equal(*drawn)
    assert cv2.imread(str(tmp_path / "150.png")).shape == (450, 450, 3)


def cropped(ink: ImageArray) -> ImageArray:
    rows, columns = np.nonzero(ink > 2)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(int)


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
