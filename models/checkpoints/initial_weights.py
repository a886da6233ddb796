"""What a training starts from: a yaml, with weights of a file or random ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.checkpoints.repvgg_weights import SourceBlock, load_backbone, read_repvgg
from models.conversion.deploy import to_deploy
from models.conversion.expand import expand
from models.network.detector import Detector, build_model
from models.network.layers import activation_maker
from models.network.model_spec import ModelSpec
from models.reparam.families import block_family
from models.reparam.rep_opt import learnt_scales, take_scales
from utils.checkpoint import Checkpoint, OnlyWeightsError, license_of
from utils.class_order import classes_that_differ
from utils.errors import ConfigError
from utils.logs import counted

logger = logging.getLogger(__name__)
MIN_SHARE = 0.5  # of the weights before the head, without which a start is as good as random


class Start(NamedTuple):
    """The network of a run before its first batch.

    Attributes:
        model: in train form.
        head_is_trained: its head has learnt boxes in units of its anchors.
        image_hw: height and width of the images its weights were trained on; None where not known.
        license: that of its weights, which goes on with them; empty where not known.
        assumed_norms: its first layers whose norms come from merged convolutions, if any:
            `measure_norms` before training.
        class_names: that a trained head knows, in class-id order; empty where there is none.
    """

    model: Detector
    head_is_trained: bool
    image_hw: tuple[int, int] | None = None
    license: str = ""
    assumed_norms: Sequence[nn.Module] = ()
    class_names: tuple[str, ...] = ()

    def warn_of_other_classes(self, class_names: tuple[str, ...]) -> None:
        """Log where a trained head knows other classes, in class-id order, than those to learn."""
        other = classes_that_differ(self.class_names, class_names)
        if self.head_is_trained and other:
            logger.warning("--weights: the head taken over was trained on other classes (%s); "
                           "right if they were renamed, else the data yaml may have the wrong "
                           "order", other)  # fmt: skip


def spec_overrides(**flags: str | None) -> dict[str, str | None]:
    """The fields of ModelSpec that flags change.

    Args:
        **flags: field -> as given: None leaves what the yaml has, "none" means without.

    Raises:
        ConfigError: a flag has arguments that its block or activation does not take.
    """
    overrides = {
        field: None if value == "none" else value
        for field, value in flags.items()
        if value is not None
    }
    if (family := overrides.get("rep_block")) is not None:
        block_family(family, "--rep-block")
    if (activation := overrides.get("activation")) is not None:
        activation_maker(activation, "--activation")
    return overrides


def initial_model(
    cfg: str,
    weights: str,
    num_classes: int,
    overrides: dict[str, str | None],
    *,
    partial: bool = False,
    scales: str = "",
) -> Start:
    """Architecture from a yaml or a checkpoint, weights from the checkpoint where shapes agree.

    At least half of the weights before the head must fit; the classes may be others.

    A plain checkpoint in a network of blocks is taken over as plain, then expanded: it starts from
    what the checkpoint computes. So does one of other blocks, which are merged first. The yaml's
    anchors are kept; a head that learnt with others has to learn its boxes anew, with a warning.

    Args:
        cfg: model yaml; empty takes the checkpoint's architecture and anchors.
        weights: checkpoint, or a RepVGG classifier's file; empty starts from random weights.
        num_classes: classes of the data set.
        overrides: fields of ModelSpec to change (`rep_block`, `rep_policy`, `activation`).
        partial: take over what fits, however little that is.
        scales: checkpoint of LinearAdd blocks, whose scales RepOpt blocks take over.

    Raises:
        UserError: neither is given, or one of them is wrong.
    """
    start = _initial_model(cfg, weights, num_classes, overrides, partial=partial)
    if scales:
        _with_scales(start.model, scales, draw=not weights)
    return start


def _initial_model(
    cfg: str, weights: str, num_classes: int, overrides: dict[str, str | None], *, partial: bool
) -> Start:
    if not weights and not cfg:
        raise ConfigError("give an architecture (--cfg repyolov5n.yaml) or --weights to start from")
    try:
        checkpoint = read_weights(weights) if weights else None
    except OnlyWeightsError:
        if sources := read_repvgg(Path(weights)):
            return _with_backbone(cfg, weights, sources, num_classes, overrides)
        raise
    if cfg or checkpoint is None:
        spec = _of_yaml(cfg, overrides)
    else:
        spec = ModelSpec.from_yaml(checkpoint.spec, weights)
    spec = _changed(spec, num_classes, overrides)
    if checkpoint is None:
        return Start(build_model(spec), head_is_trained=False)
    if checkpoint.form == "deploy" or _has_other_blocks(checkpoint, spec):
        plain_form = _with_norms(checkpoint)
        start = _from_checkpoint(spec, plain_form, weights, partial=partial)
        return start._replace(assumed_norms=tuple(start.model.layers))
    return _from_checkpoint(spec, checkpoint, weights, partial=partial)


def _has_other_blocks(checkpoint: Checkpoint, spec: ModelSpec) -> bool:
    """Whether the tensors of its branches are not those of the blocks that `spec` asks for.

    Where a name agrees all the same, the tensor is one branch of several.
    """
    known = ModelSpec.from_yaml(checkpoint.spec, checkpoint.name)
    same = (known.rep_block, known.rep_policy) == (spec.rep_block, spec.rep_policy)
    if known.rep_block is None or same:
        return False
    with torch.device("meta"):
        wanted = build_model(known.replaced(rep_block=spec.rep_block, rep_policy=spec.rep_policy))
    shapes = ({name: tensor.shape for name, tensor in each.items()}
              for each in (wanted.state_dict(), checkpoint.best_weights))  # fmt: skip
    return next(shapes) != next(shapes)


def _with_norms(checkpoint: Checkpoint) -> Checkpoint:
    """What a network computes, as a plain one in train form, with norms that change nothing."""
    network = build_from_checkpoint(checkpoint)
    if checkpoint.form == "train":
        network = to_deploy(network)
        logger.info("%s: its %s blocks are merged", checkpoint.name, network.spec.rep_block)
    plain = expand(network, None)
    return replace(checkpoint, form="train", spec=plain.spec.to_yaml(),
                   weights=plain.state_dict(), ema_weights=None)  # fmt: skip


def _from_checkpoint(
    spec: ModelSpec, checkpoint: Checkpoint, weights: str, *, partial: bool
) -> Start:
    """A network that starts with a train form's weights."""
    is_plain = ModelSpec.from_yaml(checkpoint.spec, weights).rep_block is None
    if spec.rep_block is None or not is_plain:
        return _transferred(build_model(spec), checkpoint, weights, partial=partial)
    plain = build_model(spec.replaced(rep_block=None))
    start = _transferred(plain, checkpoint, weights, partial=partial)
    expanded = expand(start.model, spec.rep_block, spec.rep_policy)
    logger.info("%s: expanded into %s blocks", weights, spec.rep_block)
    return start._replace(model=expanded)


def _with_scales(model: Detector, scales: str, *, draw: bool) -> None:
    """Give RepOpt blocks the scales in a checkpoint; without other weights their kernels too.

    Raises:
        ConfigError: there are no such blocks, here or there, or they are not the same.
    """
    learnt = learnt_scales(build_from_checkpoint(read_weights(scales)))
    if not learnt:
        raise ConfigError(
            f"--scales {scales}: has no LinearAdd blocks in train form; train one for a few epochs "
            "with --rep-block LinearAdd and this --cfg"
        )
    try:
        count = take_scales(model, learnt, draw=draw)
    except ValueError as error:
        raise ConfigError(
            f"--scales {scales}: is of another network: {error}; train LinearAdd blocks with the "
            "same --cfg and --rep-policy"
        ) from None
    if not count:
        raise ConfigError("--scales: the network has no RepOpt blocks; give --rep-block RepOpt too")
    for branch in ("kxk", "1x1", "identity"):
        values = [scales_of[branch] for scales_of in learnt.values() if branch in scales_of]
        if values:
            median = torch.cat(values).median()
            logger.info("%s: scales of %s: median %.2f", scales, branch, median)
    logger.info("%s: scales of %d blocks taken over", scales, count)


def _of_yaml(cfg: str, overrides: dict[str, str | None]) -> ModelSpec:
    """The architecture in a yaml, where flags give it blocks if it only says which ones.

    Raises:
        ConfigError: a mistake in the yaml, or its `rep_policy` has no blocks to choose.
    """
    spec = ModelSpec.from_file(cfg)
    if spec.rep_policy != "all" and spec.rep_block is None and "rep_block" not in overrides:
        raise ConfigError(
            f"{cfg}: rep_policy is {spec.rep_policy!r}, but there is no rep_block for it; add "
            "rep_block to the yaml or give --rep-block, or leave rep_policy out"
        )
    return spec


def _changed(spec: ModelSpec, num_classes: int, overrides: dict[str, str | None]) -> ModelSpec:
    """Through the yaml form, so that overrides are checked like the yaml's own words."""
    changes: dict[str, Any] = {**overrides, "num_classes": num_classes}
    spec = ModelSpec.from_yaml(spec.replaced(**changes).to_yaml(), spec.name)
    if spec.rep_block is None and overrides.get("rep_policy") is not None:
        raise ConfigError("--rep-policy: the network has no blocks; give --rep-block too")
    return spec


def _with_backbone(
    cfg: str,
    weights: str,
    sources: list[SourceBlock],
    num_classes: int,
    overrides: dict[str, str | None],
) -> Start:
    """The network of a yaml whose backbone starts from a RepVGG classifier."""
    if not cfg:
        raise ConfigError(
            f"{weights}: holds a RepVGG classifier; give the yaml of a detector with its "
            "backbone, as --cfg yolov5-repvgg-a1.yaml"
        )
    model = build_model(_changed(_of_yaml(cfg, overrides), num_classes, overrides))
    count = len(model.spec.backbone) if load_backbone(model, sources, weights) else 0
    logger.info("%s: %d blocks of the backbone taken over, neck and head start fresh",
                weights, len(sources))  # fmt: skip
    return Start(model, head_is_trained=False, assumed_norms=tuple(model.layers[:count]))


def _transferred(model: Detector, checkpoint: Checkpoint, name: str, *, partial: bool) -> Start:
    """The network with the tensors whose name and shape agree; logs how many do.

    Raises:
        ConfigError: less than half of its kernels start with weights, and not `partial`.
    """
    state, head = model.state_dict(), f"layers.{len(model.layers) - 1}."
    fitting = {
        key: tensor
        for key, tensor in checkpoint.best_weights.items()
        if key in state and tensor.shape == state[key].shape
    }
    # Norms and counters have the same shapes in many networks, and the head fits one data set.
    kernels = {key: tensor.numel() for key, tensor in state.items()
               if tensor.dim() > 1 and not key.startswith(head)}  # fmt: skip
    share = sum(kernels.get(key, 0) for key in fitting) / sum(kernels.values())
    if share < MIN_SHARE and not partial:
        raise ConfigError(
            f"{name}: {_percent(share)} of the network's weights fit, which is no start; leave "
            "--cfg out to take its architecture, or --weights to start from random ones "
            "(--partial-weights starts from what fits)"
        )
    model.load_state_dict({**state, **fitting})
    known, wanted = len(checkpoint.class_names), model.spec.num_classes
    notes = [f"{len(fitting)} of {len(state)} tensors taken over"]
    if share < 1:
        notes.append(f"{_percent(share)} of the kernels before the head")
    if known != wanted:
        knows = counted(known, "class")
        notes.append(f"its head starts fresh (it knows {knows}, the data set has {wanted})")
    elif len(fitting) < len(state):
        notes.append("the others start fresh")
    if license_ := license_of(checkpoint):
        notes.append(f"its licence, {license_}, goes on to the new checkpoints")
    logger.info("%s: %s", name, ", ".join(notes))
    trained = all(key in fitting for key in state if key.startswith(head))
    if trained and ModelSpec.from_yaml(checkpoint.spec, name).anchors != model.spec.anchors:
        logger.warning("%s: was trained with other anchors than those of --cfg, so its boxes are "
                       "learnt anew; leave --cfg out to keep its anchors", name)  # fmt: skip
        trained = False
    return Start(model, trained, checkpoint.image_hw, license_, class_names=checkpoint.class_names)


def _percent(share: float) -> str:
    """`none`, `under 1 %`, `57 %`."""
    if share == 0:
        return "none"
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
