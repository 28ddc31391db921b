"""Pools: the largest, the mean or a norm of each window or of the whole image, and the reverse of the first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints
from robustcheck.networks.onnx.operators.windows import Window, pad, read_window

_MAX: Final[dict[int, Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_INDICES: Final[dict[int, Any]] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_MEAN: Final[dict[int, Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONVOLUTIONS: Final = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


def _window(call: Call) -> Window:
    attributes = read_window(call)
    if not attributes.kernel:
        raise UnsupportedError("no kernel_shape")
    return attributes.filled(attributes.kernel)


def _half_fits(window: Window, spans: Sequence[int]) -> bool:
    """Whether torch's pools take the padding: the same at both ends, and at most half of the kernel."""
    return window.symmetric and all(2 * half <= span for half, span in zip(window.pads, spans, strict=False))


def _max_pool(call: Call) -> Function:
    window, columns = _window(call), bool(call.get("storage_order", 0))
    rank, kernel, strides, dilations = window.rank, window.kernel, window.strides, window.dilations
    if call.outputs == 1 and _half_fits(window, window.spans):
        pool, half, ceil = _MAX[rank], window.pads[:rank], window.ceil
        return lambda x: _of_floats(x, lambda y: pool(y, kernel, strides, half, dilations, ceil))

    def max_pool(x: Tensor) -> Any:
        sizes = x.shape[2:]
        pads = window.padding(sizes)
        counts = window.counts(sizes, pads)
        reach = [(count - 1) * s + span for count, s, span in zip(counts, strides, window.spans, strict=True)]
        ends = [length - size - begin for length, size, begin in zip(reach, sizes, pads, strict=False)]
        floats = x if x.is_floating_point() else x.to(torch.float64)
        padded = pad(floats, [*pads[:rank], *ends], -torch.inf)
        if call.outputs == 1:
            return _MAX[rank](padded, kernel, strides, 0, dilations).to(x.dtype)
        largest, places = _MAX_INDICES[rank](padded, kernel, strides, 0, dilations)
        return largest.to(x.dtype), _flat(places, padded.shape[2:], pads, x.shape, columns)

    return max_pool


def _of_floats(x: Tensor, function: Function) -> Tensor:
    """A function of floats, with float64 where `x` holds whole numbers, all of which that holds exactly up to 2⁵³."""
    if x.is_floating_point():
        return function(x)  # type: ignore[no-any-return]
    return function(x.to(torch.float64)).to(x.dtype)  # type: ignore[no-any-return]


def _flat(places: Tensor, padded: Sequence[int], pads: Sequence[int], shape: Sequence[int], columns: bool) -> Tensor:
    """Places within padded images as ONNX counts them: from the tensor's first element, padding left out."""
    sizes = shape[2:]
    steps = [1] * len(sizes)
    order = list(range(len(sizes))) if columns else list(reversed(range(len(sizes))))
    for inner, outer in itertools.pairwise(order):
        steps[outer] = steps[inner] * sizes[inner]
    found, rest = torch.zeros_like(places), places
    for axis in reversed(range(len(sizes))):
        found = found + (rest % padded[axis] - pads[axis]) * steps[axis]
        rest = rest // padded[axis]
    planes = torch.arange(shape[0] * shape[1], device=places.device) * math.prod(sizes)
    return found + planes.reshape(shape[0], shape[1], *[1] * len(sizes))


def _average_pool(call: Call) -> Function:
    window, padded = _window(call), bool(call.get("count_include_pad", 0))
    rank, kernel, strides = window.rank, window.kernel, window.strides
    if _half_fits(window, kernel) and all(step == 1 for step in window.dilations):
        pool, half, ceil = _MEAN[rank], window.pads[:rank], window.ceil
        return lambda x: pool(x, kernel, strides, half, ceil, padded)

    def average_pool(x: Tensor) -> Tensor:
        pads = window.padding(x.shape[2:])
        count = x.new_ones(())
        for axis, taken in enumerate(_taken(window, x.shape[2:], pads, padded)):
            row = x.new_tensor(taken).reshape(-1, *[1] * (rank - 1 - axis))
            count = count * row
        return _sums(window, x, pads) / count

    return average_pool


def _taken(window: Window, sizes: Sequence[int], pads: Sequence[int], padded: bool) -> list[list[int]]:
    """For each axis and window, how many of the kernel's points lie in the image, or in it and its padding."""
    found = []
    for axis, (size, count) in enumerate(zip(sizes, window.counts(sizes, pads), strict=True)):
        low, high = (-pads[axis], size + pads[axis + window.rank]) if padded else (0, size)
        firsts = [at * window.strides[axis] - pads[axis] for at in range(count)]
        points = [range(first, first + window.spans[axis], window.dilations[axis]) for first in firsts]
        found.append([sum(low <= point < high for point in each) for each in points])
    return found


def _sums(window: Window, x: Tensor, pads: Sequence[int]) -> Tensor:
    """The sum of each window."""
    rank, sizes = window.rank, x.shape[2:]
    counts = window.counts(sizes, pads)
    reach = [(count - 1) * s + span for count, s, span in zip(counts, window.strides, window.spans, strict=True)]
    ends = [length - size - begin for length, size, begin in zip(reach, sizes, pads, strict=False)]
    planes = pad(x, [*pads[:rank], *ends]).flatten(0, 1).unsqueeze(1)
    ones = x.new_ones(1, 1, *window.kernel)
    return _CONVOLUTIONS[rank](planes, ones, None, window.strides, [0] * rank, window.dilations).reshape(
        *x.shape[:2], *counts
    )


def _lp_pool(call: Call) -> Function:
    window, p = _window(call), call.get("p", 2)
    return lambda x: _sums(window, x.abs() ** p, window.padding(x.shape[2:])) ** (1 / p)


def _global_average_pool(_: Call) -> Function:
    return lambda x: x.mean(tuple(range(2, x.ndim)), True)


def _global_max_pool(_: Call) -> Function:
    return lambda x: x.amax(tuple(range(2, x.ndim)), True)


def _global_lp_pool(call: Call) -> Function:
    p = call.get("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, tuple(range(2, x.ndim)), True)


def _max_unpool(call: Call) -> Function:
    window = _window(call)

    def max_unpool(x: Tensor, places: Tensor, output_shape: Tensor | None = None) -> Tensor:
        sizes = [
            (count - 1) * stride + span - begin - end
            for count, stride, span, begin, end in zip(
                x.shape[2:], window.strides, window.kernel, window.pads, window.pads[window.rank :], strict=False
            )
        ]
        flat = x.new_zeros(x.shape[0] * x.shape[1] * math.prod(sizes))
        image = flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(*x.shape[:2], *sizes)
        if output_shape is None:
            return image
        wanted = ints(output_shape)[2:]
        return pad(image, [0] * window.rank + [target - size for target, size in zip(wanted, sizes, strict=True)])

    return max_unpool


OPERATORS: Final[dict[str, Builder]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
}
"""What this module covers, by ONNX's names."""
