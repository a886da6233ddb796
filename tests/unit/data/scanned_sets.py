"""Data sets of all kinds, and all that a scan tells about them."""

from __future__ import annotations

from pathlib import Path

from data.dataset_spec import load_dataset_spec
from data.records import scan_split
from data.scan_index import ScanIndex
from data.scan_result import ScanResult
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set
from utils.errors import UserError

GOOD = "0 0.5 0.5 0.5 0.5\n"
POLYGON = "1 0.1 0.1 0.5 0.1 0.5 0.5\n"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
XML = f"<annotation><object><name>{{}}</name>{BOX}</object></annotation>"


def write_merged(folder: Path) -> Path:
    """Data sets of all kinds as one, with faults of all kinds; its val is one that lists images."""
    write_yolo_set(folder, {"a": GOOD, "b": f"{POLYGON}{POLYGON}nan 0 0 0 0\n", "c": None})
    write_image(folder / "images" / "deep" / "e.jpg", (50, 60), 7)
    (folder / "list.txt").write_text("./images/b.png\nimages/a.png\nimages/gone.png\n")
    write_image(folder / "coco" / "c.png", (48, 64), 8)
    write_image(folder / "coco" / "d.jpg", (48, 64), 9)
    images = [{"id": number, "file_name": name, "height": 48, "width": 64}
              for number, name in ((77, "c.png"), (5, "d.jpg"), (2**70, "gone.png"))]  # fmt: skip
    row = {"image_id": 77, "category_id": 7, "bbox": [1, 2, 10, 20], "area": 200}
    rows = [{"id": 1, **row}, {"id": 2, **row, "iscrowd": 1}, {"id": 3, **row, "image_id": 1}]
    write_coco(folder / "coco" / "i.json", images, rows)
    write_image(folder / "voc" / "f.png", (48, 64), 10)
    (folder / "voc" / "f.xml").write_text(XML.format("dog", 9))
    parts = ("images", "{images: coco, annotations: coco/i.json}")
    voc = "{images: voc, annotations: voc}"
    text = f"train: [{', '.join([*parts, voc])}]\nval: list.txt\nnames: [cat, dog, owl]\n"
    return write_yaml(folder, text)


def write_shared(folder: Path) -> Path:
    """One of which a share is held out."""
    write_yolo_set(folder, {name: GOOD if name < "k" else POLYGON for name in "abcdefghijklmno"})
    return write_yaml(folder, "train: images\nval: 0.3\nnames: [cat, dog, owl]\n")


def everything(result: ScanResult) -> tuple:
    """All that a scan tells, as numbers and texts."""
    found = [
        (
            str(each.path),
            each.image_hw,
            each.image_id,
            *(
                (labels.boxes.tolist(), labels.class_ids.tolist())
                for labels in (each.targets, each.crowd)
            ),
            each.areas.tolist(),
            [[polygon.tolist() for polygon in outline] for outline in each.outlines],
        )
        for each in result.records
    ]
    return found, result.problems, result.num_without_file, result.missing_labels, result.summary()


def scanned(yaml: Path, split="train", *, indexed=True, **options):
    """What reading a split finds, or the error."""
    try:
        spec = load_dataset_spec(yaml)
        index = ScanIndex(spec.path) if indexed else None
        return everything(scan_split(spec, split, index=index, **options))
    except UserError as error:
        return str(error)
