"""Operators that make tensors: constants, ranges, what a shape says, triangles and diagonals."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from robustcheck.networks.onnx.graph import Node, constant_of, to_tensor
from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints
from robustcheck.networks.onnx.operators.casting import target_dtype
from robustcheck.networks.onnx.operators.fallback import always, tolerant


def _constant(call: Call) -> Function:
    array = constant_of(Node(0, "Constant", "", (), (), call.attributes))
    if array is None:
        raise UnsupportedError(", ".join(sorted(call.attributes)))
    tensor = _as_tensor(array)
    return lambda: tensor


def _as_tensor(array: Any) -> Tensor:
    try:
        return to_tensor(array)
    except TypeError:
        raise UnsupportedError(f"element type {array.dtype}") from None


def _constant_of_shape(call: Call) -> Function:
    given = call.get("value")
    value = torch.zeros(1) if given is None else _as_tensor(given)
    return lambda shape: value.reshape(()).expand(ints(shape)).clone()


def _shape(call: Call) -> Function:
    start, end = call.get("start", 0), call.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (each.detach().item() for each in (start, limit, delta))
    count = max(0, math.ceil((last - first) / step))
    wide = torch.float64 if start.is_floating_point() else torch.int64
    return (torch.arange(count, dtype=wide, device=start.device) * step + first).to(start.dtype)


def _eye_like(call: Call) -> Function:
    dtype = target_dtype(call, "dtype") if "dtype" in call.attributes else None
    offset = call.get("k", 0)

    def run(x: Tensor) -> Tensor:
        eye = torch.zeros(x.shape, dtype=dtype or x.dtype, device=x.device)
        eye.diagonal(offset).fill_(1)
        return eye

    return run


def _triangle(call: Call) -> Function:
    function, exact = (torch.triu, np.triu) if call.get("upper", 1) else (torch.tril, np.tril)
    if call.has(1) and 1 not in call.constants:
        return tolerant(lambda x, k: function(x, *ints(k)), lambda x, k: exact(x, int(k)))
    offset = ints(call.constants[1])[0] if call.has(1) else 0
    return tolerant(lambda x, *_: function(x, offset), lambda x, *_: exact(x, offset))


OPERATORS: Final[dict[str, Builder]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "Range": always(_range),
    "Shape": _shape,
    "Size": always(lambda x: torch.tensor(x.numel())),
    "Trilu": _triangle,
}
