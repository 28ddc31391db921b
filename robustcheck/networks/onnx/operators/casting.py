"""Operators that change the element type: Cast, CastLike, BitCast."""

from __future__ import annotations

from typing import Final

import onnx
import torch

from robustcheck.networks.onnx.graph import torch_dtype
from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError
from robustcheck.networks.onnx.operators.fallback import always


def target_dtype(call: Call, attribute: str, default: int = 0) -> torch.dtype:
    """torch's dtype for an attribute that names an ONNX element type; raises UnsupportedError where torch has none."""
    number = call.get(attribute, default)
    try:
        return torch_dtype(number)
    except KeyError:
        known = number in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(number) if known else str(number)
        raise UnsupportedError(f"element type {name.lower()}") from None


def _cast(call: Call) -> Function:
    dtype = target_dtype(call, "to")
    return lambda x: x.to(dtype)


def _bit_cast(call: Call) -> Function:
    dtype = target_dtype(call, "to")
    return lambda x: x.view(dtype)


OPERATORS: Final[dict[str, Builder]] = {
    "BitCast": _bit_cast,
    "Cast": _cast,
    "CastLike": always(lambda x, like: x.to(like.dtype)),
}
