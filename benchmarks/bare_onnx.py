"""The floor of a cold start: one image through an ONNX file, with nothing of this project.

`python benchmarks/bare_onnx.py FILE.onnx IMAGE`: a program for a process of its own. It decodes,
letterboxes, runs the network once, and prints the shapes of its outputs; boxes are not decoded.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np


def main(weights: str, image: str) -> None:
    """Run the network on the image."""
    import onnxruntime  # here, as everywhere in the project

    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    height, width = (side if isinstance(side, int) else 640 for side in given.shape[2:])
    pixels = np.asarray(cv2.imread(image), np.uint8)[..., ::-1]
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    sides = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    padded = np.full((height, width, 3), 114, np.uint8)
    padded[: sides[1], : sides[0]] = cv2.resize(pixels, sides)
    batch = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32) / 255
    outputs = session.run(None, {given.name: batch})
    sys.stdout.write(f"{[output.shape for output in outputs]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
