"""What torch refuses at first: tensors on two devices, and unsigned integers of more than 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustcheck.networks.onnx.graph import to_array, to_tensor
from robustcheck.networks.onnx.operators.call import Builder, Call, Function

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def together(inputs: Sequence[Any]) -> list[Any]:
    """The inputs with all tensors on one device: that of the first which is not on the CPU.

    Constants and what is computed from shapes may lie on the CPU while data lie elsewhere.
    """
    devices = [each.device for each in inputs if isinstance(each, Tensor)]
    chosen = next((device for device in devices if device.type != "cpu"), None)
    if chosen is None:
        return list(inputs)
    return [each.to(chosen) if isinstance(each, Tensor) else each for each in inputs]


def tolerant(function: Function, exact: Function | None = None) -> Function:
    """The function itself, tried again where torch refuses its inputs.

    Args:
        function: of tensors.
        exact: does the same with NumPy arrays, for unsigned integers, which torch has few functions for.
    """

    def run(*inputs: Any) -> Any:
        try:
            return function(*inputs)
        except RuntimeError:
            if exact is not None and any(isinstance(each, Tensor) and each.dtype in _SIGNED for each in inputs):
                return by_numpy(exact, *inputs)
            moved = together(inputs)
            if all(after is before for after, before in zip(moved, inputs, strict=True)):
                raise
            return function(*moved)

    return run


def by_numpy(function: Function, *inputs: Any) -> Tensor:
    """Applies a function of NumPy arrays to tensors; the result lies where the first input does."""
    given = [to_array(each) if isinstance(each, Tensor) else each for each in inputs]
    device = next(each.device for each in inputs if isinstance(each, Tensor))
    return to_tensor(function(*given)).to(device)


def signed(tensor: Tensor) -> Tensor:
    """The same bits as a type of the same width that torch can index, pad and scatter.

    >>> signed(torch.tensor([1, 65535], dtype=torch.uint16))
    tensor([ 1, -1], dtype=torch.int16)
    """
    return tensor.view(_SIGNED[tensor.dtype]) if tensor.dtype in _SIGNED else tensor


def ordered(tensor: Tensor) -> Tensor:
    """A tensor whose elements compare as the given ones do, of a type that torch can sort and scatter.

    >>> ordered(torch.tensor([65535, 1], dtype=torch.uint16)).argmax()
    tensor(0)
    """
    if tensor.dtype not in _SIGNED:
        return tensor
    same = signed(tensor)
    return same ^ torch.iinfo(same.dtype).min


def unordered(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The reverse of `ordered`, for a tensor that was of the dtype."""
    return (tensor ^ torch.iinfo(tensor.dtype).min).view(dtype) if dtype in _SIGNED else tensor


def always(function: Function) -> Builder:
    """The builder of an operator that no attribute and no version changes."""

    def build(_: Call) -> Function:
        return function

    return build
