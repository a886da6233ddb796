"""Tiny ONNX detectors whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
OUR_METADATA = {
    "names": json.dumps(["cat", "dog"]),
    "stride": json.dumps([8, 16, 32]),
    "head": json.dumps("decoded"),
}


def save_detector(
    path: Path,
    rows: Sequence[Sequence[float]],
    *,
    input_shape: Sequence[int | str] = ("batch", 3, "height", "width"),
    metadata: Mapping[str, str] = OUR_METADATA,
    float_type: int = TensorProto.FLOAT,
) -> Path:
    """A file that answers `rows` for every image, objectness times the image's brightest value.

    So a black image has nothing in it, and one with a white pixel has everything.

    Args:
        path: the .onnx to write.
        rows: (N, 5 + C) decoded predictions.
        input_shape: numbers for fixed sizes, names for free ones.
        metadata: key -> text.
        float_type: of input and output.
    """
    numpy_type = helper.tensor_dtype_to_np_dtype(float_type)
    predictions = np.array(rows, numpy_type)[None]
    objectness_column = np.zeros(predictions.shape[2], numpy_type)
    objectness_column[4] = 1
    constants = {
        "predictions": predictions,
        "objectness_column": objectness_column,
        "other_columns": 1 - objectness_column,
        "shape": np.array([-1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["brightest", "shape"], ["per_image"]),
        helper.make_node("Mul", ["per_image", "objectness_column"], ["scaled"]),
        helper.make_node("Add", ["scaled", "other_columns"], ["factors"]),
        helper.make_node("Mul", ["predictions", "factors"], ["output0"]),
    ]
    output_shape = [input_shape[0], *predictions.shape[1:]]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", float_type, list(input_shape))],
        [helper.make_tensor_value_info("output0", float_type, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return save_graph(path, graph, metadata)


def save_square_detector(
    path: Path, *, side: int = 16, step: int = 4, image_hw: tuple[int, int] = (64, 64)
) -> Path:
    """A file that finds filled squares: red ones are cats, green ones dogs.

    Its score is that of the color, from 0 for 0.6 to 1 for full. Where `step` divides a square's
    corner, its box is the square.

    Args:
        path: the .onnx to write.
        side: of the squares in pixels.
        step: pixels between the positions that are looked at.
        image_hw: the input size.
    """
    rows, columns = ((edge - side) // step + 1 for edge in image_hw)
    tops, lefts = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    corners = np.stack([lefts.ravel(), tops.ravel()], axis=1) * step
    boxes = np.concatenate([corners + side / 2, np.full_like(corners, side)], axis=1)
    constants = {
        "boxes": boxes[None].astype(np.float32),
        "shape": np.array([0, 3, -1], np.int64),
        "colors": np.array([0, 1], np.int64),
        "least": np.array(0.6, np.float32),
        "gain": np.array(2.5, np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    pool = {"kernel_shape": [side, side], "strides": [step, step]}
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], **pool),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rgb"], perm=[0, 2, 1]),
        helper.make_node("Gather", ["rgb", "colors"], ["red_green"], axis=2),
        helper.make_node("Sub", ["red_green", "least"], ["above"]),
        helper.make_node("Mul", ["above", "gain"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "zero", "one"], ["classes"]),
        helper.make_node("ReduceMax", ["classes"], ["best"], axes=[2], keepdims=1),
        helper.make_node("Ceil", ["best"], ["objectness"]),
        helper.make_node("Mul", ["objectness", "zero"], ["nothing"]),
        helper.make_node("Add", ["boxes", "nothing"], ["all_boxes"]),
        helper.make_node("Concat", ["all_boxes", "objectness", "classes"], ["output0"], axis=2),
    ]
    shapes = (["batch", 3, *image_hw], ["batch", len(boxes), 7])
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return save_graph(path, graph, OUR_METADATA)


def save_graph(path: Path, graph: onnx.GraphProto, metadata: Mapping[str, str]) -> Path:
    """Write a graph as a model that onnxruntime reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path
