"""What follows the training of each epoch, and what a run leaves in its folder."""

from __future__ import annotations

import contextlib
import logging
import reprlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.batches import Batch
from utils.boxes import xyxy_to_cxcywh
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.engine.epoch_row import EpochRow, append_row, drop_rows_from
from utils.engine.evaluate import Evaluation
from utils.engine.resume import progress_of
from utils.engine.training_report import TrainedWeights
from utils.engine.training_state import TrainingState
from utils.errors import ConfigError, DivergedError
from utils.evaluation_report import log_table
from utils.logs import command_text, counted
from utils.output_files import reported_writing
from utils.plots.batch_images import save_labelled_batch
from utils.plots.label_statistics import plot_labels
from utils.plots.training_curves import plot_results
from utils.strict_yaml import write_yaml
from utils.structures import ImageRecord
from utils.train_config import TrainConfig

logger = logging.getLogger(__name__)
BATCHES_DRAWN = 3
OnEpoch = Callable[[EpochRow], object]


def check_callback(on_epoch: object) -> None:
    """Refuse what cannot be called with the figures of an epoch, before any is trained.

    Raises:
        ConfigError: showing it.
    """
    if on_epoch is not None and not callable(on_epoch):
        raise ConfigError(f"on_epoch is {reprlib.repr(on_epoch)}, expected a function or None")


class TrainingRun:
    """The folder of one run: settings, results, checkpoints, images, TensorBoard events.

    Attributes:
        folder: where everything goes.
        described: a checkpoint of the run without weights: what all of them have in common.
        images: whether images and curves are drawn.
    """

    def __init__(
        self,
        folder: Path,
        described: Checkpoint,
        *,
        images: bool,
        is_new: bool = False,
        first_epoch: int = 0,
        writes: bool = True,
    ) -> None:
        """Write the settings of `described.config` as `<name>.yaml` each, and open the event file.

        Args:
            folder: an existing folder.
            described: with the run's settings as `config`: file stem (`hyp`, `opt`) -> content;
                other values, such as the licence of the weights it starts from, are no settings.
            images: whether to draw.
            is_new: nothing but this run writes there, so that what an error leaves before the first
                checkpoint is removed.
            first_epoch: rows and events of this epoch and later ones are dropped.
            writes: False in a process beside the one that writes the files: nothing is written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.described = described
        self.images = images and writes
        self._is_new = is_new
        self._events: SummaryWriter | None = None
        if not writes:
            return
        for stem, content in described.config.items():
            if isinstance(content, Mapping):
                write_yaml(folder / f"{stem}.yaml", content)
        drop_rows_from(folder / "results.csv", first_epoch)
        self._events = SummaryWriter(str(folder), purge_step=first_epoch)

    @property
    def weights(self) -> TrainedWeights:
        """The best and the last epoch's checkpoint."""
        folder = self.folder / "weights"
        return TrainedWeights(folder / "best.pt", folder / "last.pt")

    @property
    def class_names(self) -> tuple[str, ...]:
        """In class-id order."""
        return self.described.class_names

    def draw_labels(self, records: Iterable[ImageRecord]) -> None:
        """`labels.jpg`: how many objects of which sizes lie where."""
        if not self.images:
            return
        class_ids, boxes = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
        for record in records:
            height, width = record.image_hw
            class_ids.append(record.targets.class_ids)
            size = np.array([width, height] * 2, np.float32)
            boxes.append(xyxy_to_cxcywh(record.targets.boxes) / size)
        plot_labels(
            np.concatenate(class_ids),
            np.concatenate(boxes),
            self.class_names,
            self.folder / "labels.jpg",
        )

    def drawing_first(self, batches: Iterable[Batch], epoch: int) -> Iterator[Batch]:
        """The batches; draws the first three of epoch 0 as `train_batch*.jpg`."""
        for number, batch in enumerate(batches):
            if self.images and epoch == 0 and number < BATCHES_DRAWN:
                path = self.folder / f"train_batch{number}.jpg"
                save_labelled_batch(path, batch, self.class_names)
            yield batch

    def add_epoch(self, row: EpochRow) -> None:
        """Add a row to `results.csv` and to the events, in place of one of the same epoch."""
        if self._events is None:
            return
        drop_rows_from(self.folder / "results.csv", row.epoch)
        append_row(self.folder / "results.csv", row)
        with reported_writing(self.folder):
            for name, value in row.figures().items():
                self._events.add_scalar(name, value, row.epoch)
            self._events.flush()

    def save(
        self,
        state: TrainingState,
        row: EpochRow,
        progress: Mapping[str, Any],
        *,
        better: bool,
        period: int,
    ) -> None:
        """Write `last.pt`; `best.pt`, without what only training needs, if `better`.

        Args:
            state: after the epoch.
            row: its figures.
            progress: of the state, to go on from.
            better: it is the best so far.
            period: every so many epochs the checkpoint is saved as `epoch<number>.pt` too; below
                1 never.
        """
        if self._events is None:
            return
        checkpoint = replace(
            self.described,
            weights=state.model.state_dict(),
            ema_weights=state.ema.model.state_dict(),
            training={**progress, **(self.described.training or {})},
            metrics={"epoch": row.epoch, "AP": row.AP, "AP50": row.AP50},
        )
        if better:
            save_checkpoint(self.weights.best, checkpoint.for_inference())
        if period > 0 and (row.epoch + 1) % period == 0:
            also = self.weights.last.with_name(f"epoch{row.epoch}.pt")
            save_checkpoint(also, checkpoint.for_inference())
        # The last one last: a run that is cut off in between repeats this epoch.
        save_checkpoint(self.weights.last, checkpoint)

    def note_skipped(self, epoch: int, paths: Sequence[Path], reason: str) -> None:
        """Add the images of a skipped batch or step to `skipped_batches.txt`."""
        if self._events is None:
            return
        path = self.folder / "skipped_batches.txt"
        with (
            reported_writing(path),
            path.open("a", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(f"epoch {epoch}: {reason}: {', '.join(str(each) for each in paths)}\n")

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Close the events and draw `results.png`; after an interruption log how to go on."""
        if self._events is None:
            return
        with contextlib.suppress(OSError):  # a full disk has been reported already
            self._events.close()
        if kind is None:
            if self.images:
                plot_results(self.folder / "results.csv", self.folder / "results.png")
        elif issubclass(kind, DivergedError):
            logger.warning("Skipped images: %s", self.folder / "skipped_batches.txt")
        elif self.weights.last.exists():
            command = command_text("train.py", "--resume", self.weights.last)
            logger.warning("To go on: %s", command)
        elif issubclass(kind, KeyboardInterrupt) or not self._is_new:
            logger.warning("Nothing was saved yet: start again.")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """Ends epochs of one run.

    Attributes:
        config: when to evaluate and to save.
        state: after the epoch; changed in place.
        run: gets figures and checkpoints.
        evaluate: the network as it is, in all processes together.
        batches_per_epoch: of training.
        on_epoch: called in the first of all processes with the figures of each epoch, once its
            checkpoint is saved; True ends training.
    """

    config: TrainConfig
    state: TrainingState
    run: TrainingRun
    evaluate: Callable[[], Evaluation]
    batches_per_epoch: int
    on_epoch: OnEpoch | None

    def __call__(self, epoch: int, train_loss: tuple[float, float, float]) -> bool:
        """End an epoch, counted from 0; whether it is to be the last before its time."""
        is_last = epoch + 1 == self.config.epochs
        row = self._save(epoch, train_loss, is_last=is_last)
        if is_last:
            self._is_enough(row)
        elif self.state.ranks.broadcast(lambda: self._is_enough(row)):
            if row.AP is None or self.config.nosave:
                self._save(epoch, train_loss, is_last=True)
            logger.info("Stopped after epoch %d, as on_epoch asked.", epoch + 1)
            return True
        elif self.state.best.should_stop(epoch):
            logger.info("No better epoch for %s: stopped.", counted(self.config.patience, "epoch"))
            return True
        return False

    def _save(
        self, epoch: int, train_loss: tuple[float, float, float], *, is_last: bool
    ) -> EpochRow:
        """Evaluate and save where it is due, always after the last epoch; note the figures."""
        config, state, evaluation = self.config, self.state, None
        if is_last or (not config.noval and (epoch + 1) % config.eval_interval == 0):
            state.ranks.broadcast_buffers(state.ema.model)
            evaluation = self.evaluate()
            state.AP_of_class = tuple(row.AP for row in evaluation.metrics.per_class)
            log_table(evaluation.metrics, every_class=False)
        row = EpochRow.of(epoch, train_loss, evaluation, state.optimizer)
        self.run.add_epoch(row)
        better = state.best.update(epoch, row.AP, row.AP50)
        state.next_epoch = epoch + 1
        if better or is_last or not config.nosave:
            progress = progress_of(state, epoch, self.batches_per_epoch)
            self.run.save(state, row, progress, better=better, period=config.save_period)
        return row

    def _is_enough(self, row: EpochRow) -> bool:
        """Whether the caller asks to stop: with True, its own or numpy's, and nothing else."""
        if self.on_epoch is None or not self.state.ranks.is_first:
            return False
        answer = self.on_epoch(row)
        return isinstance(answer, bool | np.bool_) and bool(answer)
