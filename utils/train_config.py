"""The command line of train.py, declared once."""

from __future__ import annotations

from dataclasses import dataclass

from utils.architecture_names import ACTIVATIONS, REP_BLOCKS, REP_POLICIES
from utils.cli import option
from utils.errors import ConfigError
from utils.flag_rules import Choices, DeviceRule, PathRule
from utils.flag_values import Flags

NO_START = "give an architecture (--cfg repyolov5n.yaml) or --weights to start from"
NEWEST = "newest"  # what a bare --resume means
MAX_SEED = 2**32 - 1  # that numpy takes
REFUSED = {
    "--resume-evolve": "name the search again: --evolve N --project P --name exp --exist-ok",
    "--evolve-population": "the search starts from --hyp",
    "--quad": "not offered; use --batch-size",
    "--adam": "use --optimizer Adam",
    "--linear-lr": "the learning rate falls linearly without it, and with --cos-lr as a cosine",
    "--bucket": "nothing is uploaded; copy the run's folder yourself",
    "--upload-dataset": "nothing is uploaded; leave it out",
    "--entity": "no account is used; TensorBoard events are in the run's folder",
    "--bbox-interval": "images of the first batches are in the run's folder",
    "--artifact-alias": "nothing is uploaded; leave it out",
    "--local-rank": "torchrun sets it: torchrun --nproc-per-node 2 train.py ...",
}


@dataclass(frozen=True, slots=True)
class TrainConfig(Flags):
    """Train a detector.

    Examples:
        python train.py --weights yolov5s.pt --data my.yaml --epochs 50
        python train.py --cfg repyolov5s.yaml --data coco.yaml --epochs 300 --batch 64
        python train.py --cfg yolov5n.yaml --rep-block OREPA --activation "LeakyReLU(0.1)"
        python train.py --resume runs/train/exp/weights/last.pt
    """

    weights: str = option(
        "", "checkpoint to start from; empty starts from random weights",
        rule=PathRule("weights", required=NO_START, unless=("cfg", "resume")),
    )  # fmt: skip
    partial_weights: bool = option(
        False, "with --weights: start even where less than half of them fit the network"
    )
    cfg: str = option("", "model yaml; empty takes the architecture of --weights")
    data: str = option("coco128.yaml", "data yaml")
    hyp: str = option("hyp.scratch-low.yaml", "hyper-parameter yaml")
    epochs: int = option(100, "epochs to train", minimum=1)
    batch_size: int = option(
        16, "images per batch; -1 measures how many fit", "--batch", minimum=1, besides=(-1,)
    )
    imgsz: int | None = option(
        None, "side of the network input in pixels (default: that of --weights, else 640)",
        "--img", "--img-size", minimum=1,
    )  # fmt: skip
    resume: str | None = option(
        None, "continue a run from its last.pt; bare, the newest under --project", const=NEWEST,
        rule=PathRule("weights"),
    )  # fmt: skip
    evolve: int | None = option(
        None, "search for hyper-parameters by training this often (needs Optuna)", const=300,
        minimum=1,
    )  # fmt: skip
    rect: bool = option(False, "rectangular batches, no mosaic")
    nosave: bool = option(False, "save checkpoints only after improved epochs and the last one")
    noval: bool = option(False, "validate only after the last epoch", "--notest")
    noautoanchor: bool = option(False, "keep the anchors of the yaml, however they fit the boxes")
    noplots: bool = option(False, "draw no images and curves")
    cache: str = option(
        "none", "keep resized images in memory or in runs/cache; bare, in memory",
        "--cache-images", const="ram",
        rule=Choices(("ram", "disk", "none")),
    )  # fmt: skip
    image_weights: bool = option(False, "draw images of rare and badly found classes more often")
    device: str = option(
        "", "cpu, mps, a GPU number; empty for the best there is",
        rule=DeviceRule(),
    )  # fmt: skip
    multi_scale: bool = option(False, "vary the input size between 0.5 and 1.5 times --imgsz")
    single_cls: bool = option(False, "treat all classes as one")
    optimizer: str = option("SGD", "which optimizer", rule=Choices(("SGD", "Adam", "AdamW")))
    sync_bn: bool = option(False, "norms over the images of all GPUs")
    workers: int = option(8, "threads that load images, for each GPU", minimum=0)
    project: str = option("runs/train", "folder of runs", rule=PathRule("folder"))
    name: str = option("exp", "name of this run's folder; a number is added if it exists")
    exist_ok: bool = option(False, "use an existing folder again")
    cos_lr: bool = option(False, "cosine instead of linear learning rate")
    label_smoothing: float = option(0.0, "epsilon of smoothed class targets", minimum=0, maximum=1)
    patience: int = option(
        100, "stop after this many epochs without a better one; 0 never", minimum=0
    )
    freeze: tuple[int, ...] = option(
        (0,), "freeze the first N layers, or the layers listed", minimum=0
    )
    save_period: int = option(
        -1, "also keep the checkpoint of every N-th epoch; -1 or 0 of none", minimum=-1
    )
    seed: int = option(0, "of everything random", minimum=0, maximum=MAX_SEED)
    rep_block: str | None = option(
        None, "block family of the 3x3 convolutions, as MobileOne(branches=2) (default: the "
        "model's)", rule=Choices((*REP_BLOCKS, "none"), may_call=True),
    )  # fmt: skip
    rep_policy: str | None = option(
        None, "which of them are blocks (default: the model's)", rule=Choices(REP_POLICIES)
    )
    scales: str = option(
        "", "with --rep-block RepOpt: checkpoint of a short training with --rep-block LinearAdd"
    )
    activation: str | None = option(
        None, "activation after convolutions, as LeakyReLU(0.1) (default: the model's)",
        rule=Choices(ACTIVATIONS, may_call=True),
    )  # fmt: skip
    amp: str = option("auto", "mixed precision", rule=Choices(("auto", "off", "bf16", "fp16")))
    compile: bool = option(
        False, "compile the network (torch.compile); the first steps take minutes"
    )
    channels_last: bool | None = option(
        None, "keep channels beside each other in memory (default: where the device gains by it)"
    )
    teacher: str = option(
        "", "checkpoint of a larger network to learn from, beside the labels",
        rule=PathRule("weights"),
    )  # fmt: skip
    deterministic: bool = option(False, "refuse operations that vary from run to run")
    close_mosaic: int = option(0, "without --rect: last N epochs without mosaic", minimum=0)
    eval_interval: int = option(1, "without --noval: validate every N epochs", minimum=1)
    strict: bool = option(False, "any bad image or label row is an error")
    no_cache_index: bool = option(
        False, "read every image and label file anew, not only what has changed"
    )
    report: str = option("", "write the result to this JSON file", rule=PathRule("file"))

    def check_related(self) -> None:
        """Refuse flags that do not go together.

        Raises:
            ConfigError: naming one of them.
        """
        if self.evolve is not None and self.resume is not None:
            raise ConfigError("--evolve: trains anew, so it goes without --resume; leave one out")
        if self.rep_block == "none" and self.rep_policy is not None:
            raise ConfigError("--rep-policy: is for blocks, and --rep-block none asks for none")
        if self.image_weights and self.rect:
            raise ConfigError(
                "--image-weights: rectangular batches hold the same images always; leave --rect out"
            )
