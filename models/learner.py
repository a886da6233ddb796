"""The network side of a training run: what learns, from whom, and by which loss."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from models.checkpoints.initial_weights import initial_model
from models.checkpoints.loading import resumed_model
from models.losses.distillation import DistillationLoss, load_teacher
from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import fitting_batch_size
from models.network.box_coder import BoxCoder
from models.network.detector import Detector
from utils.engine.distributed import Ranks
from utils.engine.ema import ModelEMA
from utils.engine.epoch import Criterion
from utils.engine.multi_scale import MultiScale
from utils.engine.resume import ResumedRun, check_changes, check_classes
from utils.engine.training_state import StateConfig, TrainingState, start_training
from utils.errors import ConfigError
from utils.hyperparameters import Hyperparameters
from utils.letterbox import input_size
from utils.machine_memory import Room
from utils.train_config import TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learner:
    """A network to train.

    Attributes:
        model: in train form, on its device.
        ema: its average.
        head_is_trained: it predicts boxes in units of its anchors, which had better stay.
        teacher: whom it follows beside the labels, if anyone.
        teacher_digest: of that one's file; empty where there is none.
        class_names: in class-id order.
        image_size: side of the input in pixels.
        hyp: the hyper-parameters.
        losses: weights of the loss.
        resize: how the input's size varies, if it does.
    """

    model: Detector
    ema: ModelEMA[Detector]
    head_is_trained: bool
    teacher: Detector | None
    teacher_digest: str
    class_names: tuple[str, ...]
    image_size: int
    hyp: Hyperparameters
    losses: LossConfig
    resize: MultiScale | None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        hyp: Hyperparameters,
        resumed: ResumedRun | None,
        class_names: tuple[str, ...],
        device: torch.device,
    ) -> Learner:
        """A fresh network, or the one of the run that is continued.

        Raises:
            UserError: a flag or a file is wrong.
        """
        if resumed is None:
            overrides = config.model_overrides()
            start = initial_model(config.cfg, config.weights, len(class_names), overrides)
            model, head_is_trained = start.model.to(device), start.head_is_trained
            ema = ModelEMA(model)
        else:
            check_changes(config, resumed)
            check_classes(class_names, resumed)
            model, ema = resumed_model(resumed.checkpoint, device)
            head_is_trained = True
        stride = max(model.strides)
        image_size = input_size(config.imgsz, stride)
        learner = cls(
            model=model,
            ema=ema,
            head_is_trained=head_is_trained,
            teacher=load_teacher(config.teacher, model, class_names, device)
            if config.teacher
            else None,
            teacher_digest=_digest(config.teacher) if config.teacher else "",
            class_names=class_names,
            image_size=image_size,
            hyp=hyp,
            losses=hyp.part(LossConfig, label_smoothing=config.label_smoothing),
            resize=MultiScale(image_size, stride, config.seed) if config.multi_scale else None,
        )
        if resumed is not None and resumed.progress.get("teacher", "") != learner.teacher_digest:
            raise ConfigError(
                f"--teacher {config.teacher or '(none)'}: is not the one that the run in "
                f"{resumed.folder} learnt from; give that one"
            )
        if learner.teacher is not None:
            learner.use_anchors(learner.teacher.spec.anchors)
            logger.info("Learning from %s beside the labels, with its anchors", config.teacher)
        return learner

    def use_anchors(self, anchors: tuple[tuple[float, ...], ...]) -> None:
        """Take other anchors, as many per level as before."""
        self.model.use_anchors(anchors)
        self.ema.model.use_anchors(anchors)

    def label_loss(self, ranks: Ranks | None = None) -> DetectionLoss:
        """The loss on the labels alone."""
        coder, num_classes = BoxCoder.of(self.model), len(self.class_names)
        return DetectionLoss(coder, num_classes, self.image_size, self.losses, ranks)

    def training_loss(self, ranks: Ranks | None = None) -> Criterion:
        """The loss to learn by, with `ranks` sharing each batch."""
        labels = self.label_loss(ranks)
        if self.teacher is None:
            return labels
        return DistillationLoss(labels, self.teacher, self.hyp.distill)

    def start(self, config: StateConfig, ranks: Ranks) -> TrainingState[Detector]:
        """Everything that training changes, before the first batch.

        Raises:
            ConfigError: a setting that this network or machine cannot follow.
        """
        device = next(self.model.parameters()).device
        return start_training(
            self.model, self.model.layers, self.ema, self.hyp, config, device=device, ranks=ranks
        )

    def fitting_batch_size(
        self, config: TrainConfig, ranks: Ranks, most: int, reserved: int = 0
    ) -> int:
        """How many images, of all ranks together, fit into the memory of each; 0 if none does.

        Args:
            config: of the run.
            ranks: the processes that train together; the first one measures.
            most: as many are wanted, of all ranks together.
            reserved: bytes of this machine's memory that a cache will take.

        Raises:
            ConfigError: memory cannot be measured on this machine.
        """

        def measured() -> int:
            return fitting_batch_size(
                self.model,
                self.training_loss(),
                self.hyp,
                config.part(StateConfig),
                image_size=self.image_size if self.resize is None else self.resize.largest,
                most=max(most // ranks.count, 1),
                room=Room(reserved * ranks.local_count, ranks.local_count),
            )

        return ranks.count * ranks.broadcast(measured)


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
