"""`val.py --save-json`: which image each detection is of."""

from __future__ import annotations

import json

import pytest

import val
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set


def images_in_results(folder, data: str) -> set[object]:
    arguments = ["--weights", str(folder / "one.pt"), "--data", data, "--save-json", "--noplots"]
    more = ["--workers", "0", "--device", "cpu", "--project", str(folder / "runs")]
    assert val.main([*arguments, *more, "--imgsz", "96"]) == 0
    (file,) = (folder / "runs").glob("*/one_predictions.json")
    return {each["image_id"] for each in json.loads(file.read_text())}


@pytest.fixture(autouse=True)
def weights(tmp_path):
    save_model(tmp_path / "one.pt", finding_model(tiny_spec(nc=2), 1.5))


def test_yolo_labels_have_the_names_of_files(tmp_path):
    """As in YOLOv5: numbers where the names are."""
    labels = dict.fromkeys(("000000000139", "street"), "0 0.5 0.5 0.4 0.4\n")
    write_yolo_set(tmp_path / "set", labels, (96, 96))
    data = write_yaml(tmp_path / "set", "train: images\nval: images\nnames: [owl, cat]\n")
    assert images_in_results(tmp_path, str(data)) == {139, "street"}


@pytest.mark.parametrize(("val_part", "ids"), [("{one}", {7}), ("[{one}, {other}]", {"a", "b"})])
def test_coco_json_has_its_own_numbers(tmp_path, val_part, ids):
    """But several have no numbers in common."""
    for name in "ab":
        write_image(tmp_path / f"{name}.png", (96, 96))
        annotation = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [9, 9, 40, 40]}
        write_coco(tmp_path / f"{name}.json", [{"id": 7, "file_name": f"{name}.png"}], [annotation])
    parts = {name: f"{{images: ., annotations: {file}.json}}"
             for name, file in (("one", "a"), ("other", "b"))}  # fmt: skip
    text = val_part.format(**parts)
    data = write_yaml(tmp_path, f"train: {text}\nval: {text}\nnames: [owl, cat]\n")
    assert images_in_results(tmp_path, str(data)) == ids
