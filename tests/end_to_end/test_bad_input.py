"""Bad input to the scripts, row after row of the table in yolov5-facts.md, section 7.

Rows 1 to 11 without a script are in `tests/unit/data/test_bad_input.py`. In each row: the message
says what, where, the value, the rule and what to do; the exit code is right; nobody sees a
traceback; the user's files stay as they are. `run` checks the last two in every call. "Also:" names
tests that say more about a row.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import pytest
import torch

import convert
import detect
import export
import train
import val
from data.records import read_records
from models.network.detector import build_model
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, tiny_yaml
from tests.onnx_builders import save_detector
from tests.unit.data.builders import noise, write_image, write_yolo_set
from tests.video_builders import save_video
from utils.strict_yaml import write_yaml

SCRIPTS = {"train": train, "val": val, "detect": detect, "convert": convert, "export": export}
GOOD = "0 0.5 0.5 0.25 0.25\n"
QUICK = "--workers 0 --device cpu --noplots"
VAL = f"val --data set/animals.yaml --weights good.pt --imgsz 64 {QUICK}"
TRAIN = f"train --data set/animals.yaml --imgsz 64 --epochs 1 --batch-size 2 {QUICK}"
TRAIN_NEW = f"{TRAIN} --cfg tiny.yaml"
DETECT = "detect --weights good.pt --imgsz 64 --device cpu --source"
by_train_and_val = pytest.mark.parametrize("arguments", [TRAIN_NEW, VAL], ids=["train", "val"])


@dataclass(frozen=True)
class Said:
    """How a script ended, and what it wrote on standard output and, in lines, on standard error."""

    code: int
    out: str
    lines: list[str]

    @property
    def error(self) -> str:
        """The one line that says why it gave up; it is the last one."""
        found = [line for line in self.lines if line.startswith(("error: ", "failed: "))]
        assert len(found) == 1 and self.lines[-1] == found[0], self.lines
        assert self.code == (2 if found[0].startswith("error: ") else 1)
        return found[0].partition(": ")[2]


class Run(Protocol):
    """A script's name with its flags -> what it said."""

    def __call__(self, arguments: str, *, gone: Sequence[str] = ()) -> Said:
        """Run it in this process; `gone` are files that the test itself takes away meanwhile."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs scripts where a data set, a network and its weights are, all of them good."""
    monkeypatch.chdir(tmp_path)
    write_yolo_set(Path("set"), {"a": GOOD, "b": GOOD})
    write_yaml(Path("tiny.yaml"), tiny_yaml())
    save_model(Path("good.pt"), build_model(tiny_spec()))

    def call(arguments: str, *, gone: Sequence[str] = ()) -> Said:
        script, *flags = arguments.split()
        before = contents()
        code = SCRIPTS[script].main(flags)
        after = contents()
        changed = [path for path in before if after.get(path) != before[path]]
        assert [str(path) for path in changed] == list(gone)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        lines = [line for line in said.err.splitlines() if not line.startswith("  no object of ")]
        return Said(code, said.out, lines)

    return call


def contents() -> dict[Path, tuple[int, bytes]]:
    """When each file of the working directory was written, and its content, without runs."""
    files = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] != "runs"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def first_word(arguments: object) -> str:
    """The script's name, which is a better name for a test than all of its flags."""
    return str(arguments).split()[0]


BAD_ROWS = [
    ("0 nan .5 .2 .2", "'nan' is not a finite number; row dropped"),  # row 1
    ("0,.5,.5,.2,.2", "'0,.5,.5,.2,.2' is not a number; row dropped"),  # row 2
    ("1.7 .5 .5 .2 .2", "class is 1.7, must be an integer from 0; row dropped"),  # row 4
    ("0 .5 .5 .250 .25", "same object as in line 1; duplicate removed"),  # row 6
]


@by_train_and_val
def test_rows_1_2_4_6_the_run_goes_on_and_strict_stops_it(run: Run, arguments: str) -> None:
    """Every kind of row: unit/data/test_bad_input.py. Also: test_user_errors.py, with --strict."""
    Path("set/labels/a.txt").write_text(GOOD + "\n".join(row for row, _ in BAD_ROWS))
    expected = [f"  set/labels/a.txt:{line}: {said}" for line, (_, said) in enumerate(BAD_ROWS, 2)]
    said = run(arguments)
    assert (said.code, said.lines[:4]) == (0, expected)
    assert "2 images, 2 objects" in said.out
    assert "3 label rows dropped, 1 duplicate label row removed" in said.out
    split = arguments.split()[0]
    assert (
        run(f"{arguments} --strict").error == f"{expected[0].strip()} (strict; 4 such in {split})"
    )


@pytest.mark.parametrize(
    ("arguments", "split"), [(TRAIN_NEW, "train"), (TRAIN_NEW, "val"), (VAL, "val")], ids=first_word
)
def test_row_5_a_class_beyond_the_names(run: Run, arguments: str, split: str) -> None:
    """Said before anything is made. Also: test_user_errors.py::test_a_class_beyond_the_names."""
    for folder in ("train", "val"):
        write_image(Path(f"set/images/{folder}/x.png"))
        label = Path(f"set/labels/{folder}/x.txt")
        label.parent.mkdir()
        label.write_text(GOOD + ("3 .5 .5 .2 .2\n" if folder == split else ""))
    yaml = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog, owl]\n"
    Path("set/animals.yaml").write_text(yaml)
    assert run(arguments).error == (
        f"set/labels/{split}/x.txt:2: class is 3, but names has 3 entries (0 to 2); "
        "add the name or fix the label"
    )
    assert not Path("runs").exists()


def test_row_8_a_image_that_vanishes_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: test_dataset.py; for workers, test_loader.py::test_errors_arrive_as_one_line."""

    def read_and_lose(*args: object, **flags: object) -> object:
        records = read_records(*args, **flags)  # type: ignore[arg-type]
        Path("set/images/b.png").unlink()
        return records

    monkeypatch.setattr(val, "read_records", read_and_lose)
    said = run(VAL, gone=["set/images/b.png"])
    assert said.error == "set/images/b.png: no such file"


@by_train_and_val
@pytest.mark.parametrize("end", [12, 2000], ids=["its last chunk", "half"])
def test_row_9_a_cut_off_image_is_left_out(run: Run, arguments: str, end: int) -> None:
    """Every kind: unit/data/test_bad_input.py."""
    content = bytes(cv2.imencode(".png", noise((48, 64)))[1])
    Path("set/images/c.png").write_bytes(content[:-end])
    said = run(arguments)
    assert said.code == 0, said.lines
    assert said.lines[0].startswith("  set/images/c.png: ")
    assert said.lines[0].endswith("; image skipped")
    assert "2 images, 2 objects" in said.out and "1 image skipped" in said.out


@pytest.mark.parametrize("arguments", [TRAIN_NEW, VAL, f"{DETECT} set/images"], ids=first_word)
def test_row_10_bytes_after_the_end_of_a_jpeg(run: Run, arguments: str) -> None:
    content = write_image(Path("set/images/c.jpg"), (480, 640)).read_bytes()
    Path("set/images/c.jpg").write_bytes(content + b"\0what a camera adds" * 99)
    Path("set/labels/c.txt").write_text(GOOD)
    said = run(arguments)  # which sees that the file stays as it is
    assert (said.code, said.lines) == (0, [])
    assert ("3 frames" if arguments.startswith("detect") else "3 images, 3 objects") in said.out


@by_train_and_val
def test_row_12_no_image_or_nothing_but_bad_ones(run: Run, arguments: str) -> None:
    """Also: test_records.py::test_nothing_to_read."""
    split = arguments.split()[0]
    unusable = f"animals: no usable image in {split}"
    for name in "ab":
        Path(f"set/images/{name}.png").write_bytes(b"")
    assert run(arguments).error == f"{unusable}: set/images/a.png: the file is empty; image skipped"
    for name in "ab":
        Path(f"set/images/{name}.png").unlink()
    assert run(arguments).error == f"{unusable} (none is listed in set/images)"
    Path("set/images").rmdir()
    assert run(arguments).error == f"set/images: no such folder or file ({split} of animals)"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("gone.jpg", "no such file or folder"),  # row 13
        ("gone/*.jpg", "no image or video matches this pattern"),
        ("folder", "no images or videos in this folder"),  # row 14
        ("notes.md", "the suffix '.md' is neither an image's nor a video's (known: .3gp "),
    ],
)
def test_rows_13_14_nothing_to_look_at(run: Run, source: str, arguments: str) -> None:
    """Also: unit/data/test_sources.py::test_errors."""
    for name in ("notes.md", "folder/notes.md"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("arguments")
    assert run(f"{DETECT} {source}").error.startswith(f"--source {source}: {arguments}")
    assert not Path("runs").exists()


def test_row_15_unreadable_images_in_a_folder(run: Run) -> None:
    """Also: test_detect.py::test_unreadable_images_are_counted."""
    empty, text = "the file is empty", "not an image that can be decoded"
    Path("set/images/0.jpg").write_bytes(b"")
    Path("set/images/c.jpg").write_text("arguments")
    said = run(f"{DETECT} set/images --report r.json")
    assert said.code == 0 and "2 frames, 0 detections, 2 files skipped" in said.out
    assert said.lines == [
        f"set/images/0.jpg: skipped: {empty}",
        f"set/images/c.jpg: skipped: {text}",
    ]
    assert json.loads(Path("r.json").read_text())["skipped"] == [
        {"source": "set/images/0.jpg", "reason": empty},
        {"source": "set/images/c.jpg", "reason": text},
    ]
    assert run(f"{DETECT} set/images --strict").error == f"set/images/0.jpg: {empty}"
    for name in ("a", "b"):
        Path(f"set/images/{name}.png").unlink()
    said = run(f"{DETECT} set/images")
    assert said.error == "none of 2 files could be read" and said.code == 1


@pytest.mark.parametrize("content", [b"words", b"", None], ids=["text", "empty", "no frames"])
def test_row_16_a_video_that_is_none(run: Run, content: bytes | None) -> None:
    """Also: unit/data/test_video.py, and there for one of several."""
    if content is None:
        save_video(Path("v.mp4"), 0)
    else:
        Path("v.mp4").write_bytes(content)
    reason = "v.mp4: not a video that OpenCV can read, or one without frames"
    assert run(f"{DETECT} v.mp4").error == reason


def test_row_17_a_video_that_breaks_off(run: Run) -> None:
    """Also: unit/data/test_video.py::test_a_video_that_breaks_off_is_reported."""
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for number in range(20):
        writer.write(noise((64, 64), number))
    writer.release()
    content = Path("v.avi").read_bytes()
    Path("v.avi").write_bytes(content[: len(content) // 2])
    said = run(f"{DETECT} v.avi --save-json")
    (line,) = said.lines
    found = re.fullmatch(
        r"v\.avi: skipped: broken after frame (\d+) of 20; the rest is omitted", line
    )
    assert said.code == 0 and found is not None
    frames = json.loads(Path("runs/detect/exp/predictions.json").read_text())
    assert 5 < int(found[1]) == len(frames) < 15


def test_row_19_two_inputs_of_one_name(run: Run) -> None:
    """Also: test_detect.py::test_images_of_one_name_do_not_meet, for the label files too."""
    write_image(Path("set/images/a.jpg"))
    write_image(Path("set/images/a_2.png"))
    said = run(f"{DETECT} set/images")
    names = sorted(path.name for path in Path("runs/detect/exp").iterdir())
    assert names == ["a.jpg", "a_2.png", "a_2_2.png", "b.png", "progress.jsonl"]
    assert "set/images/a.png: its files are called a_2, a was taken" in said.out


def test_row_19_two_inputs_of_one_name_in_val(run: Run) -> None:
    for folder in ("one", "two"):
        write_image(Path(f"set/images/{folder}/a.png"))
    assert run(f"{VAL} --save-txt").code == 0
    assert len(list(Path("runs/val/exp/labels").rglob("*.txt"))) == 4


def write_state(path: Path, key: str | None) -> None:
    weights = build_model(tiny_spec()).state_dict()
    torch.save(weights if key is None else {key: weights}, path)


def write_torchscript(path: Path) -> None:
    """As much of such a file as torch tells it by."""
    with zipfile.ZipFile(path, "w") as file:
        for name in ("constants.pkl", "data.pkl", "version"):
            file.writestr(f"archive/{name}", "3")


NO_NETWORK = (
    "holds weights without their architecture, so no network can be built; "
    r"give a checkpoint written by train\.py or convert\.py"
)
WRONG_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (
        lambda path: path.write_bytes(b""),
        r"not a PyTorch checkpoint \(the file is empty\)",
    ),
    "text": (lambda path: path.write_text("<html>"), r"not a PyTorch checkpoint \(it is text\)"),
    "weights": (lambda path: write_state(path, None), NO_NETWORK),
    "weights under a key": (lambda path: write_state(path, "model"), NO_NETWORK),
    "TorchScript": (write_torchscript, "(?!damaged).*(?i:TorchScript).*"),  # another kind of file
}


@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
@pytest.mark.parametrize("arguments", [VAL, TRAIN, f"{DETECT} set/images"], ids=first_word)
def test_row_20_weights_that_are_none(run: Run, arguments: str, kind: str) -> None:
    """Also: test_user_errors.py for every script, test_checkpoint.py, test_inert_pickle.py."""
    write, reason = WRONG_WEIGHTS[kind]
    write(Path("wrong.pt"))
    said = run(f"{arguments} --weights wrong.pt")
    assert re.fullmatch(rf"wrong\.pt: {reason}", said.error), said.error
    assert not Path("runs").exists()


@pytest.mark.parametrize("arguments", [TRAIN, "convert", "export"], ids=first_word)
def test_row_20_an_exported_file_where_a_checkpoint_must_be(run: Run, arguments: str) -> None:
    save_detector(Path("best.onnx"), [[1.0] * 7])
    error = run(f"{arguments} --weights best.onnx").error
    assert re.match(r"best\.onnx: .*(ONNX|exported).*(\.pt|checkpoint)", error), error


EVALUATED = [VAL, "convert --data set/animals.yaml", "export --data set/animals.yaml"]


@pytest.mark.parametrize("arguments", EVALUATED, ids=first_word)
def test_row_21_another_number_of_classes_cannot_be_evaluated(run: Run, arguments: str) -> None:
    """Also: test_user_errors.py::test_val_with_another_number_of_classes."""
    save_model(Path("two.pt"), build_model(tiny_spec(nc=2)))
    assert run(f"{arguments} --weights two.pt --imgsz 64").error == (
        "two.pt knows 2 classes, set names 3; give the data set it was trained for"
    )


def test_row_21_another_number_of_classes_is_trained_with_a_note(run: Run) -> None:
    save_model(Path("two.pt"), build_model(tiny_spec(nc=2)))
    said = run(f"{TRAIN} --weights two.pt")
    notes = [line for line in (*said.out.splitlines(), *said.lines) if line.startswith("two.pt: ")]
    assert said.code == 0 and "148 of 154 tensors taken over" in notes[0]
    assert any(re.search(r"\b2 classes\b.*\b3\b", line) for line in notes), notes


@by_train_and_val
@pytest.mark.parametrize("key", ["train", "val", "names"])
def test_row_22_a_data_yaml_without_a_key(run: Run, arguments: str, key: str) -> None:
    """Also: test_dataset_spec.py::test_wrong_yamls."""
    lines = ["path: .", "train: images", "val: images", "names: [cat, dog, owl]"]
    kept = [line for line in lines if not line.startswith(key)]
    Path("set/animals.yaml").write_text("\n".join(kept))
    assert run(arguments).error.startswith(f"set/animals.yaml: key '{key}' is missing")
    assert not Path("runs").exists()


@pytest.mark.parametrize("label", ["", None], ids=["empty", "missing"])
@pytest.mark.parametrize("plots", ["--noplots", "--no-noplots"])
def test_row_23_no_objects_and_none_found(run: Run, label: str | None, plots: str) -> None:
    """Also: unit/utils/metrics/test_coco.py::test_nothing_labelled."""
    shutil.rmtree("set/labels")
    yaml = write_yolo_set(Path("set"), {"a": label, "b": label})
    yaml.write_text(f"{yaml.read_text()}background_only: true\n")
    said = run(f"{VAL} {plots} --conf-thres 1 --save-json --save-txt --report r.json")
    report = json.loads(Path("r.json").read_text())
    assert (said.code, report["images"], report["instances"]) == (0, 2, 0)
    assert {report[key] for key in ("AP", "AP50", "AP75", "AR100", "precision", "recall")} == {0}
    assert json.loads(Path("runs/val/exp/good_predictions.json").read_text()) == []
    assert any(re.search(r"\bno\b.*\b(object|label)", line) for line in said.lines), said.lines


@pytest.mark.parametrize(
    "arguments",
    [VAL, TRAIN_NEW, f"{DETECT} set/images", "export --weights good.pt"],
    ids=first_word,
)
def test_row_24_a_size_between_the_multiples(run: Run, arguments: str) -> None:
    """Also: unit/utils/test_letterbox.py."""
    said = run(f"{arguments} --imgsz 100")
    note = "--imgsz 100x100 rounded up to 128x128, multiples of 32"
    assert (said.code, said.lines) == (0, [note])


def test_row_25_a_finished_run_can_be_extended(run: Run) -> None:
    """Also: test_resume.py::test_a_finished_run_has_nothing_left_to_do, and its neighbours."""
    assert run(TRAIN_NEW).code == 0
    last = Path("runs/train/exp/weights/last.pt").absolute()
    assert run(f"train --resume {last}").error == (
        f"--resume {last}: finished after 1 epoch; to go on, give more: --epochs 2"
    )
    assert run(f"train --resume {last} --epochs 2").code == 0
    with Path("runs/train/exp/results.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file, skipinitialspace=True)] == ["0", "1"]
