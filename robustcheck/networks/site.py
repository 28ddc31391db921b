"""A place in a network where an activation function is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Site:
    """One place in a network where an activation function is applied.

    `path` is the module's path or, for a call of a function, the path that a module in its place gets. `kind` is the
    canonical spec of the activation. `calls` counts the calls in one forward pass, 0 where no trace reaches them.
    """

    path: str
    kind: str
    found: Literal["module", "function"]
    calls: int
