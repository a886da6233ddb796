"""What an epoch leaves behind, to use, and to continue from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.network.detector import Detector
from utils.checkpoint import Checkpoint
from utils.engine.results_table import EpochRow
from utils.engine.training_state import TrainingState


def training_checkpoint(
    state: TrainingState[Detector],
    row: EpochRow,
    progress: dict[str, Any],
    *,
    class_names: tuple[str, ...],
    image_size: int,
    settings: Mapping[str, Mapping[str, Any]],
) -> Checkpoint:
    """The network and its average with all that training goes on from.

    Args:
        state: after the epoch.
        row: its figures.
        progress: `utils.engine.progress.progress_of` the state.
        class_names: in class-id order.
        image_size: side of the images it was trained on, in pixels.
        settings: `hyp` and `opt` of the run.
    """
    return Checkpoint(
        form="train",
        spec=state.model.spec.to_yaml(),
        class_names=class_names,
        weights=state.model.state_dict(),
        image_size=image_size,
        ema_weights=state.ema.model.state_dict(),
        training=progress,
        config=dict(settings),
        metrics={"epoch": row.epoch, "AP": row.AP, "AP50": row.AP50},
    )
