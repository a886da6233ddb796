"""The yamls of README and docs are read by the program, on data that is drawn as they describe."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from models.network.detector import build_model
from models.network.model_spec import SPECS_FOLDER, ModelSpec
from tests.documents.pages import Code, code_of, tokens_of, user_pages
from tests.unit.data.builders import write_image
from tests.unit.data.test_voc_xml import voc_file, voc_object
from utils.detect.zones import read_zones
from utils.strict_yaml import read_yaml

HW = (100, 200)  # of the images of `voc_file`
IMAGES = 10
DEFAULT_NAMES = ("cat", "dog")


def blocks() -> list[Code]:
    found = chain.from_iterable(code_of(page, tokens_of(page)) for page in user_pages())
    return [code for code in found if code.language == "yaml"]


def content_of(code: Code) -> dict[str, Any]:
    return yaml.safe_load(code.text)


def kind_of(content: dict[str, Any]) -> str:
    """`data`, `zones` or `model`; an unknown yaml is an error."""
    kinds = {"train": "data", "zones": "zones", "lines": "zones", "rep_block": "model",
             "activation": "model", "rep_policy": "model"}  # fmt: skip
    return next(kind for key, kind in kinds.items() if key in content)


def each_block(kind: str) -> pytest.MarkDecorator:
    of_kind = [code for code in blocks() if kind_of(content_of(code)) == kind]
    ids = [f"{code.page}:{code.line}" for code in of_kind]
    return pytest.mark.parametrize("code", of_kind, ids=ids)


@each_block("data")
def test_data_yamls_are_read(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = content_of(code)
    root = tmp_path / content.get("path", ".")
    names = content.get("names") or DEFAULT_NAMES
    for split in ("train", "val", "test"):
        given = content.get(split)
        for entry in given if isinstance(given, list) else [given]:
            draw(root, entry, list(names))
    Path("my.yaml").write_text(code.text, encoding="utf-8")
    spec = load_dataset_spec("my.yaml")
    parts = content["train"] if isinstance(content["train"], list) else [content["train"]]
    found = [read_records(spec, split, strict=True) for split in ("train", "val")]
    assert len(found[0]) == IMAGES * len(parts) - (len(found[1]) if is_share(content) else 0)
    assert found[1] and all(len(each.targets) == 1 for each in chain.from_iterable(found))


def is_share(content: dict[str, Any]) -> bool:
    return isinstance(content["val"], float)


def draw(root: Path, entry: Any, names: list[str]) -> None:
    """The images and labels of one entry of a split, one object on each image."""
    if isinstance(entry, str):
        labels = root / entry.replace("images", "labels", 1)
        labels.mkdir(parents=True, exist_ok=True)
        for path in images(root / entry):
            (labels / f"{path.stem}.txt").write_text("1 0.5 0.5 0.2 0.3\n", encoding="utf-8")
    elif isinstance(entry, dict) and str(entry["annotations"]).endswith(".json"):
        draw_coco(root, entry, names)
    elif isinstance(entry, dict):
        draw_voc(root, entry, names)


def images(folder: Path) -> list[Path]:
    """Different ones in each folder: the same image twice is reported."""
    seed = sum(map(ord, folder.name))
    return [write_image(folder / f"{folder.name}{n}.jpg", HW, seed + n) for n in range(IMAGES)]


def draw_coco(root: Path, entry: dict[str, str], names: list[str]) -> None:
    listed = list(enumerate(images(root / entry["images"]), 1))
    content = {
        "images": [{"id": n, "file_name": path.name, "height": HW[0], "width": HW[1]}
                   for n, path in listed],
        "annotations": [{"id": n, "image_id": n, "category_id": 2, "bbox": [10, 10, 50, 40],
                         "area": 2000, "iscrowd": 0} for n, _ in listed],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
    }  # fmt: skip
    file = root / entry["annotations"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def draw_voc(root: Path, entry: dict[str, str], names: list[str]) -> None:
    split = entry.get("split")
    stem = Path(split).stem if split else "all"
    annotations = root / entry["annotations"]
    annotations.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, stem))
    for number in range(IMAGES):
        write_image(root / entry["images"] / f"{stem}{number}.jpg", HW, seed + number)
        xml = annotations / f"{stem}{number}.xml"
        xml.write_text(voc_file(voc_object(names[1])), encoding="utf-8")
    if split:
        (root / split).parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{stem}{number}\n" for number in range(IMAGES))
        (root / split).write_text(lines, encoding="utf-8")


@each_block("zones")
def test_zones_are_read(code, tmp_path):
    path = tmp_path / "zones.yaml"
    path.write_text(code.text, encoding="utf-8")
    zones = read_zones(path)
    content = content_of(code)
    assert len(zones.lines) == len(content.get("lines") or ())
    assert len(zones.zones) == len(content.get("zones") or ())


@each_block("model")
def test_keys_and_rows_of_model_yamls_build_a_network(code):
    content = content_of(code)
    whole = read_yaml(SPECS_FOLDER / "yolov5n.yaml")
    rows = {str(row[3]): row for row in content.pop("backbone", ())}
    assert set(rows) <= {str(row[3]) for row in whole["backbone"]}
    backbone = [rows.get(str(row[3]), row) for row in whole["backbone"]]
    spec = ModelSpec.from_yaml({**whole, **content, "backbone": backbone}, "page.yaml")
    with torch.device("meta"):
        build_model(spec)


def test_every_yaml_is_of_a_known_kind():
    assert {kind_of(content_of(code)) for code in blocks()} == {"data", "zones", "model"}
