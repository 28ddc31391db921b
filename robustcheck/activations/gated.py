"""Gated activation functions: one half of the features, activated, times the other half (arXiv 2002.05202).

They halve the width of a layer, so they fit only a feed-forward block that was built for them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robustcheck.activations.entry import Entry, Formula
from robustcheck.errors import InvalidValueError


def _gate(name: str, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    width = x.shape[-1] if x.ndim else 1
    if width % 2:
        raise InvalidValueError(
            f"{name}, last axis of the input",
            expected="an even width",
            got=width,
            remedy="it is split into two halves; use it only in a gated feed-forward block",
        )
    first, second = x.chunk(2, dim=-1)
    return act(first) * second


def reglu(x: Tensor) -> Tensor:
    """relu(a)·b, (a, b) the halves of the last axis: (…, 2n) → (…, n); raises InvalidValueError for an odd width.

    >>> import torch
    >>> reglu(torch.tensor([-1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 8.0]
    """
    return _gate("reglu", F.relu, x)


def geglu(x: Tensor) -> Tensor:
    """gelu(a)·b, (a, b) the halves of the last axis: (…, 2n) → (…, n); raises InvalidValueError for an odd width."""
    return _gate("geglu", F.gelu, x)


def swiglu(x: Tensor) -> Tensor:
    """silu(a)·b, (a, b) the halves of the last axis: (…, 2n) → (…, n); raises InvalidValueError for an odd width."""
    return _gate("swiglu", F.silu, x)


def _row(name: str, formula: str, function: Callable[[Tensor], Tensor]) -> Entry:
    return Entry(
        name=name,
        family="gated",
        formula=formula,
        source="arXiv 2002.05202",
        build=lambda *_: Formula(function),
        elementwise=False,
        gated=True,
    )


ENTRIES = (
    _row("reglu", "relu(a)·b, (a, b) = halves of x", reglu),
    _row("geglu", "gelu(a)·b, (a, b) = halves of x", geglu),
    _row("swiglu", "silu(a)·b, (a, b) = halves of x", swiglu),
)
