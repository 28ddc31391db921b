"""A node as an operator's builder sees it, and what all builders use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Function = Callable[..., Any]
"""Takes the node's inputs in order (None for an absent one), returns its output or a tuple of its outputs."""


class UnsupportedError(Exception):
    """A node is outside of what an operator's function covers; the text says what, for one line in a list."""


@dataclass(frozen=True)
class Call:
    """One node.

    Attributes:
        op: the operator's name.
        version: opset of the file, which decides what attributes and inputs mean.
        attributes: int, float, str, lists of these, numpy arrays, `Graph`.
        present: for each input whether it is given.
        constants: inputs that never change, by position; never a weight that is trained.
        outputs: how many outputs the node has; names of unused ones at the end are left out by exporters.
        run: for If, Loop and Scan: runs a sub-graph with its inputs, and gives its outputs.
    """

    op: str
    version: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    present: tuple[bool, ...] = ()
    constants: Mapping[int, Tensor] = field(default_factory=dict)
    outputs: int = 1
    run: Callable[..., tuple[Any, ...]] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Whether the input at a position is given."""
        return position < len(self.present) and self.present[position]


Builder = Callable[[Call], Function]
"""Reads a node's attributes once and returns the function that runs at each pass; raises UnsupportedError."""


def ints(values: Any) -> list[int]:
    """The integers of a tensor of shapes, axes or counts, or of a list."""
    return [int(value) for value in (values.reshape(-1).tolist() if isinstance(values, Tensor) else values)]


def optional_ints(call: Call, attribute: str, position: int) -> Callable[[tuple[Any, ...]], list[int] | None]:
    """What newer versions pass as an input and older ones as an attribute: a function of the node's inputs."""
    if call.has(position):
        if position in call.constants:
            fixed = ints(call.constants[position])
            return lambda _: fixed
        return lambda inputs: ints(inputs[position])
    given = call.get(attribute)
    listed = None if given is None else ints(given if isinstance(given, list) else [given])
    return lambda _: listed
