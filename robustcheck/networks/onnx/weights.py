"""Which constants of a graph are weights, to be trained, and which only look like it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from robustcheck.networks.onnx.graph import Graph, Node

PORTS: Final[dict[str, tuple[int, ...]]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "DeformConv": (1, 3),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "Gather": (0,),
}
"""Inputs at which an operator takes its weights."""

_PASSING: Final = frozenset(
    {
        "Identity",
        "Cast",
        "CastLike",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Expand",
        "Tile",
    }
)
_COMBINING: Final = frozenset({"Add", "Sub", "Mul", "Div", "Concat"})
_PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})
_MASKED: Final = -99.0
_DEPTH: Final = 12


def weight_names(graph: Graph) -> frozenset[str]:
    """Names of the float initialisers and constants of the main graph that are weights.

    A weight reaches, as it is or through changes of layout, an input at which an operator takes weights; or it is
    added, multiplied or joined to what the network computes (biases, scales, embeddings), has more than one element,
    and is neither a mask, nor a buffer by the exporter's own word, nor applied to the input before any layer (which
    is normalisation).

    Args:
        graph: the main graph.
    """
    layers = _after_layers(graph)
    found: set[str] = set()
    for name, array in _candidates(graph):
        kind = graph.origins.get(name)
        said = kind == "PARAMETER" and bool(graph.consumers(name))
        if said or _is_used_as_weight(graph, name, _Candidate(name, array, kind, layers), _DEPTH):
            found.add(name)
    return frozenset(found)


def _candidates(graph: Graph) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for name, array in graph.initialisers.items():
        if is_float(array):
            yield name, array
    for node in graph.nodes:
        if node.op == "Constant" and (held := graph.constant(node.outputs[0])) is not None and is_float(held):
            yield node.outputs[0], held


def is_float(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array holds real floating-point numbers, bfloat16 included."""
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


@dataclass(frozen=True)
class _Candidate:
    """A constant that may be a weight; `layers` are the values that depend on a product with weights."""

    name: str
    array: np.ndarray[Any, Any]
    kind: str | None
    layers: frozenset[str]


def _is_used_as_weight(graph: Graph, name: str, candidate: _Candidate, depth: int) -> bool:
    """Whether a value, which is the candidate or a view of it, is read where weights are."""
    if depth == 0:
        return False
    for where, node, position in _readers(graph, name):
        if node.op == "Einsum" or position in PORTS.get(node.op, ()):
            return True
        if node.op in _COMBINING and _joins_the_network(where, node, position, candidate):
            return True
        if (node.op in _PASSING and position == 0) or (node.op == "Concat" and _all_constant(where, node)):
            outputs = [output for output in node.outputs if output]
            if any(_is_used_as_weight(where, output, candidate, depth - 1) for output in outputs):
                return True
    return False


def _readers(graph: Graph, name: str) -> Iterator[tuple[Graph, Node, int]]:
    for node, position in graph.consumers(name):
        if position >= 0:
            yield graph, node, position
            continue
        for body in node.subgraphs:
            if name in body.outer_names:
                yield from _readers(body, name)


def _all_constant(graph: Graph, node: Node) -> bool:
    return all(graph.constant(name) is not None for name in node.inputs)


def _joins_the_network(graph: Graph, node: Node, position: int, candidate: _Candidate) -> bool:
    others = [other for index, other in enumerate(node.inputs) if index != position]
    if candidate.array.size < 2 or not any(other in candidate.layers for other in others):
        return False
    if node.op == "Div" and position == 0:
        return False
    if node.op == "Add" and any(_is_product(graph, other) for other in others):
        return True
    # What the exporter calls a buffer or a constant of the code is none; a Constant node is a number of the code.
    return candidate.kind is None and candidate.name in graph.initialisers and not _is_mask(candidate.array)


def _is_product(graph: Graph, name: str) -> bool:
    """Whether a value is the result of a product with weights, its layout changed or not."""
    for _ in range(_DEPTH):
        node = graph.producer(name)
        if node is None:
            return False
        if node.op in _PRODUCTS:
            return True
        if node.op not in _PASSING:
            return False
        name = node.inputs[0]
    return False


def _is_mask(array: np.ndarray[Any, Any]) -> bool:
    return bool(np.any(array.astype(np.float32) <= _MASKED))


def _after_layers(graph: Graph) -> frozenset[str]:
    """Values that depend on a product with weights, and all values of sub-graphs."""
    found: set[str] = set()
    for where, node in graph.walk():
        if where is not graph or node.op in _PRODUCTS or node.op in PORTS or any(name in found for name in node.inputs):
            found.update(node.outputs)
    return frozenset(found)
