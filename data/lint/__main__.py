"""The command `python -m data.lint my.yaml`: problems, classes and box sizes of a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset_spec import DatasetSpec, load_dataset_spec
from data.lint.duplicates import duplicate_images
from data.records import scan_split
from data.scan_result import ScanResult, check_usable
from data.training_images import box_sizes, log_sizes, objects_per_class
from models.network.anchors import fit_anchors
from models.network.model_spec import ModelSpec
from utils.cli import check_options, option, run_script
from utils.errors import DatasetError
from utils.flag_rules import PathRule
from utils.flag_values import Flags
from utils.logs import counted
from utils.output_files import write_json
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LintConfig(Flags):
    """Check the images and labels of a data set; nothing in it is changed.

    Examples:
        python -m data.lint my.yaml
        python -m data.lint my.yaml --strict --report findings.json
    """

    data: str = option("coco128.yaml", "data yaml")
    imgsz: int = option(
        640, "side of the network input in pixels", "--img", "--img-size", minimum=1
    )
    cfg: str = option("yolov5n.yaml", "model yaml whose anchors boxes are compared with")
    single_cls: bool = option(False, "treat all classes as one")
    strict: bool = option(False, "any finding is an error")
    report: str = option("", "write the findings to this JSON file", rule=PathRule("file"))


def lint(config: LintConfig) -> dict[str, Any]:
    """Scan every split; log and return the report that `--report` writes.

    Raises:
        UserError: files are missing or have two meanings, or `cfg` is no model yaml.
    """
    check_options(config, LintConfig)
    spec = load_dataset_spec(config.data)
    scans = {
        name: scan_split(spec, name, single_class=config.single_cls) for name in spec.splits_to_scan
    }
    problems = [problem for scan in scans.values() for problem in scan.problems]
    notes = [problem.text for problem in problems if problem.kind == "noted"]
    findings = [problem.text for problem in problems if problem.kind != "noted"]
    for name, scan in scans.items():
        logger.info("%s %s: %s", spec.name, name, scan.summary())
    copies = duplicate_images({name: scan.records for name, scan in scans.items()})
    findings += copies
    for text in notes + findings:
        logger.warning("  %s", text)
    report = {
        "splits": {name: _split_report(scan) for name, scan in scans.items()},
        "classes": _class_counts(spec, scans, single_class=config.single_cls),
        "box_sizes": _size_report(scans["train"].records, config),
        "findings": findings,
        "notes": notes,
        "errors": _errors(spec, scans),
    }
    if config.report:
        write_json(Path(config.report), report)
    return report


def _errors(spec: DatasetSpec, scans: Mapping[str, ScanResult]) -> list[str]:
    """What makes a split useless, for each split that is."""
    errors = []
    for name, scan in scans.items():
        try:
            check_usable(spec, name, scan)
        except DatasetError as error:
            errors.append(str(error))
    return errors


def _split_report(scan: ScanResult) -> dict[str, Any]:
    records = scan.records
    kinds = ("unreadable", "unknown_class", "dropped", "clipped", "duplicate", "repaired", "orphan")
    return {
        "pictures": len(records),
        "objects": len(records.boxes),
        "crowd_regions": len(records.crowd_ids),
        "backgrounds": records.num_backgrounds,
        "without_label_file": scan.num_without_file,
        **{kind: scan.count(kind) for kind in kinds},  # type: ignore[arg-type]
    }


def _class_counts(
    spec: DatasetSpec, scans: Mapping[str, ScanResult], *, single_class: bool
) -> dict[str, dict[str, int]]:
    """Class name -> split -> objects, logged as a table."""
    names = spec.classes(single=single_class)
    counts = {name: objects_per_class(scan.records, len(names)) for name, scan in scans.items()}
    logger.info("%-24s %s", "objects per class", "  ".join(f"{name:>8}" for name in counts))
    for number, name in enumerate(names):
        cells = "  ".join(f"{values[number]:>8}" for values in counts.values())
        logger.info("%-24s %s", name, cells)
    return {
        name: {split: values[number] for split, values in counts.items()}
        for number, name in enumerate(names)
    }


def _size_report(records: Sequence[ImageRecord], config: LintConfig) -> dict[str, Any]:
    """Sizes of the training boxes at the network input, against the anchors of `--cfg`."""
    sizes = box_sizes(records, config.imgsz)
    anchors = np.array(ModelSpec.from_file(config.cfg).anchors, np.float64).reshape(-1, 2)
    counts = log_sizes(sizes, config.imgsz)
    fit = fit_anchors(sizes, anchors)
    logger.info("Anchors of %s: %s", config.cfg, fit.as_text())
    for (width, height), count in zip(anchors, fit.boxes_per_anchor, strict=True):
        near = counted(count, "box")
        logger.info("  anchor %4.0f x %-4.0f is the closest to %s", width, height, near)
    return {"longer_side": counts, "anchors": anchors.tolist(), "fit": asdict(fit)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run on the given arguments, or the process's; a bare first one is `--data`."""
    return run_script(LintConfig, _run, argv, {}, first="--data")


def _run(config: LintConfig) -> int:
    report = lint(config)
    findings = report["findings"]
    if report["errors"]:
        raise DatasetError(report["errors"][0])
    if not findings:
        logger.info("No problem found.")
        return 0
    found = counted(len(findings), "finding")
    logger.info("%s.", found)
    if config.strict:
        raise DatasetError(f"{found} (--strict); the first: {findings[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
