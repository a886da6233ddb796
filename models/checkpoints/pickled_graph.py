"""What a pickled YOLOv5 network does, read from the attributes of its modules.

The yaml in such a file is what the network was built from; what it computes is in its modules,
which people change afterwards. Where both differ the modules are believed, as far as a yaml of ours
can say what they do; `layer_comparison` refuses the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from models.checkpoints.foreign_layers import READERS, REGROUPED
from models.checkpoints.inert_pickle import InertObject, UnreadableError, integer, shown, walk
from models.network.detector import module_name
from models.network.layer_registry import LAYERS
from models.network.lite_layers import OWN_ACTIVATION
from models.network.model_spec import LayerSpec, ModelSpec
from utils.errors import CheckpointError

# Modules that compute one of torch's activations, written before torch had it or to save memory.
_SAME_AS = {"Swish": "SiLU", "MemoryEfficientSwish": "SiLU", "MemoryEfficientMish": "Mish"}
_WITHOUT_NUMBERS = ("SiLU", "ReLU", "Hardswish", "Mish", "Identity")
SUPPORTED_ACTIVATIONS = "SiLU, LeakyReLU, ReLU, ReLU6, Hardswish, Mish, GELU, Identity"
# Rows whose module is of another class: before v6.1 YOLOv5's DWConv was a function.
_WRITTEN_AS = {"DWConv": ("Conv",)}
NORMS = ("BatchNorm2d", "SyncBatchNorm")  # the second synchronizes processes in training only


def activation_text(name: str, attributes: Mapping[str, Any]) -> str:
    """An activation as the yaml key `activation` names it, e.g. `LeakyReLU(0.1)`.

    `inplace` is not part of it: it says where the result is written, not what it is.

    Args:
        name: its class, without module.
        attributes: of the instance.

    Raises:
        UnreadableError: this project does not have it.
    """
    name = _SAME_AS.get(name, name)
    if name in _WITHOUT_NUMBERS:
        return name
    if name == "LeakyReLU" and isinstance(attributes.get("negative_slope"), int | float):
        return f"LeakyReLU({float(attributes['negative_slope'])!r})"
    if name == "ReLU6" and (attributes.get("min_val"), attributes.get("max_val")) == (0.0, 6.0):
        return "ReLU6"
    approximate = attributes.get("approximate", "none")
    if name == "GELU" and approximate in ("none", "tanh"):
        return "GELU" if approximate == "none" else f"GELU({approximate=})"
    raise UnreadableError(f"activation is {name}, supported: {SUPPORTED_ACTIVATIONS}")


def regroup(model: InertObject, where: str) -> None:
    """Put the submodules of layers of YOLOv5's relatives under the names of ours, in place.

    Raises:
        CheckpointError: a layer has other submodules than its class had, or hooks.
    """
    done: set[int] = set()  # one module may be in two layers
    for name, module in walk(model, where):
        if module.class_name in REGROUPED and id(module) not in done:
            try:
                module.__dict__["_modules"] = REGROUPED[module.class_name](module)
            except UnreadableError as error:
                raise CheckpointError(f"{where}: {layer_name(name)}: {error}") from None
            done.add(id(module))


def network_keys(model: InertObject, where: str) -> dict[str, Any]:
    """The activation and the numbers of batch-norms, which a yaml says once for all layers.

    Raises:
        CheckpointError: layers differ, or have what this project does not.
    """
    found: dict[str, tuple[str, Any]] = {}
    chain = model.child("model")
    layers = chain.children if chain else {}
    kinds = {key: first_block(each).class_name for key, each in layers.items()}
    own = {key for key, kind in kinds.items() if kind in OWN_ACTIVATION}
    csp = {key for key, kind in kinds.items() if kind == "BottleneckCSP"}
    for name, module in walk(model, where):
        values = _values_for_all(module, name, where)
        index, _, inner = name.removeprefix("model.").partition(".")
        if index in own or (inner == "act" and index in csp):
            values.pop("activation", None)  # compared with that of the row
        for key, value in values.items():
            first_name, first = found.setdefault(key, (name, value))
            if value != first:
                raise CheckpointError(
                    f"{where}: {layer_name(name)}: {key} is {value}, but {first} at "
                    f"{layer_name(first_name)}; supported is one for all layers"
                )
    keys = {key: value for key, (_, value) in found.items()}
    defaults = {"norm_eps": 0.001, "norm_momentum": 0.03}
    return {
        "activation": "Identity",  # where no other is found
        **{key: value for key, value in keys.items() if defaults.get(key) != value},
    }


def _values_for_all(module: InertObject, name: str, where: str) -> dict[str, Any]:
    """What one module says of all: the activation it is, or the numbers of the norm it is."""
    if name.rpartition(".")[2] == "act":
        try:
            text = activation_text(module.class_name, module.__dict__)
        except UnreadableError as error:
            raise CheckpointError(f"{where}: {layer_name(name)}: {error}") from None
        return {} if text == "Identity" else {"activation": text}
    if module.class_name not in NORMS:
        return {}
    values = {"norm_eps": module.attribute("eps"), "norm_momentum": module.attribute("momentum")}
    for key, value in values.items():
        if not isinstance(value, float) or not 0 < value < 1:
            raise CheckpointError(
                f"{where}: {layer_name(name)}: {key} is {shown(value)}, supported: above 0, below 1"
            )
    return values


def first_block(layer: InertObject) -> InertObject:
    """The first of the blocks that a row repeats, or the only one."""
    first = layer.child("0") if layer.class_name == "Sequential" else None
    return layer if first is None else first


def layer_name(name: str) -> str:
    """`layer 3 (model.3.cv1.act)`, from the dotted name in the pickled network."""
    parts = name.split(".")
    return f"layer {parts[1]} ({name})" if len(parts) > 1 else name


def with_pickled_rows(spec: ModelSpec, layers: list[InertObject]) -> ModelSpec:
    """The spec whose rows read and compute what the pickled layers do, where a row can say it.

    Raises:
        ConfigError: a row names a module that this project does not have.
        CheckpointError: a layer is of another class than its row says, or there are more or fewer.
    """
    rows = [*spec.backbone, *spec.head]
    if len(rows) != len(layers):
        raise CheckpointError(
            f"{spec.name}: has {len(layers)} layers, but its yaml has {len(rows)} rows"
        )
    written = [
        _row(spec, layer, row, found)
        for layer, row, found in zip(spec.layers, rows, layers, strict=True)
    ]
    split = len(spec.backbone)
    return spec.replaced(backbone=tuple(written[:split]), head=tuple(written[split:]))


def _row(
    spec: ModelSpec, layer: LayerSpec, row: tuple[Any, ...], found: InertObject
) -> tuple[Any, ...]:
    source, repeats, module, args = row
    name = module_name(layer)
    first = first_block(found)
    if first.class_name not in (name, *_WRITTEN_AS.get(name, ())):
        kind = first.class_name
        raise CheckpointError(
            f"{layer.where}: layer {layer.index} is of class {kind}, its yaml says {name}"
        )
    _check_repeats(spec, layer, found, first)
    try:
        args = _with_values(name, args, _READERS[name](first) if name in _READERS else {})
    except UnreadableError as error:
        raise CheckpointError(f"{layer.where}: {error}") from None
    return (_source(layer, source, found.attribute("f")), repeats, module, args)


def _source(layer: LayerSpec, written: Any, pickled: Any) -> Any:
    """Which layers a row reads; as written where the pickled layer reads the same."""
    if pickled is None:
        return written
    sources = pickled if isinstance(pickled, list) else [pickled]
    if not sources or not all(type(each) is int for each in sources):
        raise CheckpointError(f"{layer.where}: f is {shown(pickled)}, expected integers")
    if tuple(each + layer.index if each < 0 else each for each in sources) == layer.sources:
        return written
    return tuple(sources) if isinstance(pickled, list) else pickled


def _check_repeats(
    spec: ModelSpec, layer: LayerSpec, found: InertObject, first: InertObject
) -> None:
    """Refuse a row that says another number of blocks than there are."""
    inside = LAYERS[module_name(layer)].repeats_inside
    chain = first.child("m") if inside else found
    chain = chain.child("tr") or chain if chain is not None else None  # of a TransformerBlock
    is_chain = chain is not None and chain.class_name in ("Sequential", "ModuleList")
    count = len(chain.children) if chain is not None and is_chain else 1
    if count != spec.repeats_of(layer):
        raise CheckpointError(
            f"{layer.where}: has {count} blocks, its yaml says {spec.repeats_of(layer)}"
        )


def _with_values(name: str, args: tuple[Any, ...], values: dict[str, Any]) -> tuple[Any, ...]:
    """A row's arguments, changed only where the values of its parameters differ from them."""
    signature = inspect.signature(LAYERS[name].build)
    try:
        bound = signature.bind(None, *args)
    except TypeError:
        return args  # building the row says so
    bound.apply_defaults()
    claimed = {key: bound.arguments[key] for key in list(signature.parameters)[1:]}
    effective = dict(claimed)
    if "p" in values and claimed["p"] is None:
        effective["p"] = _same_padding(claimed["k"], claimed.get("d", 1))
    changes = {key: value for key, value in values.items() if effective[key] != value}
    return tuple({**claimed, **changes}.values()) if changes else args


def _same_padding(kernel: Any, dilation: Any) -> int | None:
    if type(kernel) is not int or type(dilation) is not int:
        return None  # building the row says so
    return dilation * (kernel - 1) // 2


def _convolution(module: InertObject) -> dict[str, Any]:
    conv, activation = module.child("conv"), module.child("act")
    values: dict[str, Any] = {
        "k": integer(conv, "kernel_size"),
        "s": integer(conv, "stride"),
        "p": integer(conv, "padding"),
        "g": integer(conv, "groups"),
        "act": activation is not None and activation.class_name != "Identity",
    }
    return values


def _dilated_convolution(module: InertObject) -> dict[str, Any]:
    return {**_convolution(module), "d": integer(module.child("conv"), "dilation")}


def _stem(module: InertObject) -> dict[str, Any]:
    inner = module.child("conv")
    return _convolution(inner) if inner else {}


def _bottleneck(module: InertObject) -> dict[str, Any]:
    add, second = module.attribute("add"), module.child("cv2")
    if type(add) is not bool:
        raise UnreadableError(f"add is {shown(add)}, supported: True or False")
    return {"shortcut": add, "g": integer(second.child("conv") if second else None, "groups")}


def _c3(module: InertObject) -> dict[str, Any]:
    chain = module.child("m")
    first = chain.child("0") if chain else None
    return _bottleneck(first) if first and first.class_name == "Bottleneck" else {}


def _bottleneck_csp(module: InertObject) -> dict[str, Any]:
    act = module.child("act")
    text = "Identity" if act is None else activation_text(act.class_name, act.__dict__)
    return {**_c3(module), "act": text}


def _parallel_pools(module: InertObject) -> dict[str, Any]:
    pools = module.child("m")
    sizes = [integer(pool, "kernel_size") for pool in pools.children.values()] if pools else []
    return {"k": tuple(sizes)}


def _chained_pools(module: InertObject) -> dict[str, Any]:
    return {"k": integer(module.child("m"), "kernel_size")}


def _upsample(module: InertObject) -> dict[str, Any]:
    return {"scale": integer(module, "scale_factor"), "mode": module.attribute("mode")}


# Row -> the arguments that its module's attributes say, by the parameters of its builder.
_READERS: dict[str, Callable[[InertObject], dict[str, Any]]] = {
    "Conv": _dilated_convolution,
    "Focus": _stem,
    "Bottleneck": _bottleneck,
    "C3": _c3,
    "BottleneckCSP": _bottleneck_csp,
    "SPPCSPC": _parallel_pools,
    "SPP": _parallel_pools,
    "SPPF": _chained_pools,
    "Upsample": _upsample,
    **READERS,
}
