"""What a graph is lowered to, and what the lowering of a graph and of its sub-graphs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from robustcheck.networks.onnx.graph import Graph, Node, to_tensor
from robustcheck.networks.onnx.patterns import Pattern
from robustcheck.networks.onnx.plan import Plan

_HALF: Final = (torch.float16, torch.bfloat16)
_RESERVED: Final = frozenset(
    {
        "file",
        "graph",
        "ties",
        "untrained",
        "sites",
        "stored",
        "plan",
        "constants",
        "paths",
        "batch",
        "softmax",
        "run",
        "current_sites",
        "final_softmax",
    }
)


@dataclass
class Lowered:
    """What a graph was lowered to.

    Attributes:
        plan: the steps.
        modules: layers and activations by path.
        constants: tensors that never change, by value name.
        stored: for each weight (and running statistic) of the file the module's path and the attribute that hold it.
        sites: the activations by path.
    """

    plan: Plan
    modules: dict[str, nn.Module]
    constants: dict[str, Tensor]
    stored: dict[str, tuple[str, str]]
    sites: dict[str, Pattern]


@dataclass
class Shared:
    """What the lowering of a graph and of its sub-graphs have in common."""

    root: Graph
    patterns: Mapping[Node, Pattern]
    paths: Mapping[int, str]
    weights: frozenset[str]
    promote: bool
    modules: dict[str, nn.Module] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    sites: dict[str, Pattern] = field(default_factory=dict)

    def tensor(self, graph: Graph, name: str) -> Tensor:
        """A constant of the file, in float32 where it is half precision."""
        array = graph.constant(name)
        assert array is not None
        tensor = to_tensor(array)
        return tensor.float() if self.promote and tensor.dtype in _HALF else tensor

    def parameter(self, name: str) -> nn.Parameter:
        """The one parameter that holds a weight, whoever reads it."""
        if name not in self.parameters:
            self.parameters[name] = nn.Parameter(self.tensor(self.root, name))
        return self.parameters[name]

    def _free(self, path: str, module: nn.Module) -> str:
        """A path near the one wanted at which a module can stand: no module lies within another, none lies twice."""
        if path.split(".")[0] in _RESERVED:
            path = "_".join(("graph", path))
        parts = path.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if ".".join(parts[:length]) in self.modules:
                path = "_".join((".".join(parts[:length]), *parts[length:]))
                return self._free(path, module)
        if any(other.startswith(path + ".") for other in self.modules):
            path = f"{path}.{type(module).__name__.lower()}"
        free, number = path, 0
        while free in self.modules:
            number += 1
            free = f"{path}_{number}"
        return free

    def store(self, path: str, module: nn.Module, **held: str) -> str:
        """Put a module at a path, and note which weights of the file its attributes hold."""
        path = self._free(path, module)
        self.modules[path] = module
        for attribute, name in held.items():
            if name:
                self.stored.setdefault(name, (path, attribute))
        return path
