"""Damaged label files and data yamls: only this project's errors come out, and soon."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.coco_json import list_coco_images, read_categories
from data.dataset_spec import load_dataset_spec
from data.label_rules import Listing, UnreadableLabelsError
from data.labels import list_yolo_images
from data.voc_split import list_voc_images
from tests.unit.data.builders import NAMES, write_image
from tests.unit.data.mutations import mutate_bytes, mutate_texts, mutate_tree
from utils.errors import UserError

HW = (48, 64)
MAX_SECONDS = 5
QUICK, SLOW = 300, 5000
ROWS = (
    b"0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.3 0.1 0.1 0.5\n2.0 5e-1 .5 0.2 0.4\r\n\n"
    b"0 .5 .5 .2 .3 .45 .4 .55 .4 .5 .5 .46 .6 -1 -1\n1 0.99 0.5 0.021 0.2\n"
)
CATEGORIES = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 3, "name": "cat", "supercategory": "pets"},
    {"id": 7, "name": "dog", "supercategory": "pets"},
]
COCO = {
    "info": {"year": 2026},
    "images": [
        {"id": 1, "file_name": "a.png", "height": 48, "width": 64},
        {"id": "2", "file_name": "sub\\b.png", "height": None, "width": "64"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 90.5,
         "iscrowd": 0, "segmentation": [[1, 2, 11, 2, 11, 22]]},
        {"id": 2, "image_id": 2, "category_id": "7", "bbox": [1, 2, "10", 20], "area": None,
         "iscrowd": "1", "segmentation": {"counts": [1, 2], "size": [48, 64]}},
    ],
    "categories": CATEGORIES,
}  # fmt: skip
OBJECT = (
    b"<object><name>%b</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
    b"<xmax>20</xmax><ymax>30</ymax></bndbox></object>\n"
)
XML = (
    b"<?xml version='1.0' encoding='utf-8'?>\n<annotation><size><width>64</width>"
    b"<height>48</height></size>\n" + OBJECT % b"cat" + OBJECT % b"dog" + b"</annotation>"
)
ENTITY = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY owl "owl">]>\n<annotation>' + (
    OBJECT % b"&owl;" + b"</annotation>"
)
DATA = {
    "path": ".",
    "train": ["images", {"images": "images", "annotations": "images", "split": "train.txt"}],
    "val": {"images": "images", "annotations": "i.json"},
    "test": "images",
    "nc": 3,
    "names": {0: "cat", 1: "dog", 2: "owl"},
    "download": "see example.org",
    "background_only": True,
}


def check_labels(listing: Listing) -> None:
    """Read all labels; what is taken obeys the rules."""
    height, width = HW
    for image in listing.images:
        labels = image.read_labels(HW)
        for targets in (labels.targets, labels.crowd):
            boxes = targets.boxes
            assert np.isfinite(boxes).all() and (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes >= 0).all() and (boxes <= (width, height, width, height)).all()
            assert targets.class_ids.shape == (len(boxes),) and (targets.class_ids >= 0).all()
        assert np.isfinite(labels.areas).all() and (labels.areas >= 0).all()
        assert all(np.isfinite(part).all() for outline in labels.outlines for part in outline)


def read_rows(folder: Path, rng: np.random.Generator) -> None:
    (folder / "a.txt").write_bytes(mutate_bytes(rng, ROWS))
    check_labels(list_yolo_images([folder], NAMES if rng.random() < 0.7 else None))


def read_list(folder: Path, rng: np.random.Generator) -> None:
    (folder / "list.txt").write_bytes(mutate_bytes(rng, b"a.png\n./sub/b.png\n"))
    list_yolo_images([folder / "list.txt"], NAMES)
    list_voc_images(folder, folder, folder / "list.txt", NAMES)


def read_json(folder: Path, rng: np.random.Generator) -> None:
    file = folder / "i.json"
    if rng.random() < 0.3:
        file.write_bytes(mutate_bytes(rng, json.dumps(COCO).encode()))
    else:
        file.write_text(json.dumps(mutate_tree(rng, COCO)))
    classes = {3: "cat", 7: "dog"} if rng.random() < 0.5 else NAMES
    check_labels(list_coco_images(folder, file, classes))
    read_categories(file)


def read_xml(folder: Path, rng: np.random.Generator) -> None:
    content = ENTITY if rng.random() < 0.2 else XML
    mutate = mutate_texts if rng.random() < 0.6 else mutate_bytes
    (folder / "a.xml").write_bytes(mutate(rng, content))
    listing = list_voc_images(folder, folder, None, NAMES)
    check_labels(listing)
    for image in listing.images:  # only an entity can name an owl
        assert NAMES.index("owl") not in image.read_labels(HW).targets.class_ids


def read_yaml(folder: Path, rng: np.random.Generator) -> None:
    (folder / "i.json").write_text(json.dumps(COCO))
    text = yaml.safe_dump(mutate_tree(rng, DATA) if rng.random() < 0.5 else DATA).encode()
    (folder / "data.yaml").write_bytes(mutate_bytes(rng, text) if rng.random() < 0.6 else text)
    load_dataset_spec(folder / "data.yaml")


READERS: list[Callable[[Path, np.random.Generator], None]] = [
    read_rows,
    read_list,
    read_json,
    read_xml,
    read_yaml,
]


@pytest.mark.parametrize(
    "seeds",
    [range(QUICK), pytest.param(range(QUICK, QUICK + SLOW), marks=pytest.mark.slow)],
    ids=["quick", "slow"],
)
@pytest.mark.parametrize("read", READERS)
def test_damaged_files(tmp_path, monkeypatch, read, seeds):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png", HW)
    write_image(tmp_path / "sub" / "b.png", HW)
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        start = time.perf_counter()
        try:
            read(tmp_path, np.random.default_rng(seed))
            outcomes["read"] += 1
        except (UserError, UnreadableLabelsError) as error:
            outcomes[type(error).__name__] += 1
            assert str(tmp_path) in str(error), seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert time.perf_counter() - start < MAX_SECONDS, seed
    logging.getLogger(__name__).info("%s: %s", read.__name__, dict(outcomes))
    assert outcomes["read"] > 0 and len(outcomes) > 1


def test_a_yaml_of_aliases_does_not_grow(tmp_path):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "data.yaml").write_text("\n".join(lines))

    with pytest.raises(UserError, match="aliases"):
        load_dataset_spec(tmp_path / "data.yaml")
