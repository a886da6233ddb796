"""`torch.hub.load(..., source="local")` gives YOLOv5's object, with our numbers."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import export
import hubconf
from detect import load_detector
from tests import hub_program
from tests.checkpoint_builders import CLASS_NAMES, save_model
from tests.end_to_end.test_detect import ROWS
from tests.model_builders import finding_model, tiny_spec
from tests.onnx_builders import save_detector
from utils.errors import CheckpointError, ConfigError

REPOSITORY = Path(hubconf.__file__).parent


@pytest.fixture
def path(tmp_path):
    return save_detector(tmp_path / "tiny.onnx", ROWS)


@pytest.fixture
def model(path):
    return hubconf.custom(path)


@pytest.fixture
def photo(tmp_path):
    """64 x 128 pixels, bright enough that a cat and a dog are found."""
    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), np.full((64, 128, 3), 255, np.uint8))
    return file


def test_boxes_are_those_of_load_detector(path, model, photo):
    expected = load_detector(path)(photo)
    pixels = np.asarray(Image.open(photo))
    for ims in (photo, str(photo), Image.open(photo), pixels, [photo]):
        results = model(ims)
        rows = np.column_stack([expected.boxes, expected.scores, expected.class_ids])
        np.testing.assert_array_equal(results.xyxy[0].numpy(), rows)
    assert len(expected) == 2 and results.pred[0] is results.xyxy[0]
    assert (results.n, len(results), results.files) == (1, 1, ["photo.jpg"])


def test_the_four_forms_of_a_box(model, photo):
    results = model(photo)
    left, top, right, bottom, score, class_id = results.xyxy[0].T
    whole = torch.tensor([128.0, 64, 128, 64, 1, 1])
    centre = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    torch.testing.assert_close(results.xywh[0], torch.stack([*centre, score, class_id], dim=1))
    torch.testing.assert_close(results.xyxyn[0] * whole, results.xyxy[0])
    torch.testing.assert_close(results.xywhn[0] * whole, results.xywh[0])


def test_settings_count_for_the_next_call(model, photo):
    assert model.names == {0: "cat", 1: "dog"} and (model.conf, model.iou) == (0.25, 0.45)
    model.conf = 0.6
    assert model(photo).xyxy[0][:, 5].tolist() == [0]
    model.conf, model.classes = 0.25, [1]
    assert model(photo).xyxy[0][:, 5].tolist() == [1]
    model.classes, model.iou = None, 0.99
    assert len(model(photo).xyxy[0]) == 3
    model.max_det = 1
    assert len(model(photo).xyxy[0]) == 1
    assert model.to("cpu").eval().cpu().max_det == 1
    model.classes = 1  # one class as a number, as in YOLOv5
    assert model(photo).xyxy[0][:, 5].tolist() == [1]
    model.max_det, model.classes = 300, [1, 79]  # more than it knows: none is found, as in YOLOv5
    assert set(model(photo).xyxy[0][:, 5].tolist()) == {1}
    wrong = (
        ("conf", 2),
        ("iou", -0.1),
        ("max_det", 0),
        ("classes", [-1]),
        ("classes", "person"),
        *((name, value) for name in ("agnostic", "multi_label") for value in ("x", None, 2)),
    )
    for name, value in wrong:
        before = getattr(model, name)
        setattr(model, name, value)
        with pytest.raises(ConfigError, match=r"must be|agnostic-nms None: leave it out"):
            model(photo)
        setattr(model, name, before)
    with pytest.raises(AttributeError):
        model.confidence = 0.5


def test_classes_may_be_called_anew(model, photo):
    for names in (["Katze", "Hund"], {1: "Hund", 0: "Katze"}):
        model.names = names
        assert "1 Katze, 1 Hund" in str(model(photo))
    model.names = {1: "Hund"}
    with pytest.raises(ConfigError, match="names: has none for class 0"):
        model(photo)


def test_amp_is_the_one_that_scripts_switch_off(model, photo):
    model.amp = False
    assert len(model(photo).xyxy[0]) == 2
    model.amp = True
    with pytest.raises(ConfigError, match=r"amp=True: .* load_detector\(weights, half=True\)"):
        model(photo)


def test_what_is_not_supported_is_refused(path, model, photo):
    with pytest.raises(ConfigError, match=r"load_detector\(weights, augment=True\)"):
        model(photo, augment=True)
    with pytest.raises(ConfigError, match="size=0: expected pixels"):
        hubconf.custom(save_model(path.with_suffix(".pt"), finding_model(tiny_spec())))(photo, 0)
    with pytest.raises(ConfigError, match="size=1000000: a network input has at most 268 million"):
        hubconf.custom(path.with_suffix(".pt"))(photo, 10**6)
    for size in ("640", (), (320, None), 1.5):
        with pytest.raises(ConfigError, match="expected pixels"):
            model(photo, size=size)
    with pytest.raises(ConfigError, match="autoshape=False"):
        hubconf.custom(path, autoshape=False)


def test_names_of_official_weights_are_files_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [f"yolov5{size}{levels}" for size in "nsmlx" for levels in ("", "6")]:
        with pytest.raises(CheckpointError, match=rf"{name}.pt: no such file in .* put YOLOv5's"):
            getattr(hubconf, name)()
    save_model(tmp_path / "yolov5n.pt", finding_model(tiny_spec()))
    assert hubconf.yolov5n(device="cpu").names == dict(enumerate(CLASS_NAMES))
    with pytest.raises(ConfigError, match=r"yolov5n: .* \(True, 3, 2\): .* --cfg yolov5n.yaml"):
        hubconf.yolov5n(classes=2)
    with pytest.raises(ConfigError, match=r"yolov5n: .*False"):
        hubconf.yolov5n(pretrained=False)


def test_boxes_lie_within_a_pixel_of_the_exact_ones(tmp_path):
    """Padding of an odd number of pixels is where YOLOv5's way back differs."""
    weights = save_model(tmp_path / "w.pt", finding_model(tiny_spec()))
    pixels = np.random.default_rng(0).integers(0, 256, (67, 96, 3), np.uint8)
    (rows,) = hubconf.custom(weights, device="cpu")(pixels, size=96).xyxy
    exact = load_detector(weights, imgsz=96, device="cpu")(pixels, bgr=False)
    difference = np.abs(rows[:, :4].numpy() - exact.boxes)
    assert len(rows) == len(exact) > 3 and 0.4 < difference.max() < 1


def test_images_of_a_call_share_one_size(tmp_path):
    weights = save_model(tmp_path / "w.pt", finding_model(tiny_spec()))
    wide, tall = np.zeros((50, 100, 3), np.uint8), np.zeros((101, 90, 3), np.uint8)
    model = hubconf.custom(weights, device=torch.device("cpu"))
    assert model(wide, size=96).s == (1, 3, 64, 96)  # 96 x 48, up to multiples of 32
    assert model([wide, tall], size=96).s == (2, 3, 96, 96)
    assert model([wide, tall], size=(96, 64)).s == (2, 3, 96, 96)


def test_text(model, photo, capsys):
    results = model([photo, photo])
    results.print()
    first, second, speed = capsys.readouterr().out.splitlines()
    assert first == "image 1/2: 64x128 1 cat, 1 dog" and second.startswith("image 2/2")
    assert speed.startswith("Speed: ") and speed.endswith(f"per image at shape {results.s}")
    assert len(results.t) == 3 and min(results.t) > 0


def test_files(model, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = model(photo)
    assert results.save() == Path("runs/detect/exp")
    assert results.save() == Path("runs/detect/exp2")
    saved = cv2.imread("runs/detect/exp/photo.jpg")
    crops = results.crop(save_dir="cut")
    assert sorted(file.parent.name for file in Path("cut/crops").rglob("*.jpg")) == ["cat", "dog"]
    assert [crop["label"] for crop in crops] == ["dog 0.50", "cat 0.75"]
    assert [int(crop["cls"]) for crop in crops] == [1, 0]
    assert crops[0]["im"].shape[2] == 3 and list(crops[0]["box"]) == list(results.xyxy[0][-1, :4])
    (drawn,) = results.render()
    assert drawn is results.ims[0] and np.abs(saved[..., ::-1].astype(int) - drawn).mean() < 10
    results.crop(save=False)
    assert not Path("runs/detect/exp3").exists()


def test_show_needs_a_screen(model, photo, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"^show\(\): this machine has no screen"):
        model(photo).show()


def test_values_of_another_kind(model, photo):
    for folder in (None, 3):
        with pytest.raises(ConfigError, match=rf"^save_dir={folder}: expected the path"):
            model(photo).save(save_dir=folder)
    assert model(photo, size=np.int64(96)).s == model(photo, size=96).s
    with pytest.raises(ConfigError, match=r"^size=True: expected pixels"):
        model(photo, size=True)
    for names in (None, "ab"):
        model.names = names
        with pytest.raises(ConfigError, match=f"^names={names!r}: expected names"):
            model(photo)


def test_single_results(model, photo):
    black = np.zeros((64, 64, 3), np.uint8)
    one, other = model([photo, black]).tolist()
    assert (len(one), len(one.xyxy[0]), len(other.xyxy), len(other.xyxy[0])) == (1, 2, 1, 0)
    assert one.files == ["photo.jpg"] and other.files == ["image1.jpg"]


def test_tables(model, photo):
    pytest.importorskip("pandas", reason="pandas is not installed")
    results = model([photo, np.zeros((64, 64, 3), np.uint8)])
    tables = results.pandas()
    assert list(tables.xyxy[0].columns) == [
        *("xmin", "ymin", "xmax", "ymax", "confidence", "class", "name")
    ]
    assert list(tables.xywhn[0].columns[:4]) == ["xcenter", "ycenter", "width", "height"]
    for name in ("xyxy", "xyxyn", "xywh", "xywhn"):
        table, rows = getattr(tables, name), getattr(results, name)
        np.testing.assert_array_equal(table[0].iloc[:, :6].to_numpy(float), rows[0].numpy())
        assert list(table[0]["name"]) == ["cat", "dog"] and len(table[1]) == 0


def test_torch_hub_loads_it_from_another_folder(path, photo, tmp_path):
    code = (
        "import sys, torch\n"
        "model = torch.hub.load(sys.argv[1], 'custom', sys.argv[2], source='local')\n"
        "results = model(sys.argv[3])\n"
        "assert len(results.xyxy[0]) == 2 and results.render()\n"
        "results.crop(save_dir='cut')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, REPOSITORY, path, photo],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def assert_same_use(weights: Path, images: list[Path], sizes: tuple[int, int, int], folder: Path):
    """Our object gives what that of the package gives, to rounding."""
    pytest.importorskip("yolov5", reason="yolov5 is not installed")
    pytest.importorskip("pandas", reason="pandas is not installed")
    out, texts = folder / "theirs.pickle", [str(path) for path in images]
    command = [
        sys.executable,
        hub_program.__file__,
        out,
        weights,
        ",".join(map(str, sizes)),
        *texts,
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True,
        # Its checkpoints hold classes, which torch runs only where it is told to.
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = pickle.loads(out.read_bytes())
    found = hub_program.use(hubconf.custom(weights, device="cpu"), texts, sizes)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert_same_rows(found[name], value, name)
        elif isinstance(value, list):
            assert sorted(map(repr, found[name])) == sorted(map(repr, value)), name
        else:
            assert found[name] == value, name
    assert sum(len(value) for name, value in expected.items() if " single " in name) > 50


def assert_same_rows(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Rows of four edges, score and class; of scores that rounding makes equal, in any order."""
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-3, err_msg=name)
    if expected.ndim == 2 and expected.shape[1] == 6:
        close(found[:, 4], expected[:, 4])
        found, expected = (rows[np.lexsort((rows[:, 1], rows[:, 0], rows[:, 5]))]
                           for rows in (found, expected))  # fmt: skip
    close(found, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_numbers_are_those_of_the_yolov5_package(shared, tmp_path):
    """YOLOv5's own weights on photos of several shapes."""
    photos = sorted((shared / "data" / "coco128" / "images").rglob("*.jpg"))[:4]
    weights = shared / "weights" / "yolov5n.pt"
    assert_same_use(weights, photos, (640, 320, 480), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_numbers_of_a_file_that_we_exported(tmp_path):
    weights = save_model(tmp_path / "w.pt", finding_model(tiny_spec()))
    export.export(export.ExportConfig(str(weights), imgsz=(96,), dynamic=()))
    random, images = np.random.default_rng(0), []
    for number, (height, width) in enumerate([(96, 96), (50, 77)]):
        images.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(images[-1]), random.integers(0, 256, (height, width, 3), np.uint8))
    assert_same_use(weights.with_suffix(".onnx"), images, (96, 96, 96), tmp_path)
