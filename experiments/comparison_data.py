"""The images, labels and hyper-parameters that both checkouts are given."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.checkout import Checkout

# A recipe with which thirty epochs of twenty images teach a network something.
_LEARNING = """lr0: 0.006
warmup_epochs: 10.0
warmup_bias_lr: 0.006
cls: 2.0
mosaic: 0.2
"""
# Every augmentation and loss term that the default recipes leave off.
_STRONG = """mosaic: 0.8
mixup: 0.5
copy_paste: 0.5
degrees: 10.0
shear: 5.0
perspective: 0.0005
flipud: 0.3
fl_gamma: 1.5
warmup_epochs: 1.0
"""


def draw_data(checkout: Checkout, folder: Path) -> None:
    """Draw a small data set, half of its labels as polygons (for copy-paste).

    Raises:
        RunFailedError: data.synthetic failed.
    """
    checkout.draw_data(folder, images=24, size=96)
    for path in sorted((folder / "labels").rglob("*.txt"))[::2]:
        path.write_text(outlined(path.read_text(encoding="utf-8")), encoding="utf-8")


def outlined(labels: str) -> str:
    """YOLO box rows as polygon rows with the corners of the boxes."""
    rows = []
    for line in labels.splitlines():
        class_id, *box = line.split()
        x, y, width, height = map(float, box)
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        corners = (left, top, right, top, right, bottom, left, bottom)
        rows.append(" ".join([class_id, *(f"{min(max(each, 0), 1):.6f}" for each in corners)]))
    return "".join(f"{row}\n" for row in rows)


def write_hyperparameters(learning: Path, strong: Path) -> None:
    """Write the two hyper-parameter yamls of the training steps."""
    learning.write_text(_LEARNING, encoding="utf-8")
    strong.write_text(_STRONG, encoding="utf-8")


def coco128_yaml(checkout: Checkout, shared: Path, path: Path) -> Path:
    """Write the checkout's own coco128.yaml with the folder where the images are."""
    shipped = next((checkout.root / "data").rglob("coco128.yaml"))
    folder = f"path: {shared.resolve() / 'data' / 'coco128'}"
    text = re.sub(r"^path:.*$", folder, shipped.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    return path
