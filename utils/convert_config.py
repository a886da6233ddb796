"""The command line of convert.py, declared once."""

from __future__ import annotations

from dataclasses import dataclass, fields

from utils.architecture_names import REP_BLOCKS, REP_POLICIES
from utils.cli import option
from utils.errors import ConfigError
from utils.flag_rules import Choices, DeviceRule, PathRule
from utils.flag_values import Flags
from utils.logs import flag_of

NO_WEIGHTS = "give a checkpoint: --weights runs/train/exp/weights/best.pt"

# Rounding each weight to 11 bits changes outputs by a few thousandths.
HALF_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class ConvertConfig(Flags):
    """Fold a network into its deploy form, or expand a plain one, and check that both agree.

    Examples:
        python convert.py --weights runs/train/exp/weights/best.pt
        python convert.py --weights best.pt --data my.yaml --output best-deploy.pt
        python convert.py --weights yolov5s.pt --to train --rep-block RepVGG
        python convert.py --weights best.pt --to yolov5
    """

    weights: str = option(
        "", "checkpoint to convert: ours, or a YOLOv5 .pt",
        rule=PathRule("weights", required=NO_WEIGHTS),
    )  # fmt: skip
    output: str = option(
        "", "file to write (default: -deploy, -train, -native, -yolov5 or the stem in the name)",
        rule=PathRule("file", beside="weights", suffixes=(".pt", ".pth")),
    )  # fmt: skip
    to: str = option(
        "deploy", "deploy form; train form with --rep-block; native file format; back to YOLOv5's "
        "names", rule=Choices(("deploy", "train", "native", "yolov5")),
    )  # fmt: skip
    stem: str = option(
        "keep", "write a Focus or 6x6 stem as the other: one convolution, or Focus for "
        "accelerators", rule=Choices(("keep", "conv", "focus")),
    )  # fmt: skip
    rep_block: str = option(
        "", "with --to train: block family of the 3x3 convolutions",
        rule=Choices(REP_BLOCKS, may_call=True),
    )  # fmt: skip
    rep_policy: str = option("all", "with --to train: which of them", rule=Choices(REP_POLICIES))
    data: str = option("", "data yaml: also compare AP before and after")
    single_cls: bool = option(
        False, "with --data: treat all classes as one; networks trained so are known without "
        "the flag"
    )  # fmt: skip
    imgsz: int | None = option(
        None, "network input of AP and GFLOPs (default: as trained, else 640)", "--img",
        "--img-size", minimum=1,
    )  # fmt: skip
    batch_size: int = option(16, "with --data: images per batch", "--batch", minimum=1)
    device: str = option(
        "", "with --data: cpu, mps, a GPU number; empty for the best there is",
        rule=DeviceRule(),
    )  # fmt: skip
    workers: int = option(8, "with --data: threads that load images", minimum=0)
    half: bool = option(
        False, "store weights in 16 bits: half the file, which runs in 32 bits as before"
    )
    tolerance: float | None = option(
        None, "limit of the relative error of the saved file (default: what rounding explains; "
        f"with --half {HALF_TOLERANCE})", minimum=0,
    )  # fmt: skip
    verbose: bool = option(False, "print the error of every layer")
    report: str = option("", "write the result to this JSON file", rule=PathRule("file"))

    def check_related(self) -> None:
        """Refuse flags that do not go with `--to`.

        Raises:
            ConfigError: naming the flag.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for names, forms in (
            (("rep_block", "rep_policy"), ("train",)),
            (("half", "stem"), ("deploy",)),
            (("data", "tolerance", "verbose"), ("deploy", "train", "yolov5")),  # native checks none
        ):
            for name in names:
                if self.to not in forms and getattr(self, name) != defaults[name]:
                    raise ConfigError(f"{flag_of(name)}: goes with --to {' or '.join(forms)}")
        if self.to == "train" and not self.rep_block:
            raise ConfigError("--to train: name the blocks, for example --rep-block RepVGG")
