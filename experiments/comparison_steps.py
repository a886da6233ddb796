"""The runs by which two checkouts are compared: commands, their reports and their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

Command = tuple[str, ...]
GROUPS = ("flags", "train", "val", "detect", "convert", "summary", "export", "int8", "real")
SLOW_INT8 = frozenset({"qdq-u16", "openvino-int8", "trt11-int8", "rknn"})  # qdq-u8 is in "export"
SCRIPTS = ("train", "val", "detect", "convert", "export")
SIZE = ("--imgsz", "64")
_RUN = ("--device", "cpu", "--workers", "0")
_TRAIN = ("train.py", "--data", "{data}", *SIZE, *_RUN, "--amp", "off", "--deterministic",
          "--exist-ok", "--project", "{out}")  # fmt: skip
# Learns the drawn images in seconds, so that the AP compared afterwards is not 0.
_LEARNING = (
    *_TRAIN, "--cfg", "repyolov5n.yaml", "--optimizer", "AdamW", "--hyp", "{learning}",
    "--epochs", "30", "--batch-size", "4", "--seed", "1", "--noval", "--noplots",
)  # fmt: skip
LEARNED = "adamw/weights/best.pt"  # below {out}: the network of the steps after training


@dataclass(frozen=True, slots=True)
class Step:
    """Commands that both checkouts run, and what of theirs is compared.

    Words may hold {out} (the checkout's own folder), {data} (data yaml), {images} (a folder),
    {network} (a checkpoint), {learning} and {strong} (hyper-parameter yamls): the same for both.

    Attributes:
        group: one of GROUPS.
        name: unique.
        commands: run one after the other; the last ones only if those before ended with 0 or 1.
        reports: JSON files below {out}, compared key by key and number by number.
        paths: files and folders below {out}, compared by content.
    """

    group: str
    name: str
    commands: tuple[Command, ...]
    reports: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def training_steps() -> list[Step]:
    """Training runs that together use most of what changes the weights."""
    plain = ("--cfg", "repyolov5n.yaml", "--epochs", "2", "--batch-size", "8", "--seed", "3")
    strong = ("--cfg", "yolov5n.yaml", "--epochs", "2", "--batch-size", "8", "--hyp", "{strong}",
              "--optimizer", "Adam", "--multi-scale", "--image-weights", "--cos-lr",
              "--label-smoothing", "0.1", "--close-mosaic", "1", "--noplots")  # fmt: skip
    taught = ("--cfg", "yolov5n.yaml", "--epochs", "1", "--batch-size", "8", "--rect",
              "--teacher", "{network}", "--freeze", "2", "--rep-block", "DBB", "--rep-policy",
              "downsample", "--activation", "SiLU", "--noplots")  # fmt: skip
    half = ("--cfg", "yolov5n.yaml", "--epochs", "1", "--batch-size", "8", "--noplots")
    resume = ("train.py", "--resume", "{out}/resumed/weights/last.pt", "--epochs", "2")
    return [
        _training("adamw", _LEARNING),
        _training("sgd", (*_TRAIN, *plain)),
        _training("strong", (*_TRAIN, *strong)),
        _training("taught", (*_TRAIN, *taught)),
        _training("resumed", (*_TRAIN, *half), resume),
    ]


def learning_command() -> Command:
    """Trains {out}/LEARNED, for comparisons without the training steps."""
    return (*_LEARNING, "--name", "adamw")


def inference_steps() -> list[Step]:
    """val.py, detect.py and convert.py of the learned network, in PyTorch and ONNX."""
    network = ("--weights", "{network}")
    onnx = ("--weights", "{out}/onnx/network.onnx")
    data = ("--data", "{data}", *_RUN)
    export = ("export.py", *network, *SIZE, "--output", "{out}/onnx/network.onnx")
    source = ("--source", "{images}", "--conf-thres", "0.005", "--device", "cpu")
    saved = ("--save-json", "--save-csv", "--save-txt", "--save-conf")
    evaluate = ("val.py", *data, "--save-json", "--save-txt", "--save-conf", "--noplots")
    convert = ("convert.py", "--to", "deploy", *SIZE, *network, *data)
    return [
        _in_folder("val", "val", (*evaluate, *network, *SIZE)),
        _in_folder("val", "val-square", (*evaluate, *network, *SIZE, "--no-rect", "--single-cls")),
        _in_folder("val", "val-onnx", (*evaluate, *onnx), before=export),
        _in_folder("detect", "detect", ("detect.py", *network, *SIZE, *source, *saved)),
        _in_folder("detect", "detect-onnx", ("detect.py", *onnx, *source, *saved), before=export),
        Step(
            "convert", "convert",
            ((*convert, "--output", "{out}/deploy.pt", "--report", "{out}/deploy.json"),),
            ("deploy.json",), ("deploy.pt",),
        ),
        Step(
            "summary", "summary",
            (("export.py", "--summary", "{network}", "--report", "{out}/summary.json"),),
            ("summary.json",),
        ),
    ]  # fmt: skip


def export_step(preset: str) -> Step:
    """One preset of export.py, with images to compare on (and to calibrate 8-bit files)."""
    folder = f"export-{preset}"
    command = (
        "export.py", "--weights", "{network}", "--preset", preset, *SIZE, "--data", "{data}",
        "--workers", "0", "--max-drop", "100", "--output", f"{{out}}/{folder}/",
        "--report", f"{{out}}/{folder}.json",
    )  # fmt: skip
    group = "int8" if preset in SLOW_INT8 else "export"
    return Step(group, folder, (command,), (f"{folder}.json",), (folder,))


def real_steps(weights: Path, coco128: Path) -> list[Step]:
    """A published checkpoint: its AP on real images at 640, its native form, its ONNX file.

    Not `--to train`: how it splits a convolution into branches is random, without a seed.
    """
    given = ("--weights", str(weights))
    evaluate = ("val.py", *given, "--data", str(coco128), *_RUN, "--imgsz", "640",
                "--batch-size", "16", "--noplots")  # fmt: skip
    native = ("convert.py", *given, "--to", "native", "--output", "{out}/native.pt",
              "--report", "{out}/native.json")  # fmt: skip
    export = ("export.py", *given, "--output", "{out}/real.onnx")
    return [
        _in_folder("real", "real-val", evaluate),
        Step("real", "real-files", (native, export), ("native.json",), ("native.pt", "real.onnx")),
    ]


def presets_in(help_text: str) -> list[str]:
    """The presets among the choices that export.py's help, or its error message, lists."""
    choices = re.search(r"--preset\s*\{([^}]*)\}", help_text) or re.search(
        r"choose from ([^)]*)\)", help_text
    )
    names = choices.group(1).split(",") if choices else []
    return [name.strip(" '\"\n") for name in names]


def flags_in(help_text: str) -> dict[str, bytes]:
    """Usage (flags, choices) and default values, without the descriptions around them."""
    usage, _, options = help_text.partition("\n\n")
    defaults = re.findall(r"\(default: (.*?)\)", " ".join(options.split()))
    return {"usage": " ".join(usage.split()).encode(), "defaults": repr(defaults).encode()}


def _training(name: str, first: Command, *later: Command) -> Step:
    commands = ((*first, "--name", name), *later)
    commands = (*commands[:-1], (*commands[-1], "--report", f"{{out}}/{name}.json"))
    files = ("weights/last.pt", "weights/best.pt", "results.csv", "hyp.yaml")
    return Step("train", name, commands, (f"{name}.json",), tuple(f"{name}/{f}" for f in files))


def _in_folder(group: str, name: str, command: Command, before: Command | None = None) -> Step:
    """A run of val.py or detect.py, of whose folder every file is compared."""
    folder = (
        "--project",
        "{out}",
        "--name",
        name,
        "--exist-ok",
        "--report",
        f"{{out}}/{name}.json",
    )
    commands = (*([before] if before else []), (*command, *folder))
    return Step(group, name, commands, (f"{name}.json",), (name,))
