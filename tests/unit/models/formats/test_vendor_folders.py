"""Folders for vendors' compilers: what is in them agrees with the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import export
from detect import load_detector
from models.formats.presets import PRESETS
from models.formats.tensorrt import command_float16, command_typed
from models.formats.vendor_folder import NETWORK_IN_FOLDER
from models.runtimes.input_sizes import InputSizes
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.documents.commands import commands_of
from tests.model_builders import tiny_spec, trained_model
from tests.unit.data.builders import write_yolo_set
from utils.errors import CheckpointError
from utils.strict_yaml import read_yaml

ROOT = Path(__file__).parents[4]
PAGES = ("docs/deploy.md", "docs/deploy.zh.md")
PROGRAM_OF = {"hailo": "hailo", "horizon": "hb_mapper", "ascend": "atc", "axera": "pulsar2"}
# In place of Rockchip's package for the board: the ONNX file of the folder, on 0-255 pixels.
BOARD = """
import onnxruntime
class RKNNLite:
    def load_rknn(self, path):
        self.file = path.replace("model.rknn", "w.onnx")
    def init_runtime(self):
        self.session = onnxruntime.InferenceSession(self.file)
    def inference(self, inputs):
        (pixels,) = inputs
        assert pixels.ndim == 4 and pixels.dtype == "uint8"
        image = pixels.transpose(0, 3, 1, 2).astype("float32") / 255
        return self.session.run(None, {"images": image})
"""
SIZE, IMAGES = (64, 96), 3
VENDORS = [name for name, preset in PRESETS.items() if preset.runtime is NETWORK_IN_FOLDER]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("w") / "w.pt", trained_model(tiny_spec(), seed=3))


@pytest.fixture(scope="module")
def folder_of(weights, tmp_path_factory):
    """A vendor's folder, with images or without, exported once."""
    made: dict[tuple[str, bool], Path] = {}

    def find(vendor: str, *, images: bool = True) -> Path:
        if (vendor, images) not in made:
            folder = tmp_path_factory.mktemp(vendor)
            arguments = ["--weights", weights, "--imgsz", SIZE[1], "--preset", vendor, "--output",
                     folder / "x"]  # fmt: skip
            if images:
                data = write_yolo_set(folder / "set", dict.fromkeys("abc", "0 0.5 0.5 0.4 0.4\n"))
                arguments += ["--data", data, "--workers", 0]
            (folder / "x").mkdir()
            assert export.main([str(word) for word in arguments]) == 0
            made[vendor, images] = folder / "x" / f"w_{vendor}_model"
        return made[vendor, images]

    return find


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_folder_is_run_as_any_other_file(vendor, folder_of, weights):
    image = np.random.default_rng(0).random((1, 3, SIZE[1], SIZE[1]), np.float32)
    found = open_runner(str(folder_of(vendor)), device="cpu").run(image)
    expected = open_runner(str(weights), device="cpu").run(image)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("vendor", VENDORS)
def test_metadata_and_commands(vendor, folder_of):
    folder = folder_of(vendor, images=False)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["anchors"] and metadata["head"] == "raw" and metadata["nc"] == 3
    assert "w.onnx" in (folder / "commands.txt").read_text()
    assert metadata["input"]["range"] == [0, 255] and metadata["input"]["layout"] == "NHWC"
    assert not [path for path in folder.rglob("*") if path.suffix in (".png", ".npy", ".tar")]


def test_hailo_decodes_with_our_anchors(folder_of):
    folder = folder_of("hailo")
    content = json.loads((folder / "nms.json").read_text())
    assert content["image_dims"] == [SIZE[1], SIZE[1]] and content["classes"] == 3
    decoders = content["bbox_decoders"]
    assert [decoder["stride"] for decoder in decoders] == [8, 16, 32]
    assert (decoders[0]["w"], decoders[0]["h"]) == ([10, 16], [13, 30])
    commands = (folder / "commands.txt").read_text()
    assert all(f"stride {decoder['stride']} is {decoder['encoded_layer']}" in commands
               for decoder in decoders)  # fmt: skip
    assert "get_real_output_layers" in commands  # prints the parser's names
    calibration = np.load(folder / "calibration.npy")
    assert calibration.shape == (IMAGES, SIZE[1], SIZE[1], 3) and calibration.dtype == np.uint8


def test_horizon_images_are_letterboxed(folder_of):
    folder = folder_of("horizon")
    content = read_yaml(folder / "config.yaml")
    images = sorted((folder / content["calibration_parameters"]["cal_data_dir"]).iterdir())
    assert len(images) == IMAGES
    image = cv2.imread(str(images[0]))
    assert image.shape == (SIZE[1], SIZE[1], 3)
    assert (image[0] == 114).all()  # the border of a letterboxed image
    nv12 = read_yaml(folder / "config_nv12.yaml")
    given = [each["input_parameters"]["input_type_rt"] for each in (content, nv12)]
    marches = [each["model_parameters"]["march"] for each in (content, nv12)]
    assert (given, marches) == (["rgb", "nv12"], ["bernoulli2", "bayes-e"])
    for each in (content, nv12):
        parameters = each["input_parameters"]
        assert parameters["scale_value"] == pytest.approx(1 / 255)
        assert (parameters["input_type_train"], parameters["input_layout_train"]) == ("rgb", "NCHW")
    assert "config_nv12.yaml" in (folder / "commands.txt").read_text()


def test_axera_packs_its_images(folder_of):
    folder = folder_of("axera")
    content = json.loads((folder / "config.json").read_text())
    (given,) = content["quant"]["input_configs"]
    with tarfile.open(folder / given["calibration_dataset"]) as tar:
        assert len(tar.getnames()) == given["calibration_size"] == IMAGES
    assert not (folder / "calibration").exists()


def test_axera_takes_and_gives_what_the_vendors_sample_does(folder_of):
    folder = folder_of("axera")
    content = json.loads((folder / "config.json").read_text())
    (given,) = content["input_processors"]
    assert (given["tensor_format"], given["src_format"]) == ("RGB", "BGR")
    assert content["output_processors"] == [
        {"tensor_name": name, "dst_perm": [0, 2, 3, 1]} for name in ("p3", "p4", "p5")
    ]
    metadata = json.loads((folder / "metadata.json").read_text())
    assert (metadata["input"]["color"], metadata["maps"]) == ("BGR", "NHWC")
    commands = (folder / "commands.txt").read_text().splitlines()
    assert [line for line in commands if "AX630C" in line and "--target_hardware AX620E" in line]


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("vendor", VENDORS)
def test_what_calibrates_says_so_where_it_has_no_images(vendor, images, folder_of):
    commands = (folder_of(vendor, images=images) / "commands.txt").read_text()
    assert ("calibrate on images" in commands) == (not images and vendor != "ascend")


def test_ascend_names_the_chip_of_its_description(folder_of):
    commands = (folder_of("ascend") / "commands.txt").read_text().splitlines()
    assert commands[0].endswith("--soc_version=Ascend310") and "npu-smi info" in commands[1]


def test_ascend_divides_pixels_once(folder_of):
    text = (folder_of("ascend") / "aipp.cfg").read_text()
    assert text.count("0.0039215686") == 3
    assert f"src_image_size_w: {SIZE[1]}" in text


def test_a_folder_that_holds_no_network(tmp_path):
    (tmp_path / "x_hailo_model").mkdir()
    with pytest.raises(CheckpointError, match=r"holds 0 \.onnx files, expected one"):
        open_runner(str(tmp_path / "x_hailo_model"))


def typed_on(page: str, program: str) -> list[str]:
    """Commands of a page that start a program."""
    return [each.text for each in commands_of(page) if each.text.startswith(f"{program} ")]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_page_has_the_commands_of_the_folder(vendor, page, folder_of):
    lines = (folder_of(vendor) / "commands.txt").read_text()
    replaced = (
        (r"(?<![\w.])w(?=[.\s_])", "best"),
        (f"{SIZE[1]}", "320"),
        (r"layers\.\d+", "layers.24"),
    )
    for ours, on_page in replaced:
        lines = re.sub(ours, on_page, lines)
    typed = typed_on(page, PROGRAM_OF[vendor])
    assert typed and [each for each in typed if each not in lines.splitlines()] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_the_commands_of_tensorrt(page):
    sizes = InputSizes((320, 320))
    files = [Path(f"best-{name}.onnx") for name in ("trt10", "trt11-fp16", "trt11-int8")]
    expected = [
        command_float16(files[0], sizes),
        *(command_typed(file, sizes) for file in files[1:]),
    ]
    assert typed_on(page, "trtexec") == expected


@pytest.mark.parametrize("page", PAGES)
def test_the_program_for_a_board_finds_what_detect_does(page, folder_of, tmp_path):
    (text,) = (each.text for each in commands_of(page) if "import RKNNLite" in each.text)
    folder = folder_of("ascend")
    shutil.copytree(folder, tmp_path / "best_rknn_model")
    (tmp_path / "rknnlite").mkdir()
    (tmp_path / "rknnlite" / "api.py").write_text(BOARD)
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "bus.png"), noise)
    lower = text.replace("PostprocessConfig()", "PostprocessConfig(score_threshold=0)")
    done = subprocess.run(
        [sys.executable, "-c", lower.replace("bus.jpg", "bus.png")], cwd=tmp_path, text=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_detector(folder, conf_thres=0, max_det=300)(tmp_path / "bus.png")
    assert len(found) and len(done.stdout.splitlines()) == len(found)
    numbers = [re.findall(r"[\d.]+(?:e[+-]\d+)?", line) for line in done.stdout.splitlines()]
    boxes = np.array([line[:4] for line in numbers], np.float32)
    np.testing.assert_allclose(boxes, found.boxes, atol=0.01)
