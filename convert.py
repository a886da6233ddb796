"""Fold a network into its deploy form, or the way back: `python convert.py --weights best.pt`."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.check_images import check_inputs
from data.dataset import EvalDataset
from data.dataset_spec import load_dataset_spec
from data.loader import EvalLoader, eval_loader
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.block_report import block_reports
from models.conversion.deploy import block_counts, equivalence_error, to_deploy
from models.conversion.equivalence import FLOAT32_TOLERANCE, Equivalence, check_equivalence
from models.conversion.expand import expand
from models.conversion.stem import stem_name, with_stem
from models.network.complexity import network_gflops
from models.network.detector import Detector, count_parameters
from models.network.model_spec import REP_POLICIES
from models.runtimes.torch_predictor import TorchPredictor
from utils.checkpoint import Checkpoint, is_native, load_checkpoint, save_checkpoint
from utils.cli import option, run_script
from utils.device import choose_device
from utils.engine.evaluate import evaluate
from utils.errors import ConfigError, ConversionError
from utils.letterbox import input_size
from utils.output_files import atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)
# Input sizes of the proof, in strides: odd and even numbers of cells, square and not.
CHECK_CELLS = ((3, 5), (4, 4), (7, 2))
AP_DECIMALS = 4
MIN_TELLING_AP = 0.10  # below it, equal APs prove nothing


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Fold a network into its deploy form, or expand a plain one, and prove that it is the same."""

    weights: str = option("", "checkpoint to convert: ours, or a YOLOv5 .pt")
    output: str = option(
        "", "file to write (default: -deploy, -train, -native or the stem added to the name)"
    )
    to: str = option(
        "deploy",
        "deploy form; train form with --rep-block; native file format",
        choices=("deploy", "train", "native"),
    )
    stem: str = option(
        "keep",
        "write a Focus or 6x6 stem as the other: one convolution, or Focus for accelerators",
        choices=("keep", "conv", "focus"),
    )
    rep_block: str = option("", "with --to train: block family of the 3x3 convolutions")
    rep_policy: str = option("all", "with --to train: which of them", choices=REP_POLICIES)
    data: str = option("", "data yaml: also compare AP before and after")
    imgsz: int = option(0, "network input for AP (default: as trained)", "--img", "--img-size")
    batch_size: int = option(16, "images per batch for AP", "--batch")
    device: str = option("", "cpu, mps, a GPU number; empty for the best there is (AP only)")
    workers: int = option(8, "processes that load images")
    tolerance: float | None = option(None, "largest relative error of the saved file")
    report: str = option("", "write the result to this JSON file")


def convert(config: ConvertConfig) -> dict[str, Any]:
    """Convert, prove, and write; returns the report.

    Raises:
        UserError: a file or a flag is wrong.
        ConversionError: the converted network does not compute the same; nothing is written.
    """
    source = Path(config.weights)
    checkpoint = read_weights(source)
    output = _output_path(config, source)
    if config.to == "native":
        return _to_native(source, checkpoint, output)
    model = build_from_checkpoint(checkpoint)
    restem, was_folded = _restem(config), config.to == checkpoint.form == "deploy"
    if was_folded and stem_name(restem(model)) == stem_name(model):
        logger.info("%s is in deploy form already: nothing to do.", source)
        return _report(checkpoint, checkpoint, model, model, None, None, source)
    transform = _transform(config, model)
    records, loader = _labelled_images(config, checkpoint, max(model.strides))
    inputs = _check_tensors(max(model.strides), records)
    exact = copy.deepcopy(model).double()
    exact_folded = transform(exact)
    exact_changed = restem(exact_folded)
    changed = restem(transform(model))
    converted = replace(
        checkpoint.for_inference(),
        form="deploy" if config.to == "deploy" else "train",
        spec=changed.spec.to_yaml(),
        weights=changed.state_dict(),
        config={**checkpoint.config, "converted_from": source.name},
    )
    with atomic_path(output) as temporary:
        save_checkpoint(temporary, converted)
        saved = build_from_checkpoint(load_checkpoint(temporary))
        own_error = equivalence_error(exact, model, inputs)
        allowed = max(FLOAT32_TOLERANCE, 4 * own_error)
        proof = Equivalence(
            float64=equivalence_error(exact, exact_changed, inputs),
            float32=equivalence_error(model, saved, inputs),
            allowed=allowed if config.tolerance is None else config.tolerance,
            blocks=() if was_folded else tuple(block_reports(exact, exact_folded)),
        )
        check_equivalence(proof)
        AP = None if loader is None else _check_AP(model, saved, loader, checkpoint, config.device)
    return _report(checkpoint, converted, model, saved, proof, AP, output)


def _transform(config: ConvertConfig, model: Detector) -> Callable[[Detector], Detector]:
    """What makes the new network from the old."""
    if config.to == "deploy":
        return to_deploy
    if not config.rep_block:
        raise ConfigError("--to train: say which blocks, for example --rep-block RepVGG")
    if model.spec.rep_block is not None:
        raise ConfigError(
            f"{config.weights}: has {model.spec.rep_block} blocks already; "
            "only a plain network can be expanded"
        )
    return functools.partial(expand, rep_block=config.rep_block, rep_policy=config.rep_policy)


def _restem(config: ConvertConfig) -> Callable[[Detector], Detector]:
    """What gives a folded network the stem that --stem asks for."""
    if config.stem == "keep":
        return lambda model: model
    return functools.partial(with_stem, form=config.stem)


def _output_path(config: ConvertConfig, source: Path) -> Path:
    if config.to != "train" and (config.rep_block or config.rep_policy != "all"):
        flag = "--rep-block" if config.rep_block else "--rep-policy"
        raise ConfigError(f"{flag}: goes with --to train")
    if config.to != "deploy" and config.stem != "keep":
        raise ConfigError("--stem: goes with --to deploy")
    word = config.to if config.stem == "keep" else config.stem
    output = Path(config.output or source.with_name(f"{source.stem}-{word}.pt"))
    if output.resolve() == source.resolve():
        raise ConfigError(f"--output {output}: is the input, which is never overwritten")
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder, expected a file name")
    return output


def _to_native(source: Path, checkpoint: Checkpoint, output: Path) -> dict[str, Any]:
    """Rewrite a foreign checkpoint in our format, form unchanged."""
    model = build_from_checkpoint(checkpoint)
    if is_native(source):
        logger.info("%s is in our format already: nothing to do.", source)
        return _report(checkpoint, checkpoint, model, model, None, None, source)
    save_checkpoint(output, checkpoint)
    return _report(checkpoint, checkpoint, model, model, None, None, output)


def _labelled_images(
    config: ConvertConfig, checkpoint: Checkpoint, stride: int
) -> tuple[tuple[ImageRecord, ...], EvalLoader | None]:
    """The validation images of --data, if it is given."""
    if not config.data:
        return (), None
    data_spec = load_dataset_spec(config.data)
    data_spec.check_knowledge(config.weights, len(checkpoint.class_names))
    records = read_records(data_spec, "val")
    image_size = input_size(config.imgsz or checkpoint.image_size, stride)
    dataset = EvalDataset(records, image_size, config.batch_size, stride=stride, rect=True)
    return records, eval_loader(dataset, workers=config.workers, device_is_cuda=False)


def _check_tensors(stride: int, records: tuple[ImageRecord, ...]) -> list[Tensor]:
    sizes = [(rows * stride, columns * stride) for rows, columns in CHECK_CELLS]
    return [torch.from_numpy(batch) for batch in check_inputs(sizes, records)]


def _check_AP(
    before: Detector, after: Detector, loader: EvalLoader, checkpoint: Checkpoint, device: str
) -> dict[str, float]:
    """AP of both forms, which must agree to four decimals."""
    values = {}
    for name, model in (("before", before), ("after", after)):
        on_device = copy.deepcopy(model).to(choose_device(device))
        predict = TorchPredictor(on_device, VAL_POSTPROCESS)
        records = loader.dataset.records
        evaluation = evaluate(predict, loader, len(loader), records, checkpoint.class_names)
        values[name] = evaluation.metrics.AP
    logger.info("AP %.4f before, %.4f after", values["before"], values["after"])
    if values["before"] < MIN_TELLING_AP:
        logger.warning("AP is below %.2f: that both agree proves little", MIN_TELLING_AP)
    if round(values["before"], AP_DECIMALS) != round(values["after"], AP_DECIMALS):
        raise ConversionError(f"AP changed from {values['before']:.6f} to {values['after']:.6f}; "
                              "nothing written")  # fmt: skip
    return values


def _report(
    before: Checkpoint,
    after: Checkpoint,
    model_before: Detector,
    model_after: Detector,
    proof: Equivalence | None,
    AP: dict[str, float] | None,
    output: Path,
) -> dict[str, Any]:
    return {
        "form_before": before.form,
        "form_after": after.form,
        "stem": {"before": stem_name(model_before), "after": stem_name(model_after)},
        "blocks": block_counts(model_before),
        "parameters": {
            "before": count_parameters(model_before),
            "after": count_parameters(model_after),
        },
        "gflops": {"before": network_gflops(model_before), "after": network_gflops(model_after)},
        "max_rel_error": None
        if proof is None
        else {"float32": proof.float32, "float64": proof.float64},
        "layers": [] if proof is None else [asdict(block) for block in proof.blocks],
        "AP": AP,
        "output": str(output),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ConvertConfig, _run, argv, {})


def _run(config: ConvertConfig) -> int:
    if not config.weights:
        raise ConfigError("give a checkpoint: --weights runs/train/exp/weights/best.pt")
    report = convert(config)
    if config.report:
        write_json(Path(config.report), report)
    parameters, gflops = report["parameters"], report["gflops"]
    logger.info(
        "%s form -> %s form: %s parameters -> %s, %.2f GFLOPs at 640 -> %.2f",
        report["form_before"], report["form_after"], f"{parameters['before']:,}",
        f"{parameters['after']:,}", gflops["before"], gflops["after"],
    )  # fmt: skip
    if (stem := report["stem"])["before"] != stem["after"]:
        logger.info("stem: %s -> %s", stem["before"], stem["after"])
    logger.info("%s", report["output"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
