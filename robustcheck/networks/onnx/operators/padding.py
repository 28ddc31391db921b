"""Operators that add at the edges: Pad and CenterCropPad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints

_MODES = ("constant", "reflect", "edge", "wrap")


def _pad(call: Call) -> Function:
    mode = call.get("mode", "constant")
    if mode not in _MODES:
        raise UnsupportedError(f"mode {mode!r}")
    if call.version < 11:
        amounts = _by_axis(call.attributes["pads"], None)
        number = call.get("value", 0.0)
        return lambda x: _pad_by(x, amounts, mode, number)
    if all(position in call.constants or not call.has(position) for position in (1, 2, 3)):
        amounts = _by_axis(call.constants[1], call.constants.get(3))
        value = _number(call.constants.get(2))
        return lambda x, *_: _pad_by(x, amounts, mode, value)

    def run(x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        return _pad_by(x, _by_axis(pads, axes), mode, _number(value))

    return run


def _number(value: Tensor | None) -> Any:
    return 0 if value is None else value.detach().item()


def _by_axis(pads: Any, axes: Any) -> dict[int, tuple[int, int]]:
    """What to add before and after, by axis; negative takes away."""
    listed = ints(pads)
    half = len(listed) // 2
    chosen = range(half) if axes is None else ints(axes)
    return {axis: (listed[i], listed[half + i]) for i, axis in enumerate(chosen) if listed[i] or listed[half + i]}


def _pad_by(x: Tensor, amounts: Mapping[int, tuple[int, int]], mode: str, value: Any) -> Tensor:
    if mode == "constant":
        return pad_constant(x, amounts, value)
    for axis, (before, after) in amounts.items():
        x = x.index_select(axis, _places(x.shape[axis], before, after, mode).to(x.device))
    return x


def pad_constant(x: Tensor, amounts: Mapping[int, tuple[int, int]], value: Any) -> Tensor:
    """Adds a number before and after each of the axes.

    >>> pad_constant(torch.ones(1, 2), {-1: (1, 0)}, 7.0)
    tensor([[7., 1., 1.]])
    """
    if not amounts:
        return x
    from_last = [0] * (2 * x.dim())
    for axis, (before, after) in amounts.items():
        position = 2 * (x.dim() - 1 - axis % x.dim())
        from_last[position : position + 2] = [before, after]
    return F.pad(x, from_last, value=value)


def _places(size: int, before: int, after: int, mode: str) -> Tensor:
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(1, 2 * (size - 1))
    places = places % period
    return torch.where(places < size, places, period - places)


def _centre_crop_pad(call: Call) -> Function:
    chosen = call.get("axes")

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = ints(shape)
        amounts = {}
        for axis, size in zip(range(len(sizes)) if chosen is None else chosen, sizes, strict=True):
            missing = size - x.shape[axis]
            before = missing // 2 if missing > 0 else -(-missing // 2)
            amounts[axis] = (before, missing - before)
        return pad_constant(x, amounts, 0)

    return run


OPERATORS: Final[dict[str, Builder]] = {"CenterCropPad": _centre_crop_pad, "Pad": _pad}
