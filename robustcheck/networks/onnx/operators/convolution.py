"""Convolutions: plain, transposed and deformable, and their columns put back into images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints
from robustcheck.networks.onnx.operators.windows import Window, pad, read_window

_CONVOLUTIONS: Final = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_ALL: Final[tuple[Any, ...]] = (slice(None), slice(None))
_TRANSPOSED: Final = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}


def _conv(call: Call) -> Function:
    attributes, groups = read_window(call), call.get("group", 1)
    if attributes.rank and attributes.auto_pad in ("NOTSET", "VALID"):
        window = attributes.filled(attributes.kernel or (1,) * attributes.rank)
        if window.symmetric:
            convolve, half = _CONVOLUTIONS[window.rank], window.pads[: window.rank]
            strides, dilations = window.strides, window.dilations
            return lambda x, w, b=None: convolve(x, w, b, strides, half, dilations, groups)

    def conv(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        window = attributes.filled(w.shape[2:])
        pads = window.padding(x.shape[2:])
        half: Sequence[int] = pads[: window.rank]
        if half != pads[window.rank :] or min(pads) < 0:
            x, half = pad(x, pads), [0] * window.rank
        return _CONVOLUTIONS[window.rank](x, w, b, window.strides, half, window.dilations, groups)

    return conv


def _conv_transpose(call: Call) -> Function:
    attributes, groups = read_window(call), call.get("group", 1)
    extra, wanted = tuple(call.get("output_padding") or ()), tuple(call.get("output_shape") or ())

    def conv_transpose(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        window = attributes.filled(w.shape[2:])
        rank = window.rank
        more = extra or (0,) * rank
        pads = _cut(window, x.shape[2:], more, wanted[-rank:], attributes.auto_pad)
        half, ends = pads[:rank], pads[rank:]
        transpose = _TRANSPOSED[rank]
        longest = [max(pair) for pair in zip(window.strides, window.dilations, strict=True)]
        if half == ends and min(half) >= 0 and all(m < n for m, n in zip(more, longest, strict=True)):
            return transpose(x, w, b, window.strides, half, more, groups, window.dilations)
        y = transpose(x, w, None, window.strides, [0] * rank, [0] * rank, groups, window.dilations)
        y = pad(y, [-cut for cut in half] + [m - cut for m, cut in zip(more, ends, strict=True)])
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    return conv_transpose


def _cut(
    window: Window, sizes: Sequence[int], more: Sequence[int], wanted: Sequence[int], auto: str
) -> tuple[int, ...]:
    """What is cut off at all beginnings, then at all ends."""
    if not wanted and auto in ("NOTSET", "VALID"):
        return window.pads
    wanted = wanted or [size * stride for size, stride in zip(sizes, window.strides, strict=True)]
    totals = [
        stride * (size - 1) + m + span - target
        for size, stride, m, span, target in zip(sizes, window.strides, more, window.spans, wanted, strict=True)
    ]
    # An image that has to grow grows at its ends only.
    small = tuple(max(total, 0) // 2 for total in totals)
    large = tuple(total - cut for total, cut in zip(totals, small, strict=True))
    if auto == "SAME_UPPER":
        return small + large
    begin = tuple(max(total, 0) - cut for total, cut in zip(totals, small, strict=True))
    return begin + tuple(total - cut for total, cut in zip(totals, begin, strict=True))


def _deform_conv(call: Call) -> Function:
    from torchvision.ops import deform_conv2d

    attributes = read_window(call)
    if attributes.rank not in (0, 2):
        raise UnsupportedError(f"{attributes.rank} spatial axes")

    def deform_conv(
        x: Tensor, w: Tensor, offset: Tensor, b: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        window = attributes.filled(w.shape[2:])
        half = window.pads[:2]
        if not window.symmetric:
            x, half = pad(x, window.pads), (0, 0)
        y: Tensor = deform_conv2d(x, offset, w, b, window.strides, half, window.dilations, mask)
        return y

    return deform_conv


def _col2im(call: Call) -> Function:
    attributes = read_window(call)

    def col2im(columns: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
        sizes = ints(image_shape)
        window = attributes.filled(ints(block_shape))
        counts = window.counts(sizes, window.pads)
        rank = window.rank
        blocks = columns.reshape(len(columns), -1, *window.kernel, *counts)
        padded = [size + window.pads[axis] + window.pads[axis + rank] for axis, size in enumerate(sizes)]
        image = columns.new_zeros(len(columns), blocks.shape[1], *padded)
        for point in itertools.product(*map(range, window.kernel)):
            starts = [at * dilation for at, dilation in zip(point, window.dilations, strict=True)]
            places = tuple(
                slice(start, start + (count - 1) * stride + 1, stride)
                for start, count, stride in zip(starts, counts, window.strides, strict=True)
            )
            image[_ALL + places] += blocks[_ALL + point]
        return pad(image, [-side for side in window.pads])

    return col2im


OPERATORS: Final[dict[str, Builder]] = {
    "Col2Im": _col2im,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DeformConv": _deform_conv,
}
"""What this module covers, by ONNX's names."""
