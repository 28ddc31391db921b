"""A function with another function's derivative, which parts what noise does on the way there from the way back."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from robustcheck.activations.entry import Entry, Formula, Parameter


def surrogate(x: Tensor, value: str, derivative: str) -> Tensor:
    """The function `value` of x, bit by bit; backwards the derivative of `derivative` (arXiv 1901.09948), elementwise.

    `x` has any shape and float dtype, which the result has too. Both are specs of elementwise activations that learn
    nothing. Where no gradient is recorded, `value` is all that is computed, so that a network trained with a surrogate
    runs, and is exported, with the plain function.

    >>> x = torch.tensor([-1.0, 1.0], requires_grad=True)
    >>> out = surrogate(x, "relu", "gelu")
    >>> out.tolist(), [round(slope, 6) for slope in torch.autograd.grad(out.sum(), x)[0].tolist()]
    ([0.0, 1.0], [-0.083315, 1.083315])
    """
    found: Tensor = function_of(value)(x)
    if not torch.is_grad_enabled():
        return found
    followed: Tensor = function_of(derivative)(x)
    return found.detach() + (followed - followed.detach())


@cache
def function_of(spec: str) -> nn.Module:
    """The module of an activation that learns nothing, one for all surrogates."""
    from robustcheck.activations.catalogue import activation  # the catalogue lists this module's entry

    return activation(spec).module()


ENTRIES = (
    Entry(
        name="surrogate",
        family="surrogate",
        formula="f(x); backwards g′(x)",
        source="arXiv 1901.09948",
        build=lambda p, _: Formula(surrogate, p),
        parameters=(
            Parameter("value", "relu", always=True, function=True),
            Parameter("derivative", "gelu", always=True, function=True),
        ),
    ),
)
