"""A function with another function's derivative, which parts what noise does on the way there from the way back."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from robustcheck.activations import elementwise
from robustcheck.activations.entry import Entry, Formula, Parameter

PLAIN: Final[dict[str, nn.Module]] = {
    entry.name: entry.build({each.name: each.default for each in entry.parameters}, torch.float32)
    for entry in elementwise.ENTRIES
    if entry.elementwise and not entry.learned
}
"""What either may be: the elementwise functions that learn nothing, their parameters at the defaults."""


def surrogate(x: Tensor, value: str, derivative: str) -> Tensor:
    """The function `value` of x, bit by bit; backwards the derivative of `derivative` (arXiv 1901.09948), elementwise.

    `x` has any shape and float dtype, which the result has too. Where no gradient is recorded, `value` is all that is
    computed, so that a network trained with a surrogate runs, and is exported, with the plain function.

    >>> x = torch.tensor([-1.0, 1.0], requires_grad=True)
    >>> out = surrogate(x, "relu", "gelu")
    >>> out.tolist(), [round(slope, 6) for slope in torch.autograd.grad(out.sum(), x)[0].tolist()]
    ([0.0, 1.0], [-0.083316, 1.083316])
    """
    found: Tensor = PLAIN[value](x)
    if not torch.is_grad_enabled():
        return found
    followed: Tensor = PLAIN[derivative](x)
    return found.detach() + (followed - followed.detach())


ENTRIES = (
    Entry(
        name="surrogate",
        family="surrogate",
        formula="f(x); backwards g′(x)",
        source="arXiv 1901.09948",
        build=lambda p, _: Formula(surrogate, p),
        parameters=(
            Parameter("value", "relu", choices=tuple(PLAIN), always=True),
            Parameter("derivative", "gelu", choices=tuple(PLAIN), always=True),
        ),
    ),
)
