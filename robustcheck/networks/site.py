"""A place in a network where an activation function is applied, and networks that know their own."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from robustcheck.activations.catalogue import Activation


@dataclass(frozen=True)
class Site:
    """One place in a network where an activation function is applied.

    `path` is the module's path or, for a call of a function or nodes of an ONNX graph, the path that a module in their
    place gets. `kind` is the canonical spec of the activation. `calls` counts the calls in one forward pass, 0 where no
    trace reaches them. `nodes` and `shape` are what an ONNX file says: the names of the site's nodes, and its tensor's
    shape, with names or None for sizes that are known only at run time.
    """

    path: str
    kind: str
    found: Literal["module", "function", "nodes"]
    calls: int
    nodes: tuple[str, ...] = field(default=(), repr=False)
    shape: tuple[int | str | None, ...] | None = field(default=None, repr=False)


@runtime_checkable
class KnowsItsSites(Protocol):
    """A network that finds and swaps its activations itself: one that runs a graph and has no code of its own."""

    def current_sites(self) -> tuple[Site, ...]:
        """Every activation site, in the order of the graph."""

    def with_activation(self, wanted: Activation, paths: Set[str]) -> nn.Module:
        """A copy with another activation at these paths; one that is there already stays."""
