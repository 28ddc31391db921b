"""Rational activation functions: a quotient of two polynomials whose coefficients are learned."""

from __future__ import annotations

from torch import Tensor

from robustcheck.activations.entry import Entry, Formula

PAU_NUMERATOR = (0.0335583603, 0.505000375, 1.65343934, 2.01001052, 0.931901999, 0.152424124)
"""a₀ … a₅ of the fit to leaky ReLU that the function starts from."""

PAU_DENOMINATOR = (3.30847488e-6, 3.98021568, 5.12471206e-7, 0.301830109)
"""b₁ … b₄ of the same fit."""


def pau(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Padé activation unit: Σ_{k=0..5} a_k x^k / (1 + Σ_{k=1..4} |b_k||x|^k), elementwise (arXiv 1907.06732).

    `x` has any shape and float dtype, `a` shape (6,), `b` shape (4,); the result has the shape and dtype of `x`.
    The denominator is at least 1, so there is no pole whatever is learned.

    >>> import torch
    >>> pau(torch.tensor([0.0]), torch.tensor(PAU_NUMERATOR), torch.tensor(PAU_DENOMINATOR)).tolist()
    [0.03355836123228073]
    """
    top = ((((a[5] * x + a[4]) * x + a[3]) * x + a[2]) * x + a[1]) * x + a[0]
    weight = b.abs()
    # Even powers come from x², not from |x|, whose autograd derivative at 0 would spoil the second derivative there.
    magnitude, square = x.abs(), x * x
    bottom = 1 + magnitude * (weight[0] + weight[2] * square) + square * (weight[1] + weight[3] * square)
    return top / bottom


ENTRIES = (
    Entry(
        name="pau",
        family="rational",
        formula="Σ aₖxᵏ / (1 + Σ |bₖ||x|ᵏ), degrees 5 and 4",
        source="arXiv 1907.06732",
        build=lambda _, dtype: Formula(pau, learned={"a": PAU_NUMERATOR, "b": PAU_DENOMINATOR}, dtype=dtype),
        learned=("a", "b"),
    ),
)
