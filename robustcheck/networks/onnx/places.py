"""Names the nodes of a graph by where they stand in the network, as torch names modules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from torch import nn

from robustcheck.networks.kinds import kind_name
from robustcheck.networks.onnx.gating import is_site
from robustcheck.networks.onnx.graph import Graph, Node, note
from robustcheck.networks.onnx.matching import Match, matches

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_CLASSES: Final = "pkg.torch.onnx.class_hierarchy"
_ACTIVATION_CLASSES: Final = (
    *("torch.nn.modules.activation.", "timm.layers.activations.", "timm.layers.activations_me."),
)
_WEIGHTED: Final = frozenset(
    [
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "RMSNormalization"),
        *("GroupNormalization", "InstanceNormalization", "LSTM", "GRU", "RNN", "Einsum", "PRelu", "DeformConv"),
        "Gather",
    ]
)
_WEIGHT: Final = re.compile(r"(weight|bias|kernel|gamma|beta|running_mean|embedding)(_[A-Za-z0-9_]+)?")
_RESERVED: Final = ("weight", "bias")


@dataclass(frozen=True)
class _Scope:
    """Where the exporter says that a node stands: the module ('' is the network), the call in it, and its class."""

    module: str
    call: str
    cls: str = ""


def node_paths(graph: Graph, found: tuple[Match, ...] | None = None) -> dict[int, str]:
    """A path for each node of a graph, by the node's index; no two nodes have the same one.

    A path is that of a module where a node is all that the module does or has its weights, and a name in the module
    otherwise. The last node of an activation that is made of several has the path of the activation.

    Args:
        graph: the main graph, or a branch or body, whose paths do not begin with that of its node.
        found: `matches(graph)`, where it is known already.

    >>> relu = Node(0, "Relu", "/features/features.0/features.0.1/Relu", ("x",), ("y",))
    >>> node_paths(Graph("g", (relu,), (), (), {}, {}, 17))
    {0: 'features.0.1'}
    """
    found = matches(graph) if found is None else found
    sites = [match for match in found if is_site(graph, match)]
    scopes = {node.index: _scope(node) for node in graph.nodes}
    alone = _alone(graph, scopes, found)
    taken: set[str] = set()
    paths: dict[int, str] = {}
    site_ends = {match.nodes[-1].index: match for match in sites}
    named = {node.index: _weight_owner(graph, node) for node in graph.nodes}
    for node in graph.nodes:
        if node.op in _WEIGHTED and named[node.index] and node.index not in site_ends:
            paths[node.index] = _unique(named[node.index], taken)
    for node in graph.nodes:
        if node.index not in paths and node.index not in site_ends and _has_weight(graph, node):
            scope = scopes[node.index]
            free = scope.module and _clean(scope.module) not in taken
            paths[node.index] = _unique(scope.module if free else _joined(scope), taken)
    for index, match in site_ends.items():
        module = _activation_module(named[index], scopes[index], index in alone)
        path = module or _function(scopes[index], match)
        paths[index] = _unique(path, taken)
    for node in graph.nodes:
        if node.index not in paths:
            scope = scopes[node.index]
            path = scope.module if node.index in alone and scope.module else _joined(scope)
            paths[node.index] = _unique(path, taken)
    return {node.index: paths[node.index] for node in graph.nodes}


def _scope(node: Node) -> _Scope:
    scopes = note(node, _SCOPES)
    if len(scopes) > 1:
        classes = note(node, _CLASSES)
        # The class of the network stands for the scope '', and the last of both is the call.
        cls = classes[-2] if len(classes) == len(scopes) else ""
        return _Scope(scopes[-2], scopes[-1].strip("_") or node.op.lower(), cls)
    segments = [segment for segment in node.name.split("/") if segment]
    if len(segments) > 1 or node.name.startswith("/"):
        *modules, call = segments or [node.op]
        return _Scope(_legacy_module(modules), call.lower())
    return _Scope("", node.name or f"{node.op.lower()}_{_first_output(node)}")


def _first_output(node: Node) -> str:
    return next((name for name in node.outputs if name), str(node.index))


def _legacy_module(segments: list[str]) -> str:
    """The path of a module from scopes each of which may repeat the one before, as `layer1`, `layer1.0` do."""
    parts: list[str] = []
    before = ""
    for segment in segments:
        parts.append(segment.removeprefix(before + ".") if before else segment)
        before = segment
    return ".".join(parts)


def _alone(graph: Graph, scopes: dict[int, _Scope], found: Iterable[Match]) -> set[int]:
    """Nodes that are all that happens in their module; the parts of an activation count as one, by its last node."""
    inner = {node.index for match in found for node in match.nodes[:-1]}
    counted = [node.index for node in graph.nodes if node.op != "Constant" and node.index not in inner]
    direct = Counter(scopes[index].module for index in counted)
    outer = {".".join(parts[:n]) for m in direct for parts in [m.split(".")] for n in range(1, len(parts))}
    return {index for index in counted if direct[scopes[index].module] == 1 and scopes[index].module not in outer}


def _weight_owner(graph: Graph, node: Node) -> str:
    """The module that a weight of a node is named after, or ''."""
    for name in node.inputs[1:] if node.op != "Gather" else node.inputs[:1]:
        owner, _, last = name.rpartition(".")
        if owner and "/" not in name and ":" not in name and _WEIGHT.fullmatch(last) and _is_array(graph, name):
            return owner
    return ""


def _has_weight(graph: Graph, node: Node) -> bool:
    return node.op in _WEIGHTED and any(_is_array(graph, name) for name in node.inputs if name)


def _is_array(graph: Graph, name: str) -> bool:
    array = graph.constant(name)
    return array is not None and array.ndim > 0 and array.dtype.kind not in "iub"


def _activation_module(owner: str, scope: _Scope, alone: bool) -> str:
    """The path of the module that an activation is, or '' where it is a call of a function."""
    if owner:
        return owner
    if scope.cls:
        return scope.module if scope.cls.startswith(_ACTIVATION_CLASSES) else ""
    return scope.module if alone else ""


def _function(scope: _Scope, match: Match) -> str:
    """The path of a call of a function, by its kind, unless the node's name says more than its scope."""
    name = match.nodes[-1].name
    if name and "/" not in name and not scope.module and not scope.cls:
        return scope.call
    return ".".join(part for part in (scope.module, kind_name(match.kind)) if part)


def _joined(scope: _Scope) -> str:
    return f"{scope.module}.{scope.call}" if scope.module else scope.call


def _clean(path: str) -> str:
    """The path with parts that a module may have as the names of its sub-modules."""
    parts = [re.sub(r"[^A-Za-z0-9_]", "_", part) for part in path.split(".") if part]
    module = nn.Module()
    return ".".join(f"{part}_" if hasattr(module, part) or part in _RESERVED else part for part in parts) or "node"


def _unique(path: str, taken: set[str]) -> str:
    base = _clean(path)
    number, result = 0, base
    while result in taken:
        number += 1
        result = f"{base}_{number}"
    taken.add(result)
    return result
