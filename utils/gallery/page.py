"""gallery.html: one file with everything in it, for a browser without a network.

The page is page.html with page.css and the scripts beside this module. Texts of the user are either
escaped, or JSON that the scripts put into the page as text, never as HTML. The page's own security
policy allows no other scripts and styles than these and no address at all.
"""

from __future__ import annotations

import html
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.content_policy import source_hash
from utils.engine.evaluate import Evaluation
from utils.errors import UserError
from utils.gallery.cases import KIND_NAMES, KINDS, Case, find_cases
from utils.gallery.crops import DIGITS, Window, jpeg_base64
from utils.gallery.selection import MAX_CROPS, Selection, select_worst
from utils.logs import Progress
from utils.metrics.coco import CocoMetrics
from utils.metrics.matches import IOU_THRESHOLD, SCORE_THRESHOLD
from utils.output_files import atomic_path
from utils.plots.confusion import cell_shares
from utils.structures import ImageArray, ImageRecord

logger = logging.getLogger(__name__)
PARTS = Path(__file__).parent
SCRIPTS = ("charts.js", "page.js")
CROPS_MARK = "{{crops}}"
CURVE_POINTS = 101
_MARK = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class GallerySubject:
    """What was evaluated.

    Attributes:
        weights: the file, as the user calls it.
        data: likewise.
        split: "train", "val" or "test".
        class_names: in class-id order.
        score_threshold: no detection scores less.
    """

    weights: str
    data: str
    split: str
    class_names: tuple[str, ...]
    score_threshold: float = 0.0


def write_gallery(
    path: Path,
    subject: GallerySubject,
    records: Sequence[ImageRecord],
    evaluation: Evaluation,
    read_image: Callable[[Path], ImageArray],
    *,
    per_group: int,
) -> None:
    """Write the page; images are read one after the other, and only those of which crops are shown.

    Args:
        path: of the page.
        subject: what was evaluated.
        records: the images with their labels.
        evaluation: of these.
        read_image: (H, W, 3) RGB of a file; a UserError costs the crops of one image.
        per_group: maximum number of crops of each kind in each cell of the confusion matrix.

    Raises:
        OutputError: it cannot be written.
    """
    cases = find_cases(records, evaluation.detections, len(subject.class_names))
    selection = select_worst(cases, per_group)
    head, tail = _page(subject, evaluation.metrics, selection, per_group)
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(head)
        for number, crop in enumerate(_crops(selection, records, read_image)):
            file.write(",\n" if number else "\n")
            file.write(embedded_json(crop))
        file.write(tail)
    shown, total = len(selection.cases), selection.counts.total()
    logger.info("Gallery: %s shows %d of %d cases", path, shown, total)


def embedded_json(content: Any) -> str:
    """ASCII JSON that ends no script element and starts no comment; floats must be finite."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def plain_text(text: str) -> str:
    """A name in which bytes that are no UTF-8 are escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _page(
    subject: GallerySubject, metrics: CocoMetrics, selection: Selection, per_group: int
) -> tuple[str, str]:
    """The page before the crops, and after them."""
    style = (PARTS / "page.css").read_text(encoding="utf-8")
    script = "".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    threshold = max(SCORE_THRESHOLD, subject.score_threshold)
    texts = {
        "weights": subject.weights, "weights_name": Path(subject.weights).name,
        "data": subject.data, "data_name": Path(subject.data).name, "split": subject.split,
        "images": f"{metrics.images:,}", "objects": f"{metrics.instances:,}",
        "AP": f"{metrics.AP:.3f}", "AP50": f"{metrics.AP50:.3f}",
        "score_threshold": f"{threshold:g}", "iou_threshold": f"{IOU_THRESHOLD:g}",
        "per_group": f"{per_group:,}", "max_crops": f"{MAX_CROPS:,}",
        "shown": f"{len(selection.cases):,}", "total": f"{selection.counts.total():,}",
        "script_hash": source_hash(script), "style_hash": source_hash(style),
    }  # fmt: skip
    parts = {name: html.escape(plain_text(text)) for name, text in texts.items()}
    parts |= {"style": style, "script": script}
    parts["definitions"] = "".join(
        f"<dt>{html.escape(kind.title)}</dt><dd>{html.escape(kind.definition)}</dd>"
        for kind in KINDS
    )
    parts["data_json"] = embedded_json(_data(subject, metrics, selection, threshold))
    head, tail = (PARTS / "page.html").read_text(encoding="utf-8").split(CROPS_MARK)
    # In one pass: what is put in may hold marks too.
    return _MARK.sub(lambda mark: parts[mark[1]], head), _MARK.sub(
        lambda mark: parts[mark[1]], tail
    )


def _data(
    subject: GallerySubject, metrics: CocoMetrics, selection: Selection, threshold: float
) -> dict[str, Any]:
    """What the scripts show beside the crops."""
    matrix, shares = metrics.confusion, cell_shares(metrics.confusion)
    return {
        "names": [plain_text(name) for name in subject.class_names],
        "kinds": [{"name": k.name, "section": k.section, "title": k.title} for k in KINDS],
        "threshold": threshold,
        "cells": [
            [row, column, int(matrix[row, column]), _rounded(shares[row, column])]
            for row, column in np.argwhere(matrix > 0).tolist()
        ],
        "groups": [
            [KIND_NAMES.index(kind), row, column, count]
            for (kind, row, column), count in sorted(selection.counts.items())
        ],
        "classes": [
            {"objects": row.instances, "AP": _rounded(row.AP), "AP50": _rounded(row.AP50)}
            for row in metrics.per_class
        ],
        "curves": _curves(metrics),
    }


def _curves(metrics: CocoMetrics) -> Mapping[str, Any]:
    """Precision and recall of the classes that have objects, at 101 of the thresholds."""
    curves = metrics.curves
    points = np.linspace(0, len(curves.confidence) - 1, CURVE_POINTS).round().astype(np.int64)
    present = np.flatnonzero(curves.present)
    return {
        "class_ids": present.tolist(),
        "scores": _list(curves.confidence[points]),
        "precision": _list(curves.precision[present][:, points]),
        "recall": _list(curves.recall[present][:, points]),
        "recall_points": _list(curves.recall_points),
        "precision_at_recall": _list(curves.precision_at_recall[present]),
        "AP50": _rounded(metrics.AP50),
    }


def _crops(
    selection: Selection,
    records: Sequence[ImageRecord],
    read_image: Callable[[Path], ImageArray],
) -> Iterator[dict[str, Any]]:
    """The data of each case, image after image."""
    by_image = itertools.groupby(selection.cases, lambda case: case.image)
    num_images = len({case.image for case in selection.cases})
    unreadable = 0
    for index, cases in Progress(by_image, num_images, "gallery", "image"):
        record = records[index]
        image = None
        try:
            image = read_image(record.path)
        except UserError as error:
            unreadable += 1
            if unreadable == 1:
                logger.warning("%s; the gallery lacks its crops", error)
        for case in cases:
            yield _crop(case, record, image)
    if unreadable > 1:
        logger.warning("%d more images cannot be read any more", unreadable - 1)


def _crop(case: Case, record: ImageRecord, image: ImageArray | None) -> dict[str, Any]:
    """A case as the page's data; its image is empty where the file cannot be read any more."""
    window = Window.around(case, record.image_hw)
    is_same = image is not None and image.shape[:2] == record.image_hw
    return {
        "kind": KIND_NAMES.index(case.kind),
        "row": case.row, "column": case.column, "other": case.other_class,
        "score": _rounded(case.score), "iou": _rounded(case.iou),
        "size": [_rounded(side, 1) for side in case.size_wh],
        "found": window.fractions(case.found), "labelled": window.fractions(case.labelled),
        "window": [window.right - window.left, window.bottom - window.top],
        "name": plain_text(record.path.name), "path": plain_text(str(record.path)),
        "jpeg": jpeg_base64(image, window) if is_same and image is not None else "",
    }  # fmt: skip


def _rounded(value: float, digits: int = DIGITS) -> float:
    return round(float(np.nan_to_num(value)), digits)


def _list(values: np.typing.NDArray[np.floating[Any]]) -> list[Any]:
    rounded: list[Any] = np.nan_to_num(values).round(DIGITS).tolist()
    return rounded
