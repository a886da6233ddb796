"""Write the goldens of this folder from ../shared: `python -m tests.goldens.make_goldens`.

Reference figures are copied. Raw maps that the reference did not keep (it kept those of the first
image) are computed by this project's network from the reference's weights, after a check that the
first image's agree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.network.box_coder import BoxCoder, split_anchors
from models.network.detector import Detector
from tests.goldens.stored_figures import FOLDER, STRIDES, Figures

BATCHES, IMAGES = 3, 4
# Below every threshold in use (0.001), so that the thresholds themselves are tested.
KEPT_SCORE = 0.0009
AGREEMENT = 1e-5  # of the largest value of a map


def recipe_figures(shared: Path) -> Figures:
    """Letterbox geometry, parameter groups, schedules, EMA decay and loss gains."""
    recipe = json.loads((shared / "reference" / "golden_recipe.json").read_text())
    rows = recipe["letterbox"]
    gains = recipe["loss_gains"]
    return {
        **{
            f"letterbox_{name}": np.array([row[name] for row in rows])
            for name in ("image_hw", "size", "auto", "out_hw", "ratio", "pad_returned")
        },
        "parameter_groups": np.array(recipe["param_groups_count_decay_numel"]),
        "schedule_linear": np.array(recipe["schedule_linear"]),
        "schedule_cosine": np.array(recipe["schedule_cosine"]),
        "ema_decay": np.array(recipe["ema_decay"]),
        "loss_gains": np.array([gains["box"], gains["obj"], gains["cls"]]),
    }


def training_figures(golden: Figures, shared: Path) -> Figures:
    """Targets, assignments and losses of three batches, and the logits the losses read."""
    found: dict[str, np.ndarray] = {}
    for number in range(BATCHES):
        prefix = f"b{number}_"
        # In train mode a pass changes the statistics, so each batch has a fresh network.
        model = _network(shared).train()
        maps = _maps(model, golden, number)
        if number == 0:
            maps = [
                _with_reference(level, golden[f"b0_train_p{i}"]) for i, level in enumerate(maps)
            ]
        for name in ("targets", "loss"):
            found[prefix + name] = golden[prefix + name]
        for i, level in enumerate(maps):
            for name in ("assign", "tbox", "anch"):
                found[f"{prefix}{name}{i}"] = golden[f"{prefix}{name}{i}"]
            image, anchor, row, column, _ = golden[f"{prefix}assign{i}"]
            found[f"{prefix}objectness{i}"] = np.ascontiguousarray(level[..., 4])
            found[f"{prefix}responsible{i}"] = level[image, anchor, row, column]
    norms = dict(zip(golden["b0_grad_norm_names"], golden["b0_grad_norms"], strict=True))
    biases = [norms[f"model.24.m.{i}.bias"] for i in range(len(STRIDES))]
    return {**found, "b0_head_bias_grad_norms": np.array(biases)}


def detection_figures(golden: Figures, shared: Path) -> Figures:
    """Raw and decoded maps of one image; candidates and detections of twelve."""
    found: dict[str, np.ndarray] = {
        f"b0_eval_raw{i}": np.ascontiguousarray(golden[f"b0_eval_raw{i}"][..., :6])
        for i in range(len(STRIDES))
    }
    found["b0_eval_decoded"] = np.ascontiguousarray(golden["b0_eval_decoded"][..., :6])
    model = _network(shared)
    coder = BoxCoder.of(model)
    for number in range(BATCHES):
        maps = _maps(model, golden, number)
        raw = [torch.from_numpy(level).permute(0, 1, 4, 2, 3).flatten(1, 2) for level in maps]
        decoded = coder.decode(raw).numpy()
        if number == 0:
            decoded = _with_reference(decoded, golden["b0_eval_decoded"])
        for image in range(IMAGES):
            prefix = f"b{number}_{image}_"
            found.update(_sparse(decoded[image], prefix))
            for kind in ("val", "detect"):
                found[f"{prefix}{kind}"] = golden[f"b{number}_nms_{kind}_{image}"]
    return found


def _sparse(decoded: np.ndarray, prefix: str) -> Figures:
    """What of (N, 85) decoded rows any threshold lets through."""
    rows = decoded[decoded[:, 4] > KEPT_SCORE]
    at_row, class_id = np.nonzero(rows[:, 5:] * rows[:, 4:5] > KEPT_SCORE)
    return {
        f"{prefix}boxes": rows[:, :5],
        f"{prefix}class_row": at_row.astype(np.uint16),
        f"{prefix}class_id": class_id.astype(np.uint8),
        f"{prefix}class_probability": rows[at_row, 5 + class_id],
    }


def _network(shared: Path) -> Detector:
    return build_from_checkpoint(read_weights(shared / "weights" / "yolov5n.pt"))


@torch.no_grad()
def _maps(model: Detector, golden: Figures, number: int) -> list[np.ndarray]:
    """Per level (4, 3, H, W, 85)."""
    images = torch.from_numpy(golden[f"b{number}_images"]).float() / 255
    return [split_anchors(level, 3).numpy() for level in model(images)]


def _with_reference(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`ours` with the first image as the reference has it.

    Raises:
        ValueError: the two do not agree.
    """
    distance = float(np.abs(ours[:1] - reference).max() / np.abs(reference).max())
    if distance > AGREEMENT:
        raise ValueError(f"the first image differs from the reference by {distance:.1e}")
    return np.concatenate((reference, ours[1:]))


def make(shared: Path) -> dict[str, Figures]:
    """The arrays of every file, by the file's stem."""
    golden = dict(np.load(shared / "reference" / "golden_yolov5n_320.npz"))
    return {
        "recipe": recipe_figures(shared),
        "training": training_figures(golden, shared),
        "detections": detection_figures(golden, shared),
    }


def main(arguments: Sequence[str] = ()) -> int:
    """Write the files; the first argument is the shared folder, by default ../shared."""
    shared = Path(arguments[0]) if arguments else FOLDER.parents[2] / "shared"
    for stem, content in make(shared).items():
        np.savez_compressed(FOLDER / f"{stem}.npz", **content)
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
