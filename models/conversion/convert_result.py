"""What a conversion has changed: for the console, and for `convert.py --report`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from models.conversion.equivalence import Equivalence
from utils.metrics.coco import MIN_MEANINGFUL_AP

logger = logging.getLogger(__name__)
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class BeforeAfter(Generic[ValueT]):
    """A figure of the network that was read and of the one that was written."""

    before: ValueT
    after: ValueT


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a conversion changed.

    Attributes:
        form: "train" or "deploy".
        stem: name of the first layer.
        blocks: kind of convolution block -> how many the network had before.
        parameters: how many.
        gflops: of one image of `input_hw`.
        input_hw: height and width of the network input: --imgsz, or as trained.
        equivalence: the errors; None where the network did not change.
        AP: COCO's, 0 to 1; None without --data.
        output: the file; the input where there was nothing to do.
    """

    form: BeforeAfter[str]
    stem: BeforeAfter[str]
    blocks: Mapping[str, int]
    parameters: BeforeAfter[int]
    gflops: BeforeAfter[float]
    input_hw: tuple[int, int]
    equivalence: Equivalence | None
    AP: BeforeAfter[float] | None
    output: Path

    def as_report(self) -> dict[str, Any]:
        """The content of `--report`."""
        check = self.equivalence
        errors = None if check is None else {"float32": check.float32, "float64": check.float64}
        return {
            "form_before": self.form.before,
            "form_after": self.form.after,
            "stem": asdict(self.stem),
            "blocks": dict(self.blocks),
            "parameters": asdict(self.parameters),
            "gflops": asdict(self.gflops),
            "max_rel_error": errors,
            "layers": [] if check is None else [asdict(block) for block in check.blocks],
            "AP": None if self.AP is None else asdict(self.AP),
            "output": str(self.output),
        }

    def log(self) -> None:
        """What has changed, and AP where it was measured, on the console."""
        form, stem, parameters, gflops = self.form, self.stem, self.parameters, self.gflops
        logger.info(
            "%s form -> %s form: %s parameters -> %s, %.2f GFLOPs at %dx%d px -> %.2f",
            form.before, form.after, f"{parameters.before:,}", f"{parameters.after:,}",
            gflops.before, *self.input_hw, gflops.after,
        )  # fmt: skip
        if stem.before != stem.after:
            logger.info("stem: %s -> %s", stem.before, stem.after)
        if self.AP is not None:
            logger.info("mAP50-95: %.4f before, %.4f after", self.AP.before, self.AP.after)
            if self.AP.before < MIN_MEANINGFUL_AP:
                logger.warning(
                    "mAP50-95 is below %.2f: that both agree says little", MIN_MEANINGFUL_AP
                )
