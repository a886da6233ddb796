"""What a program does with YOLOv5's object; the same lines run with its package and with ours.

`python hub_program.py OUT WEIGHTS SIZE IMAGE...` runs them with the package yolov5 of PyPI, in a
process of its own: that package and this project both have a module `models`.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("xyxy", "xyxyn", "xywh", "xywhn")


def use(model: Any, images: list[str], sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Everything that calls of the object give: name of the call and of what it gave -> value."""
    found: dict[str, Any] = {"model": (dict(model.names), int(model.stride), model.conf, model.iou)}
    first, second, third = sizes
    model.max_det = 300
    for number, image in enumerate(images):
        found |= noted(f"path {number}", model(image, size=first))
        found |= noted(f"PIL {number}", model(Image.open(image), size=second))
        pixels = np.asarray(Image.open(image).convert("RGB"))
        found |= noted(f"array {number}", model(pixels, size=third))
    found |= noted("batch", model(images, size=first))
    model.conf, model.iou, model.max_det = 0.02, 0.7, 9
    found |= noted("loose", model(images, size=third))
    model.agnostic, model.classes, model.max_det = True, [0, 2, 16, 27], 100
    found |= noted("some classes", model(images, size=first))
    model.agnostic, model.classes, model.multi_label = False, None, True
    return found | noted("several labels", model(images[:2], size=first))


def noted(call: str, results: Any) -> dict[str, Any]:
    """Each attribute and method of the results, by its name."""
    found: dict[str, Any] = {}
    for index in range(len(results)):
        for kind in KINDS:
            name, table = f"{call} {kind} {index}", getattr(results.pandas(), kind)[index]
            found[name] = getattr(results, kind)[index].numpy()
            found[f"{name} columns"] = list(table.columns)
            found[f"{name} table"] = table.iloc[:, :6].to_numpy(float)
            found[f"{name} names"] = list(table["name"])
        found[f"{call} single {index}"] = results.tolist()[index].xyxy[0].numpy()
    crops = results.crop(save=False)
    found[f"{call} crops"] = [(crop["label"], crop["im"].shape, int(crop["cls"])) for crop in crops]
    found[f"{call} whole"] = (len(results), tuple(results.s), list(results.files))
    text = str(results)
    for plural, theirs in (("sandwiches", "sandwichs"), ("knives", "knifes")):
        text = text.replace(plural, theirs)  # the package adds an s to anything
    found[f"{call} text"] = text.splitlines()[:-1]  # the last line has times
    return found


def main() -> None:
    """Use the package's object and save what it gives."""
    out, weights, sizes, *images = sys.argv[1:]
    first, second, third = (int(size) for size in sizes.split(","))
    warnings.simplefilter("ignore")
    import yolov5

    found = use(yolov5.load(weights, device="cpu"), images, (first, second, third))
    Path(out).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
