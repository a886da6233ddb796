"""Parts of a source, and runs that go on where they were cut."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import detect as script
from tests.end_to_end.test_detect import REPOSITORY, ROWS, run
from tests.onnx_builders import save_detector
from tests.video_builders import save_video

TABLES = ("predictions.csv", "predictions.json", "predictions.jsonl")


@pytest.fixture
def weights(tmp_path):
    return save_detector(tmp_path / "tiny.onnx", ROWS)


@pytest.fixture
def images(tmp_path):
    """Seven images, three of one name in two folders, one of them black, one broken."""
    for number in range(7):
        path = tmp_path / "images" / f"{number % 3}" / f"{'same' if number > 3 else number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((64, 64, 3), 255 * (number != 2), np.uint8)
        cv2.imwrite(str(path), image)
    (tmp_path / "images/1/broken.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "images"


def arguments(weights, source, folder, *flags):
    """Of detect.py, with every table."""
    tables = ["--save-csv", "--save-json", "--save-jsonl", "--save-txt", "--save-crop"]
    chosen = ["--weights", weights, "--source", source, "--project", folder, "--img", 64]
    return [str(each) for each in [*chosen, "--recursive", *tables, *flags]]


def content(folder):
    """Every file but the note of progress."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "progress.jsonl"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_parts_of_files_make_the_whole(tmp_path, weights, images):
    """The same files under the same names, and the same lines in the tables."""
    assert run(*arguments(weights, images, tmp_path / "whole")) == 0
    for part in (1, 2, 3):
        assert run(*arguments(weights, images, tmp_path / "parts", "--shard", f"{part}/3")) == 0
    whole = content(tmp_path / "whole/exp")
    parts = [content(tmp_path / f"parts/exp-{part}of3") for part in (1, 2, 3)]
    named = [set(part) - set(TABLES) for part in parts]
    assert sum(len(names) for names in named) == len(set(whole) - set(TABLES))  # none twice
    assert {
        name: part[name] for part, names in zip(parts, named, strict=True) for name in names
    } == {name: content for name, content in whole.items() if name not in TABLES}
    lines = [part["predictions.jsonl"].splitlines() for part in parts]
    assert sorted(itertools.chain(*lines)) == sorted(whole["predictions.jsonl"].splitlines())
    csv = tmp_path / "all.csv"  # as docs say it
    command = "awk 'NR == 1 || FNR > 1' parts/exp-*of3/predictions.csv > all.csv"
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert sorted(csv.read_bytes().splitlines()) == sorted(whole["predictions.csv"].splitlines())


def test_parts_of_a_video_are_its_frames_in_order(tmp_path, weights):
    """Ranges of frames: the tables one behind the other are those of one run."""
    video = save_video(tmp_path / "v.mp4", 11, (64, 64), fps=10)
    flags = ["--vid-stride", 2, "--conf", 0.01]
    assert run(*arguments(weights, video, tmp_path / "whole", *flags)) == 0
    parts = [
        run(*arguments(weights, video, tmp_path / "parts", *flags, "--shard", f"{part}/3"))
        for part in (1, 2, 3)
    ]
    assert parts == [0, 0, 0]
    tables = [tmp_path / f"parts/exp-{part}of3/predictions.jsonl" for part in (1, 2, 3)]
    joined = b"".join(table.read_bytes() for table in tables)
    assert joined == (tmp_path / "whole/exp/predictions.jsonl").read_bytes()
    frames = [json.loads(line)["frame"] for line in joined.splitlines()]
    assert frames == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("lines", [0, 1, 2, 4, 7, 8])
def test_a_cut_run_goes_on(tmp_path, weights, images, lines):
    """Whatever it has written last is written again, and nothing twice."""
    assert run(*arguments(weights, images, tmp_path / "whole")) == 0
    whole = content(tmp_path / "whole/exp")
    cut = tmp_path / "cut/exp"
    shutil.copytree(tmp_path / "whole/exp", cut)
    progress = (cut / "progress.jsonl").read_bytes().splitlines(keepends=True)
    half = progress[lines][:9] if lines < len(progress) else b""
    (cut / "progress.jsonl").write_bytes(b"".join(progress[:lines]) + half)
    if lines < len(progress) - 1:  # the tables have half a line more than was noted
        sizes = json.loads(progress[lines - 1]).get("sizes", {}) if lines > 1 else {}
        for name in TABLES:
            size = sizes.get(name, 0)
            (cut / name).write_bytes(whole[name][:size] + b'{"source": "half')
    assert run(*arguments(weights, images, tmp_path / "cut", "--resume")) == 0
    assert content(cut) == whole
    assert (cut / "progress.jsonl").read_bytes() == b"".join(progress)
    assert not (tmp_path / "cut/exp2").exists()


@pytest.mark.parametrize("drawn", [True, False])
def test_a_cut_video_goes_on(tmp_path, weights, drawn):
    """Behind its last frame; where it is drawn, from its start, since no mp4 can be continued."""
    video = save_video(tmp_path / "v.mp4", 6, (64, 64), fps=10)
    flags = ["--conf", 0.01, *([] if drawn else ["--nosave"])]
    assert run(*arguments(weights, video, tmp_path / "runs", *flags)) == 0
    folder = tmp_path / "runs/exp"
    whole = content(folder)
    progress = (folder / "progress.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "progress.jsonl").write_bytes(b"".join(progress[:4]))
    report = tmp_path / "report.json"
    resumed = [*flags, "--resume", "--report", report]
    assert run(*arguments(weights, video, tmp_path / "runs", *resumed)) == 0
    assert json.loads(report.read_text())["frames"] == (6 if drawn else 3)
    after = content(folder)
    assert {name: after[name] for name in TABLES} == {name: whole[name] for name in TABLES}
    assert set(after) == set(whole)


def test_a_run_is_resumed_with_its_own_options_and_files_only(tmp_path, weights, images, capsys):
    """And a source that cannot be divided, or a part that there is not, is refused."""
    assert run(*arguments(weights, images, tmp_path / "runs", "--nosave")) == 0
    (images / "0/00.png").write_bytes((images / "0/0.png").read_bytes())
    cases = [
        (["--resume"], "was begun with --nosave True, not False"),
        (["--resume", "--nosave"], "file 2 of the source was"),
        (["--shard", "4/3"], "--shard 4/3: expected a part and the number of parts"),
        (["--shard", "1/2", "--source", "rtsp://door"], "is live and cannot be divided"),
        (["--resume", "--source", "rtsp://door"], "--resume: a live source has no frames left"),
    ]
    for flags, message in cases:
        assert run(*arguments(weights, images, tmp_path / "runs", *flags)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", [b"no json", b"[1]", b"5", b"", b'{"a": 1}', b'{"options": null}', b"\xff\xfe"]
)
def test_damaged_notes_of_progress(line, tmp_path, weights, images, capsys):
    """Those of another run change nothing; in the run's own what is whole counts."""
    runs, flags = tmp_path / "runs", ["--nosave", "--resume"]
    assert run(*arguments(weights, images, runs, "--nosave")) == 0
    whole, notes = content(runs / "exp"), runs / "exp/progress.jsonl"
    progress = notes.read_bytes().splitlines(keepends=True)
    (runs / "exp2").mkdir()
    (runs / "exp2/progress.jsonl").write_bytes(line + b"\n")
    notes.write_bytes(b"".join([*progress[:3], line + b"\n", *progress[4:]]))
    assert run(*arguments(weights, images, runs, *flags)) == 0
    assert content(runs / "exp") == whole
    assert notes.read_bytes() == b"".join(progress)
    notes.write_bytes(b"".join([line + b"\n", *progress[1:]]))
    assert run(*arguments(weights, images, runs, *flags)) == 2
    (message,) = capsys.readouterr().err.splitlines()[-1:]
    assert message.endswith("progress.jsonl:1 is damaged; without that file the run begins anew")


def test_files_added_behind_a_finished_source_are_read(tmp_path, weights, images):
    """And no other again; a video at the end of the old source is not, either."""
    (images / "3").mkdir()
    save_video(images / "3/v.mp4", 3, (64, 64), fps=10)
    runs = tmp_path / "runs"
    flags = ["--nosave", "--resume", "--report", tmp_path / "report.json"]
    counts = []
    for name in (None, "x.png", "y.mp4", None):
        if name is not None:
            before = images / "0/0.png" if name.endswith("png") else images / "3/v.mp4"
            (images / "4").mkdir(exist_ok=True)
            (images / "4" / name).write_bytes(before.read_bytes())
        assert run(*arguments(weights, images, runs, *flags)) == 0
        counts.append(json.loads((tmp_path / "report.json").read_text())["frames"])
    assert counts == [10, 1, 3, 0]
    assert run(*arguments(weights, images, tmp_path / "whole", "--nosave")) == 0
    assert content(runs / "exp") == content(tmp_path / "whole/exp")
    assert [path.name for path in runs.iterdir()] == ["exp"]


def test_a_run_is_known_by_its_name_not_by_that_and_a_number(tmp_path, weights, images):
    """The first of 32 parts is not a second run of the first of three."""
    runs = tmp_path / "runs"
    for flags in (["--shard", "1/3"], ["--shard", "1/32"], ["--name", "cam1"], ["--name", "cam12"]):
        assert run(*arguments(weights, images, runs, "--nosave", *flags)) == 0
    before = {path: path.read_bytes() for path in runs.glob("*/progress.jsonl")}
    for flags in (["--shard", "1/3"], ["--name", "cam1"], ["--shard", "1/32"]):
        assert run(*arguments(weights, images, runs, "--nosave", "--resume", *flags)) == 0
    (runs / "cam1").rename(runs / "door")
    assert run(*arguments(weights, images, runs, "--nosave", "--resume", "--name", "door")) == 0
    after = {path: path.read_bytes() for path in runs.glob("*/progress.jsonl")}
    renamed = {runs / "cam1/progress.jsonl": runs / "door/progress.jsonl"}
    assert after == {renamed.get(path, path): text for path, text in before.items()}


@pytest.mark.parametrize("where", ["more/lines.jsonl", "../lines.jsonl", "/lines.jsonl"])
def test_a_cut_run_goes_on_with_its_lines_elsewhere(tmp_path, weights, images, where):
    runs, report = tmp_path / "runs", tmp_path / "report.json"
    lines = tmp_path / "lines.jsonl" if where.startswith("/") else runs / "exp" / where
    flags = ["--nosave", "--save-jsonl", lines if where.startswith("/") else where]
    assert run(*arguments(weights, images, runs, *flags)) == 0
    whole = lines.read_bytes()
    progress = runs / "exp/progress.jsonl"
    progress.write_bytes(b"".join(progress.read_bytes().splitlines(keepends=True)[:4]))
    assert run(*arguments(weights, images, runs, *flags, "--resume", "--report", report)) == 0
    assert json.loads(report.read_text())["frames"] == 4
    assert lines.read_bytes() == whole


def test_lines_are_never_written_into_another_file_of_the_run(tmp_path, weights, images, capsys):
    zones = tmp_path / "zones.yaml"
    zones.write_text("lines: {door: {points: [[0, 0], [1, 1]]}}")
    flags = ["--nosave", "--track", "--zones", zones, "--compare", weights]
    assert run(*arguments(weights, images, tmp_path / "runs", *flags)) == 0
    names = [path.name for path in (tmp_path / "runs/exp").iterdir() if path.is_file()]
    names.remove("predictions.jsonl")
    assert len(names) == 6
    for name in [*names, f"./{names[0]}", f"x/../{names[0]}"]:
        with pytest.raises(SystemExit, match="2"):
            run(*arguments(weights, images, tmp_path / "no", *flags, "--save-jsonl", name))
        assert f"--save-jsonl {name}: " in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_progress_names_the_source_of_each_output(tmp_path, weights, images):
    assert run(*arguments(weights, images, tmp_path / "runs")) == 0
    lines = (tmp_path / "runs/exp/progress.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines[1:-1]]
    assert len(entries) == 7
    for entry in entries:
        assert (tmp_path / "runs/exp" / f"{entry['output']}.png").is_file()
        table = json.loads((tmp_path / "runs/exp/predictions.json").read_text())
        assert [row["output"] for row in table] == [each["output"] for each in entries]


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, weights):
    for number in range(400):
        path = tmp_path / "images" / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((64, 64, 3), 255, np.uint8))
    assert run(*arguments(weights, path.parent, tmp_path / "whole")) == 0
    command = [sys.executable, "detect.py", *arguments(weights, path.parent, tmp_path / "cut")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    progress = tmp_path / "cut/exp/progress.jsonl"
    while process.poll() is None and not (progress.exists() and len(progress.read_bytes()) > 9000):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert script.main(arguments(weights, path.parent, tmp_path / "cut", "--resume")) == 0
    written = content(tmp_path / "cut/exp")
    left = {name for name in written if ".writing-" in name}  # of the file being written
    assert {name: written[name] for name in written if name not in left} == content(
        tmp_path / "whole/exp"
    )
