"""Layers of YOLOv5's relatives in a pickled network, rewritten to the submodules that ours have.

YOLOv5-Lite and YOLOv7 name their submodules otherwise, and keep convolution, norm and activation
side by side or apply an activation without a module. Here the stand-ins of such a layer are put
under the names of our layer, as if YOLOv5 had written it, so that the rest of the reader knows one
kind of network. Tensors are not changed, but for those of YOLOv7's head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from models.checkpoints.inert_pickle import InertObject, UnreadableError, integer
from utils.checkpoint import is_plain


def _stand_in(name: str, children: Mapping[str, InertObject] | None = None) -> InertObject:
    """A module that the file does not have by itself."""
    made: InertObject = type("Inert", (InertObject,), {"pickled_name": name})()
    made.__dict__["_modules"] = dict(children or {})
    return made


def _parts(module: InertObject, *names: str, optional: Iterable[str] = ()) -> list[InertObject]:
    """The submodules of these names, which must be all there are besides the optional ones.

    Raises:
        UnreadableError: there are others, or it is called in another way than by `forward`.
    """
    found = module.children
    if not set(names) <= found.keys() or not found.keys() <= {*names, *optional}:
        raise UnreadableError(
            f"submodules is {', '.join(found) or 'none'}, supported: {', '.join(names)}"
        )
    _refuse_hooks(module)
    return [found[name] for name in names]


def _refuse_hooks(module: InertObject) -> None:
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        if module.attribute(hooks):
            raise UnreadableError(f"has {hooks}, which change what it computes; supported: none")


def _conv(conv: InertObject, norm: InertObject, act: InertObject | None = None) -> InertObject:
    act = _stand_in("torch.nn.modules.linear.Identity") if act is None else act
    return _stand_in("models.common.Conv", {"conv": conv, "bn": norm, "act": act})


def _grouped(chain: InertObject) -> InertObject:
    """A chain of convolutions, norms and activations as a chain of Convs."""
    _refuse_hooks(chain)
    pending = list(chain.children.values())
    convs: list[InertObject] = []
    while pending:
        if [each.class_name for each in pending[:2]] not in (
            ["Conv2d", "BatchNorm2d"], ["Conv2d", "SyncBatchNorm"],
        ):  # fmt: skip
            raise UnreadableError(
                f"submodules is {', '.join(each.class_name for each in chain.children.values())}, "
                "supported: convolutions, each with its norm"
            )
        conv, norm, *pending = pending
        act = pending.pop(0) if pending and pending[0].class_name != "Conv2d" else None
        convs.append(_conv(conv, norm, act))
    return _stand_in(
        "torch.nn.modules.container.Sequential",
        {str(index): each for index, each in enumerate(convs)},
    )


def _conv_pool(module: InertObject) -> dict[str, InertObject]:
    chain, pool = _parts(module, "conv", "maxpool")
    convs = list(_grouped(chain).children.values())
    if len(convs) != 1:
        raise UnreadableError(f"conv is {len(convs)} convolutions, supported: one")
    return {"conv": convs[0], "maxpool": pool}


def _shuffle_unit(module: InertObject) -> dict[str, InertObject]:
    _parts(module, "branch2", optional=["branch1"])
    chains = {name: _grouped(chain) for name, chain in module.children.items()}
    return {name: chain for name, chain in chains.items() if chain.children}


def _separable(module: InertObject) -> dict[str, InertObject]:
    """Its two ReLUs are functions, so no module shows them."""
    conv1, bn1, conv2, bn2 = _parts(module, "conv1", "bn1", "conv2", "bn2")
    relu = [_stand_in("torch.nn.modules.activation.ReLU") for _ in range(2)]
    return {"dw_conv": _conv(conv1, bn1, relu[0]), "pw_conv": _conv(conv2, bn2, relu[1])}


def _hardswish_conv(module: InertObject) -> dict[str, InertObject]:
    conv, norm, act = _parts(module, "conv", "bn", "hardswish")
    return {"conv": conv, "bn": norm, "act": act}


def _squeeze_excite(module: InertObject) -> dict[str, InertObject]:
    """Its pool and ReLU, which ours has as functions, are checked here."""
    gates = [name for name in ("SiLU", "hardsigmoid") if name in module.children]
    pool, reduce, relu, expand, gate = _parts(
        module, "avg_pool", "conv1", "relu", "conv2", *gates[:1] or ["SiLU"]
    )
    for part, class_name in ((pool, "AdaptiveAvgPool2d"), (relu, "ReLU")):
        _refuse_hooks(part)
        if part.class_name != class_name:
            raise UnreadableError(f"class is {part.class_name}, supported: {class_name}")
    if integer(pool, "output_size") != 1:
        raise UnreadableError(f"output_size is {pool.attribute('output_size')}, supported: 1")
    return {"reduce": reduce, "expand": expand, "gate": gate}


def _repvgg_gate(module: InertObject) -> InertObject:
    """RepVGG's own; its sigmoid is a function, so no module shows it."""
    down, up = _parts(module, "down", "up")
    gate = _stand_in("torch.nn.modules.activation.Sigmoid")
    return _stand_in("models.common.SEBlock", {"reduce": down, "expand": up, "gate": gate})


def _dense(module: InertObject) -> dict[str, InertObject]:
    conv, act, dropout = _parts(module, "dense_conv", "hardswish", "dropout")
    return {"conv": conv, "act": act, "dropout": dropout}


def _repvgg(module: InertObject) -> dict[str, InertObject]:
    """RepVGG's block, of YOLOv5-Lite or as YOLOv7's RepConv, before its branches are merged."""
    if "rbr_reparam" in module.children:
        raise UnreadableError(
            "rbr_reparam is one merged convolution, supported: the branches it was merged from"
        )
    act = "nonlinearity" if "nonlinearity" in module.children else "act"
    _parts(module, "rbr_dense", "rbr_1x1", act, optional=["rbr_identity", "se"])
    children, branches = module.children, {}
    for ours, theirs in {"kxk": "rbr_dense", "1x1": "rbr_1x1"}.items():
        chain = children[theirs]
        pair = ("conv", "bn") if "conv" in chain.children else ("0", "1")
        conv, norm = _parts(chain, *pair)
        branches[ours] = _stand_in("models.common.ConvBranch", {"conv": conv, "bn": norm})
    if "rbr_identity" in children:
        branches["identity"] = _stand_in(
            "models.common.IdentityBranch", {"bn": children["rbr_identity"]}
        )
    block = {
        "branches": _stand_in("torch.nn.modules.container.ModuleDict", branches),
        "act": children[act],
    }
    gate = children.get("se")
    if gate is None or gate.class_name == "Identity":
        return block
    linear = _stand_in("models.common.RepVGG", block)
    linear.__dict__["_modules"]["act"] = _stand_in("torch.nn.modules.linear.Identity")
    return {"conv": linear, "se": _repvgg_gate(gate), "act": children[act]}


def _pool(module: InertObject) -> dict[str, InertObject]:
    """YOLOv7's max-pools hold torch's: become it."""
    (pool,) = _parts(module, "m")
    _refuse_hooks(pool)
    if pool.class_name != "MaxPool2d":
        raise UnreadableError(f"m is {pool.class_name}, supported: MaxPool2d")
    names = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
    module.__dict__.update({name: pool.attribute(name) for name in names})
    return {}


def _implicit_head(module: InertObject) -> dict[str, InertObject]:
    """YOLOv7's IDetect, im (W (x + ia) + b), as a Detect of weight im W and bias im (W ia + b).

    The file's own tensors do not change; the folded ones are float32.
    """
    chain, added, scaled = _parts(module, "m", "ia", "im")
    folded: dict[str, InertObject] = {}
    for (name, conv), ia, im in zip(
        chain.children.items(), added.children.values(), scaled.children.values(), strict=True
    ):
        parameters = conv.attribute("_parameters")
        tensors = [(parameters or {}).get(key) for key in ("weight", "bias")]
        tensors += [(each.attribute("_parameters") or {}).get("implicit") for each in (ia, im)]
        plain = [each for each in tensors if isinstance(each, Tensor) and is_plain(each)]
        if len(plain) < len(tensors):
            raise UnreadableError(f"m.{name} has no plain weight, bias, ia and im")
        weight, bias, offset, scale = (each.detach().double() for each in plain)
        if offset.shape != (1, weight.shape[1], 1, 1) or scale.shape != (1, weight.shape[0], 1, 1):
            shapes = f"{tuple(offset.shape)} and {tuple(scale.shape)}"
            raise UnreadableError(
                f"ia.{name}, im.{name} is {shapes}, supported: (1, channels, 1, 1)"
            )
        factor = scale.view(-1)
        bias = factor * (weight[:, :, 0, 0] @ offset.view(-1) + bias)
        weight = factor.view(-1, 1, 1, 1) * weight
        made = _stand_in(conv.pickled_name)
        made.__dict__.update(conv.__dict__)
        made.__dict__["_parameters"] = {"weight": weight.float(), "bias": bias.float()}
        folded[name] = made
    module.__dict__["pickled_name"] = "models.yolo.Detect"
    return {"m": _stand_in("torch.nn.modules.container.ModuleList", folded)}


# Class in the file -> its submodules under our names.
REGROUPED: dict[str, Callable[[InertObject], dict[str, InertObject]]] = {
    "conv_bn_relu_maxpool": _conv_pool,
    "Shuffle_Block": _shuffle_unit,
    "DWConvblock": _separable,
    "CBH": _hardswish_conv,
    "LC_SEModule": _squeeze_excite,
    "Dense": _dense,
    "RepVGGBlock": _repvgg,
    "RepConv": _repvgg,
    "MP": _pool,
    "SP": _pool,
    "IDetect": _implicit_head,
}


def _depthwise(module: InertObject) -> dict[str, Any]:
    conv = _below(module, "dw_conv", "conv")
    return {"k": integer(conv, "kernel_size"), "s": integer(conv, "stride")}


def _lcnet_block(module: InertObject) -> dict[str, Any]:
    gate = _below(module, "se", "gate")
    values = {**_depthwise(module), "se": module.child("se") is not None}
    return values if gate is None else {**values, "gate": gate.class_name}


def _plain_conv(module: InertObject) -> dict[str, Any]:
    conv = module.child("conv")
    names = {"k": "kernel_size", "s": "stride", "g": "groups"}
    return {key: integer(conv, name) for key, name in names.items()}


def _dense_values(module: InertObject) -> dict[str, Any]:
    return {"k": integer(module.child("conv"), "kernel_size")}


def _branches(module: InertObject) -> dict[str, Any]:
    linear = module.child("conv") or module
    conv = _below(linear, "branches", "kxk", "conv")
    names = {"k": "kernel_size", "s": "stride", "p": "padding", "g": "groups"}
    values = {key: integer(conv, name) for key, name in names.items()}
    return {**values, "se": module.child("se") is not None}


def _below(module: InertObject | None, *names: str) -> InertObject | None:
    for name in names:
        module = module.child(name) if module else None
    return module


_POOL = {"k": "kernel_size", "s": "stride", "p": "padding"}
# Row -> the arguments that its module's attributes say, by the parameters of its builder.
READERS: dict[str, Callable[[InertObject], dict[str, Any]]] = {
    "Shuffle_Block": lambda module: {"s": integer(module, "stride")},
    "DWConvblock": _depthwise,
    "CBH": _plain_conv,
    "LC_Block": _lcnet_block,
    "Dense": _dense_values,
    "ADD": lambda module: {"weight": module.attribute("a")},
    "RepVGGBlock": _branches,
    "RepConv": _branches,
    "MP": lambda module: {"k": integer(module, "kernel_size")},
    "SP": lambda module: {"k": integer(module, "kernel_size"), "s": integer(module, "stride")},
    "MaxPool2d": lambda module: {key: integer(module, name) for key, name in _POOL.items()},
    "ZeroPad2d": lambda module: {"padding": module.attribute("padding")},
}
