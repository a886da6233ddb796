"""The drawn data set: same bytes for the same seed, honest labels, and nobody's files touched."""

from __future__ import annotations

import dataclasses
import filecmp
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.synthetic.__main__ import main
from data.synthetic.clip import NUM_FRAMES, Motion, at_time
from data.synthetic.dataset import MARKER, SyntheticConfig, label_text, write_dataset
from data.synthetic.scenes import (
    LARGEST,
    SMALLEST,
    Placed,
    compose,
    draw_scene,
    place_shapes,
    visible_targets,
)
from data.synthetic.shapes import CLASS_NAMES, OUTLINES, Look, render
from tests.error_messages import BETWEEN, assert_message
from utils.errors import ConfigError, DatasetError
from utils.strict_yaml import read_yaml
from utils.structures import Targets

SMALL = SyntheticConfig(images=10, size=96)
BALL = Look("ball", 20.0, 0.0, 1.0, (0.9, 0.2, 0.2), 0.0)
GROUND = np.full((60, 80, 3), 0.5, np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    write_dataset(folder, SMALL)
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_layout(made: Path) -> None:
    count = {
        name: len(list((made / name).iterdir()))
        for name in ("images/train", "images/val", "images/unseen", "labels/train", "labels/val")
    }
    assert list(count.values()) == [8, 2, 12, 8, 2]
    assert read_yaml(made / "data.yaml") == {
        "path": ".",
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(CLASS_NAMES)),
    }
    assert not (made / "labels" / "unseen").exists()


def test_same_seed_same_bytes(made: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", SMALL)
    names = files_of(made)
    assert files_of(tmp_path / "again") == names
    assert filecmp.cmpfiles(made, tmp_path / "again", names, shallow=False) == (names, [], [])


def test_other_seed_other_images_and_more_images_keep_the_first(made: Path, tmp_path: Path) -> None:
    first = "images/train/00000.jpg"
    write_dataset(tmp_path / "seed", dataclasses.replace(SMALL, seed=1))
    assert (tmp_path / "seed" / first).read_bytes() != (made / first).read_bytes()
    write_dataset(tmp_path / "more", dataclasses.replace(SMALL, images=15))
    assert (tmp_path / "more" / first).read_bytes() == (made / first).read_bytes()


def test_images_have_the_asked_size_and_labels_lie_inside(made: Path) -> None:
    for image in sorted((made / "images").rglob("*.jpg")):
        assert max(cv2.imread(str(image)).shape[:2]) == SMALL.size
    for label in sorted((made / "labels").rglob("*.txt")):
        rows = np.array([row.split() for row in label.read_text().splitlines()], float)
        rows = rows.reshape(-1, 5)
        assert set(rows[:, 0]) <= set(range(len(CLASS_NAMES)))
        assert (rows[:, 1:3] - rows[:, 3:] / 2 >= -1e-6).all()
        assert (rows[:, 1:3] + rows[:, 3:] / 2 <= 1 + 1e-6).all()
        assert (rows[:, 3:] > 0).all()


def test_clip_plays_and_moves(made: Path) -> None:
    clip = cv2.VideoCapture(str(made / "unseen.mp4"))
    frames = []
    while (read := clip.read())[0]:
        frames.append(read[1])
    assert len(frames) == NUM_FRAMES
    assert frames[0].shape == (72, 96, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 2


def test_a_folder_made_before_is_made_anew_and_other_files_stay(tmp_path: Path) -> None:
    write_dataset(tmp_path, dataclasses.replace(SMALL, images=15))
    (tmp_path / "images" / "train" / "mine.jpg").write_text("mine")
    write_dataset(tmp_path, SMALL)
    left = sorted(path.name for path in (tmp_path / "images" / "train").iterdir())
    assert left == [*(f"{number:05d}.jpg" for number in range(8)), "mine.jpg"]


def test_a_folder_of_the_user_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("mine")
    with pytest.raises(DatasetError) as caught:
        write_dataset(tmp_path, SMALL)
    assert_message(str(caught.value), f"{tmp_path}: ", f"{MARKER} ... new or an empty folder")
    assert files_of(tmp_path) == ["holiday.jpg"]


@pytest.mark.parametrize("name", ["/etc/hosts", "../mine.txt"])
def test_a_marker_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / MARKER).write_text(f'{{"files": ["{name}"]}}')
    with pytest.raises(DatasetError, match="is not a file of this folder"):
        write_dataset(folder, SMALL)
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 4}, "--images 4: ... at least 5"),
        ({"size": 32}, "--size 32: ... at least 64"),
        ({"seed": -1}, "--seed -1: ... negative"),
    ],
)
def test_config_errors(settings, message) -> None:
    with pytest.raises(ConfigError) as caught:
        SyntheticConfig(**settings)
    assert_message(str(caught.value), *message.split(BETWEEN))


def test_command_line_exits_2_on_a_mistake(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "set"), "--images", "1"]) == 2
    assert capsys.readouterr().err == "error: --images 1: at least 5 are needed\n"
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4])
def test_shape_is_smooth_and_fits_its_patch(outline: str, angle: float) -> None:
    patch = render(dataclasses.replace(BALL, outline=outline, diameter=80.0, angle=angle))
    assert patch.color.shape == (*patch.alpha.shape, 3)
    assert 0 <= patch.color.min() <= patch.color.max() <= 1
    assert ((patch.alpha > 0.05) & (patch.alpha < 0.95)).sum() > 40  # soft edges
    border = np.concatenate(
        [patch.alpha[0], patch.alpha[-1], patch.alpha[:, 0], patch.alpha[:, -1]]
    )
    assert border.max() == 0  # nothing is cut off, not even at the corners of a crate
    rows, columns = np.nonzero(patch.alpha > 0.5)
    reach = np.hypot(rows - len(patch.alpha) // 2, columns - len(patch.alpha) // 2).max()
    assert 0.85 * 40 <= reach <= 1.12 * 40


def test_a_ball_is_round() -> None:
    alpha = render(dataclasses.replace(BALL, diameter=60.0)).alpha
    assert alpha.sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    assert np.allclose(alpha, alpha[::-1]) and np.allclose(alpha, alpha.T, atol=1e-5)


def boxes_of(*shapes: Placed) -> Targets:
    _, owner, areas = compose(GROUND, shapes)
    return visible_targets(shapes, owner, areas)


def test_box_is_tight_around_what_is_seen() -> None:
    assert boxes_of(Placed(BALL, (40, 30))).boxes.tolist() == [[31, 21, 50, 40]]
    # Half outside: the box ends at the edge of the image.
    assert boxes_of(Placed(BALL, (0, 30))).boxes.tolist() == [[0, 21, 10, 40]]


@pytest.mark.parametrize(
    ("cover", "labels"),
    [
        ((40, 30), 1),  # nothing to be seen of the star
        ((50, 30), 1),  # 27 % to be seen
        ((52, 30), 2),  # 43 %
        ((75, 30), 2),  # apart
    ],
)
def test_hidden_objects_lose_their_label(cover, labels) -> None:
    star = dataclasses.replace(BALL, outline="star")
    below, above = Placed(star, (40, 30)), Placed(dataclasses.replace(BALL, diameter=26.0), cover)
    targets = boxes_of(below, above)
    assert len(targets) == labels
    assert CLASS_NAMES.index("ball") in targets.class_ids


def test_distractors_hide_but_are_not_labelled() -> None:
    oval = dataclasses.replace(BALL, outline="oval", diameter=60.0)
    assert len(boxes_of(Placed(oval, (40, 30)))) == 0
    assert len(boxes_of(Placed(BALL, (40, 30)), Placed(oval, (40, 30)))) == 0


def test_nothing_placed() -> None:
    image, owner, areas = compose(GROUND, [])
    assert np.array_equal(image, GROUND)
    assert len(visible_targets([], owner, areas)) == 0
    assert label_text(Targets.empty(), (60, 80)) == ""


def test_label_text() -> None:
    targets = Targets(np.array([[0, 0, 40, 60]], np.float32), np.array([3]))
    assert label_text(targets, (60, 80)) == "3 0.250000 0.500000 0.500000 1.000000\n"


def test_the_set_is_varied() -> None:
    generator = np.random.default_rng(0)
    placed = [place_shapes(generator, (240, 320), 0.0) for _ in range(200)]
    counts = [len(shapes) for shapes in placed]
    assert (min(counts), max(counts)) == (0, 8)
    diameters = [shape.look.diameter / 320 for shapes in placed for shape in shapes]
    assert SMALLEST <= min(diameters) < 0.12 < 0.42 < max(diameters) <= LARGEST
    assert {shape.look.outline for shapes in placed for shape in shapes} == set(OUTLINES)


def test_scene_is_rgb_bytes_with_boxes_in_its_pixels() -> None:
    for seed in range(10):
        image, targets = draw_scene(np.random.default_rng(seed), (96, 128))
        assert (image.shape, image.dtype) == ((96, 128, 3), np.uint8)
        assert (targets.boxes <= [128, 96, 128, 96]).all() and (targets.boxes >= 0).all()


@pytest.mark.parametrize(
    ("time", "x"),
    [(0, 70), (1, 77), (2, 76), (3, 69), (20, 50)],  # 84 bounces to 76; 210 to 50
)
def test_shapes_bounce_off_the_edges(time: int, x: float) -> None:
    moved = at_time(Placed(BALL, (70, 30)), Motion((7.0, 0.0), 0.1), time, (60, 80))
    assert moved.centre == (pytest.approx(x), 30)
    assert moved.look.angle == pytest.approx(0.1 * time)
