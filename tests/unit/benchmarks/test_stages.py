"""Every stage of the benchmark runs, with tiny networks and few images, and measures what it says.

Slow ones start our scripts. Where YOLOv5 is installed (`make bench` does so; PEER_PYTHON names
another Python that has it) every task of the peer answers, and what must agree does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import (
    bench,
    coco_eval,
    cold_start,
    detect_video,
    image_index,
    inference,
    loader,
    loss,
    nms,
    rounds,
    training_step,
    val,
)
from benchmarks.rounds import Found
from benchmarks.stage import PEER_PYTHON
from tests.error_messages import assert_message
from tests.model_builders import finding_model, tiny_spec
from tests.video_builders import save_video
from utils.checkpoint import Checkpoint, save_checkpoint

NUM_CLASSES, SIZE = 80, 64
TINY = ("--rounds", "1", "--imgsz", str(SIZE))
PEER = ("peer", "peer, ")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(rounds, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def tiny_shared(tmp_path_factory) -> Path:
    """A folder like the shared one: four images with labels, a short video and a small network."""
    folder = tmp_path_factory.mktemp("shared")
    images, labels = (folder / "data" / "coco128" / kind / "train2017"
                      for kind in ("images", "labels"))  # fmt: skip
    for each in (images, labels, folder / "weights", folder / "data" / "video"):
        each.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(4):
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        pixels = cv2.resize(coarse, (96, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(images / f"{number}.jpg"), pixels)
        (labels / f"{number}.txt").write_text(f"{number} 0.5 0.5 0.5 0.5\n")
    save_video(folder / "data" / "video" / "street.mp4", 6, (SIZE, 96))
    model = finding_model(tiny_spec(nc=NUM_CLASSES), spread=2.0)
    names = tuple(f"thing{number}" for number in range(NUM_CLASSES))
    save_checkpoint(
        folder / "weights" / "yolov5n.pt",
        Checkpoint("train", model.spec.to_yaml(), names, model.state_dict(), SIZE),
    )
    return folder


def measure(stage, shared, runs, *flags, peer="nopython") -> Found:
    given = ["--shared", shared, "--runs", runs, "--peer", peer, *TINY, *flags]
    assert stage.main([str(each) for each in given]) == 0
    assert not (runs / f"{stage.STAGE.name}_files").exists()
    return Found.read(stage.STAGE.file(runs))


def check(stage, found):
    """All that is not the peer's is measured, in every row; what must agree does."""
    for row in stage.STAGE.rows:
        for name in (row.ours, row.floor):
            assert not name or found.spread(name).median > 0, name
    names = {name for each in stage.STAGE.agreements for name in (each.ours, each.other)}
    assert {name for name in names if not name.startswith(PEER)} <= set(found.seconds)
    assert [each.line(found) for each in stage.STAGE.agreements if each.differing(found)] == []


QUICK = [
    (loader, ("--count", 4)),
    (training_step, ("--count", 2)),
    (loss, ("--count", 2)),
    (nms, ("--count", 2)),
    (coco_eval, ("--count", 6)),
]
SLOW = [
    (image_index, ("--count", 20)),
    (inference, ("--count", 2)),
    (val, ("--count", 4)),
    (cold_start, ()),
    (detect_video, ("--count", 4)),
]


@pytest.mark.parametrize(
    ("stage", "flags"),
    [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_stage_runs_without_the_peer(
    stage, flags, tiny_shared, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training_step, "CFG", "yolov5n.yaml")
    found = measure(stage, tiny_shared, tmp_path, *flags)
    check(stage, found)
    assert not any(name.startswith(PEER) for name in found.seconds)
    assert found.setting["peer"] == {
        "skipped": "nopython: No such file or directory; `make bench` installs the peer"
    }
    printed = capsys.readouterr()
    assert "| skipped |" in printed.out or stage is coco_eval
    assert str(tiny_shared) not in printed.out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("stage", "flags"), [*QUICK, *SLOW], ids=lambda value: getattr(value, "__name__", "")
)
def test_yolov5_answers_and_agrees(stage, flags, shared, tmp_path, monkeypatch):
    python = os.environ.get("PEER_PYTHON", PEER_PYTHON)
    if not Path(python).exists():
        pytest.skip("yolov5 is not installed")
    monkeypatch.setattr(training_step, "CFG", "yolov5n.yaml")
    found = measure(stage, shared, tmp_path, *flags, "--imgsz", "320", peer=python)
    assert dict(found.skipped) == {}
    for row in stage.STAGE.rows:
        assert not row.peer or found.spread(row.peer).median > 0
    if stage is not val:  # few images have few classes, of which AP is a rough figure
        check(stage, found)


def test_what_is_measured_is_kept_until_it_is_asked_anew(tmp_path, monkeypatch):
    def numbers(commit, *flags):
        monkeypatch.setattr("benchmarks.stage.checked_out", lambda: commit)
        found = measure(coco_eval, tmp_path, tmp_path / "runs", "--count", "2", *flags)
        return found.seconds["ours"][0]

    first = numbers("abc")
    assert numbers("abc") == first
    assert numbers("abc", "--fresh") != first
    assert numbers("abc+") != numbers("abc+")  # what changed is not known
    assert numbers("def") != numbers("abc")


def test_data_written_for_the_index_is_as_labelled(tmp_path):
    image_index.write_images(tmp_path / "made", 9)
    contents = {path.read_bytes() for path in (tmp_path / "made" / "images").iterdir()}
    assert len(contents) == 9


def test_detections_near_the_objects_are_found():
    records, found = coco_eval.made_up(10)
    facts = coco_eval.ours(records, found).facts
    assert 0.05 < facts["AP"] < 0.9 and facts["AR100"] > 0.3


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert nms.main(["--shared", str(tmp_path), "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert_message(message, f"error: {tmp_path / 'weights' / 'yolov5n.pt'}", "--shared")
    assert nms.main(["--rounds", "0", "--runs", str(tmp_path)]) == 2
    assert_message(capsys.readouterr().err.splitlines()[-1], "error: --rounds", "at least 1")


@pytest.mark.slow
def test_one_report_of_several_stages(tiny_shared, tmp_path, monkeypatch, capsys):
    flags = ["--shared", tiny_shared, "--runs", tmp_path / "runs", "--peer", "nopython", "--out",
             tmp_path, "--stages", "coco_eval", "nms"]  # fmt: skip
    flags = [str(each) for each in flags]
    assert bench.main([*flags, *TINY, "--count", "4"]) == 0
    (report,) = tmp_path.glob("bench_nms_coco_eval_cpu_*.md")
    text = report.read_text()
    for stage in (coco_eval.STAGE, nms.STAGE):
        assert f"## {stage.name}\n" in text
        assert all(f"| {row.title} |" in text for row in stage.rows)
    for part in ("Commit ", "Load before", "numpy ", "Peer: skipped", "- AP: ours "):
        assert part in text
    raw = json.loads(report.with_suffix(".json").read_text())
    assert set(raw) == {"coco_eval", "nms"} and raw["nms"]["setting"]["count"] == 4
    assert str(tmp_path) not in text + report.with_suffix(".json").read_text()
    # again from what is measured: the same but for nothing
    before = report.read_bytes()
    assert bench.main([*flags, "--report-only"]) == 0 and report.read_bytes() == before


def test_a_report_of_some_stages_leaves_that_of_all_alone():
    assert bench.report_name(bench.STAGES) == "bench"
    assert bench.report_name(bench.chosen(["loader"])) == "bench_loader"


def test_stages_that_are_wrong_or_not_measured(tmp_path, capsys):
    flags = ["--runs", str(tmp_path), "--out", str(tmp_path), "--report-only"]
    assert bench.main([*flags, "--stages", "los"]) == 2
    assert_message(capsys.readouterr().err.splitlines()[-1], "error: --stages los", "'loss'")
    assert bench.main([*flags, "--stages", "loss"]) == 2
    assert "nothing is measured yet" in capsys.readouterr().err
    assert list(tmp_path.glob("bench*")) == []


def test_without_a_stage_that_could_be_measured_there_is_no_report(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda stages, arguments: [each.name for each in stages])
    flags = ["--runs", str(tmp_path), "--out", str(tmp_path), "--stages", "nms", "loss"]
    assert bench.main(flags) == 1
    assert list(tmp_path.iterdir()) == []


def test_results_that_differ_fail_the_run(tmp_path):
    setting = {"peer": {}, "versions": {}, "rounds": 1, "imgsz": 1, "count": 1, "date": "d",
               "machine": "m", "cores": 2, "python": "3", "commit": "c"}  # fmt: skip
    entries = [
        {"round": 0, "series": name, "seconds": 1.0, "facts": {"AP": AP}, "also": {}}
        for name, AP in (("ours", 0.5), ("pycocotools", 0.6))
    ]
    lines = [json.dumps(each) for each in (setting, *entries)]
    coco_eval.STAGE.file(tmp_path).write_text("\n".join(lines) + "\n")
    flags = ["--runs", str(tmp_path), "--out", str(tmp_path), "--stages", "coco_eval"]
    assert bench.main([*flags, "--report-only"]) == 1
    (report,) = tmp_path.glob("bench_coco_eval_cpu_*.md")
    assert "AP: ours 0.5, pycocotools 0.6: NOT equal within 1e-12" in report.read_text()
