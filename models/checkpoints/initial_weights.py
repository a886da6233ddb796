"""The network a training run starts from."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from models.checkpoints.loading import read_weights
from models.conversion.expand import expand
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint
from utils.errors import ConfigError

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """The network of a run before its first batch.

    Attributes:
        model: in train form.
        head_is_trained: its head has learnt boxes in units of its anchors.
    """

    model: Detector
    head_is_trained: bool


def spec_overrides(**flags: str | None) -> dict[str, str | None]:
    """The fields of ModelSpec that flags change.

    Args:
        **flags: field -> as given: None leaves what the yaml has, "none" means without.
    """
    return {
        field: None if value == "none" else value
        for field, value in flags.items()
        if value is not None
    }


def initial_model(
    cfg: str, weights: str, num_classes: int, overrides: dict[str, str | None]
) -> Start:
    """Architecture from a yaml or a checkpoint, weights from the checkpoint where shapes agree.

    A plain checkpoint in a network of blocks is taken over as plain, then expanded: it starts from
    what the checkpoint computes. The yaml's anchors are kept; a head that learnt with others has to
    learn its boxes anew, with a warning.

    Args:
        cfg: model yaml; empty takes the checkpoint's architecture and anchors.
        weights: checkpoint; empty starts from random weights.
        num_classes: classes of the data set.
        overrides: fields of ModelSpec to change (`rep_block`, `rep_policy`, `activation`).

    Raises:
        UserError: neither is given, or one of them is wrong.
    """
    if not weights and not cfg:
        raise ConfigError("give an architecture (--cfg repyolov5n.yaml) or --weights to start from")
    checkpoint = read_weights(weights) if weights else None
    if checkpoint is not None:
        _refuse_deploy_form(checkpoint, weights)
    changes: dict[str, Any] = {**overrides, "num_classes": num_classes}
    if cfg or checkpoint is None:
        spec = ModelSpec.from_file(cfg)
    else:
        spec = ModelSpec.from_yaml(checkpoint.spec, weights)
    # Through the yaml form, so that overrides are checked like the yaml's own words.
    spec = ModelSpec.from_yaml(spec.replaced(**changes).to_yaml(), spec.name)
    if spec.rep_block is None and overrides.get("rep_policy") is not None:
        raise ConfigError("--rep-policy: the network has no blocks; give --rep-block too")
    if checkpoint is None:
        return Start(build_model(spec), head_is_trained=False)
    is_plain = ModelSpec.from_yaml(checkpoint.spec, weights).rep_block is None
    if spec.rep_block is None or not is_plain:
        return _transferred(build_model(spec), checkpoint, weights)
    plain, trained = _transferred(build_model(spec.replaced(rep_block=None)), checkpoint, weights)
    logger.info("%s: expanded into %s blocks", weights, spec.rep_block)
    return Start(expand(plain, spec.rep_block, spec.rep_policy), trained)


def _refuse_deploy_form(checkpoint: Checkpoint, weights: str) -> None:
    if checkpoint.form == "deploy":
        raise ConfigError(
            f"{weights}: a deploy-form checkpoint has no norms left to train with; "
            "start from the train-form checkpoint it was converted from"
        )


def _transferred(model: Detector, checkpoint: Checkpoint, name: str) -> Start:
    """The network with the tensors whose name and shape agree; logs how many do."""
    state = model.state_dict()
    fitting = {
        key: tensor
        for key, tensor in checkpoint.best_weights.items()
        if key in state and tensor.shape == state[key].shape
    }
    if not fitting:
        raise ConfigError(
            f"{name}: none of its weights fits this architecture; leave --weights out"
        )
    model.load_state_dict({**state, **fitting})
    fresh = "" if len(fitting) == len(state) else ", the others start fresh"
    logger.info("%s: %d of %d tensors taken over%s", name, len(fitting), len(state), fresh)
    known = len(checkpoint.class_names)
    if known != model.spec.num_classes:
        logger.info("%s: knows %d classes, the data set has %d: its head starts fresh",
                    name, known, model.spec.num_classes)  # fmt: skip
    head = f"layers.{len(model.layers) - 1}."
    trained = all(key in fitting for key in state if key.startswith(head))
    if trained and ModelSpec.from_yaml(checkpoint.spec, name).anchors != model.spec.anchors:
        logger.warning("%s: was trained with other anchors than those of --cfg, so its boxes are "
                       "learnt anew; leave --cfg out to keep its anchors", name)  # fmt: skip
        trained = False
    return Start(model, trained)
