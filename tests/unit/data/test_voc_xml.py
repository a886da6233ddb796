from __future__ import annotations

import pytest

from data.label_rules import UnreadableLabelsError
from data.voc_xml import read_voc_file
from tests.error_messages import BETWEEN, assert_message
from tests.unit.data.builders import NAMES

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
    ("written", "difficult"),
    [
        *[(text, False) for text in ("", "0", "0.0", "False", "no", "Unspecified")],
        *[(text, True) for text in ("1", "true", "Yes")],
    ],
)
def test_difficult_may_be_a_word(tmp_path, written, difficult):
    item = voc_object("dog", extra=f"<difficult>{written}</difficult>")

    labels = read(tmp_path, voc_file(item))

    assert (len(labels.targets), len(labels.crowd)) == (not difficult, difficult)


def test_difficult_must_be_a_yes_or_a_no(tmp_path):
    labels = read(tmp_path, voc_file(voc_object(extra="<difficult>0.5</difficult>")))

    (problem,) = labels.problems
    assert problem.kind == "dropped" and len(labels.targets) == len(labels.crowd) == 0
    assert_message(problem.text, f"{tmp_path / 'a.xml'}:2: ", "difficult is '0.5' ... 0 or 1")


@pytest.mark.parametrize("encoding", ["gbk", "big5", "shift_jis", "windows-1252", "utf-16"])
def test_files_in_the_encoding_that_they_declare(tmp_path, encoding):
    name = "caf\u00e9" if encoding == "windows-1252" else "\u4eba"
    head = f"<?xml version='1.0' encoding='{encoding}'?>"
    content = voc_file(voc_object(name), head=head).encode(encoding)

    assert read(tmp_path, content, names=(name,)).targets.class_ids.tolist() == [0]


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


def test_an_unknown_name_is_a_problem_of_its_own(tmp_path):
    labels = read(tmp_path, voc_file(voc_object("dogg"), voc_object("cat")))

    (problem,) = labels.problems
    assert (problem.kind, len(labels.targets)) == ("unknown_class", 1)
    assert_message(
        problem.text, f"{tmp_path / 'a.xml'}:2: ", "'dogg' ... did you mean 'dog'? ... owl"
    )


@pytest.mark.parametrize(
    ("edges", "box"),
    [
        ((0, 0, 30, 20), [0, 0, 30, 20]),  # counted from 0
        ((1, 1, 65, 20), [0, 0, 64, 20]),  # one beyond the right edge
        ((1, 1, 66, 20), None),  # two beyond it, 3 % of the side
    ],
)
def test_one_pixel_is_tolerated_on_small_images_too(tmp_path, edges, box):
    file = tmp_path / "a.xml"
    file.write_text(voc_file(voc_object("cat", edges), size=""))

    labels = read_voc_file(file, (48, 64), class_names=NAMES)

    assert labels.targets.boxes.tolist() == ([] if box is None else [box])
    assert [each.kind for each in labels.problems] == ["clipped" if box else "dropped"]


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
        ("<?xml version='1.0' encoding='utf-7'?><a/>", ": ... not valid xml ... image skipped"),
        ("<?xml version='1.0' encoding='none'?><a/>", ": ... not valid xml ... image skipped"),
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
