"""A run loads what it uses: what starts in an instant today must not load more tomorrow."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.house.source_tree import ROOT, module_name, product_files
from tests.onnx_builders import save_square_detector

# Feature -> modules that only its runs load. `detect.py --weights X.onnx --source a.jpg --nosave`
# uses none of them.
FEATURES = {
    "checkpoints": ["torch", "torchvision", "models.runtimes.torch_runner"],
    "other formats": ["models.formats.format", "models.formats.presets", "models.formats.openvino"],
    "export": ["onnx", "models.export.request", "models.runtimes.file_metadata"],
    "8 bits": ["models.quantization.qdq_scheme", "models.quantization.calibration_images"],
    "several networks": ["models.runtimes.ensemble", "utils.detect.second_network"],
    "augmented views": ["models.runtimes.augmented"],
    "comparison": ["utils.detect.comparison", "utils.detect.comparison_output"],
    "tiles": ["utils.detect.tiles", "utils.detect.tiled_detector"],
    "tracking": ["trackers", "utils.detect.tracking"],
    "zones": ["utils.detect.zones", "utils.detect.zone_counts", "utils.detect.zone_drawing"],
    "addresses": ["http.client", "urllib.request", "ssl", "email", "data.web_content"],
    "live sources": ["data.streams", "data.captures"],
    "videos": ["data.video", "utils.detect.annotated_videos", "utils.video_output", "av"],
    "folders and lists": ["data.source_items", "data.folder_media", "data.listing"],
    "other images than JPEG": ["PIL.Image", "data.image_formats", "data.image_series",
                               "data.heif_file", "data.tiff_pages"],
    "drawing": ["utils.draw", "utils.text_ink", "utils.fonts"],
    "data files": ["csv", "tempfile", "utils.detect.sinks", "utils.detect.tables",
                   "utils.detect.crops"],
    "a window": ["utils.detect.preview"],
    "a page": ["starlette", "utils.web.live_page"],
    "yamls": ["yaml", "utils.strict_yaml", "data.dataset_spec", "data.coco_json"],
    "Python": ["data.given_images", "utils.detect.frame_detections"],
}  # fmt: skip
OF_FEATURES = sorted(name for names in FEATURES.values() for name in names)
# Runs a script as `python script.py ...` does and lists what is loaded at its end.
LOADED = """
import json, runpy, sys
out, *sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
with open(out, "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""
# The same of a detector that is called from Python.
CALLED = """
import json, sys
out, weights, image = sys.argv[1:]
from detect import load_detector
found = load_detector(weights)(image)
with open(out, "w") as file:
    json.dump([len(found), sorted(sys.modules)], file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network that finds squares, an image, and a data set of it."""
    folder = tmp_path_factory.mktemp("run")
    save_square_detector(folder / "squares.onnx")
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:32, 16:32] = 0, 0, 255
    for name in ("a.jpg", "a.png"):
        cv2.imwrite(str(folder / name), image)
    (folder / "a.txt").write_text("0 0.375 0.375 0.25 0.25\n")
    (folder / "squares.yaml").write_text(f"path: {folder}\ntrain: .\nval: .\nnames: [cat, dog]\n")
    return folder


def modules_of(code, folder, *arguments):
    """What a program returns, and the modules that it has loaded."""
    out = folder / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), *map(str, arguments)],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    returned, loaded = json.loads(out.read_text())
    return returned, set(loaded)


def detect_modules(folder, *flags):
    """Of a run of detect.py on the image; a later flag replaces an earlier one."""
    common = ["--weights", folder / "squares.onnx", "--source", folder / "a.jpg", "--nosave"]
    code, loaded = modules_of(
        LOADED, folder, "detect.py", *common, "--project", folder / "runs", *flags
    )
    assert code == 0
    return loaded


def test_an_image_needs_no_feature(folder):
    assert detect_modules(folder) & set(OF_FEATURES) == set()


@pytest.mark.parametrize(
    ("flags", "features"),
    [
        (["--source", "a.png"], {"other images than JPEG"}),
        (["--source", "."], {"folders and lists"}),
        (["--save-csv"], {"data files"}),
        (["--tile", "32"], {"tiles"}),
        (["--compare", "squares.onnx"], {"comparison", "several networks"}),
        (["--data", "squares.yaml"], {"yamls"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_feature_loads_its_modules(folder, flags, features):
    """So the names above are those of today's modules, and the test above can fail."""
    flags = [folder / flag if (folder / flag).exists() else flag for flag in flags]
    loaded = detect_modules(folder, *flags)
    for feature in features:
        assert set(FEATURES[feature]) & loaded, feature
    for feature in ("checkpoints", "other formats", "tracking", "addresses", "live sources"):
        assert not set(FEATURES[feature]) & loaded, feature


def test_the_modules_of_features_are_there():
    own = [name for name in OF_FEATURES if name.split(".")[0] in ("models", "data", "utils")]
    assert set(own) - {module_name(path) for path in product_files()} == set()
    assert len(OF_FEATURES) == len(set(OF_FEATURES))


def test_a_detector_called_from_python(folder):
    found, loaded = modules_of(CALLED, folder, folder / "squares.onnx", folder / "a.jpg")
    assert found == 1
    used = {"Python"}
    unused = {name for feature in FEATURES.keys() - used for name in FEATURES[feature]}
    assert loaded & unused == set()


def test_a_checkpoint_loads_no_compiler(folder):
    """`torch._dynamo` takes as long to import as torch itself; torchvision imports it."""
    weights = ROOT / "models" / "weights" / "repyolov5n-bccd.pt"
    loaded = detect_modules(folder, "--weights", weights)
    assert "torch" in loaded
    assert not {"torch._dynamo", "torchvision"} & loaded


def test_an_evaluation(folder):
    flags = ["--weights", folder / "squares.onnx", "--data", folder / "squares.yaml", "--noplots"]
    code, loaded = modules_of(
        LOADED, folder, "val.py", *flags, "--project", folder / "runs", "--workers", 0
    )
    assert code == 0
    used = {"yamls", "folders and lists", "other images than JPEG", "data files"}
    unused = {name for feature in FEATURES.keys() - used for name in FEATURES[feature]}
    unused |= {"matplotlib", "data.held_out", "data.voc_split", "utils.evaluation_images"}
    assert loaded & unused == set()
