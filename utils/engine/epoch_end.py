"""What follows the training of an epoch: evaluation, figures, checkpoints, the caller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from utils.engine.evaluate import Evaluation
from utils.engine.resume import progress_of
from utils.engine.run_folder import TrainingRun
from utils.engine.training_report import EpochRow
from utils.engine.training_state import TrainingState
from utils.evaluation_report import log_table
from utils.logs import counted
from utils.train_config import TrainConfig

logger = logging.getLogger(__name__)
OnEpoch = Callable[[EpochRow], object]


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
