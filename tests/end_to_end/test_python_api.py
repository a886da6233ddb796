"""`load_detector`: what a program gets is what detect.py writes, from every kind of input."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import detect as script
from detect import DetectConfig, load_detector
from tests.checkpoint_builders import save_model
from tests.end_to_end.test_detect import ROWS
from tests.loopback_camera import LoopbackCamera, number_in
from tests.model_builders import finding_model, tiny_spec
from tests.onnx_builders import save_detector
from tests.video_builders import save_video
from utils.detect_config import DetectConfig as Flags
from utils.errors import CheckpointError, ConfigError, DatasetError, MissingPackageError

REPOSITORY = Path(script.__file__).parent
RED = np.full((48, 64, 3), (255, 0, 0), np.uint8)


@pytest.fixture
def weights(tmp_path):
    """A network that finds a cat and a dog wherever the image is bright."""
    return save_detector(tmp_path / "tiny.onnx", ROWS)


@pytest.fixture
def detector(weights):
    return load_detector(weights, imgsz=64)


@pytest.fixture
def photos(tmp_path):
    """Noise of several sizes."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (height, width) in enumerate([(64, 64), (50, 90), (131, 77)]):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return sorted(folder.iterdir())


def boxes(found):
    return found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist()


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("onnx", {}), ("pt", {}), ("onnx", {"tile": 64}), ("pt", {"augment": True, "tile": 64})],
)
def test_it_finds_what_detect_writes(kind, flags, tmp_path, weights, photos):
    if kind == "pt":
        weights = save_model(tmp_path / "w.pt", finding_model(tiny_spec()))
    config = DetectConfig(
        weights=str(weights), source=str(photos[0].parent), imgsz=64, save_json=True,
        save_crop=True, nosave=True, project=str(tmp_path / "runs"), device="cpu", **flags,
    )  # fmt: skip
    folder = script.detect(config).folder
    expected = json.loads((folder / "predictions.json").read_text())
    results = load_detector(weights, imgsz=64, device="cpu", **flags)(photos)
    assert [{**json.loads(found.to_json()), "output": found.frame.path.stem} for found in results
            ] == expected  # fmt: skip
    assert sum(map(len, results)) > 3
    written = len(list((folder / "crops").rglob("*.jpg")))
    assert written == sum(crop.size > 0 for found in results for crop in found.crops())


def test_the_first_six_values_need_no_names(weights, photos):
    flags = {"imgsz": 64, "conf_thres": 0.01, "iou_thres": 0.3, "device": "cpu", "classes": [1]}
    named = load_detector(weights, **flags)(photos[0])
    assert len(named) > 0
    assert load_detector(weights, *flags.values())(photos[0]).to_json() == named.to_json()
    parameters = inspect.signature(load_detector).parameters
    assert list(parameters)[:6] == ["weights", *flags]
    defaults = {name: parameters[name].default for name in flags}
    assert defaults == {"imgsz": None, "conf_thres": 0.25, "iou_thres": 0.45, "device": "",
                        "classes": None}  # fmt: skip


def test_defaults_are_those_of_the_flags(weights):
    flags = Flags()
    rules = load_detector(weights).finder.rules
    assert (rules.score_threshold, rules.iou_threshold) == (flags.conf_thres, flags.iou_thres)
    assert (rules.max_detections, rules.classes) == (flags.max_det, flags.classes)


def test_settings_are_those_of_the_flags(weights, photos):
    assert set(load_detector(weights, 64, conf_thres=0.01)(photos[0]).names) == {"cat", "dog"}
    assert len(load_detector(weights, 64, conf_thres=0.99)(photos[0])) == 0
    assert set(load_detector(weights, 64, conf_thres=0.01, classes=[1])(photos[0]).names) == {"dog"}
    with pytest.raises(ConfigError, match="--conf-thres 2"):
        load_detector(weights, conf_thres=2)
    with pytest.raises(ConfigError, match="--conf-thres high: must be a number"):
        load_detector(weights, conf_thres="high")
    with pytest.raises(ConfigError, match=r"load_detector: unknown key 'conf' .known: .*conf_t"):
        load_detector(weights, conf=0.5)
    with pytest.raises(ConfigError, match="load_detector: unknown key 'save_txt'"):
        load_detector(weights, save_txt=True)  # a flag of detect.py that would do nothing here
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_detector(weights.with_name("other.onnx"))
    with pytest.raises(ConfigError, match=r"--classes 7: the classes of .* are 0 to 1"):
        load_detector(weights, classes=[7])
    with pytest.raises(ConfigError, match=r"--imgsz 96: must be an integer, at least 1"):
        load_detector(weights, imgsz="96")
    for flags in ({"imgsz": 64.0}, {"max_det": 1.5}, {"half": "no"}, {"batch_size": True}):
        with pytest.raises(ConfigError, match="must be"):
            load_detector(weights, **flags)
    for classes in ("person", b"0"):
        with pytest.raises(ConfigError, match=r"^--classes (person|b'0'): must be an integer"):
            load_detector(weights, classes=classes)
    for given in (None, b"best.pt", [weights, weights]):
        with pytest.raises(ConfigError, match=r"--weights .*: (leave|must be text|expected one)"):
            load_detector(given)
    assert load_detector(weights, device=None, batch_size=np.int64(2)).batch_size == 2
    with pytest.raises(ConfigError, match="--weights: is empty; name a file"):
        load_detector("")


def test_one_class_may_be_a_number(weights, photos):
    one, several = (load_detector(weights, classes=classes)(photos[0]) for classes in (1, [1]))
    assert one.to_json() == several.to_json() and set(one.class_ids) <= {1}


def test_every_kind_of_image_gives_the_same(detector, photos):
    path = photos[1]
    bgr = cv2.imread(str(path))
    expected = boxes(detector(path))
    assert len(expected[0]) > 0
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    assert boxes(detector(str(path))) == expected
    assert boxes(detector(bgr, bgr=True)) == expected
    assert boxes(detector(rgb, bgr=False)) == expected
    assert boxes(detector(np.dstack([rgb, rgb[..., 0]]), bgr=False)) == expected  # alpha
    assert boxes(detector(Image.open(path))) == expected
    assert [boxes(each) for each in detector([path, rgb], bgr=False)] == [expected, expected]


def test_colors_are_in_the_order_that_is_said(detector):
    assert (detector(RED, bgr=False).image == RED).all()
    assert (detector(RED[..., ::-1], bgr=True).image == RED).all()
    assert (detector(Image.fromarray(RED)).image == RED).all()
    gray = np.full((48, 64), 7, np.uint8)
    assert (detector(gray).image == 7).all()


def test_a_photo_is_turned_as_its_camera_says(detector):
    photo = Image.fromarray(RED)
    photo.getexif()[0x0112] = 6
    assert detector(photo).image.shape == (64, 48, 3)


def test_an_iterator_is_read_as_its_results_are(detector, photos):
    read = []

    def images():
        for path in photos:
            read.append(path)
            yield path

    results = detector(images())
    assert read == []
    for number, found in enumerate(results, 1):
        assert read == photos[:number]
        assert found.frame.path == photos[number - 1]


def test_a_result_keeps_its_image(detector):
    """Cameras are often read into the same array again and again."""
    buffer = RED.copy()
    found = detector(buffer, bgr=False)
    buffer[:] = 0
    assert (found.image == RED).all()
    unwritable = RED.copy()
    unwritable.setflags(write=False)
    assert boxes(detector(unwritable, bgr=False)) == boxes(found)
    assert boxes(detector(RED[:, ::-1][:, ::-1], bgr=False)) == boxes(found)  # strides below 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_an_error_of_an_iterator_comes_after_its_results(weights, photos, batch_size):
    def images():
        yield photos[0]
        yield photos[0]
        raise ZeroDivisionError("the camera was unplugged")

    results = load_detector(weights, 64, batch_size=batch_size)(images())
    if batch_size < 3:
        assert len([next(results), next(results)]) == 2
    with pytest.raises(ZeroDivisionError, match="unplugged"):
        list(results)


def test_no_images_give_no_results(detector):
    assert detector([]) == [] and list(detector(iter([]))) == []


def test_batches_find_what_single_images_find(weights, photos):
    single = [boxes(found) for found in load_detector(weights, 64)(photos * 2)]
    batches = load_detector(weights, 64, batch_size=4)
    assert [boxes(found) for found in batches(photos * 2)] == single
    assert [boxes(found) for found in batches(iter(photos * 2))] == single


def test_stream_takes_folders_and_videos(detector, photos, tmp_path):
    for found, path in zip(detector.stream(photos[0].parent), photos, strict=True):
        assert boxes(found) == boxes(detector(path)) and found.frame.path == path
    video = save_video(tmp_path / "v.mp4", 5, (48, 64), fps=12)
    frames = list(detector.stream([video, photos[0]]))
    assert [found.frame.frame_index for found in frames] == [1, 2, 3, 4, 5, 1]
    with pytest.raises(DatasetError, match="no such file or folder"):
        next(detector.stream("nowhere"))
    with pytest.raises(DatasetError, match="--source: is empty"):
        next(detector.stream(""))
    for wrong in (photos[0].read_bytes(), RED, None, 1.5, [photos[0], None], True, [b"a.jpg"]):
        with pytest.raises(DatasetError, match=r"--source: is of type .*; expected a path"):
            next(detector.stream(wrong))


def test_results_can_be_searched(detector, photos):
    """Arrays have no single answer to whether they are equal; a result is equal to itself."""
    results = detector([photos[0], photos[0]])
    assert results.index(results[1]) == 1 and len({*results}) == 2
    assert results[0].frame != results[1].frame


def test_drawing_takes_what_the_flags_take(detector, photos):
    found = detector(photos[0])
    for given in ({"line_thickness": 1.5}, {"line_thickness": -2}, {"hide_scores": "no"}):
        with pytest.raises(ConfigError, match="must be"):
            found.draw(**given)


def test_a_live_stream_gives_the_newest_frame_and_closes(detector):
    with LoopbackCamera() as camera:
        stream = detector.stream(camera.address)
        numbers = [number_in(next(stream).image) for _ in range(4)]
        behind = camera.current() - numbers[-1]
        stream.close()
    assert numbers == sorted(set(numbers)) and behind < camera.fps
    assert not any(thread.name == "ahead" for thread in threading.enumerate())


def test_a_stream_ends_when_its_reader_leaves(detector, tmp_path):
    video = save_video(tmp_path / "v.mp4", 20, (48, 64))
    stream = detector.stream(video)
    next(stream)
    stream.close()
    assert not any(thread.name == "ahead" for thread in threading.enumerate())


def test_a_detector_in_each_thread_finds_the_same(tmp_path, photos):
    path = save_model(tmp_path / "w.pt", finding_model(tiny_spec()))
    expected = [boxes(found) for found in load_detector(path, 64, device="cpu")(photos)]
    results = {}

    def work(number):
        own = load_detector(path, 64, device="cpu")
        results[number] = [[boxes(found) for found in own(photos)] for _ in range(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(3), [expected] * 3)


def test_draw_and_crops(detector, photos):
    found = detector(photos[1])
    before = found.image.copy()
    drawn = found.draw()
    assert drawn.shape == found.image.shape and (drawn != found.image).any()
    assert (found.image == before).all()
    assert len(found.crops()) == len(found)
    left, top, right, bottom = found.boxes[0]
    height, width = found.crops()[0].shape[:2]
    assert height >= min(bottom, 50) - top and width >= min(right, 90) - left


def test_to_pandas_has_the_columns_of_yolov5(detector, photos):
    pytest.importorskip("pandas", reason="pandas is not installed")
    found = detector(photos[0])
    table = found.to_pandas()
    names = ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert list(table.columns) == names
    np.testing.assert_array_equal(table[names[:4]].to_numpy(), found.boxes)
    np.testing.assert_array_equal(table["confidence"], found.scores)
    assert list(table["class"]) == found.class_ids.tolist()
    assert tuple(table["name"]) == found.names


@pytest.mark.filterwarnings("ignore")
def test_supervision_draws_our_detections(detector, photos):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    found = detector(photos[0])
    theirs = found.to_supervision()
    assert list(theirs.data["class_name"]) == list(found.names) and len(found.names) > 1
    scene = supervision.BoxAnnotator().annotate(found.image.copy(), theirs)
    scene = supervision.LabelAnnotator().annotate(scene, theirs)
    assert (scene != found.image).any()
    empty = load_detector(found.frame.path.parents[1] / "tiny.onnx", 64, conf_thres=1)(photos[0])
    assert len(empty.to_supervision()) == 0


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_a_missing_package_is_named(name, detector, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    found = detector(photos[0])
    with pytest.raises(MissingPackageError, match=f"pip install {name}"):
        getattr(found, f"to_{name}")()


def test_onnx_needs_no_torch_writes_nothing_and_logs_nothing(weights, photos, tmp_path):
    code = (
        "import logging, sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1])\n"
        "from detect import load_detector\n"
        "found = load_detector(sys.argv[2], imgsz=64)(sys.argv[3])\n"
        "assert len(found) > 0 and found.draw().any() and found.to_json()\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('detect').handlers"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, REPOSITORY, weights, photos[0]],
        cwd=empty, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(empty.iterdir()) == []


def test_the_lines_of_the_readme_run(weights, photos, tmp_path, monkeypatch):
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = re.search(r"### From Python\n+```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    Path("best.onnx").write_bytes(weights.read_bytes())
    cv2.imwrite("bus.jpg", np.full((64, 64, 3), 255, np.uint8))
    save_video(tmp_path / "street.mp4", 3, (48, 64))
    readme = tmp_path / "readme.py"
    readme.write_text(block[1])
    spec = importlib.util.spec_from_file_location("readme", readme)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
