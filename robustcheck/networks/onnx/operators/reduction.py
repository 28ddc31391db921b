"""Operators that reduce along axes: sums, products, norms, extremes and their places, running sums, the largest k."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, ints, optional_ints
from robustcheck.networks.onnx.operators.fallback import ordered, unordered

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""Takes a tensor, at least one axis, and whether to keep them with size 1."""


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _in_float(function: Reduction) -> Reduction:
    """Lets integers through, which ONNX allows and torch's norms and logarithms do not."""

    def run(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        return function(x, axes, keep) if x.is_floating_point() else function(x.double(), axes, keep).to(x.dtype)

    return run


def _extreme(function: Function, largest: bool) -> Reduction:
    def run(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        if x.numel() == 0 and any(x.shape[axis] == 0 for axis in axes):
            # No element at all: the value that any other beats.
            shape = _sum(x.to(torch.uint8), axes, keep).shape
            return x.new_full(shape, _worst(x.dtype, largest))
        return unordered(function(ordered(x), axes, keep), x.dtype)

    return run


def _worst(dtype: torch.dtype, largest: bool) -> Any:
    if dtype.is_floating_point:
        return -math.inf if largest else math.inf
    if dtype == torch.bool:
        return not largest
    return torch.iinfo(dtype).min if largest else torch.iinfo(dtype).max


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, axes, keep: _sum(torch.abs(x) if x.dtype.is_signed else x, axes, keep),
    "ReduceL2": _in_float(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceLogSum": _in_float(lambda x, axes, keep: torch.log(torch.sum(x, axes, keep))),
    "ReduceLogSumExp": _in_float(torch.logsumexp),
    "ReduceMax": _extreme(torch.amax, True),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(torch.amin, False),
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


def _reduce(call: Call) -> Function:
    function, keep = _REDUCTIONS[call.op], bool(call.get("keepdims", 1))
    untouched = bool(call.get("noop_with_empty_axes", 0))
    axes_of = optional_ints(call, "axes", 1)

    def run(*inputs: Any) -> Tensor:
        x = inputs[0]
        axes = tuple(axes_of(inputs) or ())
        if not axes and (untouched or x.dim() == 0):
            # Nothing to reduce, but what comes before and after (absolute values, logarithms) is still done.
            return function(x.unsqueeze(-1), (-1,), False)
        return function(x, axes or tuple(range(x.dim())), keep)

    if call.has(1) and 1 not in call.constants:
        return run
    fixed = tuple(axes_of(()) or ())
    return (lambda x, *_: function(x, fixed, keep)) if fixed else run


def _place_of_extreme(call: Call) -> Function:
    function = torch.argmax if call.op == "ArgMax" else torch.argmin
    axis, keep, last = call.get("axis", 0), bool(call.get("keepdims", 1)), call.get("select_last_index", 0)

    def run(x: Tensor) -> Tensor:
        if last:
            x = x.flip(axis)
        place: Tensor = function(ordered(x), axis, keep)
        return x.shape[axis] - 1 - place if last else place

    return run


def _running(call: Call) -> Function:
    backwards, exclusive = call.get("reverse", 0), call.get("exclusive", 0)
    function, neutral = (torch.cumsum, 0) if call.op == "CumSum" else (torch.cumprod, 1)

    def run(x: Tensor, axis: Tensor) -> Tensor:
        (dim,) = ints(axis)
        x = x.flip(dim) if backwards else x
        if exclusive and x.shape[dim]:
            start = x.narrow(dim, 0, 1)
            x = torch.cat([torch.full_like(start, neutral), x.narrow(dim, 0, x.shape[dim] - 1)], dim)
        running = function(x, dim, dtype=x.dtype)
        return running.flip(dim) if backwards else running

    return run


def _top_k(call: Call) -> Function:
    axis, largest = call.get("axis", -1), bool(call.get("largest", 1))

    def run(x: Tensor, count: Any) -> tuple[Tensor, Tensor]:
        (k,) = ints(count)
        # Of equal elements the first comes first, which torch.topk does not promise.
        places = torch.sort(ordered(x), dim=axis, descending=largest, stable=True).indices.narrow(axis, 0, k)
        return torch.gather(x, axis, places), places

    if call.version < 10:
        return lambda x: run(x, [call.attributes["k"]])
    return run


OPERATORS: Final[dict[str, Builder]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "ArgMax": _place_of_extreme,
    "ArgMin": _place_of_extreme,
    "CumProd": _running,
    "CumSum": _running,
    "TopK": _top_k,
}
