"""Finds the nodes of a graph that make up activation functions, whatever they are used for.

Nodes are not compared with templates: each group of elementwise nodes with one input and one output is evaluated on
numbers, so that the order of operands and the form that an exporter chose do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcheck.networks.kinds import kind_name
from robustcheck.networks.onnx.curve_fitting import kind_of
from robustcheck.networks.onnx.graph import Graph, Node
from robustcheck.networks.onnx.probing import CURVED, elementwise, evaluate, exponent, fixed, is_float, number

_LARGEST = 32
_FLOATS = frozenset({0, 1, 10, 11, 16})
_CLOSED = ("leaky_relu", "hardtanh", "elu")
"""Functions that another activation may turn into one of their own kind."""
_FX_NODE = "pkg.torch.onnx.fx_node"


@dataclass(frozen=True, eq=False)
class Match:
    """Nodes, in the order of the graph, that compute one activation function of `input`."""

    kind: str
    nodes: tuple[Node, ...]
    input: str
    output: str
    slope: str | None = None


@dataclass(frozen=True)
class _Region:
    """Elementwise nodes with one varying input; `vector` is the one constant among them that has several numbers."""

    nodes: tuple[Node, ...]
    input: str
    vector: str | None
    curved: bool


def matches(graph: Graph) -> tuple[Match, ...]:
    """Every activation function among the nodes of a graph itself, the largest groups of nodes, in graph order.

    A value inside of a group is read nowhere else. A group that is the same function as a part of it, as a ReLU of a
    ReLU is, does not count.
    """
    by_end: dict[int, list[Match]] = {}
    sizes = _sizes(graph)
    for node in graph.nodes:
        if elementwise(graph, node) and sizes.isdisjoint(node.outputs):
            cuts: set[str] = set()
            for region in _regions(graph, node):
                match = _match(graph, region)
                if match is not None and not _repeats(match, cuts, by_end):
                    by_end.setdefault(node.index, []).append(match)
                cuts.add(region.input)
    chosen: list[Match] = []
    taken: set[int] = set()
    found = [match for each in by_end.values() for match in each]
    for match in sorted(found, key=lambda match: -len(match.nodes)):
        indices = {node.index for node in match.nodes}
        if not indices & taken:
            taken |= indices
            chosen.append(match)
    return tuple(sorted(chosen, key=lambda match: match.nodes[-1].index))


def _sizes(graph: Graph) -> set[str]:
    """Values that are computed from nothing but shapes and single numbers, as the padding of a layer may be."""
    found: set[str] = set()
    for node in graph.nodes:
        shape = node.op in ("Shape", "Size")
        if shape or all(name in found or _is_size(graph, name) for name in node.inputs if name):
            found.update(() if node.subgraphs else node.outputs)
    return found


def _is_size(graph: Graph, name: str) -> bool:
    """Whether a constant can be one of shapes: a tensor of several floats is a table or a weight."""
    constant = graph.constant(name)
    return constant is not None and not (constant.size > 1 and is_float(constant))


def _repeats(match: Match, cuts: set[str], by_end: Mapping[int, list[Match]]) -> bool:
    """Whether all that the nodes compute goes through a part of them that is the same function already.

    `cuts` are the values that alone decide the output.
    """
    indices = {node.index for node in match.nodes}
    parts = (part for index in indices for part in by_end.get(index, ()))
    return any(
        _alike(part.kind, match.kind)
        and (part.output == match.output or part.output in cuts)
        and {node.index for node in part.nodes} <= indices
        for part in parts
    )


def _alike(part: str, whole: str) -> bool:
    """Whether the whole may be the part and another activation after or before it, as two leaky ReLUs are one."""
    names = kind_name(part), kind_name(whole)
    return part == whole or (names[0] == names[1] and names[0] in _CLOSED) or names == ("celu", "elu")


def _regions(graph: Graph, end: Node) -> Iterator[_Region]:
    """Groups that end with a node, growing towards their input; each has one input that varies."""
    nodes: dict[int, Node] = {}
    varying: set[str] = set()
    vectors: set[str] = set()
    grown: Node | None = end
    curved = False
    while grown is not None and len(nodes) < _LARGEST:
        nodes[grown.index] = grown
        curved = curved or grown.op in CURVED
        varying.discard(grown.outputs[0])
        for position, name in enumerate(grown.inputs):
            if not name or number(graph, name) is not None or exponent(graph, grown, position) is not None:
                continue
            constant = fixed(graph, name)
            if constant is not None and not is_float(constant):
                return
            (varying if constant is None else vectors).add(name)
        if len(varying) == 1 and len(vectors) <= 1:
            ordered = tuple(nodes[index] for index in sorted(nodes))
            yield _Region(ordered, next(iter(varying)), next(iter(vectors), None), curved)
        grown = _producer_of_last(graph, varying, nodes)


def _producer_of_last(graph: Graph, varying: set[str], nodes: dict[int, Node]) -> Node | None:
    """The node to take in next: the last that makes a varying input, if it can be taken in."""
    producers = [
        (_reads_constants_only(graph, node), node.index, name)
        for name in varying
        if (node := graph.producer(name)) is not None
    ]
    if not producers:
        return None
    name = max(producers)[2]
    node = graph.producer(name)
    readers = graph.consumers(name)
    inside = all(reader.index in nodes and position >= 0 for reader, position in readers)
    return node if node is not None and inside and not graph.is_output(name) and elementwise(graph, node) else None


def _reads_constants_only(graph: Graph, node: Node) -> bool:
    return bool(node.inputs) and all(fixed(graph, name) is not None for name in node.inputs if name)


def _match(graph: Graph, region: _Region) -> Match | None:
    end = region.nodes[-1]
    output = end.outputs[0]
    if not region.curved or not _same_form(graph, region.input, output):
        return None
    if end.op == "PRelu" and len(region.nodes) == 1:
        slope = end.inputs[1]
        return Match("prelu", region.nodes, region.input, output, slope) if fixed(graph, slope) is not None else None
    if any(node.op == "PRelu" for node in region.nodes):
        return None
    if region.vector is not None:
        return _vector_prelu(graph, region)

    def curve(x: Tensor) -> Tensor:
        return evaluate(graph, region.nodes, {region.input: x})

    by_erf = any(
        node.op == "Erf" or (node.op == "Gelu" and node.attributes.get("approximate", "none") == "none")
        for node in region.nodes
    )
    try:
        kind = _honest(region, kind_of(curve, by_erf=by_erf, dtype=_constant_type(graph, region)))
    except (RuntimeError, TypeError):  # the nodes do not take floats
        return None
    return None if kind is None else Match(kind, region.nodes, region.input, output)


def _honest(region: _Region, kind: str | None) -> str | None:
    """The kind as the nodes themselves say it, where values alone cannot tell."""
    if kind in ("elu", "celu") and any(node.op == "Celu" for node in region.nodes):
        return "celu"
    if (
        kind is not None
        and kind.startswith("leaky_relu(slope=")
        and not any(node.op == "LeakyRelu" for node in region.nodes)
    ):
        # An absolute value is a leaky ReLU too, by its values.
        return kind if 0 < float(kind[len("leaky_relu(slope=") : -1]) < 1 else None
    if kind is not None and kind_name(kind) == "hardtanh":
        noted = [node.metadata.get(_FX_NODE, "") for node in region.nodes]
        if any("aten.clamp" in each or "aten.clip" in each for each in noted):
            return None
        # A clamp to any range would be a hard tanh; only an exporter's note tells the two apart.
        return kind if kind == "hardtanh" or any("hardtanh" in each for each in noted) else None
    return kind


def _vector_prelu(graph: Graph, region: _Region) -> Match | None:
    """A PReLU with one slope a channel that is written as max(0, x) + slope·min(0, x)."""
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    for slope in (0.25, 0.75):
        given = {region.input: x, str(region.vector): torch.tensor(slope, dtype=torch.float64)}
        expected = torch.where(x > 0, x, slope * x)
        found = evaluate(graph, region.nodes, given)
        if not bool(((found - expected).abs() < 1e-9).all()):
            return None
    return Match("prelu", region.nodes, region.input, region.nodes[-1].outputs[0], region.vector)


def _same_form(graph: Graph, source: str, target: str) -> bool:
    """Whether the values can be a function's input and output: floats, and of one rank, as far as is known."""
    values = [graph.values.get(source), graph.values.get(target)]
    if any(value is not None and value.element_type not in _FLOATS for value in values):
        return False
    types = {value.element_type for value in values if value is not None and value.element_type}
    shapes = [value.shape for value in values if value is not None and value.shape is not None]
    return len(types) < 2 and (len(shapes) < 2 or len(shapes[0]) == len(shapes[1]))


def _constant_type(graph: Graph, region: _Region) -> np.dtype[Any]:
    """The narrowest type of the constants."""
    arrays = [fixed(graph, name) for node in region.nodes for name in node.inputs if name]
    types = [array.dtype for array in arrays if array is not None and is_float(array)]
    return min(types, key=lambda dtype: dtype.itemsize, default=np.dtype("float32"))
