"""The network: runs the layers of a ModelSpec and returns raw predictions; its size in numbers."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from models.network.layer_registry import LAYERS
from models.network.layer_rows import BuiltLayer, RowContext
from models.network.layers import ConvFactory, DetectHead, Form, Join, activation_maker
from models.network.model_spec import LayerSpec, ModelSpec
from models.network.module_copy import copy_with, without_numbers
from models.reparam.families import block_family
from models.reparam.rep_block import ConvAct, RepBlock
from utils.errors import ConfigError, first_line, suggest

Outputs = dict[int, Tensor]  # of layers, by index; the images under -1


class Detector(nn.Module):
    """A YOLOv5-family network.

    Attributes:
        spec: the architecture it was built from.
        strides: input pixels per cell at each level, finest first.
        stride: sides of images are multiples of it: the largest stride of any layer, which a head
            without the coarsest map does not read.
    """

    def __init__(
        self, spec: ModelSpec, layers: list[nn.Module], strides: tuple[int, ...], stride: int
    ) -> None:
        super().__init__()
        self.spec = spec
        self.strides = strides
        self.stride = stride
        self.layers = nn.ModuleList(layers)
        self._sources = [layer.sources for layer in spec.layers]
        last_use = {source: index for index, row in enumerate(self._sources) for source in row}
        self._last_use = last_use

    @property
    def head(self) -> DetectHead:
        """The last layer, which makes the raw predictions.

        Raises:
            TypeError: the last layer is not a DetectHead.
        """
        head = self.layers[-1]
        if not isinstance(head, DetectHead):
            raise TypeError("the last layer of a detector is its head")
        return head

    def with_anchors(self, anchors: tuple[tuple[float, ...], ...]) -> Detector:
        """The same layers, not copied, with other anchors, as many per level as before."""
        before = [len(level) for level in self.spec.anchors]
        if [len(level) for level in anchors] != before:
            raise ValueError(f"{anchors} are not as many anchors per level as {self.spec.anchors}")
        other = Detector(
            self.spec.replaced(anchors=anchors, anchors_from_data=False),
            list(self.layers),
            self.strides,
            self.stride,
        )
        other.training = self.training
        return other

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) RGB in 0-1, H and W multiples of `stride` -> raw predictions.

        Returns:
            Per level, (B, A * (5 + C), H / stride, W / stride) logits.
        """
        outputs: Outputs = {-1: images}
        output: Tensor | tuple[Tensor, ...] = images
        for index, layer in enumerate(self.layers):
            output = self.run_layer(index, layer, outputs)
        if isinstance(output, Tensor):
            raise TypeError("the last layer of a detector is its head")
        return output

    def run_layer(
        self, index: int, layer: nn.Module, outputs: Outputs
    ) -> Tensor | tuple[Tensor, ...]:
        """Run a layer, or another in its place, on the outputs of those before it.

        Args:
            index: of the layer.
            layer: `layers[index]`, or a module that stands for it.
            outputs: of the layers before, and of the images under -1; the new one is added, and
                those that no later layer reads are dropped.

        Returns:
            Its output; that of the head is the raw predictions.
        """
        sources = self._sources[index]
        inputs = [outputs[source] for source in sources]
        output: Tensor | tuple[Tensor, ...]
        output = layer(inputs) if isinstance(layer, Join) else layer(inputs[0])
        if isinstance(output, Tensor):
            outputs[index] = output
        for source in sources:
            if self._last_use[source] == index:
                outputs.pop(source, None)
        return output


def build_model(spec: ModelSpec, form: Form = "train") -> Detector:
    """A freshly initialised network.

    Args:
        spec: the architecture.
        form: "train" (branches and norms), or "deploy" (one convolution with bias each), into which
            a deploy checkpoint is loaded.

    Raises:
        ConfigError: a row that cannot be built, naming it.
    """
    conv = ConvFactory(
        activation=activation_maker(spec.activation, f"{spec.name}: activation"),
        form=form,
        rep_block=None if spec.rep_block is None else block_family(spec.rep_block, spec.name),
        rep_policy=spec.rep_policy,
    )
    channels, strides = {-1: 3}, {-1: Fraction(1)}
    modules: list[nn.Module] = []
    for layer in spec.layers:
        row = RowContext(
            layer=layer,
            spec=spec,
            in_channels=tuple(channels[source] for source in layer.sources),
            in_strides=tuple(strides[source] for source in layer.sources),
            repeats=spec.repeats_of(layer),
            conv=conv,
        )
        built = build_layer(row)
        modules.append(built.module)
        channels[layer.index], strides[layer.index] = built.out_channels, built.stride
    last = spec.layers[-1]
    if not isinstance(modules[-1], DetectHead):
        raise ConfigError(f"{last.where}: the last row must be Detect")
    head_strides = tuple(int(strides[source]) for source in last.sources)
    modules[-1].set_prior_bias(head_strides)
    stride = math.lcm(*(each.numerator for each in strides.values()))
    model = Detector(spec, modules, head_strides, stride)
    _set_norms(model)
    return model


def module_name(layer: LayerSpec) -> str:
    """A row's module as LAYERS has it.

    Raises:
        ConfigError: there is none of that name.
    """
    name = layer.module.removeprefix("nn.")
    if name not in LAYERS:
        raise ConfigError(f"{layer.where}: unknown module {layer.module!r}{suggest(name, LAYERS)}")
    return name


def build_layer(row: RowContext) -> BuiltLayer:
    """Build the module of a row, repeated as it says.

    Raises:
        ConfigError: unknown module, or arguments its builder does not take.
    """
    name = module_name(row.layer)
    if len(row.in_channels) > 1 and not LAYERS[name].reads_several:
        raise ConfigError(
            f"{row.layer.where}: reads {len(row.in_channels)} layers, but {name} takes one; "
            "join them with Concat first"
        )
    if LAYERS[name].reads_several and row.layer.repeats > 1:
        raise ConfigError(
            f"{row.layer.where}: number is {row.layer.repeats}, expected 1: {name} joins layers"
        )
    if LAYERS[name].repeats_inside or row.repeats == 1:
        return _call(name, row)
    built = [_call(name, row)]
    for _ in range(row.repeats - 1):
        last = built[-1]
        inner = replace(row, in_channels=(last.out_channels,), in_strides=(last.stride,))
        built.append(_call(name, inner))
    chain = nn.Sequential(*(layer.module for layer in built))
    return replace(built[-1], module=chain)


def _call(name: str, row: RowContext) -> BuiltLayer:
    build = LAYERS[name].build
    try:
        inspect.signature(build).bind(row, *row.layer.args)
    except TypeError:
        names = ", ".join(list(inspect.signature(build).parameters)[1:])
        raise ConfigError(
            f"{row.layer.where}: args {list(row.layer.args)!r} do not fit {name}({names})"
        ) from None
    try:
        return build(row, *row.layer.args)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ConfigError(
            f"{row.layer.where}: args {list(row.layer.args)!r}: {first_line(error)}"
        ) from None


def _set_norms(model: Detector) -> None:
    """Give every batch-norm what the spec says of them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = model.spec.norm_eps or module.eps
            module.momentum = model.spec.norm_momentum or module.momentum


def count_parameters(model: nn.Module) -> int:
    """The number of elements of all parameters; buffers such as running means do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def network_gflops(model: nn.Module, input_hw: tuple[int, int] = (640, 640)) -> float:
    """2 x multiply-adds of all convolutions and matrix products for one image, in units of 1e9.

    Runs a copy on torch's meta device: no memory is allocated and `model` is not changed. The copy
    has no norms: their multiply-adds do not count, and they take most of the time.

    Raises:
        ConfigError: a row does not run on such images: maps that it joins have other sizes, or its
            pool is larger than its map.
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads torch's compiler

    shadow = copy_with(model, without_numbers)
    for module in shadow.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, nn.Identity())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _run(shadow, torch.empty(1, 3, *input_hw, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def _run(model: nn.Module, images: Tensor) -> None:
    """A forward pass, whose result nobody needs.

    Raises:
        ConfigError: a row of a detector cannot be run on such images, naming it.
    """
    if not isinstance(model, Detector):
        model(images)
        return
    outputs: Outputs = {-1: images}
    for index, layer in enumerate(model.layers):
        try:
            model.run_layer(index, layer, outputs)
        except RuntimeError as error:
            height, width = images.shape[2:]
            row = model.spec.layers[index].where
            raise ConfigError(
                f"{row}: does not run on images of {height}x{width} px: {first_line(error)}"
            ) from None


def block_counts(model: nn.Module) -> dict[str, int]:
    """Kind of convolution block -> how many a network has, in alphabetical order."""
    blocks = [module for module in model.modules() if isinstance(module, RepBlock | ConvAct)]
    return dict(sorted(Counter(block_kind(block) for block in blocks).items()))


def block_kind(block: nn.Module) -> str:
    """What reports call a convolution block of either form."""
    return block.kind if isinstance(block, RepBlock) else type(block).__name__


def describe_network(model: Detector, input_hw: tuple[int, int]) -> str:
    """Parameters, GFLOPs at an input size, blocks and activation in one line for the console."""
    blocks = ", ".join(f"{count} {name}" for name, count in block_counts(model).items())
    return (
        f"Network: {count_parameters(model):,} parameters, {network_gflops(model, input_hw):.2f} "
        f"GFLOPs at {input_hw[0]}x{input_hw[1]} px, {blocks}, {model.spec.activation}"
    )
