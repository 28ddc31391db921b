"""Elementwise operators: arithmetic, comparison, logic, bits and trigonometry, broadcast as NumPy does."""

from __future__ import annotations

from functools import reduce
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function
from robustcheck.networks.onnx.operators.fallback import always, tolerant

_FLOAT_ONLY: dict[str, Function] = {
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Integers truncate toward zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


_PLAIN: dict[str, tuple[Function, Function]] = {
    "Abs": (torch.abs, np.abs),
    "Add": (torch.add, np.add),
    "And": (torch.logical_and, np.logical_and),
    "BitwiseAnd": (torch.bitwise_and, np.bitwise_and),
    "BitwiseNot": (torch.bitwise_not, np.bitwise_not),
    "BitwiseOr": (torch.bitwise_or, np.bitwise_or),
    "BitwiseXor": (torch.bitwise_xor, np.bitwise_xor),
    "Div": (_divide, np.floor_divide),
    "Equal": (torch.eq, np.equal),
    "Greater": (torch.gt, np.greater),
    "GreaterOrEqual": (torch.ge, np.greater_equal),
    "Less": (torch.lt, np.less),
    "LessOrEqual": (torch.le, np.less_equal),
    "Mul": (torch.mul, np.multiply),
    "Neg": (torch.neg, np.negative),
    "Or": (torch.logical_or, np.logical_or),
    "Sign": (torch.sign, np.sign),
    "Sub": (torch.sub, np.subtract),
    "Where": (torch.where, np.where),
    "Xor": (torch.logical_xor, np.logical_xor),
}
"""What torch does, and what NumPy does with the unsigned integers that torch refuses."""

_VARIADIC: dict[str, tuple[Function, Function]] = {
    "Max": (torch.maximum, np.maximum),
    "Mean": (torch.add, np.add),
    "Min": (torch.minimum, np.minimum),
    "Sum": (torch.add, np.add),
}


def _variadic(call: Call) -> Function:
    pair = tolerant(*_VARIADIC[call.op])
    if call.op == "Mean":
        return lambda *inputs: reduce(pair, inputs) / len(inputs)
    return pair if len(call.present) == 2 else lambda *inputs: reduce(pair, inputs)


def _clip(call: Call) -> Function:
    if call.version < 11:
        low, high = call.get("min"), call.get("max")
    elif all(position in call.constants for position in (1, 2) if call.has(position)):
        low, high = (call.constants[position].item() if call.has(position) else None for position in (1, 2))
    else:
        return tolerant(_clip_to_tensors, np.clip)
    if low is None and high is None:
        return lambda x, *_: x
    return tolerant(lambda x, *_: torch.clamp(x, low, high), lambda x, *_: np.clip(x, low, high))


def _clip_to_tensors(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    low, high = (None if bound is None else bound.reshape(()) for bound in (low, high))
    return x if low is None and high is None else torch.clamp(x, low, high)


def _pow(call: Call) -> Function:
    exponent = call.constants.get(1)
    number = None if exponent is None or exponent.numel() != 1 or exponent.dim() > 1 else exponent.item()
    rank = 0 if exponent is None else exponent.dim()

    def run(x: Tensor, y: Tensor) -> Tensor:
        # A number is raised to much faster than a tensor of one element, which may however add a dimension.
        raised = torch.pow(x, y if number is None or x.dim() < rank else number)
        return raised if raised.dtype == x.dtype else raised.to(x.dtype)

    return tolerant(run, lambda x, y: np.power(x, y).astype(x.dtype))


def _mod(call: Call) -> Function:
    return tolerant(torch.fmod, np.fmod) if call.get("fmod", 0) else tolerant(torch.remainder, np.remainder)


def _bit_shift(call: Call) -> Function:
    if call.get("direction") == "LEFT":
        return tolerant(torch.bitwise_left_shift, np.left_shift)
    return tolerant(torch.bitwise_right_shift, np.right_shift)


def _is_inf(call: Call) -> Function:
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    if positive and negative:
        return torch.isinf
    if positive:
        return torch.isposinf
    return torch.isneginf if negative else lambda x: torch.zeros_like(x, dtype=torch.bool)


def _function(pair: tuple[Any, Any]) -> Builder:
    return always(tolerant(*pair))


OPERATORS: Final[dict[str, Builder]] = {
    **{op: always(function) for op, function in _FLOAT_ONLY.items()},
    **{op: _function(pair) for op, pair in _PLAIN.items()},
    **dict.fromkeys(_VARIADIC, _variadic),
    "BitShift": _bit_shift,
    "Clip": _clip,
    "IsInf": _is_inf,
    "Mod": _mod,
    "Pow": _pow,
}
