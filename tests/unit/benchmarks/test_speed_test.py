"""The speed test: turns, going on after a cut, and figures that are the measurements'."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import speed_test
from benchmarks.speed_networks import (
    BLOCKS,
    FOLDED,
    FORMS,
    LEAKY,
    NOT_FOLDED,
    ONNX,
    PLAIN,
    SILU,
    TimedNetwork,
    users_networks,
)
from benchmarks.speed_report import Measurement, Speed, articles_table, verdict, write_report
from tests.error_messages import assert_message
from tests.onnx_builders import save_detector

ROWS = [[16, 16, 16, 8, 1, 0.5, 0.25], [48, 40, 16, 16, 1, 0.75, 0.125]]
FASTER = {PLAIN: 1.0, BLOCKS: 0.8}  # of the made-up times, except where a network is not folded


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 64, 3), 255, np.uint8))
    (folder / "no.png").write_bytes(b"no image")
    return folder


def test_runs_of_any_length_cycle_through_the_images():
    images = tuple(Path(name) for name in "abc")
    setting = speed_test.Setting(images, (7, 60), 2, 64, 1)
    blocks = list(setting.blocks())
    for count in (7, 60):
        for run in range(2):
            mine = [block for block in blocks if block[:2] == (count, run)]
            assert [block[2] for block in mine] == list(range(len(mine)))
            names = [path.name for block in mine for path in block[3]]
            assert names == list(itertools.islice(itertools.cycle("abc"), count))
            assert max(len(block[3]) for block in mine) <= speed_test.BLOCK


def arguments(images, tmp_path, *more):
    weights = [save_detector(tmp_path / f"{name}.onnx", ROWS) for name in "ab"]
    given = ["--source", images, "--weights", *weights, "--runs", tmp_path / "runs", "--out",
             tmp_path, "--imgsz", 64, "--images", 5, "--repeats", 2, "--threads", 1,
             *more]  # fmt: skip
    return [str(each) for each in given]


def no_processes(monkeypatch):
    """Cold starts made up: a process for each takes seconds."""

    def measured(setting, networks, results, argv):
        for run, network in itertools.product(range(setting.repeats), networks):
            results.add({"cold": run, "network": network.key, "open_s": 1.0, "ms": [1, 1, 1, 1]})

    monkeypatch.setattr(speed_test, "measure_cold", measured)


def test_a_cut_run_goes_on_with_what_it_lacks(images, tmp_path, monkeypatch, capsys):
    no_processes(monkeypatch)
    monkeypatch.setattr(speed_test, "BLOCK", 2)
    assert speed_test.main(arguments(images, tmp_path)) == 0
    measured = tmp_path / "runs" / "measured.jsonl"
    lines = measured.read_text().splitlines(keepends=True)
    blocks = [json.loads(line) for line in lines if '"block"' in line]
    keys = Counter((each["run"], each["block"], each["network"]) for each in blocks)
    assert set(keys.values()) == {1} and len(keys) == 2 * 3 * 2
    assert sorted({len(each["ms"]) for each in blocks}) == [1, 2]
    assert all(each["found"] == 2 * len(each["ms"]) for each in blocks)  # two boxes an image
    assert min(np.array(each["ms"]).min() for each in blocks) > 0
    measured.write_text("".join(lines[:9]) + lines[9][:20])  # cut off within a line
    assert speed_test.main(arguments(images, tmp_path)) == 0
    again = measured.read_text().splitlines(keepends=True)
    assert again[:9] == lines[:9]
    found = Counter(tuple(json.loads(line).get(name) for name in ("run", "block", "network"))
                    for line in again if '"block"' in line)  # fmt: skip
    assert found == keys
    printed = capsys.readouterr()
    assert "no.png: skipped" in printed.err
    (report,) = tmp_path.glob("speed_test_cpu_*.md")
    assert "| a.onnx, ONNX | " in report.read_text() and "| a.onnx, ONNX | " in printed.out
    assert str(tmp_path) not in report.read_text()  # paths of a machine
    # other settings are another test
    assert speed_test.main(arguments(images, tmp_path, "--repeats", 3)) == 2
    assert_message(capsys.readouterr().err.splitlines()[-1], f"error: {measured}", "repeats")


@pytest.mark.parametrize(
    ("flags", "part"),
    [(("--images", 0), "--images"), (("--threads", 0), "--threads"), (("--repeats", -1), "1")],
)
def test_wrong_numbers(images, tmp_path, capsys, flags, part):
    assert speed_test.main(arguments(images, tmp_path, *flags)) == 2
    assert_message(capsys.readouterr().err.strip(), "error: ", part)


def standard(forms=FORMS):
    return [
        TimedNetwork(name, activation, form, Path("x"))
        for name, activation, form in itertools.product((PLAIN, BLOCKS), (SILU, LEAKY), forms)
    ]


def made_up(networks, counts=(500,), runs=3):
    """Blocks in which a repyolov5s takes 0.8 of a yolov5s, 1.5 of it where it is not folded."""
    rng = np.random.default_rng(0)
    found = []
    for count, run, block in itertools.product(counts, range(runs), range(20)):
        base = rng.uniform(20, 40, (5, 4))  # the machine's speed changes from block to block
        for network in networks:
            slow = network.name == BLOCKS and network.form == NOT_FOLDED
            factor = 1.5 if slow else FASTER.get(network.name, 1.0)
            found.append(Measurement(network.key, (count, run, block), base * factor, 10))
    for run, network in itertools.product(range(runs), networks):
        found.append(Measurement(network.key, (0, run, 0), np.full((1, 4), 50.0), 0, 0.5 + run))
    return Speed(networks, counts, found)


def test_ratios_are_those_of_the_blocks():
    networks = standard()
    speed = made_up(networks)
    plain, blocks = [TimedNetwork(name, SILU, FOLDED, Path("x")).key for name in (PLAIN, BLOCKS)]
    assert speed.block_ratios(blocks, plain) == pytest.approx([0.8] * 60)
    assert speed.run_ratios(blocks, plain) == pytest.approx([0.8] * 3)
    assert speed.found_per_image(plain) == 2
    assert len(speed.images(plain)) == 300
    assert speed.cold(plain) == ([0.5, 1.5, 2.5], [200, 200, 200])


def test_the_report_has_the_claims_ratios(tmp_path):
    setting = {"image_size": 640, "images": 128, "source": "/a/path/coco", "counts": [500, 5000],
               "threads": 2, "opencv_threads": 2, "repeats": 3,
               "networks": [each.key for each in standard()]}  # fmt: skip
    table = write_report(tmp_path, made_up(standard(), (500, 5000)), setting)
    (path,) = tmp_path.glob("*.md")
    report = path.read_text()
    assert table in report and "/a/path" not in report
    claims = ("| C2", "| C3", "| C4")
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith(claims)]
    assert Counter(row[0] for row in rows) == {"| C2": 6, "| C3": 2, "| C4": 3}
    for row in rows:
        expected = "1.50" if row[0] == "| C3" else "0.80" if BLOCKS in row[2] else "1.00"
        assert row[4] == f"{expected} ({expected}-{expected})"
        assert row[5] == " / ".join([expected] * 6)
        word = {"1.50": "50 % slower", "0.80": "20 % faster", "1.00": "no difference"}[expected]
        assert row[6] == f"{word} |"


def test_users_networks_have_no_claims(tmp_path):
    networks = users_networks([save_detector(tmp_path / "a.onnx", ROWS)])
    assert [(each.key, each.form) for each in networks] == [("a.onnx, ONNX", ONNX)]
    setting = {"image_size": 64, "images": 3, "source": "x", "counts": [5], "threads": 1,
               "opencv_threads": 1, "repeats": 3,
               "networks": ["a.onnx, ONNX"]}  # fmt: skip
    write_report(tmp_path, made_up(networks, (5,)), setting)
    (path,) = tmp_path.glob("*.md")
    assert "claims" not in path.read_text() and "random weights" not in path.read_text()


def test_a_column_per_number_of_images_and_a_number_per_run():
    networks = standard(forms=(FOLDED,))
    lines = articles_table(made_up(networks, (500, 5000)))
    assert lines[0] == "| network | 500 images | 5,000 images |"
    assert len(lines) == 2 + len(networks)
    for line in lines[2:]:
        assert [len(cell.split("/")) for cell in line.strip("| ").split("|")[1:]] == [3, 3]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.1, 1.2, 1.3] * 10, "20 % slower"),
        ([0.8, 0.85, 0.9] * 10, "15 % faster"),
        ([0.97, 1.02, 1.05] * 10, "no difference"),
        ([1.0] * 20, "no difference"),
        ([0.7] + [1.2] * 30, "20 % slower"),  # one odd block
        ([0.5] * 19, "too few blocks"),
        ([], "too few blocks"),
    ],
)
def test_verdicts(ratios, expected):
    assert verdict(ratios) == expected
