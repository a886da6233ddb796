"""Fold a network into its deploy form, or expand one: `python convert.py --weights best.pt`."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from data.check_images import check_inputs
from data.dataset import EvalDataset
from data.dataset_spec import load_dataset_spec
from data.loader import EvalLoader, eval_loader
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.checkpoints.yolov5_state_dict import (
    how_to_load,
    load_yolov5,
    save_yolov5,
    yolov5_yaml,
)
from models.conversion.deploy import to_deploy
from models.conversion.equivalence import Equivalence, check_equivalence, measure_equivalence
from models.conversion.expand import expand
from models.conversion.stem import stem_name, with_stem
from models.conversion.yolov5_form import as_yolov5
from models.network.detector import Detector, block_counts, count_parameters, network_gflops
from models.network.model_spec import REP_POLICIES
from models.runtimes.torch_predictor import TorchPredictor
from utils.checkpoint import Checkpoint, is_native, load_checkpoint, save_checkpoint
from utils.cli import check_ranges, option, run_script
from utils.device import choose_device
from utils.engine.evaluate import evaluate
from utils.engine.predictor import Predictor, as_one_class
from utils.errors import ConfigError, ConversionError
from utils.letterbox import choose_input_hw
from utils.metrics.coco import MIN_MEANINGFUL_AP
from utils.output_files import atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.strict_yaml import write_yaml
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)
ValueT = TypeVar("ValueT")
FileFormat = tuple[Callable[[Path, Checkpoint], None], Callable[[Path], Checkpoint]]
# Input sizes of the equivalence check, in strides: odd and even numbers of cells, square and not.
CHECK_CELLS = ((3, 5), (4, 4), (7, 2))
AP_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Fold a network into its deploy form, or expand a plain one, and check that both agree."""

    weights: str = option("", "checkpoint to convert: ours, or a YOLOv5 .pt")
    output: str = option(
        "", "file to write (default: -deploy, -train, -native, -yolov5 or the stem in the name)"
    )
    to: str = option(
        "deploy",
        "deploy form; train form with --rep-block; native file format; back to YOLOv5's names",
        choices=("deploy", "train", "native", "yolov5"),
    )
    stem: str = option(
        "keep",
        "write a Focus or 6x6 stem as the other: one convolution, or Focus for accelerators",
        choices=("keep", "conv", "focus"),
    )
    rep_block: str = option("", "with --to train: block family of the 3x3 convolutions")
    rep_policy: str = option("all", "with --to train: which of them", choices=REP_POLICIES)
    data: str = option("", "data yaml: also compare AP before and after")
    single_cls: bool = option(
        False, "AP: treat all classes as one; networks trained so are known without the flag"
    )
    imgsz: int | None = option(
        None, "network input for AP (default: as trained, else 640)", "--img", "--img-size",
        minimum=1,
    )  # fmt: skip
    batch_size: int = option(16, "images per batch for AP", "--batch", minimum=1)
    device: str = option("", "cpu, mps, a GPU number; empty for the best there is (AP only)")
    workers: int = option(8, "processes that load images", minimum=0)
    tolerance: float | None = option(
        None, "limit of the relative error of the saved file", minimum=0
    )
    report: str = option("", "write the result to this JSON file")


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
        gflops: of one image of 640x640.
        equivalence: the errors; None where the network did not change.
        AP: COCO's, 0 to 1; None without --data.
        output: the file; the input where there was nothing to do.
    """

    form: BeforeAfter[str]
    stem: BeforeAfter[str]
    blocks: Mapping[str, int]
    parameters: BeforeAfter[int]
    gflops: BeforeAfter[float]
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


def convert(config: ConvertConfig) -> ConvertResult:
    """Convert, check that both networks compute the same, and write.

    Raises:
        UserError: a file or a flag is wrong.
        ConversionError: the converted network does not compute the same; nothing is written.
    """
    check_ranges(config)
    source = Path(config.weights)
    checkpoint = read_weights(source)
    output = _output_path(config, source)
    model = build_from_checkpoint(checkpoint)
    if config.to == "native":
        return _to_native(source, checkpoint, model, output)
    change_stem = _stem_change(config)
    is_folded = config.to == checkpoint.form == "deploy"
    if is_folded and stem_name(change_stem(model)) == stem_name(model):
        logger.info("%s is in deploy form already: nothing to do.", source)
        return _result(checkpoint, checkpoint, model, model, source)
    change_form = _form_change(config, model)
    stride = model.stride
    validation = _validation(config, checkpoint, stride)
    sizes = [(rows * stride, columns * stride) for rows, columns in CHECK_CELLS]
    batches = check_inputs(sizes, () if validation is None else validation.records)
    converted = _converted(checkpoint, change_stem(change_form(model)), config)
    with atomic_path(output) as temporary:
        save, load = _file_format(config.to)
        save(temporary, converted)
        saved = build_from_checkpoint(load(temporary))
        equivalence = measure_equivalence(
            model,
            saved,
            [torch.from_numpy(batch) for batch in batches],
            change_form=None if is_folded else change_form,
            change_stem=change_stem,
            tolerance=config.tolerance,
        )
        check_equivalence(equivalence)
        AP = None if validation is None else _compare_AP(model, saved, validation, config)
    result = _result(checkpoint, converted, model, saved, output)
    if config.to == "yolov5":
        write_yaml(output.with_suffix(".yaml"), yolov5_yaml(saved.spec))
    return replace(result, equivalence=equivalence, AP=AP)


def _form_change(config: ConvertConfig, model: Detector) -> Callable[[Detector], Detector]:
    """Folds a network, or expands a plain one."""
    if config.to != "train":
        return as_yolov5 if config.to == "yolov5" else to_deploy
    if not config.rep_block:
        raise ConfigError("--to train: name the blocks, for example --rep-block RepVGG")
    if (family := model.spec.rep_block) is not None:
        raise ConfigError(f"{config.weights}: has {family} blocks already; give a plain network")
    return functools.partial(expand, rep_block=config.rep_block, rep_policy=config.rep_policy)


def _file_format(to: str) -> FileFormat:
    """What writes the file, and what reads it back for the check."""
    return (save_yolov5, load_yolov5) if to == "yolov5" else (save_checkpoint, load_checkpoint)


def _stem_change(config: ConvertConfig) -> Callable[[Detector], Detector]:
    """Gives a folded network the stem that --stem asks for."""
    if config.stem == "keep":
        return lambda model: model
    return functools.partial(with_stem, form=config.stem)


def _output_path(config: ConvertConfig, source: Path) -> Path:
    if config.to != "train" and (config.rep_block or config.rep_policy != "all"):
        flag = "--rep-block" if config.rep_block else "--rep-policy"
        raise ConfigError(f"{flag}: goes with --to train")
    if config.to != "deploy" and config.stem != "keep":
        raise ConfigError("--stem: goes with --to deploy")
    suffix = config.to if config.stem == "keep" else config.stem
    output = Path(config.output or source.with_name(f"{source.stem}-{suffix}.pt"))
    if output.resolve() == source.resolve():
        raise ConfigError(f"--output {output}: is the input, which is never overwritten")
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder, expected a file name")
    return output


def _to_native(
    source: Path, checkpoint: Checkpoint, model: Detector, output: Path
) -> ConvertResult:
    """Write a foreign checkpoint in our format, form unchanged."""
    if is_native(source):
        logger.info("%s is in our format already: nothing to do.", source)
        output = source
    else:
        save_checkpoint(output, checkpoint)
    return _result(checkpoint, checkpoint, model, model, output)


def _converted(checkpoint: Checkpoint, model: Detector, config: ConvertConfig) -> Checkpoint:
    return replace(
        checkpoint.for_inference(),
        form="deploy" if config.to == "deploy" else "train",
        spec=model.spec.to_yaml(),
        weights=model.state_dict(),
        config={**checkpoint.config, "converted_from": Path(config.weights).name},
    )


@dataclass(frozen=True, slots=True)
class _Validation:
    """What AP is measured on.

    Attributes:
        records: the images of --data.
        loader: their batches.
        class_names: those evaluated.
        single: all classes count as one.
    """

    records: tuple[ImageRecord, ...]
    loader: EvalLoader
    class_names: tuple[str, ...]
    single: bool


def _validation(config: ConvertConfig, checkpoint: Checkpoint, stride: int) -> _Validation | None:
    """That of --data, if it is given."""
    if not config.data:
        return None
    data_spec = load_dataset_spec(config.data)
    single = data_spec.as_one_class(config.weights, checkpoint.class_names, asked=config.single_cls)
    records = read_records(data_spec, "val", single_class=single)
    input_hw = choose_input_hw(config.imgsz, config.weights, stride, known_hw=checkpoint.image_hw)
    dataset = EvalDataset(records, max(input_hw), config.batch_size, stride=stride, rect=True)
    loader = eval_loader(dataset, workers=config.workers, device_is_cuda=False)
    return _Validation(records, loader, data_spec.classes(single=single), single)


def _compare_AP(
    before: Detector, after: Detector, validation: _Validation, config: ConvertConfig
) -> BeforeAfter[float]:
    """AP of both networks, which must agree to four decimals."""

    def measure(model: Detector) -> float:
        on_device = copy.deepcopy(model).to(choose_device(config.device))
        rules = replace(VAL_POSTPROCESS, class_agnostic=validation.single)
        predict: Predictor = TorchPredictor(on_device, rules)
        predict = as_one_class(predict) if validation.single else predict
        loader, names = validation.loader, validation.class_names
        return evaluate(predict, loader, len(loader), loader.dataset.records, names).metrics.AP

    AP = BeforeAfter(measure(before), measure(after))
    logger.info("mAP50-95: %.4f before, %.4f after", AP.before, AP.after)
    if AP.before < MIN_MEANINGFUL_AP:
        logger.warning("mAP50-95 is below %.2f: that both agree says little", MIN_MEANINGFUL_AP)
    if round(AP.before, AP_DECIMALS) != round(AP.after, AP_DECIMALS):
        raise ConversionError(
            f"mAP50-95 changed from {AP.before:.6f} to {AP.after:.6f}; nothing written"
        )
    return AP


def _result(
    checkpoint: Checkpoint, converted: Checkpoint, model: Detector, saved: Detector, output: Path
) -> ConvertResult:
    """The result without checks."""
    return ConvertResult(
        form=BeforeAfter(checkpoint.form, converted.form),
        stem=BeforeAfter(stem_name(model), stem_name(saved)),
        blocks=block_counts(model),
        parameters=BeforeAfter(count_parameters(model), count_parameters(saved)),
        gflops=BeforeAfter(network_gflops(model), network_gflops(saved)),
        equivalence=None,
        AP=None,
        output=output,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ConvertConfig, _run, argv, {})


def _run(config: ConvertConfig) -> int:
    if not config.weights:
        raise ConfigError("give a checkpoint: --weights runs/train/exp/weights/best.pt")
    result = convert(config)
    if config.report:
        write_json(Path(config.report), result.as_report())
    form, stem, parameters, gflops = result.form, result.stem, result.parameters, result.gflops
    logger.info(
        "%s form -> %s form: %s parameters -> %s, %.2f GFLOPs at 640 -> %.2f",
        form.before, form.after, f"{parameters.before:,}", f"{parameters.after:,}",
        gflops.before, gflops.after,
    )  # fmt: skip
    if stem.before != stem.after:
        logger.info("stem: %s -> %s", stem.before, stem.after)
    logger.info("Saved to %s", result.output)
    if config.to == "yolov5":
        logger.info("%s", how_to_load(result.output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
