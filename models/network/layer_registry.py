"""Every module name that a row may have, and how its layer is built."""

from __future__ import annotations

from models.network import early_layers, layer_rows, lite_layers

LAYERS: dict[str, layer_rows.LayerRow] = {
    **layer_rows.ROWS,
    **early_layers.ROWS,
    **lite_layers.ROWS,
}
