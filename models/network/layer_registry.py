"""Every module name that a row may have, and how its layer is built."""

from __future__ import annotations

from models.network import (
    attention_layers,
    conv_layers,
    darknet_layers,
    early_layers,
    ghost_layers,
    layer_rows,
    lite_layers,
    torch_layers,
    yolo_layers,
)

LAYERS: dict[str, layer_rows.LayerRow] = {
    **layer_rows.ROWS,
    **early_layers.ROWS,
    **torch_layers.ROWS,
    **conv_layers.ROWS,
    **ghost_layers.ROWS,
    **attention_layers.ROWS,
    **darknet_layers.ROWS,
    **lite_layers.ROWS,
    **yolo_layers.ROWS,
}
