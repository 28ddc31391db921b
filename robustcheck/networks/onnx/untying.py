"""Gives each layer a tensor of its own again where an exporter stored equal tensors once.

Networks that were never trained have many equal tensors: scales of one, biases and running means of zero. Exporters
keep one of them, and every layer reads it. Trained as it stands, unrelated layers would be tied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from robustcheck.networks.onnx.graph import Graph, Node

_STATISTICS: Final = {"BatchNormalization": (3, 4)}


@dataclass(frozen=True)
class Tie:
    """A node's input that reads a copy of a shared tensor; in the file it reads `original`, perhaps by an Identity."""

    copy: str
    original: str
    node: int
    position: int


def is_filled(array: np.ndarray[Any, Any]) -> bool:
    """Whether all elements of an array are the same number."""
    return bool(array.size and (array == array.reshape(-1)[0]).all())


def untie(graph: Graph) -> tuple[Graph, tuple[Tie, ...]]:
    """The graph with a copy for each further reader of a tensor that was stored once for several.

    Copied are tensors of one repeated number with at least two elements, and running statistics. Readers that share
    another tensor as well, which is not of one number, are uses of one layer, and go on sharing.

    Args:
        graph: a main graph; unchanged.
    """
    ties: list[Tie] = []
    inputs = {node.index: list(node.inputs) for node in graph.nodes}
    initialisers, values, origins = dict(graph.initialisers), dict(graph.values), dict(graph.origins)
    for name, array in graph.initialisers.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            continue
        # A weight keeps its name; what else the exporter stored with it gets another.
        uses = sorted(_uses(graph, name, 8), key=lambda use: use[1] in _STATISTICS.get(use[0].op, ()))
        filled = is_filled(array) and array.size > 1
        copies: dict[tuple[Any, ...], str] = {}
        for node, position in uses:
            if len(uses) < 2 or not (filled or position in _STATISTICS.get(node.op, ())):
                continue
            key = (*_layer(graph, node), position)
            if key not in copies:
                copies[key] = name if not copies else _free(f"{name}_{len(copies)}", initialisers, values)
            copy = copies[key]
            if copy == name:
                continue
            if copy not in initialisers:
                initialisers[copy] = array
                values[copy] = replace(graph.values[name], name=copy)
                if position in _STATISTICS.get(node.op, ()):
                    origins[copy] = "BUFFER"
                elif name in origins:
                    origins[copy] = origins[name]
            inputs[node.index][position] = copy
            ties.append(Tie(copy, name, node.index, position))
    if not ties:
        return graph, ()
    changed = {tie.node for tie in ties}
    nodes = tuple(
        replace(node, inputs=tuple(inputs[node.index])) if node.index in changed else node for node in graph.nodes
    )
    return replace(graph, nodes=nodes, initialisers=initialisers, values=values, origins=origins), tuple(ties)


def _uses(graph: Graph, name: str, depth: int) -> Iterator[tuple[Node, int]]:
    """The nodes that read a tensor, itself or by Identity nodes."""
    for node, position in graph.consumers(name):
        if position < 0 or depth == 0:
            continue
        if node.op == "Identity":
            yield from _uses(graph, node.outputs[0], depth - 1)
        else:
            yield node, position


def _layer(graph: Graph, node: Node) -> tuple[Any, ...]:
    """What tells a layer: its other tensors where they are not of one number, else the node."""
    own = tuple(
        name
        for name in node.inputs
        if name in graph.initialisers and graph.initialisers[name].size > 1 and not is_filled(graph.initialisers[name])
    )
    return own or (node.index,)


def _free(name: str, *taken: dict[str, Any]) -> str:
    while any(name in names for names in taken):
        name += "_"
    return name
