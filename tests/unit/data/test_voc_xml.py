from __future__ import annotations

import pytest

from data.label_rules import UnreadableLabelsError
from data.voc_xml import list_voc_images, read_voc_file
from tests.error_messages import BETWEEN, assert_message
from tests.unit.data.builders import NAMES, write_image
from utils.errors import DatasetError

HW = (100, 200)


def voc_object(name="cat", edges=(11, 21, 40, 60), extra=""):
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in zip(tags, edges, strict=True))
    return f"<object>\n<name>{name}</name>{extra}\n<bndbox>{box}</bndbox></object>\n"


def voc_file(*objects, size="<size><width>200</width><height>100</height></size>", head=""):
    return f"{head}<annotation>{size}\n{''.join(objects)}</annotation>"


def read(folder, content, names=NAMES):
    file = folder / "a.xml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_voc_file(file, HW, class_names=names)


def test_edges_count_from_one_and_belong_to_the_box(tmp_path):
    labels = read(tmp_path, voc_file(voc_object("owl", (1, 1, 200, 100)), voc_object()))

    assert labels.targets.boxes.tolist() == [[0, 0, 200, 100], [10, 20, 40, 60]]
    assert labels.targets.class_ids.tolist() == [2, 0]
    assert labels.areas.tolist() == [20000, 1200]
    assert labels.problems == () and labels.has_file


def test_difficult_objects_become_crowd(tmp_path):
    hard = voc_object("dog", extra="<difficult>1</difficult>")
    easy = voc_object("dog", extra="<difficult>0</difficult>")

    labels = read(tmp_path, voc_file(hard, easy))

    assert labels.crowd.boxes.tolist() == labels.targets.boxes.tolist() == [[10, 20, 40, 60]]
    assert labels.crowd.class_ids.tolist() == [1]
    assert len(labels.areas) == 1


@pytest.mark.parametrize(
    "size",
    [
        "",
        # tools that do not know write 0
        "<size><width>0</width><height>0</height></size>",
        "<size><width>200.0</width><height>100.0</height></size>",
    ],
)
def test_the_size_may_be_omitted(tmp_path, size):
    assert len(read(tmp_path, voc_file(voc_object(), size=size)).targets) == 1


def test_parts_of_an_object_are_not_the_object(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"

    labels = read(tmp_path, voc_file(voc_object(extra=part)))

    assert labels.targets.boxes.tolist() == [[10, 20, 40, 60]]
    assert labels.targets.class_ids.tolist() == [0]


def test_files_without_objects_and_missing_files_are_background(tmp_path):
    assert read(tmp_path, voc_file()).has_file
    assert len(read(tmp_path, voc_file()).targets) == 0
    assert not read_voc_file(tmp_path / "none.xml", HW, class_names=NAMES).has_file


@pytest.mark.parametrize(
    ("edges", "kind", "message"),
    [
        # a single point, as two boxes of BCCD; the wrong way round
        (
            (50, 50, 50, 50),
            "dropped",
            "50 50 50 50 ... xmax > xmin ... row dropped",
        ),
        (
            (40, 21, 11, 60),
            "dropped",
            "40 21 11 60 ... xmax > xmin ... row dropped",
        ),
        # not numbers, not there
        (("a", 1, 2, 3), "dropped", "a 1 2 3 ... four numbers ... row dropped"),
        (("", 1, 2, 3), "dropped", "? 1 2 3 ... four numbers ... row dropped"),
        (("nan", 1, 2, 3), "dropped", "nan 0 2 3 ... finite ... row dropped"),
        # counted from 0: half a percent out
        (
            (0, 21, 40, 60),
            "clipped",
            "0.50% ... outside ... clipped",
        ),
        (
            (11, 21, 240, 60),
            "dropped",
            "20.00% ... outside ... at most 1% ... row dropped",
        ),
    ],
)
def test_bad_boxes(tmp_path, edges, kind, message):
    labels = read(tmp_path, voc_file(voc_object(), voc_object("dog", edges)))

    (problem,) = labels.problems
    assert_message(problem.text, f"{tmp_path / 'a.xml'}:5: ", message)
    assert problem.kind == kind
    assert len(labels.targets) == (2 if kind == "clipped" else 1)


def test_duplicates_are_removed(tmp_path):
    labels = read(tmp_path, voc_file(voc_object(), voc_object(), voc_object("dog")))

    (problem,) = labels.problems
    assert_message(problem.text, f"{tmp_path / 'a.xml'}:5: ", "line 2 ... duplicate removed")
    assert labels.targets.class_ids.tolist() == [0, 1]


def test_an_unknown_name_stops(tmp_path):
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, voc_file(voc_object("dogg")))

    assert_message(
        str(caught.value), f"{tmp_path / 'a.xml'}:2: ", "'dogg' ... did you mean 'dog'? ... owl"
    )


def test_every_name_is_class_0_without_names(tmp_path):
    labels = read(tmp_path, voc_file(voc_object("a"), voc_object("b", (1, 1, 9, 9))), names=None)

    assert labels.targets.class_ids.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # entities that grow, files that are fetched
        (
            voc_file(head='<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>'),
            ":1: ... entities ... not allowed ... image skipped",
        ),
        (
            voc_file(head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'),
            ":1: ... entities ... not allowed ... image skipped",
        ),
        ("", ": ... not valid xml ... line 1, column 0 ... image skipped"),
        (
            "<annotation>\n<object>",
            ": ... not valid xml ... line 2, column 8 ... image skipped",
        ),
        (
            voc_file(size="<size><width>64</width><height>48</height></size>"),
            ": ... 64x48 ... 200x100 ... image skipped",
        ),
        (
            voc_file(size="<size><width>?</width><height>48</height></size>"),
            ": ... ?x48 ... 200x100 ... image skipped",
        ),
    ],
)
def test_files_that_leave_their_image_out(tmp_path, content, message):
    with pytest.raises(UnreadableLabelsError) as caught:
        read(tmp_path, content)

    start, *parts = message.split(BETWEEN)
    assert_message(str(caught.value), f"{tmp_path / 'a.xml'}{start}", *parts)


def test_split_files(tmp_path):
    for name in ("b.jpg", "a.PNG", "photo 1.jpg"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "xml").mkdir()
    split = tmp_path / "train.txt"
    # a per-class list, a name with a blank, an image that is not there
    split.write_bytes("\ufeffb  -1\r\na\r\nphoto 1\r\n\r\ngone\r\n".encode())

    images = list_voc_images(tmp_path / "images", tmp_path / "xml", split, NAMES)

    assert [(p.image_id, p.path.name) for p in images] == [
        (0, "a.PNG"),
        (1, "b.jpg"),
        (2, "gone.jpg"),
        (3, "photo 1.jpg"),
    ]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("images", "no such folder"),
        ("xml", "no such folder"),
        ("train.txt", "no such file"),
    ],
)
def test_missing_paths(tmp_path, missing, message):
    for folder in {"images", "xml"} - {missing}:
        (tmp_path / folder).mkdir()

    with pytest.raises(DatasetError) as caught:
        list_voc_images(tmp_path / "images", tmp_path / "xml", tmp_path / "train.txt", NAMES)

    assert_message(str(caught.value), f"{tmp_path / missing}: ", message)
