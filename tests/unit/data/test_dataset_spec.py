from __future__ import annotations

import logging

import pytest

from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.hyps import HYPS_FOLDER
from data.records import scan_split
from data.split_spec import CocoSplit, MergedSplit, SharedSplit, VocSplit, YoloSplit
from tests.error_messages import assert_message
from tests.unit.data.builders import write_coco, write_image, write_yaml
from utils.errors import ConfigError, DatasetError
from utils.strict_yaml import read_yaml

SPLITS = "train: a\nval: b\n"


def test_yolo_text(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "t.txt").touch()
    text = "train: [a, b]\nval: c\ntest: t.txt\nnames: {1: dog, 0: cat}\nnc: 2\n"
    file = write_yaml(tmp_path, f"{text}roboflow: {{workspace: x}}\ndownload: a script\n")

    spec = load_dataset_spec(file)

    assert spec.name == "animals"
    assert spec.path == tmp_path
    assert spec.class_names == ("cat", "dog")
    assert spec.category_ids == (0, 1)
    assert spec.download == "a script"
    assert spec.splits == {
        "train": YoloSplit((tmp_path / "a", tmp_path / "b")),
        "val": YoloSplit((tmp_path / "c",)),
        "test": YoloSplit((tmp_path / "t.txt",)),
    }


def test_an_empty_test_split_is_none(tmp_path):
    spec = load_dataset_spec(write_yaml(tmp_path, f"{SPLITS}test:\nnames: [x]\n"))

    assert set(spec.splits) == {"train", "val"}
    assert spec.download is None


def test_coco_json(tmp_path):
    write_coco(tmp_path / "i.json", [], [])
    split = "{images: images, annotations: i.json}"
    file = write_yaml(tmp_path, f"train: {split}\nval: {split}\n")

    spec = load_dataset_spec(file)

    assert spec.splits["val"] == CocoSplit(tmp_path / "images", tmp_path / "i.json")
    assert spec.class_names == ("owl", "cat")
    assert spec.category_ids == (3, 7)


def test_coco_json_under_other_names(tmp_path):
    write_coco(tmp_path / "i.json", [], [])
    split = "{images: images, annotations: i.json}"
    text = f"train: {split}\nval: {split}\n"

    assert load_dataset_spec(write_yaml(tmp_path, f"{text}names: [Eule, cat]")).class_names == (
        "Eule",
        "cat",
    )
    with pytest.raises(ConfigError) as caught:
        load_dataset_spec(write_yaml(tmp_path, f"{text}names: [cat, owl]"))
    assert_message(
        str(caught.value),
        f"{tmp_path / 'animals.yaml'}: names[0] is 'cat'",
        f"category 3 of {tmp_path / 'i.json'} ... 'owl' ... order of category id",
    )
    with pytest.raises(ConfigError, match=r"names has 1 entries, .* has 2 categories; omit names"):
        load_dataset_spec(write_yaml(tmp_path, f"{text}names: [cat]"))


def test_a_missing_coco_json(tmp_path):
    split = "{images: images, annotations: i.json}"

    with pytest.raises(DatasetError) as caught:
        load_dataset_spec(write_yaml(tmp_path, f"train: {split}\nval: {split}\n"))

    assert str(caught.value) == f"{tmp_path / 'i.json'}: no such file"


def test_pascal_voc(tmp_path):
    split = "{images: i, annotations: a, split: s.txt}"

    spec = load_dataset_spec(write_yaml(tmp_path, f"train: {split}\nval: {split}\nnames: [x, 2]\n"))

    assert spec.splits["train"] == VocSplit(tmp_path / "i", tmp_path / "a", tmp_path / "s.txt")
    assert spec.class_names == ("x", "2")


def test_the_path_is_looked_up_beside_the_yaml_first(tmp_path, monkeypatch):
    beside, working = tmp_path / "beside", tmp_path / "working"
    for folder in (beside, working / "set"):
        folder.mkdir(parents=True)
    file = beside / "a.yaml"
    file.write_text(f"path: set\n{SPLITS}names: [x]\n")
    monkeypatch.chdir(working)

    assert load_dataset_spec(file).path == working / "set"
    (beside / "set").mkdir()
    assert load_dataset_spec(file).path == beside / "set"


def test_an_absolute_path(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"path: {tmp_path / 'set'}\n{SPLITS}names: [x]\n")
    (tmp_path / "set").mkdir()

    assert load_dataset_spec(file).path == tmp_path / "set"


def test_roboflow_exports_have_no_path_and_one_dot_too_many(tmp_path):
    (tmp_path / "train" / "images").mkdir(parents=True)
    file = tmp_path / "data.yaml"
    file.write_text("train: ../train/images\nval: ../valid/images\nnames: [x]\n")

    spec = load_dataset_spec(file)

    assert spec.path == tmp_path
    assert spec.splits["train"] == YoloSplit((tmp_path / "train" / "images",))
    assert spec.splits["val"] == YoloSplit((tmp_path / "../valid/images",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # keys
        ("train: a\nnames: [x]", "key 'val' is missing ... `val: 0.2`"),
        (
            f"{SPLITS}name: [x]",
            "'name' ... did you mean 'names'?",
        ),
        (f"{SPLITS}names: [x]\nlicense: x\ndownloads: y", "'downloads' ... 'download'"),
        (f"{SPLITS}names: [x]\npaths: x", "'paths' ... did you mean 'path'?"),
        # splits
        (
            "train:\nval: b\nnames: [x]",
            "train is None ... folder ... .txt ... {images, annotations} ... split}",
        ),
        (
            "train: {images: a, annotation: b}\nval: b\nnames: [x]",
            "train: ... 'annotation' ... did you mean 'annotations'?",
        ),
        ("train: {images: a}\nval: b\nnames: [x]", "train: ... 'annotations' is missing"),
        (
            "train: {images: 3, annotations: b}\nval: b\nnames: [x]",
            "train: ... images is 3 ... path",
        ),
        # names
        (
            SPLITS,
            "'names' is missing ... list the class names",
        ),
        (f"{SPLITS}names: x", "names is 'x' ... list ... 0: name"),
        (f"{SPLITS}names: []", "names is [] ... list ... 0: name"),
        (
            f"{SPLITS}names: {{0: x, 2: y}}",
            "names has 2 ... class 1 ... 0 to 1",
        ),
        (f"{SPLITS}names: {{'0': x, 0: y}}", "names has 2 ... class 1 ... 0 to 1"),
        (f"{SPLITS}names: [x, '']", "names[1] is '' ... must have a name"),
        (f"{SPLITS}names: [yes, no]", "names[0] is True ... quotes"),
        (f"{SPLITS}names: [x, y, x]", "names[0] and names[2] are both 'x'"),
        (f"{SPLITS}names: {{0: 1, 1: '1'}}", "names[0] and names[1] are both '1'"),
        # shares
        ("train: a\nval: 0\nnames: [x]", "val is 0 ... above 0"),
        (f"train: a\nval: 1{'0' * 400}\nnames: [x]", "val is inf ... below 1"),
        ("train: a\nval: 0.6\ntest: 0.4\nnames: [x]", "val is 0.6 ... below 1"),
        ("train: 0.8\nval: 0.2\nnames: [x]", "train is 0.8 ... folder"),
        # nc
        (
            f"{SPLITS}names: [x, y]\nnc: 3",
            "nc is 3 ... names has 2 ... nc may be",
        ),
    ],
)
def test_wrong_yamls(tmp_path, text, message):
    file = write_yaml(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load_dataset_spec(file)

    assert_message(str(caught.value), str(file), message)


def test_numbers_of_classes_may_be_in_quotes(tmp_path):
    """As programs write them that keep a yaml as json."""
    file = write_yaml(tmp_path, f"{SPLITS}names: {{'1': y, '0': x}}\nnc: '2'")
    assert load_dataset_spec(file).class_names == ("x", "y")


def test_the_path_must_be_text(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"path: [a]\n{SPLITS}names: [x]\n")

    with pytest.raises(ConfigError) as caught:
        load_dataset_spec(file)

    assert_message(str(caught.value), f"{file}: ", "path is ['a'] ... folder")


@pytest.mark.parametrize(
    ("name", "num_classes", "kind"),
    [("coco.yaml", 80, YoloSplit), ("coco128.yaml", 80, YoloSplit), ("voc.yaml", 20, VocSplit)],
)
def test_shipped_data_sets(tmp_path, monkeypatch, name, num_classes, kind):
    monkeypatch.chdir(tmp_path)

    spec = load_dataset_spec(name)

    assert len(set(spec.class_names)) == num_classes
    assert spec.category_ids == tuple(range(num_classes))
    assert isinstance(spec.splits["val"], kind)
    assert spec.download is not None


def test_an_unknown_name_lists_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"^coco12\.yaml: no such file; did you mean 'coco"):
        load_dataset_spec("coco12.yaml")


RECIPES = {  # lrf, cls, obj, scale, mixup, copy_paste: where YOLOv5's three recipes differ
    "low": (0.01, 0.5, 1.0, 0.5, 0.0, 0.0),
    "med": (0.1, 0.3, 0.7, 0.9, 0.1, 0.0),
    "high": (0.1, 0.3, 0.7, 0.9, 0.1, 0.1),
}


@pytest.mark.parametrize("level", RECIPES)
def test_shipped_recipes(level):
    recipe = read_yaml(HYPS_FOLDER / f"hyp.scratch-{level}.yaml")

    names = ("lrf", "cls", "obj", "scale", "mixup", "copy_paste")
    assert tuple(recipe[name] for name in names) == RECIPES[level]
    assert len(recipe) == 29
    assert all(isinstance(value, float) for value in recipe.values())
    assert set(AugmentConfig.__slots__) <= set(recipe)


def test_data_sets_of_any_kind_are_merged(tmp_path):
    write_coco(tmp_path / "i.json", [], [])
    coco, voc = "{images: a, annotations: i.json}", "{images: a, annotations: b, split: s.txt}"
    text = f"train: [a, {coco}, {voc}]\nval: b\n"

    spec = load_dataset_spec(write_yaml(tmp_path, f"{text}names: [owl, cat, dog]\n"))
    unnamed = load_dataset_spec(write_yaml(tmp_path, text))

    assert spec.splits["train"] == MergedSplit(
        (
            YoloSplit((tmp_path / "a",)),
            CocoSplit(tmp_path / "a", tmp_path / "i.json"),
            VocSplit(tmp_path / "a", tmp_path / "b", tmp_path / "s.txt"),
        )
    )
    assert spec.is_merged
    assert (spec.class_names, spec.category_ids) == (("owl", "cat", "dog"), (0, 1, 2))
    assert (unnamed.class_names, unnamed.category_ids) == (("owl", "cat"), (0, 1))


def test_merged_jsons_of_different_classes_need_names(tmp_path):
    one = write_coco(tmp_path / "i.json", [], [])
    other = tmp_path / "j.json"
    other.write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "emu"}]}')
    files = [f"{{images: a, annotations: {name}.json}}" for name in ("i", "j")]
    file = write_yaml(tmp_path, f"train: [{files[0]}, {files[1]}]\nval: {files[0]}\n")

    with pytest.raises(ConfigError) as error:
        load_dataset_spec(file)

    assert_message(
        str(error.value),
        f"{file}: ",
        f"'names' is missing ... {one} has owl, cat ... {other} has emu ... list the class names",
    )


def test_a_json_keeps_its_own_ids_beside_merged_training_data(tmp_path):
    write_coco(tmp_path / "i.json", [], [])
    coco = "{images: a, annotations: i.json}"
    text = f"train: [a, {coco}]\nval: {coco}\n"

    spec = load_dataset_spec(write_yaml(tmp_path, f"{text}names: [cat, owl]\n"))
    assert spec.category_ids_of("val") == (7, 3)
    assert spec.category_ids_of("train") == (0, 1)

    more = load_dataset_spec(write_yaml(tmp_path, f"{text}names: [cat, owl, emu]\n"))
    with pytest.raises(ConfigError, match=r"has no category 'emu', so .* omit --save-json$"):
        more.category_ids_of("val")


def test_keys_of_other_tools_are_noted(tmp_path, caplog):
    text = "license: MIT\nkpt_shape: [17, 3]\nchannels: 3\nauthor: x\nmy_remark: y\n"

    with caplog.at_level(logging.INFO):
        spec = load_dataset_spec(write_yaml(tmp_path, f"{SPLITS}names: [x]\n{text}"))

    assert spec.class_names == ("x",)
    assert caplog.messages == [
        f"{tmp_path / 'animals.yaml'}: keys that are not used: license, kpt_shape, channels, "
        "author, my_remark"
    ]


def test_home_and_variables_are_expanded(tmp_path, monkeypatch):
    for name in ("home/set/a", "data/b"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    file = tmp_path / "a.yaml"
    file.write_text("path: ~/set\ntrain: [a, '$DATA/b']\nval: ${DATA}/b\nnames: [x]\n")

    spec = load_dataset_spec(file)

    assert spec.path == tmp_path / "home" / "set"
    assert spec.splits["train"] == YoloSplit(
        (tmp_path / "home" / "set" / "a", tmp_path / "data" / "b")
    )
    assert spec.splits["val"] == YoloSplit((tmp_path / "data" / "b",))


@pytest.mark.parametrize("merged", [False, True])
def test_a_missing_test_split_matters_only_when_it_is_asked_for(tmp_path, merged):
    write_coco(tmp_path / "i.json", [], [])
    write_image(tmp_path / "images" / "a.png")
    coco = "{images: images, annotations: i.json}"
    train = f"[{coco}, {coco}]" if merged else coco
    text = f"train: {train}\nval: {coco}\ntest: {{images: gone, annotations: gone.json}}\n"

    spec = load_dataset_spec(write_yaml(tmp_path, text))

    assert spec.class_names == ("owl", "cat")
    assert spec.splits_to_scan == ("train", "val")
    with pytest.raises(DatasetError, match=r"gone\.json: no such file"):
        scan_split(spec, "test")


@pytest.mark.parametrize("source", ["a", "[a, b]", "{images: a, annotations: i.json}"])
def test_shares_of_every_kind_of_source(tmp_path, source):
    write_coco(tmp_path / "i.json", [], [])

    spec = load_dataset_spec(write_yaml(tmp_path, f"train: {source}\nval: 0.25\nnames: [x, y]\n"))

    train, val = spec.splits["train"], spec.splits["val"]
    assert isinstance(train, SharedSplit) and isinstance(val, SharedSplit)
    assert train.source == val.source and (train.part, val.part) == ("train", "val")
    assert train.shares == val.shares == (("val", 0.25),)
    assert not spec.is_merged and spec.category_ids_of("val") == spec.category_ids


def test_a_network_of_other_classes_is_named(tmp_path, caplog):
    spec = load_dataset_spec(write_yaml(tmp_path, f"{SPLITS}names: [cat, dog]\n"))
    for known, said in (
        (("dog", "cat"), "w.pt was trained on other classes (0 dog, here cat; 1 cat, here dog);"),
        (("Cat", "class1"), ""),
        ((), ""),
    ):
        caplog.clear()
        assert not spec.as_one_class("w.pt", known, asked=False)
        assert said in caplog.text and bool(said) == bool(caplog.text), known
