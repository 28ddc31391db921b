"""Operators that write elements at places: Scatter, ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError
from robustcheck.networks.onnx.operators.fallback import ordered, together, unordered
from robustcheck.networks.onnx.operators.indexing import from_start

_REDUCTIONS = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _reduction(call: Call) -> str | None:
    name = call.get("reduction", "none")
    if name not in _REDUCTIONS:
        raise UnsupportedError(f"reduction {name!r}")
    return _REDUCTIONS[name]


def _write(x: Tensor, axis: int, places: Tensor, updates: Tensor, how: str | None) -> Tensor:
    if how is None:
        return x.scatter(axis, places, updates)
    if how in ("amax", "amin"):
        return unordered(ordered(x).scatter_reduce(axis, places, ordered(updates), how), x.dtype)
    return x.scatter_reduce(axis, places, updates, how)


def _scatter_elements(call: Call) -> Function:
    axis, how = call.get("axis", 0), _reduction(call)

    def run(x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        x, places, updates = together((x, places, updates))
        return _write(x, axis, from_start(places, x.shape[axis]), updates, how)

    return run


def _scatter_nd(call: Call) -> Function:
    how = _reduction(call)

    def run(x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        x, places, updates = together((x, places, updates))
        depth = places.shape[-1]
        width = math.prod(x.shape[depth:])
        row = torch.zeros(places.shape[:-1], dtype=torch.int64, device=x.device)
        for size, place in zip(x.shape[:depth], places.unbind(-1), strict=True):
            row = row * size + from_start(place, size)
        rows = row.reshape(-1, 1).expand(-1, width)
        flat = x.reshape(math.prod(x.shape[:depth]), width)
        return _write(flat, 0, rows, updates.reshape(-1, width), how).reshape(x.shape)

    return run


def _tensor_scatter(call: Call) -> Function:
    axis, circular = call.get("axis", -2), call.get("mode", "linear") == "circular"

    def run(past: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
        past, update, starts = together((past, update, starts))
        places = torch.arange(update.shape[axis], device=past.device)
        places = places if starts is None else places + starts.long().reshape(-1, 1)
        places = places % past.shape[axis] if circular else places
        shape = [1] * past.dim()
        shape[axis] = update.shape[axis]
        shape[0] = 1 if starts is None else len(starts)
        return past.scatter(axis, places.reshape(shape).expand(update.shape), update)

    return run


OPERATORS: Final[dict[str, Builder]] = {
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
}
