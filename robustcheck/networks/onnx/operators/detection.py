"""What detectors do with regions of an image: pick the boxes that stay, and pool the features inside of boxes."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError


def _number(tensor: Tensor | None, default: float) -> float:
    return default if tensor is None or tensor.numel() == 0 else float(tensor.reshape(-1)[0])


def _non_max_suppression(call: Call) -> Function:
    from torchvision.ops import nms

    centred = bool(call.get("center_point_box", 0))

    def non_max_suppression(
        boxes: Tensor,
        scores: Tensor,
        most: Tensor | None = None,
        overlap: Tensor | None = None,
        least: Tensor | None = None,
    ) -> Tensor:
        limit, threshold, score = int(_number(most, 0)), _number(overlap, 0.0), _number(least, -math.inf)
        if centred:
            middle, half = boxes[..., :2], boxes[..., 2:] / 2
            corners = torch.cat((middle - half, middle + half), -1)
        else:
            first, second = boxes[..., :2], boxes[..., 2:]
            corners = torch.cat((torch.minimum(first, second), torch.maximum(first, second)), -1)
        found = [boxes.new_zeros(0, 3, dtype=torch.int64)]
        for batch in range(scores.shape[0] if limit > 0 else 0):
            for kind in range(scores.shape[1]):
                given = scores[batch, kind]
                kept = (given > score).nonzero().reshape(-1)
                chosen = kept[nms(corners[batch, kept], given[kept], threshold)][:limit]
                place = chosen.new_tensor([[batch, kind]]).expand(len(chosen), 2)
                found.append(torch.cat((place, chosen[:, None]), 1))
        return torch.cat(found)

    return non_max_suppression


def _roi_align(call: Call) -> Function:
    from torchvision.ops import roi_align

    size = (call.get("output_height", 1), call.get("output_width", 1))
    ratio, scale, mode = call.get("sampling_ratio", 0), call.get("spatial_scale", 1.0), call.get("mode", "avg")
    # Before opset 16 there was no shift by half a pixel.
    aligned = call.version >= 16 and call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    if mode not in ("avg", "max"):
        raise UnsupportedError(f"mode={mode!r}")

    def average(x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
        numbered = torch.cat((images.to(rois.dtype)[:, None], rois), 1)
        y: Tensor = roi_align(x, numbered, size, scale, ratio, aligned)
        return y

    def largest(x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
        shift = 0.5 if aligned else 0.0
        found = [x.new_zeros(0, x.shape[1], *size)]
        for image, (left, top, right, bottom) in zip(images.tolist(), (rois * scale - shift).tolist(), strict=True):
            width, height = right - left, bottom - top
            if not aligned:
                width, height = max(width, 1.0), max(height, 1.0)
            found.append(_largest(x[image], (top, left), (height, width), size, ratio)[None])
        return torch.cat(found)

    return average if mode == "avg" else largest


def _largest(image: Tensor, start: Any, extent: Any, size: tuple[int, int], ratio: int) -> Tensor:
    """The largest of a region's weighted corners in each bin, as ONNX's own code defines it.

    Args:
        image: shape (channels, height, width).
        start: first row and column.
        extent: height and width.
        size: how many bins.
        ratio: points a bin and axis; 0 for one a pixel.
    """
    sides = []
    for axis in range(2):
        step = extent[axis] / size[axis]
        points = ratio if ratio > 0 else math.ceil(step)
        length = image.shape[1 + axis]
        bins = torch.arange(size[axis] * points, dtype=image.dtype, device=image.device)
        at = start[axis] + (bins + 0.5) * (step / points)
        inside = (at >= -1) & (at <= length)
        at = at.clamp(min=0)
        low = at.floor().long().clamp(max=length - 1)
        high = (low + 1).clamp(max=length - 1)
        share = torch.where(low == high, 0.0, at - low)
        sides.append(((low, (1 - share) * inside), (high, share * inside)))
    corners = [
        image[:, rows][:, :, columns] * (down[:, None] * across)
        for rows, down in sides[0]
        for columns, across in sides[1]
    ]
    best = torch.stack(corners).amax(0)
    return best.reshape(len(image), size[0], -1, size[1], best.shape[2] // size[1]).amax((2, 4))


def _max_roi_pool(call: Call) -> Function:
    from torchvision.ops import roi_pool

    size, scale = tuple(call.get("pooled_shape")), call.get("spatial_scale", 1.0)
    return lambda x, rois: roi_pool(x, rois, size, scale)


OPERATORS: Final[dict[str, Builder]] = {
    "MaxRoiPool": _max_roi_pool,
    "NonMaxSuppression": _non_max_suppression,
    "RoiAlign": _roi_align,
}
"""What this module covers, by ONNX's names."""
