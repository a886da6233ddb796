"""A share of the images held out: the same ones every time, copies together, classes divided."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data.dataset_spec import load_dataset_spec
from data.held_out import Candidate, choose_splits
from data.records import read_records, scan_split
from data.split_spec import SharedSplit
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set

FIFTH = (("val", 0.2),)


def candidates(num_images, num_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Candidate(
            f"{number}.jpg",
            str(number).encode(),
            # class 0 in half of the images, each next one in half as many
            frozenset(c for c in range(num_classes) if rng.random() < 0.5 ** (c + 1)),
        )
        for number in range(num_images)
    ]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("num_images", [40, 1000])
def test_the_share_and_that_of_each_class(num_images, share):
    images = candidates(num_images)

    chosen = choose_splits(images, [("val", share)])

    assert chosen.count("val") == pytest.approx(share * num_images, abs=1)
    for class_id in range(5):
        shown = [i for i, image in enumerate(images) if class_id in image.classes]
        held_out = sum(chosen[i] == "val" for i in shown)
        assert held_out == pytest.approx(share * len(shown), abs=2 + 0.06 * len(shown))


def test_neither_order_nor_folder_nor_other_images_matter():
    images = candidates(300)
    split_of = dict(zip(images, choose_splits(images, FIFTH), strict=True))

    backwards = choose_splits(images[::-1], FIFTH)
    fewer = choose_splits(images[:-3], FIFTH)

    assert backwards == [split_of[image] for image in images[::-1]]
    moved = sum(split != split_of[image] for image, split in zip(images, fewer, strict=False))
    assert moved <= 3 * 5


def test_images_of_one_content_go_to_one_side():
    contents = np.random.default_rng(1).integers(0, 60, 300)
    images = [Candidate(f"{n}.jpg", bytes([c])) for n, c in enumerate(contents)]

    chosen = choose_splits(images, FIFTH)

    sides = {(image.digest, split) for image, split in zip(images, chosen, strict=True)}
    assert len(sides) == len(set(contents.tolist()))
    assert 0 < chosen.count("val") < len(images)


def test_the_only_image_of_a_class_stays_to_learn_from():
    images = [Candidate(f"{n}.jpg", bytes([n]), frozenset({n})) for n in range(20)]
    images += [Candidate(f"b{n}.jpg", bytes([100 + n])) for n in range(80)]

    chosen = choose_splits(images, FIFTH)

    assert set(chosen[:20]) == {"train"}
    assert chosen.count("val") == 20  # made up for by backgrounds


@pytest.mark.parametrize(("count", "expected"), [(0, {}), (1, {"train": 1}), (2, {"train": 1})])
def test_few_images(count, expected):
    images = [Candidate(f"{n}.jpg", bytes([n])) for n in range(count)]

    found = Counter(choose_splits(images, [("val", 0.1)]))

    assert found == {**expected, **({"val": 1} if count == 2 else {})}


def test_three_parts():
    found = Counter(choose_splits(candidates(200), [("val", 0.2), ("test", 0.1)]))

    assert found["val"] == pytest.approx(40, abs=1) and found["test"] == pytest.approx(20, abs=1)


def test_a_yaml_without_a_split(tmp_path):
    labels = {f"{n:02}": f"{n % 3} 0.5 0.5 0.5 0.5\n" for n in range(30)}
    file = write_yolo_set(tmp_path, labels)
    copy = tmp_path / "images" / "copy.png"
    copy.write_bytes((tmp_path / "images" / "07.png").read_bytes())
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    file.write_text(file.read_text().replace("val: images", "val: 0.2\ntest: 0.1"))
    before = sorted(tmp_path.rglob("*"))

    spec = load_dataset_spec(file)
    parts = {name: read_records(spec, name) for name in spec.splits}
    again = read_records(load_dataset_spec(file), "val")

    assert list(spec.splits) == ["train", "val", "test"]
    assert all(isinstance(split, SharedSplit) for split in spec.splits.values())
    paths = {name: {record.path.name for record in records} for name, records in parts.items()}
    assert sum(len(names) for names in paths.values()) == len(set().union(*paths.values())) == 31
    assert (len(parts["val"]), len(parts["test"])) in {(6, 3), (7, 3), (6, 4)}
    assert {record.path.name for record in again} == paths["val"]
    side = next(name for name in paths if "copy.png" in paths[name])
    assert "07.png" in paths[side]
    shown = {int(c) for record in parts["val"] for c in record.targets.class_ids}
    assert shown == {0, 1, 2}
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written


def test_coco_json_and_voc_xml_are_divided_too(tmp_path):
    images = []
    for number in range(10):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
        (tmp_path / "images" / f"{number}.xml").write_text(
            f"<annotation><object><name>{'dog' if number % 2 else 'cat'}</name><bndbox><xmin>1"
            "</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
    write_coco(tmp_path / "i.json", images, [])
    coco = "train: {images: images, annotations: i.json}\nval: 0.3\n"
    voc = "train: {images: images, annotations: images}\nval: 0.3\n"

    of_coco, of_voc = (load_dataset_spec(write_yaml(tmp_path, text)) for text in (coco, voc))

    assert of_coco.category_ids == (3, 7) and of_voc.class_names == ("cat", "dog")
    for spec in (of_coco, of_voc):
        found = [scan_split(spec, name).records for name in ("train", "val")]
        assert sorted(record.image_id for part in found for record in part) == list(range(10))
        assert [len(part) for part in found] == [7, 3]
