from __future__ import annotations

import json
import logging
import re

import pytest

from data.dataset_spec import load_dataset_spec
from data.records import read_records, scan_split
from tests.error_messages import BETWEEN, assert_message
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set
from utils.errors import DatasetError

GOOD = "0 0.5 0.5 0.5 0.5\n"


def listing(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def test_a_split_with_everything_in_it(tmp_path, caplog):
    file = write_yolo_set(
        tmp_path,
        {
            "a": GOOD,
            "b": "",  # background
            "c": None,  # background without a file
            "d": f"{GOOD}nan 0 0 0 0\n{GOOD}0 0.9 0.5 0.21 0.2\n",
            "e": GOOD,  # its image is cut off below
            "f": GOOD,  # and this one's empty
            "g": None,  # its labels are no text
        },
    )
    images, labels = tmp_path / "images", tmp_path / "labels"
    jpeg = write_image(images / "e.jpg", (480, 640))
    (images / "e.png").unlink()
    jpeg.write_bytes(jpeg.read_bytes()[:2000])
    (images / "f.png").write_bytes(b"")
    (labels / "g.txt").write_bytes(GOOD.encode("utf-16"))
    before = listing(tmp_path)

    spec = load_dataset_spec(file)
    result = scan_split(spec, "train")
    with caplog.at_level(logging.INFO):
        records = read_records(spec, "train")

    assert [record.path.stem for record in records] == ["a", "b", "c", "d"]
    assert [record.image_id for record in records] == [0, 1, 2, 3]
    assert {record.image_hw for record in records} == {(48, 64)}
    assert records[0].targets.boxes.tolist() == [[16, 12, 48, 36]]
    assert result.summary() == (
        "4 images, 3 objects, 2 backgrounds (1 without a label file), 3 images skipped, "
        "1 label row dropped, 1 label row clipped, 1 duplicate label row removed"
    )
    assert [problem.text.split(": ")[0] for problem in result.problems] == [
        f"{labels / 'd.txt'}:2",
        f"{labels / 'd.txt'}:3",
        f"{labels / 'd.txt'}:4",
        str(jpeg),
        str(images / "f.png"),
        str(labels / "g.txt"),
    ]
    assert result.problems[3].text.endswith("image skipped")
    assert caplog.messages[0] == f"animals train: {result.summary()}"
    assert caplog.messages[1:-1] == [f"  {problem.text}" for problem in result.problems]
    assert caplog.messages[-1] == (
        "  1 of the 4 images of train have no label file and are taken as backgrounds"
    )
    assert listing(tmp_path) == before


def test_many_problems_are_cut_short(tmp_path, caplog):
    file = write_yolo_set(tmp_path, {"a": GOOD + "x\n" * 23})

    with caplog.at_level(logging.INFO):
        read_records(load_dataset_spec(file), "val")

    assert len(caplog.messages) == 1 + 20 + 1
    assert caplog.messages[-1] == "  ... and 3 more"


def test_strict_stops_at_the_first_problem(tmp_path):
    file = write_yolo_set(tmp_path, {"a": f"{GOOD}x\ny\n"})

    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec(file), "train", strict=True)

    assert_message(
        str(caught.value), f"{tmp_path / 'labels' / 'a.txt'}:2: ", "'x' ... strict ... 2 ... train"
    )


def test_strict_is_content_with_good_data(tmp_path):
    file = write_yolo_set(tmp_path, {"a": GOOD, "b": None})

    assert len(read_records(load_dataset_spec(file), "train", strict=True)) == 2


def test_a_class_beyond_the_names_stops_in_every_split(tmp_path):
    spec = load_dataset_spec(
        write_yolo_set(tmp_path, {"a": GOOD, "b": "3 .5 .5 .5 .5\n9 .5 .5 .5 .5"})
    )

    for split in ("train", "val"):
        with pytest.raises(DatasetError, match=r"b\.txt:1: class is 3.* 1 more like it"):
            read_records(spec, split)


def test_single_class_takes_every_class_as_0(tmp_path):
    file = write_yolo_set(tmp_path, {"a": "5 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n"})

    (record,) = read_records(load_dataset_spec(file), "train", single_class=True)

    assert record.targets.class_ids.tolist() == [0, 0]


def test_no_label_file_at_all_is_an_error_unless_it_is_meant(tmp_path, caplog):
    file = write_yolo_set(tmp_path, {"a": None, "b": None})

    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec(file), "train")
    assert_message(
        str(caught.value),
        "animals: ",
        f"2 images of train ... {tmp_path / 'labels' / 'a.txt'} ... background_only: true",
    )

    file.write_text(file.read_text() + "background_only: true\n")
    assert len(read_records(load_dataset_spec(file), "train")) == 2
    assert caplog.messages[-1] == (
        "  no object is labelled in train: nothing can be learned from it, and AP on it is 0"
    )


def test_nothing_but_crowd_regions_is_an_error(tmp_path):
    write_image(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png"}
    row = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 9, 9], "iscrowd": 1}
    write_coco(tmp_path / "i.json", [image], [row])
    split = "{images: ., annotations: i.json}"
    spec = load_dataset_spec(write_yaml(tmp_path, f"train: {split}\nval: {split}\n"))

    assert scan_split(spec, "val").summary().endswith(" objects, 1 crowd region")
    with pytest.raises(DatasetError) as caught:
        read_records(spec, "val")
    assert_message(str(caught.value), "animals: ", "val has 1 crowd region ... iscrowd")


def test_nothing_but_dropped_rows_is_an_error(tmp_path):
    labels = {"a": "0 32 24 20 20\n", "b": "0 12 14 20 20\n", "c": ""}  # in pixels
    file = write_yolo_set(tmp_path, labels)

    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec(file), "train")

    first = tmp_path / "labels" / "a.txt"
    assert_message(str(caught.value), "animals: ", f"row of train ... 2 rows ... {first}:1: ")


@pytest.mark.parametrize("name", ["a.xml", "_annotations.coco.json"])
def test_labels_of_another_format_are_pointed_out(tmp_path, name):
    file = write_yolo_set(tmp_path, {"a": None})
    (tmp_path / "images" / name).touch()

    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec(file), "train")
    assert_message(str(caught.value), "animals: ", f"{tmp_path / 'images' / name} ... annotations")


def test_label_files_without_an_image_are_counted(tmp_path):
    spec = load_dataset_spec(write_yolo_set(tmp_path, {"a": GOOD, "b": None}))
    images, labels = tmp_path / "images", tmp_path / "labels"
    (images / "c.mp4").touch()  # an image, though not one that is read
    for name, text in {"c.txt": GOOD, "d.txt": GOOD, "e.TXT": GOOD, "classes.txt": "cat\n"}.items():
        (labels / name).write_text(text)

    result = scan_split(spec, "train")

    (problem,) = (each for each in result.problems if each.kind == "orphan")
    assert_message(problem.text, f"{labels}: ", "2 label files ... d.txt")
    assert result.summary().endswith(", 2 label files without an image")
    assert len(read_records(spec, "train", strict=True)) == 2  # nothing that is used is wrong


def test_a_list_of_some_images_makes_no_orphans_of_the_others(tmp_path):
    write_yolo_set(tmp_path, {"a": GOOD, "b": GOOD})
    (tmp_path / "train.txt").write_text("images/a.png\n")
    file = write_yaml(tmp_path, "train: train.txt\nval: images\nnames: [x]\n")

    assert scan_split(load_dataset_spec(file), "train").problems == ()


def test_categories_keep_their_names_from_split_to_split(tmp_path):
    write_image(tmp_path / "a.png")
    image = [{"id": 1, "file_name": "a.png"}]
    content = json.loads(write_coco(tmp_path / "val.json", image, []).read_text())
    content["categories"][0]["name"] = "dog"  # id 7
    (tmp_path / "train.json").write_text(json.dumps(content))
    text = "train: {images: ., annotations: train.json}\nval: {images: ., annotations: val.json}\n"
    spec = load_dataset_spec(write_yaml(tmp_path, text + "names: [Eule, Katze]\n"))

    assert len(scan_split(spec, "val").records) == 1  # the yaml may rename them
    with pytest.raises(DatasetError, match=r"train\.json: category 7 is 'dog', but it is 'cat'"):
        scan_split(spec, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nothing", "animals: ... train ... none is listed"),
        (
            "broken",
            "animals: ... train ... {0}/images/a.png: the file is empty",
        ),
        ("no folder", "{0}/images: ... no such folder"),
    ],
)
@pytest.mark.parametrize("download", ["", "see example.org", "import os\nos.remove('x')"])
def test_nothing_to_read(tmp_path, change, message, download):
    if change != "no folder":
        (tmp_path / "images").mkdir()
    if change == "broken":
        (tmp_path / "images" / "a.png").touch()
    text = "train: images\nval: images\nnames: [x]\n"
    lines = "".join(f"  {line}\n" for line in download.splitlines())
    file = write_yaml(tmp_path, f"{text}download: |\n{lines}" if download else text)

    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec(file), "train")

    hint = {
        "": "",
        "s": "download ... see example.org",
        "i": "download ... import os",
    }[download[:1]]
    start, *parts = message.format(tmp_path).split(BETWEEN)
    assert_message(str(caught.value), start, *parts, hint)


def test_an_unknown_split(tmp_path):
    spec = load_dataset_spec(write_yolo_set(tmp_path, {"a": GOOD}))

    with pytest.raises(DatasetError) as caught:
        read_records(spec, "test")

    assert_message(str(caught.value), "animals: ", "'test' ... train, val")


def test_coco_ids_crowd_and_missing_images(tmp_path):
    write_image(tmp_path / "images" / "b.png")
    images = [
        {"id": 12, "file_name": "b.png", "height": 48, "width": 64},
        {"id": 5, "file_name": "gone.png", "height": 48, "width": 64},
    ]
    fields = {"image_id": 12, "category_id": 7, "bbox": [0, 0, 10, 10], "area": 50}
    annotations = [{"id": 1, "iscrowd": 0, **fields}, {"id": 2, "iscrowd": 1, **fields}]
    write_coco(tmp_path / "i.json", images, annotations)
    split = "{images: images, annotations: i.json}"
    spec = load_dataset_spec(write_yaml(tmp_path, f"train: {split}\nval: {split}\n"))

    result = scan_split(spec, "val")
    (record,) = result.records

    assert record.image_id == 12
    assert record.areas.tolist() == [50]
    assert len(record.targets) == len(record.crowd) == 1
    (problem,) = result.problems
    gone = tmp_path / "images" / "gone.png"
    assert_message(problem.text, f"{gone}: ", "no such file ... image skipped")
    (merged,) = read_records(spec, "val", single_class=True)
    assert merged.targets.class_ids.tolist() == merged.crowd.class_ids.tolist() == [0]


def shared_spec(shared, folder, name, text):
    file = folder / f"{name}.yaml"
    file.write_text(f"path: {shared / 'data' / name}\n{text}")
    return load_dataset_spec(file)


def test_blood_cells(shared, tmp_path):
    split = "{{images: JPEGImages, annotations: Annotations, split: ImageSets/Main/{}.txt}}"
    text = f"train: {split.format('train')}\nval: {split.format('val')}\n"
    spec = shared_spec(shared, tmp_path, "bccd", f"{text}names: [RBC, WBC, Platelets]\n")

    train, val = scan_split(spec, "train"), scan_split(spec, "val")

    assert (len(train.records), len(val.records)) == (205, 87)
    assert sum(len(record.targets) for record in (*train.records, *val.records)) == 3943 - 2
    degenerate = [problem.text for problem in (*train.problems, *val.problems)]
    assert len(degenerate) == 2
    assert all(re.search(r"xml:\d+: xmin ymin xmax ymax is", text) for text in degenerate)


def test_tiny_coco(shared, tmp_path):
    split = "{{images: {0}2017, annotations: annotations/instances_{0}2017.json}}"
    text = f"train: {split.format('train')}\nval: {split.format('val')}\n"
    spec = shared_spec(shared, tmp_path, "tiny_coco", text)

    train, val = scan_split(spec, "train"), scan_split(spec, "val")

    assert len(spec.class_names) == 80 and spec.category_ids[-1] == 90
    assert (len(train.records), len(val.records)) == (50, 50)
    assert sum(len(record.targets) for record in val.records) == 382 - 5
    assert sum(len(record.crowd) for record in val.records) == 5
    assert train.problems == val.problems == ()
    assert {record.image_id for record in val.records} >= {397133, 37777}


def test_coco128(shared, tmp_path):
    names = load_dataset_spec("coco128.yaml").class_names
    text = f"train: images/train2017\nval: images/train2017\nnames: {list(names)}\n"

    result = scan_split(shared_spec(shared, tmp_path, "coco128", text), "train")

    assert result.summary() == (
        "128 images, 929 objects, 2 backgrounds (2 without a label file), "
        "2 label files without an image"
    )


def test_merged_data_sets_of_three_kinds_are_one(tmp_path):
    write_yolo_set(
        tmp_path / "yolo", {"a": "0 0.1 0.1 0.5 0.1 0.5 0.5\n", "b": "2 0.5 0.5 0.5 0.5\n"}
    )
    write_image(tmp_path / "coco" / "c.png")
    image = {"id": 77, "file_name": "c.png", "height": 48, "width": 64}
    box = {"id": 5, "image_id": 77, "category_id": 7, "bbox": [1, 2, 10, 20], "area": 200}
    stray = {"id": 6, "image_id": 78, "category_id": 7, "bbox": [1, 2, 10, 20], "area": 200}
    write_coco(tmp_path / "coco" / "i.json", [image], [box, stray])
    write_image(tmp_path / "voc" / "d.png")
    (tmp_path / "voc" / "d.xml").write_text(
        "<annotation><filename>d.png</filename><object><name>dog</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "voc" / "train.txt").write_text("d\n")
    parts = (
        "yolo/images",
        "{images: coco, annotations: coco/i.json}",
        "{images: voc, annotations: voc, split: voc/train.txt}",
    )
    text = f"train: [{', '.join(parts)}]\nval: {parts[1]}\nnames: [cat, dog, owl]\n"
    spec = load_dataset_spec(write_yaml(tmp_path, text))

    whole, val = scan_split(spec, "train", outlines=True), scan_split(spec, "val")

    assert [record.path.stem for record in whole.records] == ["a", "b", "c", "d"]
    assert [record.image_id for record in whole.records] == [0, 1, 2, 3]
    assert [record.targets.class_ids.tolist() for record in whole.records] == [[0], [2], [0], [1]]
    assert [len(record.outlines[0]) for record in whole.records] == [1, 0, 0, 0]
    assert "annotation 6: image_id is 78" in whole.problems[-1].text
    assert [record.targets.class_ids.tolist() for record in val.records] == [[0]]
    assert all(record.outlines == () for record in scan_split(spec, "train").records)
