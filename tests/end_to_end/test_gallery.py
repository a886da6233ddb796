"""val.py --gallery on data sets of every kind: the page's counts are those of the evaluation."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

import val
from tests.gallery_pages import Page, assert_self_contained
from tests.house.source_tree import ROOT, imported_modules, parse, product_files, run_at_import
from tests.onnx_builders import OUR_METADATA, save_detector
from utils.val_config import ValConfig

SIZE = 96
NO_UTF_8 = os.fsdecode(b"caf\xe9")
STEMS = ("a", "b <i>&amp;", "猫 'x\"", NO_UTF_8)
COCO_STEMS = ("a", "b <i>&amp;", "猫 'x\"", "c")  # JSON has no such names
# Input pixels: (centre, size), objectness, one probability per class.
ROWS = [
    [30, 30, 20, 20, 0.9, 0.9, 0.0],  # on the labelled cat
    [31, 31, 20, 20, 0.6, 0.0, 0.9],  # a dog at the same position
    [70, 70, 16, 16, 0.8, 0.9, 0.0],  # a cat on the labelled dog
    [75, 30, 20, 20, 0.7, 0.0, 0.9],  # a dog in the region
    [20, 75, 10, 10, 0.2, 0.9, 0.0],  # below the threshold
]
CAT, DOG, LOW, REGION = [20, 20, 40, 40], [62, 62, 78, 78], [15, 70, 25, 80], [60, 10, 94, 48]
# Of the images but the first: what the page has to count in each, besides what is labelled there.
EXPECTED = {"correct": 1, "confusion": 1, "low_score": 1, "duplicate": 1}
REGIONS = {"coco": "ignored", "voc": "ignored", "yolo": "background"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_detector(Path("tiny.onnx"), ROWS)
    return tmp_path


def write_images(names=STEMS) -> None:
    """White images, in which the detector finds all of its rows."""
    Path("images").mkdir()
    content = cv2.imencode(".png", np.full((SIZE, SIZE, 3), 255, np.uint8))[1].tobytes()
    for name in names:
        Path("images", f"{name}.png").write_bytes(content)


def objects() -> list[tuple[int, list[int]]]:
    return [(0, CAT), (1, DOG), (0, LOW)]


def write_yolo() -> str:
    Path("labels").mkdir()
    for stem in STEMS[1:]:
        rows = [(id_, np.array(box) / SIZE) for id_, box in objects()]
        text = "".join(f"{id_} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
                       for id_, (x1, y1, x2, y2) in rows)  # fmt: skip
        Path("labels", f"{stem}.txt").write_text(text)
    return "images"


def write_coco() -> str:
    annotations = [
        {"image_id": image, "category_id": id_, "iscrowd": crowd,
         "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        for image in range(1, len(COCO_STEMS))
        for crowd, rows in ((0, objects()), (1, [(1, REGION)]))
        for id_, (x1, y1, x2, y2) in rows
    ]  # fmt: skip
    content = {
        "images": [{"id": k, "file_name": f"{stem}.png", "width": SIZE, "height": SIZE}
                   for k, stem in enumerate(COCO_STEMS)],
        "annotations": [{"id": k, **each} for k, each in enumerate(annotations)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }  # fmt: skip
    Path("a.json").write_text(json.dumps(content))
    return "{images: images, annotations: a.json}"


def write_voc() -> str:
    Path("xml").mkdir()
    for stem in STEMS:
        rows = [(*row, 0) for row in objects()] + [(1, REGION, 1)] if stem != "a" else []
        text = "".join(
            f"<object><name>{('cat', 'dog')[id_]}</name><difficult>{difficult}</difficult><bndbox>"
            f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for id_, (x1, y1, x2, y2), difficult in rows
        )  # fmt: skip
        Path("xml", f"{stem}.xml").write_text(f"<annotation>{text}</annotation>")
    return "{images: images, annotations: xml}"


FORMATS = {"yolo": write_yolo, "coco": write_coco, "voc": write_voc}


def run(split: str, names=("cat", "dog"), weights="tiny.onnx", more="", **options):
    """The page, the evaluation, and the folder of a run."""
    Path("d.yaml").write_text(
        f"path: .\ntrain: {split}\nval: {split}\ntest: {split}\n"
        f"names: {json.dumps([*names])}\n{more}"
    )
    config = {"imgsz": SIZE, "rect": False, "workers": 0, "noplots": True, "gallery": True}
    result = val.validate(ValConfig(weights, data="d.yaml", **{**config, **options}))
    page = Page(result.folder / "gallery.html")
    confusion = result.evaluation.metrics.confusion
    np.testing.assert_array_equal(page.matrix(), confusion)
    np.testing.assert_array_equal(page.counted(), confusion)
    assert_self_contained(page)
    return page, confusion, result.folder


@pytest.mark.parametrize("format_", FORMATS)
def test_each_kind_is_counted_in_data_sets_of_each_format(format_: str) -> None:
    stems = COCO_STEMS if format_ == "coco" else STEMS
    write_images(stems)
    page, _, _ = run(FORMATS[format_]())
    expected = {kind: 3 * count for kind, count in EXPECTED.items()}
    # The first image has no labels: its four detections that score enough are false.
    expected["background"] = 4
    region = REGIONS[format_]
    expected[region] = expected.get(region, 0) + 3
    assert page.kinds() == expected
    assert all(crop["jpeg"] for crop in page.crops)
    assert {crop["name"] for crop in page.crops} == {
        f"{stem.encode('utf-8', 'backslashreplace').decode()}.png" for stem in stems
    }


@pytest.mark.parametrize(
    "options",
    [
        {"single_cls": True},
        {"rect": None},  # padded as little as the file accepts
        {"rect": True},
        {"task": "test"},
        {"task": "train"},
        {"conf_thres": 0.65},  # above the matrix's own threshold
        {"conf_thres": 1.0},  # nothing found
        {"gallery_crops": 1},
        pytest.param({"noplots": False}, marks=pytest.mark.slow),
    ],
)
def test_flags(options: dict) -> None:
    write_images(COCO_STEMS)
    page, confusion, folder = run(write_coco(), **options)
    assert len(confusion) == (2 if "single_cls" in options else 3)
    if options.get("gallery_crops") == 1:
        assert len(page.crops) == len(page.data["groups"]) < confusion.sum()
    threshold = max(options.get("conf_thres", 0), 0.25)
    assert page.data["threshold"] == threshold
    assert f"a score of at least {threshold:g}" in page.text
    assert not list(folder.glob(".*"))


def test_nothing_labelled() -> None:
    write_images()
    page, confusion, _ = run("images", more="background_only: true\n")
    assert page.kinds() == {"background": 16} and confusion.sum() == 16
    assert page.data["curves"]["class_ids"] == []


@pytest.mark.parametrize("count", [1, 80])
def test_numbers_of_classes(count: int) -> None:
    names = [f"<b>{number}" for number in range(count)]
    rows = [[10 + number, 30, 20, 20, 0.9, *np.eye(count)[number]] for number in range(count)]
    save_detector(Path("many.onnx"), rows, metadata={**OUR_METADATA, "names": json.dumps(names)})
    write_images("a")
    Path("labels").mkdir()
    Path("labels", "a.txt").write_text(f"{count - 1} 0.3 0.3 0.2 0.2\n0 0.5 0.5 0.2 0.2\n")
    page, confusion, _ = run("images", names=names, weights="many.onnx")
    assert page.data["names"] == names and len(confusion) == count + 1
    assert confusion.sum() > count


def test_without_the_flag_there_is_no_page() -> None:
    write_images()
    write_yolo()
    Path("d.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [cat, dog]\n")
    flags = "--weights tiny.onnx --data d.yaml --imgsz 96 --workers 0 --noplots --gallery-crops 5"
    assert val.main(flags.split()) == 0
    assert not list(Path("runs").rglob("*.html"))


@pytest.mark.parametrize("value", ["0", "-1", "1001", "many"])
def test_bad_limits(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        val.main(["--weights", "tiny.onnx", "--gallery-crops", value])
    assert ended.value.code == 2
    assert "--gallery-crops" in capsys.readouterr().err


def test_the_page_is_imported_where_the_flag_is_looked_at() -> None:
    importers = set()
    for path in product_files():
        if "utils.gallery" not in path.read_text(encoding="utf-8"):
            continue
        tree = parse(path)
        at_import = {id(node) for node in run_at_import(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and any(
                module.startswith("utils.gallery") for _, module in imported_modules(node)
            ):
                importers.add((path.relative_to(ROOT).parts[:2], id(node) in at_import))
    assert importers == {(("utils", "gallery"), True), (("val.py",), False)}
