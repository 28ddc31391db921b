"""Gated activation functions: one half of the features, activated, times the other half (arXiv 2002.05202).

They halve the width of a layer, so they fit only a feed-forward block that was built for them.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from robustcheck.activations.entry import Entry
from robustcheck.errors import InvalidValueError

INNER: Final = {"reglu": "relu", "geglu": "gelu", "swiglu": "silu"}
"""The activation inside each gated one, by the catalogue's names."""


class Gated(nn.Module):
    """act(a)·b with any activation inside, (a, b) the halves of the last axis: (…, 2n) → (…, n).

    What is inside, the child `inner`, is an activation of its own, and can be found and swapped like any other.

    Raises:
        InvalidValueError: when it is called, for an odd width.

    >>> import torch
    >>> Gated(nn.ReLU())(torch.tensor([-1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 8.0]
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """The first half, activated, times the second."""
        # While a network is traced, ranks and widths are not known.
        width = (x.shape[-1] if x.ndim else 1) if isinstance(x.ndim, int) else 2
        if width % 2:
            raise InvalidValueError(
                "gated activation, last axis of the input",
                expected="an even width",
                got=width,
                remedy="it is split into two halves; use it only in a gated feed-forward block",
            )
        first, second = x.chunk(2, dim=-1)
        return self.inner(first) * second  # type: ignore[no-any-return]


def _row(name: str, formula: str, inner: type[nn.Module]) -> Entry:
    return Entry(
        name=name,
        family="gated",
        formula=formula,
        source="arXiv 2002.05202",
        build=lambda *_: inner(),
        elementwise=False,
        inner=lambda _: INNER[name],
    )


ENTRIES = (
    _row("reglu", "relu(a)·b, (a, b) = halves of x", nn.ReLU),
    _row("geglu", "gelu(a)·b, (a, b) = halves of x", nn.GELU),
    _row("swiglu", "silu(a)·b, (a, b) = halves of x", nn.SiLU),
)
