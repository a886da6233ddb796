"""What a new user types: wrong command lines answered at once, YOLOv5's habits, sample images."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import convert
import detect
import export
import train
import val
from models.export.request import INSTEAD
from models.formats.presets import PRESETS
from models.network.detector import build_model
from models.network.layers import ACTIVATIONS
from models.quantization import techniques
from models.quantization.quantized_onnx import TECHNIQUES
from models.reparam.families import FAMILIES
from tests.checkpoint_builders import save_model
from tests.house.source_tree import ROOT
from tests.model_builders import tiny_spec
from utils import architecture_names
from utils.cli import parse
from utils.logs import SAMPLE_IMAGES, flag_of

CONFIGS = {
    "train": train.TrainConfig,
    "val": val.ValConfig,
    "detect": detect.DetectConfig,
    "convert": convert.ConvertConfig,
    "export": export.ExportConfig,
}
SCRIPTS = {"train": train, "val": val, "detect": detect, "convert": convert, "export": export}
# Runs a script as `python script.py ...` once for each command line, where torch does not exist.
WITHOUT_TORCH = """
import contextlib, io, json, runpy, sys
sys.modules["torch"] = sys.modules["torchvision"] = None
script, *commands = sys.argv[1:]
answers = []
for command in commands:
    sys.argv = [script, *json.loads(command)]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            code = error.code
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
# The start of a command line that is right -> wrong ends of it, and what they are answered with.
RIGHT = {
    "train": "--cfg yolov5n.yaml",
    "val": "--weights {weights}",
    "detect": "--weights {weights}",
    "convert": "--weights {weights}",
    "export": "--weights {weights}",
}
DATA = {
    "--data slip.yaml": "slip.yaml: unknown key 'nmaes'; did you mean 'names'?",
    "--data count.yaml": "count.yaml: nc is 3, but names has 2 entries",
}
EVERYWHERE = {
    "--wieghts x": "--wieghts: no such flag; did you mean --weights?",
    "--batch 0": "--batch-size 0: must be at least 1",
    "--weights gone.pt": "gone.pt: no such weights file (nothing is ever downloaded)",
    "--weights good.ptt": "good.ptt: no such weights file (nothing is ever downloaded); did you "
    "mean good.pt?",
    "--data coco12.yaml": "coco12.yaml: no such file; did you mean 'coco128.yaml'?",
    "--data wrong.yaml": "wrong.yaml: not valid yaml: ",
    "--report a.txt/b/c.json": "{folder}/a.txt: cannot be written (Not a directory); choose "
    "another --report",
    "--report .": "--report .: is a folder, expected a file name",
}
RUNS = {
    "--project a.txt/runs": "{folder}/a.txt: cannot be written (Not a directory); choose another "
    "--project",
    "--project a.txt": "a.txt: cannot be written (Not a directory); choose another --project",
}
COMPUTES = {
    "--device gpu": "--device gpu: expected cpu, mps, or a GPU number like 0",
}
WRITTEN = {
    "--output a.txt/out": "{folder}/a.txt: cannot be written (Not a directory); choose another "
    "--output",
}
WRONG = {
    "train": {
        **EVERYWHERE,
        **RUNS,
        **COMPUTES,
        **DATA,
        "--cfg slip.yaml": "slip.yaml: unknown key 'train'",
        "--cfg yolov5.yaml": "yolov5.yaml: no such file; did you mean 'yolov5",
        "--hyp hyp.yaml": "hyp.yaml: no such file",
        "--teacher gone.pt": "gone.pt: no such weights file",
        "--resume gone.pt": "gone.pt: no such weights file",
        "--rep-block repvgg": "--rep-block repvgg: no such choice; did you mean 'RepVGG'?",
        "--rep-block OREPA(scaling=": "--rep-block: 'OREPA(scaling=' is not a name like",
        "--activation LeakyReLU(0.1": "--activation: 'LeakyReLU(0.1' is not a name like `SiLU` or",
        "--optimizer adam": "--optimizer adam: no such choice; did you mean 'Adam'?",
        "--rep-block none --rep-policy all": "--rep-policy: is for blocks, and --rep-block none",
        "--image-weights --rect": "--image-weights: rectangular batches hold the same images",
        "--evolve 3 --resume": "--evolve: trains anew, so it goes without --resume",
        "--resume=": "--resume: is empty; name a file",
        "--cfg=": "give an architecture (--cfg repyolov5n.yaml) or --weights to start from",
    },
    "val": {
        **EVERYWHERE,
        **DATA,
        **RUNS,
        **COMPUTES,
        "--task speed": "--task speed: the times of each stage are",
    },
    "detect": {
        **EVERYWHERE,
        **RUNS,
        **COMPUTES,
        "--conf 2": "--conf-thres 2.0: must be from 0 to 1",
        "--compare=": "--compare: is empty; name a file",
    },
    "convert": {
        **EVERYWHERE,
        **DATA,
        **WRITTEN,
        **COMPUTES,
        "--to train --rep-block RepVGG(": "--rep-block: 'RepVGG(' is not a name like `SiLU` or",
        "--weights=": "give a checkpoint: --weights runs/train/exp/weights/best.pt",
        "--rep-policy al": "--rep-policy al: no such choice; did you mean 'all'?",
        "--rep-block RepVGG": "--rep-block: goes with --to train",
        "--to train": "--to train: name the blocks",
        "--to native --half": "--half: goes with --to deploy",
        "--to yolov5 --stem conv": "--stem: goes with --to deploy",
        "--to native --verbose": "--verbose: goes with --to deploy or train or yolov5",
    },
    "export": {
        **EVERYWHERE,
        **DATA,
        **WRITTEN,
        "--include engine": "--preset engine: an engine is built on the GPU that runs it",
        "--include onx": "--preset onx: no such choice; did you mean 'onnx'?",
        "--int8": "INT8 files are calibrated on your images: give --data my.yaml",
        "--opset 5": "--opset 5: preset onnx is written with 1",
        "--topk-all 5": "--topk-all: is for suppression in the file",
    },
}


def answers_of(script: str, commands: list[str], folder: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each command line, in a process without torch."""
    arguments = [json.dumps(shlex.split(command)) for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / f"{script}.py"), *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "a.txt").write_text("a file")
    (tmp_path / "good.pt").write_text("looked at later")
    (tmp_path / "wrong.yaml").write_text("{")
    (tmp_path / "slip.yaml").write_text("{train: a, val: b, nmaes: [x]}")
    (tmp_path / "count.yaml").write_text("{train: a, val: b, names: [x, y], nc: 3}")
    return tmp_path


@pytest.mark.parametrize("script", WRONG)
def test_a_wrong_command_line_is_answered_without_torch(script, folder):
    right = RIGHT[script].format(weights=folder / "good.pt")
    before = sorted(folder.rglob("*"))
    commands = [f"{right} {wrong}" for wrong in WRONG[script]]
    for wrong, (code, out, err) in zip(
        WRONG[script].items(), answers_of(script, commands, folder), strict=True
    ):
        expected = wrong[1].format(folder=folder)
        assert (code, out, err.count("\n")) == (2, "", 1), (wrong, err)
        assert err.startswith(f"error: {expected}"), (wrong, err)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("script", CONFIGS)
def test_help_needs_no_torch_and_lists_choices_and_examples(script, tmp_path):
    ((code, out, err),) = answers_of(script, ["--help"], tmp_path)
    assert (code, err) == (0, "")
    flat = " ".join(out.split())
    assert "(default: None)" not in flat and flat.count("(default: ") >= 5
    assert all(flag_of(each.name) in flat for each in dataclasses.fields(CONFIGS[script]))
    lists = {
        "train": [(*FAMILIES, "none"), architecture_names.REP_POLICIES, tuple(ACTIVATIONS)],
        "convert": [tuple(FAMILIES), architecture_names.REP_POLICIES],
        "export": [tuple(PRESETS), TECHNIQUES],
    }
    for names in lists.get(script, []):
        # argparse breaks lines at hyphens too
        assert ", ".join(names).replace("- ", "-") in flat.replace("- ", "-")
    assert "--no-no" not in out
    assert out.count(f"\n  python {script}.py ") >= 3  # examples


@pytest.mark.parametrize("script", CONFIGS)
def test_examples_can_be_typed(script, capsys):
    with pytest.raises(SystemExit):
        parse(CONFIGS[script], ["--help"], {})
    examples = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    for example in examples:
        python, name, *arguments = shlex.split(example)
        assert (python, name) == ("python", f"{script}.py")
        assert parse(CONFIGS[script], arguments, SCRIPTS[script].__dict__.get("REFUSED", {}))


def test_names_without_torch_are_those_of_the_network():
    assert tuple(FAMILIES) == architecture_names.REP_BLOCKS
    assert tuple(ACTIVATIONS) == architecture_names.ACTIVATIONS
    assert tuple(techniques._MAKERS) == TECHNIQUES


@pytest.mark.parametrize("name", ["tflite", "coreml", "saved_model", "pb", "tfjs", "edgetpu",
                                  "paddle", "engine"])  # fmt: skip
def test_yolov5s_other_formats_say_what_to_do_instead(name, capsys):
    with pytest.raises(SystemExit) as ended:
        export.main(["--include", name])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: --preset {name}: {INSTEAD[name]}\n"
    # What it tells to use exists.
    named = INSTEAD[name].partition("--include ")[2].split(maxsplit=1)
    assert not named or named[0].rstrip(":") in PRESETS


# YOLOv5's flags (its documentation); those after `|` are refused with a sentence.
YOLOV5 = {
    "train": "weights cfg data hyp epochs batch-size imgsz img img-size rect resume nosave noval "
    "noautoanchor noplots evolve cache image-weights device multi-scale single-cls optimizer "
    "sync-bn workers project name exist-ok cos-lr label-smoothing patience freeze save-period seed "
    "| evolve_population resume_evolve bucket quad local_rank entity upload_dataset bbox_interval",
    "val": "data weights batch-size imgsz img img-size conf-thres iou-thres max-det task device "
    "workers single-cls half augment verbose save-txt save-conf save-json project name exist-ok "
    "| save-hybrid dnn",
    "detect": "weights source data imgsz img img-size conf-thres iou-thres max-det device view-img "
    "save-txt save-format save-csv save-conf save-crop nosave classes agnostic-nms project name "
    "exist-ok line-thickness hide-labels hide-conf half vid-stride augment "
    "| visualize update dnn",
    "export": "data weights imgsz img img-size batch-size device half int8 per-tensor dynamic "
    "simplify opset nms topk-all iou-thres conf-thres include "
    "| inplace keras optimize mlmodel cache workspace verbose agnostic-nms topk-per-class",
}
VALUES = {int: "2", float: "0.5", str: "a"}
NAMES = {"optimizer": "Adam", "cache": "disk", "task": "val", "device": "cpu", "include": "npu",
         "save-format": "1", "dynamic": "batch"}  # fmt: skip


@pytest.mark.parametrize("script", YOLOV5)
def test_yolov5s_flags_work_and_may_be_cut_off(script, capsys):
    """argparse takes a flag's beginning where it fits one flag; so it was in YOLOv5."""
    taken, refused = (part.split() for part in YOLOV5[script].split("|"))
    config_class, script_refused = CONFIGS[script], SCRIPTS[script].REFUSED
    hints = typing.get_type_hints(config_class)
    for flag in taken:
        arguments = [f"--{flag}"]
        field = {"include": "preset", "img": "imgsz", "img-size": "imgsz"}.get(flag, flag)
        kinds = str(hints[field.replace("-", "_")])
        if "bool" not in kinds:
            kind = float if "float" in kinds else int if "int" in kinds else str
            arguments.append(NAMES.get(flag, VALUES[kind]))
        expected = parse(config_class, arguments, script_refused)
        assert expected != config_class() or flag in ("device", "task")
        for length in range(4, len(flag)):
            if [each for each in [*taken, *refused] if each.startswith(flag[:length])] == [flag]:
                arguments[0] = f"--{flag[:length]}"
                assert parse(config_class, arguments, script_refused) == expected, arguments
    for flag in refused:
        with pytest.raises(SystemExit) as ended:
            parse(config_class, [f"--{flag}", "1"], script_refused)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: --{flag.replace('_', '-')}: ")


def test_detect_without_a_source_looks_at_the_sample_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "tiny.pt", build_model(tiny_spec()))
    result = detect.detect(detect.DetectConfig("tiny.pt", imgsz=64, device="cpu", nosave=True))
    images = sorted(path.name for path in SAMPLE_IMAGES.glob("*.jpg"))
    assert result.frames == len(images) == 8 and not result.skipped
    assert [name.partition("_")[0] for name in images] == ["bccd"] * 4 + ["deeppcb"] * 4
    licences = (SAMPLE_IMAGES / "README.md").read_text(encoding="utf-8")
    assert "2017 shenggan" in licences and "2018 tangsanli5201" in licences
