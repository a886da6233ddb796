"""Folders for vendors' compilers: what is in them agrees with the network."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import export
from models.formats.table import PRESETS
from models.formats.vendor_folder import NETWORK_IN_FOLDER
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model
from tests.unit.data.builders import write_yolo_set
from utils.errors import CheckpointError
from utils.strict_yaml import read_yaml

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
    assert all(decoder["encoded_layer"] in commands for decoder in decoders)
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
    assert content["input_parameters"]["scale_value"] == pytest.approx(1 / 255)


def test_axera_packs_its_images(folder_of):
    folder = folder_of("axera")
    content = json.loads((folder / "config.json").read_text())
    (given,) = content["quant"]["input_configs"]
    with tarfile.open(folder / given["calibration_dataset"]) as tar:
        assert len(tar.getnames()) == given["calibration_size"] == IMAGES
    assert not (folder / "calibration").exists()


def test_ascend_divides_pixels_once(folder_of):
    text = (folder_of("ascend") / "aipp.cfg").read_text()
    assert text.count("0.0039215686") == 3
    assert f"src_image_size_w: {SIZE[1]}" in text


def test_a_folder_that_holds_no_network(tmp_path):
    (tmp_path / "x_hailo_model").mkdir()
    with pytest.raises(CheckpointError, match=r"holds 0 \.onnx files, expected one"):
        open_runner(str(tmp_path / "x_hailo_model"))
