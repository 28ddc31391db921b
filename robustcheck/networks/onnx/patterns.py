"""The activation sites of a graph: which nodes make each, what it computes, and where it stands in the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustcheck.networks.onnx.gating import is_site
from robustcheck.networks.onnx.graph import Dimension, Graph, Node, Value
from robustcheck.networks.onnx.matching import Match, matches
from robustcheck.networks.onnx.places import node_paths


@dataclass(frozen=True, eq=False)
class Pattern:
    """One activation site.

    Attributes:
        kind: canonical spec of the activation, such as `leaky_relu(slope=0.2)`.
        nodes: all that a swap replaces, in the order of the graph; Constant nodes are not among them.
        input: name of the value that the function is applied to.
        output: name of the result.
        path: where it stands in the network, as torch names modules; no other site has it.
        slope: name of a PReLU's slope.
        shape: of the output, or the input; None where neither is known.
        element_type: ONNX's number of the element type, 0 where it is not known.
        graph: the graph that the nodes stand in: the main one, or a branch or a loop's body.
    """

    kind: str
    nodes: tuple[Node, ...]
    input: str
    output: str
    path: str
    slope: str | None
    shape: tuple[Dimension, ...] | None
    element_type: int
    graph: Graph


def find_activations(graph: Graph, found: tuple[Match, ...] | None = None) -> tuple[Pattern, ...]:
    """Every activation site, in the order of the graph, those in branches and loops included.

    `found` is `matches(graph)`, where it is known already.

    Not sites are the sigmoid or tanh of a gate, those that make the network's output, a softmax, what happens inside
    of a recurrent operator, and a function of which an inner value is read elsewhere.
    """
    return tuple(_patterns(graph, "", found))


def _patterns(graph: Graph, prefix: str, found: tuple[Match, ...] | None = None) -> Iterator[Pattern]:
    found = matches(graph) if found is None else found
    paths = node_paths(graph, found)
    ends = {match.nodes[-1].index: match for match in found if is_site(graph, match)}
    for node in graph.nodes:
        match = ends.get(node.index)
        path = prefix + paths[node.index]
        if match is not None:
            known = [value for name in (match.output, match.input) if (value := graph.values.get(name)) is not None]
            shape, element_type = _form(known)
            yield Pattern(
                match.kind, match.nodes, match.input, match.output, path, match.slope, shape, element_type, graph
            )
        for name, body in node.attributes.items():
            if isinstance(body, Graph):
                yield from _patterns(body, f"{path}.{name}.")


def _form(known: list[Value]) -> tuple[tuple[Dimension, ...] | None, int]:
    shape = next((value.shape for value in known if value.shape is not None), None)
    return shape, next((value.element_type for value in known if value.element_type), 0)
