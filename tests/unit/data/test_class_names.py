"""Class names that are gathered from xml files."""

from __future__ import annotations

import logging

import pytest

from data.dataset_spec import load_dataset_spec
from tests.error_messages import assert_message
from tests.unit.data.builders import write_yaml
from utils.errors import ConfigError


def write_xml(path, *names):
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")


def test_names_of_voc_xml_are_gathered_and_shown(tmp_path, caplog):
    write_xml(tmp_path / "xml" / "a.xml", "Zebra", "cat")
    write_xml(tmp_path / "xml" / "deep" / "b.xml", "图", "cat")
    (tmp_path / "xml" / "c.xml").write_text("no xml")
    (tmp_path / "images").mkdir()
    text = "train: {images: images, annotations: xml}\nval: 0.2\n"

    with caplog.at_level(logging.INFO):
        spec = load_dataset_spec(write_yaml(tmp_path, text))

    assert spec.class_names == ("Zebra", "cat", "图")
    assert caplog.messages == [
        f"{tmp_path / 'animals.yaml'}: 3 classes gathered from 3 xml files: Zebra, cat, 图"
    ]


def test_xml_files_without_objects_name_no_class(tmp_path):
    write_xml(tmp_path / "xml" / "a.xml")
    (tmp_path / "xml" / "b.xml").write_text("<!DOCTYPE x>")
    file = write_yaml(tmp_path, "train: {images: images, annotations: xml}\nval: 0.2\n")

    with pytest.raises(ConfigError) as caught:
        load_dataset_spec(file)

    assert_message(
        str(caught.value),
        f"{file}: ",
        f"'names' is missing ... {tmp_path / 'xml'} ... b.xml:1: document types",
    )
