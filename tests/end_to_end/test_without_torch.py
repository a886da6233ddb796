"""requirements-runtime.txt is all that detect.py and val.py need to run ONNX files on a device.

Each environment is made from that file alone, with another OpenCV.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.house.source_tree import ROOT
from tests.onnx_builders import save_detector
from utils.logs import ALWAYS_NEEDED
from utils.strict_yaml import read_yaml, write_yaml

pytestmark = pytest.mark.slow
ROWS = [[16, 16, 16, 8, 0.5, 0.25, 1.0]]
REQUIREMENTS = ROOT / "requirements-runtime.txt"
# What pip may choose; the lowest versions of everything have an OpenCV 4, too.
OPENCV = {
    "lowest": tuple(re.findall(r"^[a-z].*?[\d.]+(?= |$)", REQUIREMENTS.read_text(), re.MULTILINE)),
    "4": ("opencv-python-headless<5",),
    "5": ("opencv-python-headless>=5",),
}
MODULES = {**ALWAYS_NEEDED, "onnxruntime": "onnxruntime"}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *command):
        """A script of the project."""
        arguments = [str(self.python), *map(str, command)]
        return subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, check=False)

    def output(self, *command):
        """What it prints; it must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def without(self, module):
        """A region in which the module is not installed."""
        path = Path(self.output("-c", f"import {module}; print({module}.__file__)").strip())
        path = path.parent if path.name == "__init__.py" else path
        aside = self.folder / "aside"
        path.rename(aside)
        try:
            yield
        finally:
            aside.rename(path)


def install(folder, limits=()):
    environment = Environment(folder)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (folder / "limits.txt").write_text("\n".join(limits))
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    environment.output(*pip, "-r", REQUIREMENTS, "-c", folder / "limits.txt")
    return environment


@pytest.fixture(scope="module", params=OPENCV)
def environment(request, tmp_path_factory):
    limits = [limit.replace(">=", "==") if request.param == "lowest" else limit
              for limit in OPENCV[request.param]]  # fmt: skip
    return install(tmp_path_factory.mktemp("environment") / "venv", limits)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """What a user of today gets."""
    return install(tmp_path_factory.mktemp("device") / "venv")


@pytest.fixture(scope="module")
def weights(shared, tmp_path_factory):
    """yolov5n at 320 px."""
    path = tmp_path_factory.mktemp("weights") / "yolov5n.onnx"
    network = shared / "weights" / "yolov5n.pt"
    Environment(Path(sys.prefix)).output(
        "export.py", "--weights", network, "--imgsz", 320, "--output", path
    )
    return path


@pytest.fixture(scope="module")
def data(shared, tmp_path_factory):
    """A data yaml of every fourth image of coco128."""
    folder = tmp_path_factory.mktemp("data")
    images = sorted((shared / "data/coco128/images/train2017").glob("*.jpg"))[::4]
    (folder / "val.txt").write_text("\n".join(map(str, images)))
    names = read_yaml(ROOT / "data/datasets/coco128.yaml")["names"]
    write_yaml(folder / "some.yaml", {
        "path": str(folder), "train": "val.txt", "val": "val.txt", "names": names,
    })  # fmt: skip
    return folder / "some.yaml"


def results(environment, weights, data, shared, folder):
    """What is found in the images, in ten frames of a video, and AP."""
    common = ["--weights", weights, "--project", folder, "--exist-ok"]
    images = shared / "data/coco128/images/train2017"
    detect = ["detect.py", *common, "--save-json", "--source"]
    environment.output(*detect, images, "--name", "images", "--nosave")
    street = shared / "data/video/street.mp4"
    environment.output(*detect, street, "--name", "video", "--shard", "1/25")
    report = folder / "report.json"
    flags = ["--data", data, "--report", report, "--workers", 2]
    environment.output("val.py", *common, "--name", "val", *flags)
    evaluation = json.loads(report.read_text())
    del evaluation["ms_per_image"]
    assert evaluation["images"] == 32 and 0.2 < evaluation["AP"] < 0.6
    found = [json.loads((folder / name / "predictions.json").read_text())
             for name in ("images", "video-1of25")]  # fmt: skip
    assert [len(frames) for frames in found] == [128, 10]
    assert sum(len(frame["detections"]) for frame in found[0]) > 300
    return [*found, evaluation]


@pytest.fixture(scope="module")
def expected(weights, data, shared, tmp_path_factory):
    """Of the full environment."""
    folder = tmp_path_factory.mktemp("full")
    return results(Environment(Path(sys.prefix)), weights, data, shared, folder)


def test_boxes_and_AP_are_those_of_the_full_environment(
    request, environment, expected, weights, data, shared, tmp_path
):
    images, video, evaluation = results(environment, weights, data, shared, tmp_path)
    if "lowest" in request.node.name:  # another onnxruntime rounds differently
        for found, wanted in ((images, expected[0]), (video, expected[1])):
            np.testing.assert_allclose(boxes(found), boxes(wanted), atol=0.01)
        assert figures(evaluation) == pytest.approx(figures(expected[2]), abs=1e-4)
        return
    assert images == expected[0] and video == expected[1]
    assert figures(evaluation) == figures(expected[2])


def boxes(frames):
    """(N, 6): of all detections, the corners, the score and the class id."""
    rows = [[*each["box"], each["score"], each["class_id"]]
            for frame in frames for each in frame["detections"]]  # fmt: skip
    return np.array(rows)


def figures(evaluation):
    """Every number of a report of val.py, by its name or class and name."""
    classes = {(row["name"], key): value for row in evaluation["per_class"]
               for key, value in row.items() if key != "name"}  # fmt: skip
    return {key: value for key, value in evaluation.items() if key != "per_class"} | classes


def test_nothing_else_is_installed(environment):
    listed = environment.output(
        "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"
    )
    names = {each["name"].lower() for each in json.loads(listed)}
    assert names >= {*MODULES.values()}
    assert not names & {"torch", "torchvision", "opencv-python", "matplotlib", "tqdm", "onnx", "av"}


def test_every_package_of_the_file_is_needed():
    lines = re.findall(r"^([a-z][\w-]*)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert sorted(lines) == sorted(MODULES.values())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Arguments of detect.py for one image."""
    folder = tmp_path_factory.mktemp("tiny")
    cv2.imwrite(str(folder / "a.jpg"), np.full((64, 64, 3), 255, np.uint8))
    weights = save_detector(folder / "tiny.onnx", ROWS)
    flags = ["--project", folder, "--imgsz", 64]
    return ["--weights", weights, "--source", folder / "a.jpg", *flags]


@pytest.mark.parametrize("script", ["detect.py", "val.py"])
@pytest.mark.parametrize("module", MODULES)
def test_a_missing_package_is_one_sentence(device, tiny, script, module):
    arguments = tiny if script == "detect.py" else [*tiny[:2], "--data", "coco128.yaml"]
    with device.without(module):
        done = device.run(script, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(f"pip install {MODULES[module]}")


def test_a_broken_package_is_one_sentence(device, tiny):
    """As where a library of the system is missing."""
    with device.without("cv2"):
        site = Path(device.output("-c", "import numpy; print(numpy.__file__)").strip()).parents[1]
        broken = site / "cv2.py"
        broken.write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
        done = device.run("detect.py", *tiny)
        broken.unlink()
    assert done.returncode == 2
    assert done.stderr == (
        "error: cv2 cannot be imported: libGL.so.1: cannot open shared object file; "
        "pip install --upgrade opencv-python-headless\n"
    )


def test_what_needs_torch_says_so(device, tmp_path):
    for name in ("a.pt", "a.torchscript"):
        (tmp_path / name).write_bytes(b"PK")
        for script in ("detect.py", "val.py"):
            done = device.run(script, "--weights", tmp_path / name, "--project", tmp_path / "runs")
            assert done.returncode == 2
            assert "needs the package torch: pip install torch torchvision" in done.stderr
            assert "Traceback" not in done.stderr
    for script in ("train.py", "convert.py", "export.py"):
        assert "--weights" in device.output(script, "--help")
        done = device.run(script, "--weights", tmp_path / "a.pt")
        assert (done.returncode, done.stderr) == (
            2, "error: the package torch is not installed: pip install -r requirements.txt\n"
        )  # fmt: skip


@pytest.mark.parametrize("script", ["detect.py", "val.py"])
def test_help_and_wrong_flags(device, script):
    assert "--weights" in device.output(script, "--help")
    for flags in (["--no-such"], ["--conf", "2"], ["--weights", "none.onnx"]):
        done = device.run(script, *flags)
        assert done.returncode == 2 and "error: " in done.stderr
        assert "Traceback" not in done.stderr


def test_videos_without_av_are_written_with_a_warning(device, tiny, shared, tmp_path):
    flags = ["--source", shared / "data/video/street.mp4", "--shard", "1/50", "--project", tmp_path]
    done = device.run("detect.py", *tiny, *flags)
    assert done.returncode == 0 and "`pip install av` writes H.264" in done.stderr
    (video,) = (tmp_path / "exp-1of50").glob("*.mp4")
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
