"""Operators that pick elements by place: Gather and its kin, Compress, NonZero, OneHot, ReverseSequence, Unique."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from robustcheck.networks.onnx.graph import to_array
from robustcheck.networks.onnx.operators.call import Builder, Call, Function
from robustcheck.networks.onnx.operators.fallback import always, signed, together


def from_start(places: Tensor, size: int) -> Tensor:
    """Places as int64 where negative ones, which count from the end, are counted from the start.

    >>> from_start(torch.tensor([0, -1]), 3)
    tensor([0, 2])
    """
    wide = places.long()
    return torch.where(wide < 0, wide + size, wide)


def _gather(call: Call) -> Function:
    axis = call.get("axis", 0)
    fixed = call.constants.get(1)
    if fixed is not None and fixed.dim() == 0:
        place = int(fixed.item())
        return lambda x, _: x.select(axis, place)
    counted = fixed is not None and bool((fixed >= 0).all())

    def run(x: Tensor, places: Tensor) -> Tensor:
        flat = places.to(x.device).reshape(-1)
        picked = x.index_select(axis, flat if counted else from_start(flat, x.shape[axis]))
        before = axis % x.dim()
        return picked if places.dim() == 1 else picked.reshape(x.shape[:before] + places.shape + x.shape[before + 1 :])

    return run


def _gather_elements(call: Call) -> Function:
    axis = call.get("axis", 0)

    def run(x: Tensor, places: Tensor) -> Tensor:
        return torch.gather(x, axis, from_start(places.to(x.device), x.shape[axis]))

    return run


def _gather_nd(call: Call) -> Function:
    shared = call.get("batch_dims", 0)

    def run(x: Tensor, places: Tensor) -> Tensor:
        index = places.to(x.device).long().unbind(-1)
        if shared:
            sizes = [(size, places.dim() - 2 - axis) for axis, size in enumerate(places.shape[:shared])]
            grids = [torch.arange(n, device=x.device).reshape((n,) + (1,) * after) for n, after in sizes]
            index = (*grids, *index)
        return x[index] if index else x.expand(places.shape[:-1] + x.shape)

    return run


def _compress(call: Call) -> Function:
    axis = call.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        kept = condition.to(x.device).nonzero().reshape(-1)
        return x.reshape(-1).index_select(0, kept) if axis is None else x.index_select(axis, kept)

    return run


def _one_hot(call: Call) -> Function:
    axis = call.get("axis", -1)

    def run(places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        places, values = together((places, values))
        size = int(depth.item())
        at = axis % (places.dim() + 1)
        levels = torch.arange(size, device=places.device).reshape((size,) + (1,) * (places.dim() - at))
        off, on = values.unbind(0)
        return torch.where(from_start(places, size).unsqueeze(at) == levels, on, off)

    return run


def _reverse_sequence(call: Call) -> Function:
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        lengths = lengths.to(x.device).reshape(-1, 1)
        steps = torch.arange(x.shape[time], device=x.device).reshape(1, -1)
        order = torch.where(steps < lengths, lengths - 1 - steps, steps)
        # (batch, time) as the two axes stand in x, and of size 1 elsewhere
        order = order if batch < time else order.T
        order = order.reshape([size if axis in (time, batch) else 1 for axis, size in enumerate(x.shape)])
        return torch.gather(x, time, order.expand(x.shape))

    return run


def _unique(call: Call) -> Function:
    axis, in_order = call.get("axis"), bool(call.get("sorted", 1))

    def run(x: Tensor) -> tuple[Tensor, ...]:
        flat, at = (x.reshape(-1), 0) if axis is None else (x, axis)
        _, first, inverse, counts = np.unique(to_array(flat), True, True, True, axis=at)
        inverse = inverse.reshape(-1)
        if not in_order:
            order = np.argsort(first)
            first, counts = first[order], counts[order]
            inverse = np.argsort(order)[inverse]
        found = [torch.from_numpy(np.ascontiguousarray(each, dtype=np.int64)) for each in (first, inverse, counts)]
        return flat.index_select(at, found[0].to(x.device)), *found

    return run


def _non_zero(x: Tensor) -> Tensor:
    return signed(x).nonzero().T


OPERATORS: Final[dict[str, Builder]] = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": always(_non_zero),
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "Unique": _unique,
}
