"""The nine real architectures that the onnx package ships: where they are, and a form of them with real weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(path.stem.removeprefix("light_") for path in sorted(FOLDER.glob("light_*.onnx")))

LARGE = ("bvlc_alexnet", "vgg19", "zfnet512")
"""Those whose weights would take hundreds of megabytes."""


def light(name: str) -> Path:
    """A file of the nine; its weights are made in the graph, each of one value, by ConstantOfShape."""
    return FOLDER / f"light_{name}.onnx"


def stored_output(name: str) -> np.ndarray[Any, Any]:
    """What ONNX's reference implementation gives for `ramp`."""
    return numpy_helper.to_array(onnx.load_tensor(FOLDER / f"light_{name}_output_0.pb"))


def ramp(name: str) -> np.ndarray[Any, Any]:
    """The input that the stored output is for: one image that rises from 0 to 1."""
    graph = onnx.load(light(name)).graph
    given = {tensor.name for tensor in graph.initializer}
    (info,) = (info for info in graph.input if info.name not in given)
    shape = [dimension.dim_value for dimension in info.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def with_weights(name: str, path: Path) -> Path:
    """Write the model with random initialisers in place of those one-valued tensors, and without the last Softmax.

    As it ships, every output is the same number whatever the input is.
    """
    model = onnx.load(light(name))
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    random = np.random.default_rng(5)
    nodes, weights = [], []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(given[node.input[0]])
        if len(shape) in (2, 4):
            drawn = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            drawn = random.uniform(0.7, 1.3, shape)
        weights.append(numpy_helper.from_array(drawn.astype(np.float32), node.output[0]))
    if nodes[-1].op_type == "Softmax":
        last = nodes.pop()
        (before,) = (node for node in nodes if last.input[0] in node.output)
        before.output[list(before.output).index(last.input[0])] = last.output[0]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    model.ir_version = max(model.ir_version, 4)
    onnx.save(model, path)
    return path
