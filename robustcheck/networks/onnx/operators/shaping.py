"""Operators that change shape or order and compute nothing: Reshape, Transpose, Concat, Split, Slice, Expand, Tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, ints, optional_ints
from robustcheck.networks.onnx.operators.fallback import always, tolerant


def _fixed(call: Call, *positions: int) -> bool:
    return all(position in call.constants or not call.has(position) for position in positions)


def _reshape(call: Call) -> Function:
    literal = bool(call.get("allowzero", 0))

    def run(x: Tensor, shape: Any) -> Tensor:
        sizes = ints(shape)
        return x.reshape([x.shape[i] if size == 0 and not literal else size for i, size in enumerate(sizes)])

    if 1 not in call.constants:
        return run
    fixed = ints(call.constants[1])
    return (lambda x, _: run(x, fixed)) if 0 in fixed and not literal else (lambda x, _: x.reshape(fixed))


def _flatten(call: Call) -> Function:
    axis = call.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        before = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:before]), math.prod(x.shape[before:]))

    return run


def _squeeze(call: Call) -> Function:
    axes_of = optional_ints(call, "axes", 1)

    def run(*inputs: Any) -> Tensor:
        axes = axes_of(inputs)
        return torch.squeeze(inputs[0]) if axes is None else torch.squeeze(inputs[0], tuple(axes))

    return run


def _unsqueeze(call: Call) -> Function:
    axes_of = optional_ints(call, "axes", 1)

    def run(*inputs: Any) -> Tensor:
        x: Tensor = inputs[0]
        axes = axes_of(inputs) or []
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    if _fixed(call, 1):
        axes = axes_of(()) or []
        if len(axes) == 1:
            return lambda x, *_: x.unsqueeze(axes[0])
    return run


def _transpose(call: Call) -> Function:
    order = call.get("perm")
    if order is None:
        return lambda x: x.permute(*range(x.dim() - 1, -1, -1))
    return lambda x: x.permute(order)


def _concat(call: Call) -> Function:
    axis = call.get("axis")
    return tolerant(lambda *inputs: torch.cat(inputs, axis))


def _split(call: Call) -> Function:
    axis = call.get("axis", 0)
    sizes_of = optional_ints(call, "split", 1)
    parts = call.get("num_outputs", call.outputs)

    def run(*inputs: Any) -> tuple[Tensor, ...]:
        return torch.split(inputs[0], sizes_of(inputs) or even_sizes(inputs[0].shape[axis], parts), axis)

    return run


_FAR: Final = 2**62
"""Beyond any size; torch warns of the larger numbers that exporters write for "to the end"."""


def even_sizes(size: int, parts: int) -> list[int]:
    """The sizes of as many parts, equal but for the last, which takes what is left.

    >>> even_sizes(7, 3)
    [3, 3, 1]
    """
    each = -(-size // parts)
    return [max(0, min(each, size - i * each)) for i in range(parts)]


def _slice(call: Call) -> Function:
    if call.version < 10:
        starts, ends = call.attributes["starts"], call.attributes["ends"]
        axes = call.get("axes") or list(range(len(starts)))
        return _slice_fixed(starts, ends, axes, [1] * len(starts))
    if _fixed(call, 1, 2, 3, 4):
        return _slice_fixed(*_slice_arguments(*(call.constants.get(position) for position in range(1, 5))))
    return lambda x, *given: _slice_at(x, *_slice_arguments(*given))


def _slice_arguments(
    starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> tuple[list[int], list[int], list[int], list[int]]:
    first = ints(starts)
    every = list(range(len(first))) if axes is None else ints(axes)
    return first, ints(ends), every, [1] * len(first) if steps is None else ints(steps)


def _slice_fixed(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Function:
    if min(steps, default=1) < 0 or min(axes, default=0) < 0:
        return lambda x, *_: _slice_at(x, starts, ends, axes, steps)
    index = [slice(None)] * (max(axes, default=-1) + 1)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(max(-_FAR, min(_FAR, start)), max(-_FAR, min(_FAR, end)), step)
    fixed = tuple(index)
    return lambda x, *_: x[fixed]


def _slice_at(
    x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> Tensor:
    index, reversed_axes = [slice(None)] * x.dim(), []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step > 0:
            index[axis] = slice(start, end, step)
            continue
        # torch has no negative steps: the same elements from the lowest on, then turned round.
        first = min(max(start + size if start < 0 else start, 0), size - 1)
        last = min(max(end + size if end < 0 else end, -1), size - 1)
        count = max(0, -((first - last) // step)) if size else 0
        index[axis] = slice(first + (count - 1) * step, first + 1, -step) if count else slice(0, 0)
        reversed_axes.append(axis)
    return x[tuple(index)].flip(reversed_axes) if reversed_axes else x[tuple(index)]


def _expand(_: Call) -> Function:
    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = ints(shape)
        added = len(sizes) - x.dim()
        # A size of 1 leaves what is there, which torch writes as -1.
        return x.expand([-1] * -added + [-1 if size == 1 and i >= added else size for i, size in enumerate(sizes)])

    return run


def _tile(_: Call) -> Function:
    return lambda x, repeats: x.repeat(ints(repeats))


def _depth_to_space(call: Call) -> Function:
    block, columns_first = call.get("blocksize"), call.get("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        depth = c // block**2
        if columns_first:
            blocks = x.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, depth, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, depth, h * block, w * block)

    return run


def _space_to_depth(call: Call) -> Function:
    block, columns_first = call.get("blocksize"), call.get("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // block, block, w // block, block)
        order = (0, 3, 5, 1, 2, 4) if columns_first else (0, 1, 3, 5, 2, 4)
        return blocks.permute(order).reshape(n, c * block**2, h // block, w // block)

    return run


OPERATORS: Final[dict[str, Builder]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": always(lambda x: x),
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
