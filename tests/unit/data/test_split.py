"""`python -m data.split`: the lists say what `val: 0.2` means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from data.split.__main__ import main
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set

GOOD = "0 0.5 0.5 0.5 0.5\n"
XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object></annotation>"
)


def parts(file: Path) -> dict[str, list[str]]:
    spec = load_dataset_spec(file)
    return {name: [r.path.name for r in read_records(spec, name)] for name in spec.splits}


@pytest.fixture(params=["yolo", "coco", "voc"])
def data_set(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A yaml of twenty images that are divided nowhere but in it."""
    if request.param == "yolo":
        file = write_yolo_set(tmp_path, {f"{n:02}": GOOD for n in range(20)})
        file.write_text(file.read_text().replace("val: images", "val: 0.2"))
        return file
    images = []
    for number in range(20):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
        (tmp_path / "xml").mkdir(exist_ok=True)
        (tmp_path / "xml" / f"{number}.xml").write_text(XML)
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
    write_coco(tmp_path / "i.json", images, [])
    annotations = "i.json" if request.param == "coco" else "xml"
    text = f"train: {{images: images, annotations: {annotations}}}\nval: 0.2\n"
    return write_yaml(tmp_path, text)


def test_the_lists_are_the_split_of_the_yaml(data_set, tmp_path, capsys):
    assert main([str(data_set), "--output", str(tmp_path / "out")]) == 0

    written = parts(tmp_path / "out" / "animals.yaml")
    assert written == parts(data_set)
    assert len(written["val"]) == 4
    assert "16 images in train, 4 images in val" in capsys.readouterr().out


def test_the_json_of_a_part_has_its_annotations(tmp_path):
    images = []
    for number in range(5):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
        images.append({"id": number, "file_name": f"{number}.png"})
    boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [1, 1, 9, 9]} for n in range(5)]
    write_coco(tmp_path / "i.json", images, boxes)
    file = write_yaml(tmp_path, "train: {images: images, annotations: i.json}\nval: 0.2\n")

    assert main([str(file), "--output", str(tmp_path / "out")]) == 0

    found = [
        json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("train", "val")
    ]
    for part, count in zip(found, (4, 1), strict=True):
        assert len(part["images"]) == count and len(part["categories"]) == 2
        ids = [image["id"] for image in part["images"]]
        assert [each["image_id"] for each in part["annotations"]] == ids


def test_names_that_are_no_utf_8_survive(tmp_path):
    file = write_yolo_set(tmp_path, {f"{n:02}": GOOD for n in range(5)})
    image = tmp_path / "images" / os.fsdecode(b"caf\xe9.png")
    (tmp_path / "images" / "00.png").rename(image)

    assert main([str(file), "--output", str(tmp_path / "out")]) == 0

    written = parts(tmp_path / "out" / "animals.yaml")
    assert image.name in {*written["train"], *written["val"]}


@pytest.mark.parametrize(("written", "code"), [("{}", 2), ("images/{}.png", 0)])
def test_images_that_are_not_there(written, code, tmp_path, capsys):
    """A list of names without folder and suffix, as VOC has them, would divide nothing."""
    write_yolo_set(tmp_path, {f"{n:02}": GOOD for n in range(9)})
    names = "".join(f"{written.format(f'{n:02}')}\n" for n in range(10))
    (tmp_path / "train.txt").write_text(names)
    file = write_yaml(tmp_path, "train: train.txt\nval: 0.2\nnames: [cat, dog]\n")

    assert main([str(file), "--output", str(tmp_path / "out")]) == code

    message = capsys.readouterr().err
    missing = tmp_path / (f"{written}".format("09"))
    assert (f"animals: 1 of 8 images in train is not there, such as {missing}" in message) == (
        code == 0
    )
    assert ("8 of 8 images in train are not there" in message) == (code == 2)
    assert (tmp_path / "out/animals.yaml").exists() == (code == 0)


def test_wrong_shares(tmp_path, capsys):
    file = write_yolo_set(tmp_path, {"a": GOOD})

    assert main([str(file), "--val", "1.5"]) == 2
    assert "--val 1.5" in capsys.readouterr().err
    assert main([str(file), "--val", "0"]) == 2
    assert main([str(file), "--val", "0.6", "--test", "0.5"]) == 2
