"""Tells activation functions of a graph from gates and from functions that make the network's output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from robustcheck.networks.kinds import SQUASHING, kind_name
from robustcheck.networks.onnx.graph import Graph, Node
from robustcheck.networks.onnx.matching import Match
from robustcheck.networks.onnx.probing import fixed, number

_CARRIERS: Final = frozenset(
    [
        *("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Tile", "Identity", "Cast", "CastLike"),
        *("Dropout", "Split", "Slice", "Gather", "Concat", "Resize", "Upsample", "Softmax", "LogSoftmax"),
        *("SplitToSequence", "SequenceAt", "DepthToSpace", "SpaceToDepth"),
    ]
)
_ARITHMETIC: Final = frozenset({"Add", "Sub", "Mul", "Div", "Neg"})
_PRODUCTS: Final = frozenset({"Mul", "MatMul", "Einsum", "Gemm"})
_OUTPUTS: Final = SQUASHING | {"softplus"}

End = Literal["output", "product"]


def is_site(graph: Graph, match: Match) -> bool:
    """Whether a match is an activation function between layers.

    A squashing function is a gate where its result, whatever its shape was changed to, is multiplied with another
    tensor, and makes the output where the result leaves the network with no layer after it. What is computed of weights
    alone, as the bias that a table of positions gives, is squashed for a scale.
    """
    name = kind_name(match.kind)
    shifted = name == "relu6" and _is_shifted(graph, match)
    if name not in _OUTPUTS and not shifted:
        return True
    # A logarithm of a sigmoid is one function that has no name in the catalogue.
    if name == "sigmoid" and any(node.op == "Log" for node, _ in graph.consumers(match.output)):
        return False
    if name in SQUASHING and not _depends_on_input(graph, match.input):
        return False
    ends = set(_ends(graph, match.output))
    if shifted:
        return "product" not in ends
    return "output" not in ends and not (name in SQUASHING and "product" in ends)


def _depends_on_input(graph: Graph, name: str) -> bool:
    """Whether a value changes with the network's input; all that a sub-graph reads from outside may."""
    given = {value.name for value in graph.inputs}
    waiting, seen = [name], set()
    while waiting:
        each = waiting.pop()
        node = graph.producer(each)
        if each in given or (node is None and graph.parent is not None) or (node is not None and node.subgraphs):
            return True
        if each in seen or node is None:
            continue
        seen.add(each)
        waiting.extend(node.inputs)
    return False


def _is_shifted(graph: Graph, match: Match) -> bool:
    """Whether the input is x + 3, the first step of a hard sigmoid written out."""
    node = graph.producer(match.input)
    return node is not None and node.op == "Add" and any(number(graph, name) == 3 for name in node.inputs)


def _ends(graph: Graph, output: str) -> Iterator[End]:
    """What a value arrives at with no layer in between."""
    waiting, seen = [(graph, output)], set()
    while waiting:
        inside, name = waiting.pop()
        if (id(inside), name) in seen:
            continue
        seen.add((id(inside), name))
        if inside.is_output(name):
            if inside.parent is None:
                yield "output"
            else:
                waiting += [(inside.parent, outer) for outer in _outer_names(inside, inside.parent, name)]
        for node, position in inside.consumers(name):
            if position < 0:
                continue
            if _is_product(inside, node):
                yield "product"
            elif _carries(inside, node, position):
                waiting += [(inside, each) for each in node.outputs if each]


def _is_product(graph: Graph, node: Node) -> bool:
    """Whether tensors are multiplied; functions of other domains may do so."""
    if "::" in node.op:
        return True
    if node.op not in _PRODUCTS or (node.op == "Gemm" and len(node.inputs) < 2):
        return False
    factors = {name for name in node.inputs[:2] if name}
    if node.op == "Mul":
        return len([name for name in factors if not _is_scalar(graph, name)]) > 1
    return len([name for name in factors if fixed(graph, name) is None]) > 1


def _carries(graph: Graph, node: Node, position: int) -> bool:
    if node.op in _CARRIERS:
        return position == 0 or node.op == "Concat"
    if node.op in _ARITHMETIC:
        return len({name for name in node.inputs if not _is_scalar(graph, name)}) == 1
    return False


def _is_scalar(graph: Graph, name: str) -> bool:
    array = fixed(graph, name)
    return array is not None and array.size == 1


def _outer_names(body: Graph, parent: Graph, name: str) -> Iterator[str]:
    """What the node that a sub-graph belongs to calls one of the sub-graph's outputs."""
    positions = [position for position, value in enumerate(body.outputs) if value.name == name]
    for node in parent.nodes:
        if any(each is body for each in node.subgraphs):
            # The first output of a loop's body is its condition.
            skipped = 1 if node.op == "Loop" else 0
            yield from (node.outputs[p - skipped] for p in positions if 0 <= p - skipped < len(node.outputs))
