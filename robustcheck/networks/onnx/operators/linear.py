"""Matrix products."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError


def _factor(value: float) -> float:
    """A whole number as an int, which torch asks for with integer matrices."""
    return int(value) if float(value).is_integer() else value


def _gemm(call: Call) -> Function:
    alpha, beta = _factor(call.get("alpha", 1.0)), _factor(call.get("beta", 1.0))
    turned_a, turned_b = bool(call.get("transA", 0)), bool(call.get("transB", 0))

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        if turned_a:
            a = a.t()
        if turned_b:
            b = b.t()
        if c is None:
            product = torch.mm(a, b)
            return product if alpha == 1 else alpha * product
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return gemm


def _matmul(_: Call) -> Function:
    return torch.matmul


def _einsum(call: Call) -> Function:
    equation = call.get("equation")
    if not equation:
        raise UnsupportedError("no equation")
    return lambda *operands: torch.einsum(equation, *operands)


def _det(_: Call) -> Function:
    return lambda x: torch.linalg.det(x)


OPERATORS: Final[dict[str, Builder]] = {
    "Det": _det,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
"""What this module covers, by ONNX's names."""
