"""How the commands of the pages are run here: what is smaller, what is completed, what is not run.

Nothing else changes a command. Rules apply in their order, each to all commands that it fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.documents.commands import Command

SIZE: Final = 64  # of the network's input, where a command gives another or the default is 640
RESUMED_EPOCHS = {"200": "3"}  # extends the given run, which is cut in the first epoch of two
SEARCHES = {"100": "1", "200": "2"}  # the second continues the first
END: Final = r"\Z"
PORT: Final = "{port}"  # a free one takes its place


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of commands that hold a pattern.

    Attributes:
        pattern: looked for in the command.
        replacement: of `re.sub`.
        reason: why the command is not run as it is written.
        where: only commands in which this is found.
    """

    pattern: str
    replacement: str | Callable[[re.Match[str]], str]
    reason: str
    where: str = ""

    def apply(self, text: str) -> str:
        """The command with every place of the pattern replaced."""
        if not re.search(self.where, text):
            return text
        return re.sub(self.pattern, self.replacement, text)


def _epochs(found: re.Match[str]) -> str:
    return found[1] + RESUMED_EPOCHS.get(found[2], "1")


def _searches(found: re.Match[str]) -> str:
    return found[1] + SEARCHES.get(found[2], "1")


# Of sentences, which name a script and the flags that matter. `^` is not followed by what is there.
COMPLETED = (
    Rule(r"^(train|val|detect|convert|export)\.py", r"python \1.py", "the interpreter"),
    Rule(END, " --weights best.pt", "a network",
         r"(val|detect|convert|export)\.py(?!.*--weights)"),
    Rule(END, " --cfg yolov5n.yaml", "a network", r"train\.py(?!.*--(weights|cfg|resume))"),
    Rule(END, " --data my.yaml", "a data set", r"(train|val)\.py(?!.*--(data|resume))"),
    Rule(END, " --source images/ --save-csv --save-jsonl", "images; the tables are spoken of",
         r"detect\.py(?!.*--source)"),
    Rule(END, " my.yaml", "a data set", r"data\.lint$"),
)  # fmt: skip

SMALLER = (
    Rule(r"^\S*(python -m (?:experiments|benchmarks)\.\w+)(?: .*)?", r"\1 --help",
         "measures or trains for hours, some on data that is not here"),
    Rule(r"^make (.*)", r"make --dry-run --no-print-directory \1",
         "installs packages, or runs all tests"),
    Rule(r"--weights FILE\b", "--weights best.pt", "a network"),
    Rule(r"(--epochs |\bepochs=)(\d+)", _epochs, "epochs take hours; the commands do not change"),
    Rule(r"(epochs=\d+)", rf"\1, imgsz={SIZE}, workers=0, noplots=True",
         "small images; tests look at the plots", r"TrainConfig\("),
    Rule(r"(--evolve )(\d+)", _searches, "each is a training"),
    Rule(r"(--(?:imgsz|img) |\bimgsz=)\d+", rf"\g<1>{SIZE}", "small images"),
    Rule(END, " --epochs 1", "epochs take hours; the commands do not change",
         r"\btrain\.py(?!.*--(epochs|resume|help)\b)"),
    Rule(END, f" --imgsz {SIZE}", "small images", r"\btrain\.py(?!.*--(imgsz|img|resume|help)\b)"),
    Rule(r"(--batch(?:-size)? )\d+", r"\g<1>4", "eight images to learn from"),
    Rule(r"(--calibration-images )\d+", r"\g<1>4", "eight images to learn from"),
    Rule(r"--max-drop \d+", "--max-drop 100", "the AP of three images says little"),
    Rule(END, " --max-drop 100", "the AP of three images says little",
         r"export\.py.*(--int8|--preset \S*(qdq|int8))(?!.*--max-drop)"),
    Rule(END, " --qat-epochs 1", "epochs take hours", r"export\.py.*--technique.*train"),
    Rule(r"\bcoco\.yaml", "my.yaml", "COCO has 118,287 images"),
    Rule(r" --source 0\b", "", "no camera; POST /detect is served without one", "--web"),
    Rule(r"--source (0|rtsp://\S+)", "--source street.mp4",
         "no camera: tests/end_to_end/test_live.py and test_rtsp.py have some"),
    Rule(r"(--web |localhost:)8080", rf"\g<1>{PORT}", "a free port"),
    Rule(r'(torch\.hub\.load\()(?:"[^"]+"|\.{3})', r'\1"."', "the folder's path"),
    Rule(r" \.\.\.$", f" http://localhost:{PORT}/detect", "the address that was said", "^curl"),
    Rule(r"--nproc-per-node \d+", "--nproc-per-node 2", "two cores"),
    Rule(r"--device 0,1", "--device cpu", "no GPU"),
    Rule(END, " --workers 0", "processes start slowly, and two cores have enough of them",
         r"\b(train|val|convert)\.py(?!.*--(workers|help))"),
    Rule(END, " --noplots", "tests look at the images",
         r"\b(train|val)\.py(?!.*--(noplots|resume|help))"),
)  # fmt: skip

# Of the yamls that commands read.
IN_YAMLS = (Rule(r"\bperson\b", "RBC", "the networks that are here find blood cells"),)

# What `...` stands for, command by command: where another page has the whole command, that one.
SPELLED_OUT = {
    "python train.py ... --evolve 200 --name exp --exist-ok":
        "python train.py --data my.yaml --cfg yolov5n.yaml --epochs 10 --evolve 200 --name exp "
        "--exist-ok",
    "torchrun --nproc-per-node 4 train.py ...":
        "torchrun --nproc-per-node 4 train.py --data coco.yaml --cfg repyolov5s.yaml "
        "--batch-size 128",
    "torchrun --nproc-per-node 2 train.py --device 0,1 ...":
        "torchrun --nproc-per-node 2 train.py --device 0,1 --data my.yaml --cfg yolov5n.yaml "
        "--epochs 1 --name two",
    "python val.py --data coco128.yaml --imgsz 640 --weights ...":
        "python val.py --weights yolov5n.pt --data coco128.yaml --imgsz 640",
    "val.py --gallery": "python val.py --weights best.pt --data my.yaml --gallery",
}  # fmt: skip

# A command that is run on each page that has it, and how a later one there names what it writes.
# Others are run once.
READ_LATER = (
    (r"convert\.py.*--to train", r"-train\.pt"),
    (r"detect\.py.*--shard", r"exp-\*of16"),
)

INSTALLS = "installs packages, which needs the network"
ENVIRONMENT = "makes an environment: the checks run in one that is complete"
SYSTEM = "changes the machine or another one"
VENDOR = "needs the vendor's tool: tests/unit/models/formats/test_vendor_folders.py reads it"
# Commands that are not run, each with the reason. One that no page has any more is an error.
NOT_RUN: dict[str, str] = {
    "python -m venv .venv": ENVIRONMENT,
    "python3 -m venv .venv": ENVIRONMENT,
    "python3 -m venv --system-site-packages .venv": ENVIRONMENT,
    "python -m venv --system-site-packages .venv-gpu": ENVIRONMENT,
    "python -m venv ../tflite": ENVIRONMENT,
    "python -m venv ../coreml": ENVIRONMENT,
    "pip install -r requirements.txt": INSTALLS,
    "pip install -r requirements-evolve.txt": INSTALLS,
    "pip install -r requirements-track.txt": INSTALLS,
    "pip install -r requirements-web.txt": INSTALLS,
    "pip install -r requirements-examples.txt": INSTALLS,
    "pip install pillow-heif": INSTALLS,
    "pip install av": INSTALLS,
    "pip install mss": INSTALLS,
    "pip install rknn-toolkit-lite2": INSTALLS,
    "pip install -r <(grep -v ^opencv requirements.txt) opencv-python-headless": INSTALLS,
    ".venv/bin/pip install -r requirements-runtime.txt": INSTALLS,
    '.venv/bin/pip install -r device.txt "numpy<2"': INSTALLS,
    ".venv/bin/pip install onnxruntime-gpu --index-url https://pypi.jetson-ai-lab.io/jp6/cu126":
        INSTALLS,
    "../tflite/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0 onnx2tf==1.28.5": INSTALLS,
    "../tflite/bin/pip install onnx==1.19.1 onnx-graphsurgeon==0.6.1 sng4onnx==2.0.1 "
    "ai-edge-litert==2.3.0 psutil==7.2.2 onnxruntime==1.32.0": INSTALLS,
    "../coreml/bin/pip install coremltools==9.0 numpy==1.26.4 torch==2.15.0": INSTALLS,
    "pip download --only-binary :all: --no-deps --python-version 3.12 "
    "--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --dest wheels simplejpeg "
    "pillow -r peer.txt": INSTALLS,
    ".venv-gpu/bin/python -m pip install --no-index --no-deps wheels/*.whl": INSTALLS,
    "apt install python3-opencv": INSTALLS,
    "apt install g++": INSTALLS,
    "../tflite/bin/onnx2tf -i best.onnx -o tflite -n":
        "needs the environment of TensorFlow: tests/end_to_end/test_mobile_recipes.py runs it",
    "../tflite/bin/onnx2tf -i best-npu.onnx -o tflite -n -odrqt":
        "needs the environment of TensorFlow: tests/end_to_end/test_mobile_recipes.py runs it",
    "python export.py --weights best.pt --preset rknn --data my.yaml":
        "needs `make rknn`: tests/end_to_end/test_quantized_presets.py runs it",
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "train.py ...": "needs two machines",
    "srun --nodes 2 --ntasks-per-node 1 --gpus-per-node 8 --cpus-per-task 64 torchrun --nnodes 2 "
    '--nproc-per-node 8 --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d '
    '--rdzv-endpoint "$MASTER:29500" train.py --data coco.yaml --cfg repyolov5s.yaml '
    "--batch-size 256": "needs two machines under Slurm",
    "python -m examples.ray_data --weights best.onnx --source images/ --workers 4":
        "needs Ray: tests/unit/examples/test_ray_data.py runs it where it is installed",
    "trtexec --onnx=best-trt10.onnx --fp16 --saveEngine=best-trt10.engine": VENDOR,
    "trtexec --onnx=best-trt11-fp16.onnx --saveEngine=best-trt11-fp16.engine": VENDOR,
    "trtexec --onnx=best-trt11-int8.onnx --saveEngine=best-trt11-int8.engine": VENDOR,
    "hailo parser onnx best.onnx --hw-arch hailo8 --end-node-names /layers.24/m.0/Conv "
    "/layers.24/m.1/Conv /layers.24/m.2/Conv": VENDOR,
    "hailo optimize best.har --hw-arch hailo8 --calib-set-path calibration.npy "
    "--model-script model_script.alls": VENDOR,
    "hailo compiler best_optimized.har --hw-arch hailo8": VENDOR,
    "hb_mapper checker --model-type onnx --march bayes-e --model best.onnx": VENDOR,
    "hb_mapper makertbin --model-type onnx --config config_nv12.yaml": VENDOR,
    'atc --framework=5 --model=best.onnx --output=best --input_shape="images:1,3,320,320" '
    '--insert_op_conf=aipp.cfg --soc_version=Ascend310': VENDOR,
    "pulsar2 build --input best.onnx --config config.json --output_dir output "
    "--target_hardware AX650": VENDOR,
    "docker run --shm-size 8g": "needs docker",
    "ssh -L 8080:localhost:8080 ...": SYSTEM,
    "systemctl stop": SYSTEM,
}  # fmt: skip
# Programs in Python that are not run, by a line of theirs.
PROGRAMS_NOT_RUN: dict[str, str] = {
    "from rknnlite.api import RKNNLite":
        "needs an RK3588: tests/unit/models/formats/test_vendor_folders.py runs it without one",
    "from rknn.api import RKNN":
        "needs `make rknn`: tests/end_to_end/test_quantized_presets.py runs the same calls",
    "import coremltools as ct":
        "needs the environment of coremltools: tests/end_to_end/test_mobile_recipes.py runs it",
    "from models.yolo import DetectionModel":
        "needs a clone of ultralytics/yolov5: tests/end_to_end/test_yolov5_clients.py runs it",
}  # fmt: skip


def reason_not_run(command: Command) -> str | None:
    """Why a command is not run; None for one that is."""
    if command.kind == "python":
        lines = command.text.splitlines()
        return next((why for line, why in PROGRAMS_NOT_RUN.items() if line in lines), None)
    return NOT_RUN.get(command.text)


def as_run(command: Command) -> str:
    """The command that is run in its place."""
    text = SPELLED_OUT.get(command.text, command.text)
    for rule in (*(COMPLETED if command.kind == "sentence" else ()), *SMALLER):
        text = rule.apply(text)
    return text


def is_read_by(written: str, later: str) -> bool:
    """Whether a command, as it is run, reads what an earlier one has written."""
    return any(
        re.search(writes, written) and re.search(reads, later) for writes, reads in READ_LATER
    )
