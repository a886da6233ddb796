"""Fold a network into its deploy form, or expand one: `python convert.py --weights best.pt`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from utils.logs import require_packages

if __name__ == "__main__":
    require_packages()

from data.dataset_spec import check_data_yaml, load_dataset_spec
from utils.cli import check_command_line, check_options, run_script
from utils.convert_config import HALF_TOLERANCE, ConvertConfig
from utils.openmp import let_threads_sleep

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(ConvertConfig, {}, data=check_data_yaml)
    let_threads_sleep()  # before torch is loaded
    require_packages("torch", "torchvision")

import torch

from data.check_images import check_inputs
from data.eval_dataset import EvalDataset
from data.loader import EvalLoader, eval_loader
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.checkpoints.yolov5_state_dict import (
    how_to_load,
    load_yolov5,
    save_yolov5,
    yolov5_yaml,
)
from models.conversion.convert_result import BeforeAfter, ConvertResult
from models.conversion.deploy import is_deployed
from models.conversion.equivalence import CHECK_CELLS, check_equivalence, measure_equivalence
from models.conversion.form_change import FOLDED, UNCHANGED, FormChange, expanded, in_yolov5_layers
from models.conversion.stem import stem_name, with_stem
from models.network.detector import Detector, block_counts, count_parameters, network_gflops
from models.reparam.families import block_family
from models.runtimes.torch_predictor import TorchPredictor
from utils.batches import Batch
from utils.checkpoint import Checkpoint, is_native, load_checkpoint, save_checkpoint
from utils.device import choose_device
from utils.engine.evaluate import evaluate
from utils.engine.predictor import Predictor, as_one_class
from utils.errors import ConfigError, ConversionError
from utils.letterbox import choose_input_hw
from utils.logs import command_text
from utils.output_files import atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.process_end import end_process
from utils.strict_yaml import write_yaml
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)
FileFormat = tuple[Callable[[Path, Checkpoint], None], Callable[[Path], Checkpoint]]
AP_DECIMALS = 4


def convert(config: ConvertConfig) -> ConvertResult:
    """Convert, check that both networks compute the same, and write.

    Raises:
        UserError: a file or a flag is wrong.
        ConversionError: the converted network does not compute the same; nothing is written.
    """
    check_options(config, ConvertConfig)
    source = Path(config.weights)
    checkpoint = read_weights(source)
    output = _output_path(config, source)
    model = build_from_checkpoint(checkpoint, take_over=True)
    stride = model.stride
    input_hw = choose_input_hw(config.imgsz, config.weights, stride, known_hw=checkpoint.image_hw)
    if config.to == "native":
        return _to_native(config, checkpoint, model, output, input_hw)
    is_folded = config.to == checkpoint.form == "deploy"
    if is_folded and not config.half and stem_name(_with_stem(model, config)) == stem_name(model):
        logger.info("%s is in deploy form already: nothing to do.", source)
        output = _copied(checkpoint, source, config)
        return _result(checkpoint, checkpoint, model, model, output, input_hw)
    change = UNCHANGED if is_folded else _form_change(config, model)
    validation = _validation(config, checkpoint, stride, max(input_hw))
    sizes = [(rows * stride, columns * stride) for rows, columns in CHECK_CELLS]
    batches = check_inputs(sizes, () if validation is None else validation.records)
    with atomic_path(output) as temporary:
        save, load = _file_format(config.to)
        save(temporary, _converted(checkpoint, _with_stem(change.network(model), config), config))
        read_back = load(temporary)  # what was written is not in memory any more
        saved = build_from_checkpoint(read_back, take_over=True)
        equivalence = measure_equivalence(
            model,
            saved,
            [torch.from_numpy(batch) for batch in batches],
            change,
            tolerance=_tolerance(config),
        )
        check_equivalence(equivalence, every_block=config.verbose)
        AP = None if validation is None else _compare_AP(model, saved, validation, config)
    result = _result(checkpoint, read_back, model, saved, output, input_hw)
    if config.to == "yolov5":
        write_yaml(output.with_suffix(".yaml"), yolov5_yaml(saved.spec))
    return replace(result, equivalence=equivalence, AP=AP)


def _form_change(config: ConvertConfig, model: Detector) -> FormChange:
    """Folds a network, or expands a plain one."""
    if config.to != "train":
        return in_yolov5_layers(model) if config.to == "yolov5" else FOLDED
    if (family := model.spec.rep_block) is not None and not is_deployed(model):
        merge = command_text("convert.py", "--weights", config.weights)
        raise ConfigError(
            f"{config.weights}: has {family} blocks already; merge them first: {merge}"
        )
    block_family(config.rep_block, "--rep-block")  # refused here, it is named as a flag
    return expanded(model, config.rep_block, config.rep_policy)


def _with_stem(model: Detector, config: ConvertConfig) -> Detector:
    """A folded network with the stem that --stem asks for."""
    return model if config.stem == "keep" else with_stem(model, config.stem)


def _file_format(to: str) -> FileFormat:
    """What writes the file, and what reads it back for the check."""
    return (save_yolov5, load_yolov5) if to == "yolov5" else (save_checkpoint, load_checkpoint)


def _output_path(config: ConvertConfig, source: Path) -> Path:
    suffix = config.to if config.stem == "keep" else config.stem
    return Path(config.output or source.with_name(f"{source.stem}-{suffix}.pt"))


def _copied(checkpoint: Checkpoint, source: Path, config: ConvertConfig) -> Path:
    """The input where nothing is to do; an --output that was asked for is written all the same."""
    if not config.output:
        return source
    save_checkpoint(Path(config.output), checkpoint)
    return Path(config.output)


def _to_native(
    config: ConvertConfig, checkpoint: Checkpoint, model: Detector, output: Path,
    input_hw: tuple[int, int],
) -> ConvertResult:  # fmt: skip
    """Write a foreign checkpoint in our format, form unchanged."""
    source = Path(config.weights)
    if is_native(source):
        logger.info("%s is in our format already: nothing to do.", source)
        output = _copied(checkpoint, source, config)
    else:
        save_checkpoint(output, checkpoint)
    return _result(checkpoint, checkpoint, model, model, output, input_hw)


def _converted(checkpoint: Checkpoint, model: Detector, config: ConvertConfig) -> Checkpoint:
    return replace(
        checkpoint.for_inference(),
        form="deploy" if config.to == "deploy" else "train",
        spec=model.spec.to_yaml(),
        weights=_in_half(model.state_dict()) if config.half else model.state_dict(),
        config={**checkpoint.config, "converted_from": Path(config.weights).name},
    )


def _in_half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Real numbers in 16 bits; loading them into a network makes them 32 again."""
    return {key: value.half() if value.is_floating_point() else value
            for key, value in weights.items()}  # fmt: skip


def _tolerance(config: ConvertConfig) -> float | None:
    return HALF_TOLERANCE if config.half and config.tolerance is None else config.tolerance


@dataclass(frozen=True, slots=True)
class _Validation:
    """What AP is measured on.

    Attributes:
        records: the images of --data.
        loader: their batches.
        class_names: those evaluated.
        single: all classes count as one.
    """

    records: Sequence[ImageRecord]
    loader: EvalLoader
    class_names: tuple[str, ...]
    single: bool


def _validation(
    config: ConvertConfig, checkpoint: Checkpoint, stride: int, image_size: int
) -> _Validation | None:
    """That of --data, if it is given."""
    if not config.data:
        return None
    data_spec = load_dataset_spec(config.data)
    single = data_spec.as_one_class(config.weights, checkpoint.class_names, asked=config.single_cls)
    records = read_records(data_spec, "val", single_class=single)
    dataset = EvalDataset(records, image_size, config.batch_size, stride=stride, rect=True)
    loader = eval_loader(dataset, workers=config.workers, device_is_cuda=False)
    return _Validation(records, loader, data_spec.classes(single=single), single)


def _compare_AP(
    before: Detector, after: Detector, validation: _Validation, config: ConvertConfig
) -> BeforeAfter[float]:
    """AP of both networks, which must agree to four decimals, unless weights are rounded."""

    def measure(model: Detector) -> float:
        on_device = copy.deepcopy(model).to(choose_device(config.device))
        rules = replace(VAL_POSTPROCESS, class_agnostic=validation.single)
        predict: Predictor[Batch] = TorchPredictor(on_device, rules)
        predict = as_one_class(predict) if validation.single else predict
        loader, names = validation.loader, validation.class_names
        return evaluate(predict, loader, len(loader), loader.dataset.records, names).metrics.AP

    AP = BeforeAfter(measure(before), measure(after))
    if not config.half and round(AP.before, AP_DECIMALS) != round(AP.after, AP_DECIMALS):
        raise ConversionError(
            f"mAP50-95 changed from {AP.before:.6f} to {AP.after:.6f}; nothing written"
        )
    return AP


def _result(
    checkpoint: Checkpoint,
    converted: Checkpoint,
    model: Detector,
    saved: Detector,
    output: Path,
    input_hw: tuple[int, int],
) -> ConvertResult:
    """The result without checks."""
    return ConvertResult(
        form=BeforeAfter(checkpoint.form, converted.form),
        stem=BeforeAfter(stem_name(model), stem_name(saved)),
        blocks=block_counts(model),
        parameters=BeforeAfter(count_parameters(model), count_parameters(saved)),
        gflops=BeforeAfter(network_gflops(model, input_hw), network_gflops(saved, input_hw)),
        input_hw=input_hw,
        equivalence=None,
        AP=None,
        output=output,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ConvertConfig, _run, argv, {})


def _run(config: ConvertConfig) -> int:
    result = convert(config)
    if config.report:
        write_json(Path(config.report), result.as_report())
    result.log()
    if result.output != Path(config.weights):
        logger.info("Saved to %s", result.output)
    if config.to == "yolov5":
        logger.info("%s", how_to_load(result.output))
    return 0


if __name__ == "__main__":
    end_process(main())
