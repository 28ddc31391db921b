"""Which constants of a graph are weights, to be trained, and which only look like it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from robustcheck.networks.onnx.graph import Graph, Node
from robustcheck.networks.onnx.untying import is_filled

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

_STATES: Final = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_COMBINING: Final = frozenset({"Add", "Sub", "Mul", "Div", "Concat", "Max", "Min", "Pow", "Where"})
_PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})
_NORMS: Final = frozenset(op for op in PORTS if op.endswith("Normalization"))
_VIEWS: Final = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_PASSING: Final = _VIEWS | {"CastLike", "Expand", "Tile", "Slice", "Split"}
_NOT_DIFFERENTIABLE: Final = frozenset({"Shape", "Size", "ConstantOfShape", "Range", "NonZero", "ArgMax", "ArgMin"})
_GENERATED: Final = re.compile(r"(val_|_?onnx::|/|_?[Cc]onst|_tensor_constant|[0-9]+$).*")
_MASKED: Final = -99.0
_DEPTH: Final = 12


def weight_names(graph: Graph) -> frozenset[str]:
    """Names of the float initialisers of the main graph that are weights; of Constant nodes where it has no others.

    A weight reaches an input at which an operator takes weights, by way of constants alone; or it is added, multiplied
    or joined to what the network computes (biases, scales, embeddings) and has more than one element. Not weights are
    masks, what the exporter calls a buffer or a literal, what is applied to the input before any layer (which is
    normalisation), and the ones and zeros of normalisations that have no scale and offset of their own.

    Args:
        graph: the main graph.
    """
    layers = _after_layers(graph)
    return frozenset(
        name
        for name, array in _candidates(graph)
        if _is_weight(graph, _Candidate(name, array, graph.origins.get(name), layers))
    )


def untrained(graph: Graph, weights: frozenset[str]) -> tuple[str, ...]:
    """Float initialisers of two or more elements that are read and are neither weights nor running statistics."""
    statistics = {name for node in graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5] if name}
    return tuple(
        name
        for name, array in graph.initialisers.items()
        if is_float(array) and array.size > 1 and graph.consumers(name) and name not in weights | statistics
    )


def fan_in(graph: Graph, name: str) -> int | None:
    """How many numbers each output of a product with this weight, or a view of it, sums; None for other weights."""
    for node, position in graph.consumers(name):
        if node.op in ("MatMul", "Gemm") and position in (0, 1):
            value = graph.values.get(name)
            sizes = () if value is None or value.shape is None else value.shape
            contracted = -2 if position == 1 else -1
            if node.op == "Gemm" and node.attributes.get("transB" if position else "transA", 0):
                contracted = -3 - contracted
            size = sizes[contracted] if len(sizes) >= 2 else None
            return size if isinstance(size, int) else None
        if node.op in _VIEWS and position == 0 and (found := fan_in(graph, node.outputs[0])) is not None:
            return found
    return None


def norm_role(graph: Graph, name: str) -> float | None:
    """1 for the scale and 0 for the offset of a normalisation that is written out in nodes; None for other weights."""
    for node, position in graph.consumers(name):
        if node.op in _VIEWS and position == 0 and (found := norm_role(graph, node.outputs[0])) is not None:
            return found
        if node.op in ("Mul", "Add") and position >= 0 and _is_normalised(graph, node.inputs[1 - position], _DEPTH):
            return 1.0 if node.op == "Mul" else 0.0
    return None


def _is_normalised(graph: Graph, name: str, depth: int) -> bool:
    """Whether a value is what a normalisation divided by a deviation, scaled or not."""
    node = graph.producer(name)
    if node is None or depth == 0:
        return False
    if node.op in _NORMS:
        return True
    if node.op == "Div":
        divisor = graph.producer(node.inputs[1])
        return divisor is not None and divisor.op == "Sqrt"
    if node.op in _VIEWS:
        return _is_normalised(graph, node.inputs[0], depth - 1)
    scaled = [other for other in node.inputs if other not in graph.initialisers]
    return node.op == "Mul" and len(scaled) == 1 and _is_normalised(graph, scaled[0], depth - 1)


@dataclass(frozen=True)
class _Candidate:
    """A constant that may be a weight; `layers` are the values that depend on a product with weights."""

    name: str
    array: np.ndarray[Any, Any]
    kind: str | None
    layers: frozenset[str]


def _candidates(graph: Graph) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    stored = [(name, array) for name, array in graph.initialisers.items() if is_float(array)]
    yield from stored
    if any(array.size > 1 for _, array in stored):
        return
    # Some exporters write weights as Constant nodes; those that have initialisers write literals so.
    for node in graph.nodes:
        if node.op == "Constant" and "value" in node.attributes:
            held = graph.constant(node.outputs[0])
            if held is not None and is_float(held):
                yield node.outputs[0], held


def is_float(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array holds real floating-point numbers, bfloat16 included."""
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def _is_weight(graph: Graph, candidate: _Candidate) -> bool:
    if candidate.kind is not None and candidate.kind != "None":
        return candidate.kind == "PARAMETER" and bool(graph.consumers(candidate.name))
    return _is_used_as_weight(graph, candidate.name, candidate, _DEPTH)


def _is_used_as_weight(graph: Graph, name: str, candidate: _Candidate, depth: int) -> bool:
    """Whether a value, which is the candidate or made of it and constants, is read where weights are."""
    if depth == 0:
        return False
    for where, node, position in _readers(graph, name):
        if node.op == "Einsum" or position in PORTS.get(node.op, ()):
            if _fits_port(where, node, candidate, direct=depth == _DEPTH):
                return True
            continue
        if position in _STATES.get(node.op, ()) and candidate.array.size > 1 and not is_filled(candidate.array):
            return True
        if node.op in _COMBINING and _joins_the_network(where, node, position, candidate):
            return True
        passes = node.op in _PASSING and position == 0
        if passes or (node.op not in _NOT_DIFFERENTIABLE and _of_constants(where, node, _DEPTH)):
            outputs = [output for output in node.outputs if output]
            if any(_is_used_as_weight(where, output, candidate, depth - 1) for output in outputs):
                return True
    return False


def _fits_port(graph: Graph, node: Node, candidate: _Candidate, *, direct: bool) -> bool:
    """Whether what stands where weights do is one: not a lone number made wide, nor the scale of a norm without one."""
    if candidate.array.size < 2 and not direct:
        return False
    if node.op not in _NORMS or not is_filled(candidate.array):
        return True
    generated = candidate.name not in graph.initialisers or _GENERATED.fullmatch(candidate.name) is not None
    # Group normalisation is written as an instance normalisation of its groups, with ones and zeros.
    before = graph.producer(node.inputs[0])
    grouped = node.op == "InstanceNormalization" and before is not None and before.op == "Reshape"
    return not (generated or grouped)


def _readers(graph: Graph, name: str) -> Iterator[tuple[Graph, Node, int]]:
    for node, position in graph.consumers(name):
        if position >= 0:
            yield graph, node, position
            continue
        for body in node.subgraphs:
            if name in body.outer_names:
                yield from _readers(body, name)


def _of_constants(graph: Graph, node: Node, depth: int) -> bool:
    """Whether a node reads constants alone, and what is made of them."""
    if not node.inputs or node.subgraphs or depth == 0:
        return False
    for name in node.inputs:
        if not name or graph.constant(name) is not None:
            continue
        producer = graph.producer(name)
        if producer is None or not _of_constants(graph, producer, depth - 1):
            return False
    return True


def _joins_the_network(graph: Graph, node: Node, position: int, candidate: _Candidate) -> bool:
    others = [other for index, other in enumerate(node.inputs) if index != position]
    if not any(other in candidate.layers for other in others) or (node.op == "Where" and position == 0):
        return False
    if candidate.array.size < 2 and not _is_named_number(graph, candidate):
        return False
    if node.op == "Div" and position == 0:
        return False
    if node.op == "Add" and any(_is_product(graph, other) for other in others):
        return True
    # A Constant node is a number of the code.
    return candidate.name in graph.initialisers and not _is_mask(candidate.array)


def _is_named_number(graph: Graph, candidate: _Candidate) -> bool:
    """Whether a lone number is a parameter: PyTorch's legacy exporter writes literals as Constant nodes."""
    legacy = graph.exporter == "pytorch" and not graph.origins
    return legacy and candidate.name in graph.initialisers and _GENERATED.fullmatch(candidate.name) is None


def _is_product(graph: Graph, name: str) -> bool:
    """Whether a value is the result of a product with weights, its layout changed or not."""
    for _ in range(_DEPTH):
        node = graph.producer(name)
        if node is None:
            return False
        if node.op in _PRODUCTS:
            return True
        if node.op not in _VIEWS:
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
