"""Layers of YOLOv5's relatives in a pickled network, rewritten to the submodules that ours have.

YOLOv5-Lite and YOLOv7 name their submodules otherwise, and keep convolution, norm and activation
side by side or apply an activation without a module. Here the stand-ins of such a layer are put
under the names of our layer, as if YOLOv5 had written it, so that the rest of the reader knows one
kind of network. Tensors are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from models.checkpoints.inert_pickle import InertObject, UnreadableError, integer


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
    gates = [name for name in ("SiLU", "hardsigmoid") if name in module.children]
    pool, reduce, relu, expand, gate = _parts(
        module, "avg_pool", "conv1", "relu", "conv2", *gates[:1] or ["SiLU"]
    )
    return {"pool": pool, "reduce": reduce, "relu": relu, "expand": expand, "gate": gate}


def _repvgg_gate(module: InertObject) -> InertObject:
    """RepVGG's own: pool, ReLU and sigmoid are functions, so no module shows them."""
    down, up = _parts(module, "down", "up")
    functions = {
        "pool": ("pooling.AdaptiveAvgPool2d", {"output_size": 1}),
        "relu": ("activation.ReLU", {}),
        "gate": ("activation.Sigmoid", {}),
    }
    made = {name: _stand_in(f"torch.nn.modules.{kind}") for name, (kind, _) in functions.items()}
    for name, (_, attributes) in functions.items():
        made[name].__dict__.update(attributes)
    return _stand_in(
        "models.common.SEBlock",
        {"pool": made["pool"], "reduce": down, "relu": made["relu"], "expand": up,
         "gate": made["gate"]},
    )  # fmt: skip


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
}
