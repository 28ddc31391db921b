"""Images resized, and sampled at the points of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcheck.networks.onnx.operators.call import Builder, Call, Function, UnsupportedError, ints
from robustcheck.networks.onnx.operators.interpolation import Axis, Style, nearest, outside, scaled, weights

_COORDINATES: Final = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
_NEAREST: Final = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_SMALL: Final = 8
"""Up to this factor torch's nearest neighbour, which multiplies by a rounded 1/factor, is known to be exact."""

Listed = Callable[[tuple[Any, ...]], list[Any] | None]


def _style(call: Call) -> Style:
    mode = call.get("mode", "nearest")
    # `bilinear` and `trilinear` are older names that exporters still write.
    mode = "linear" if mode in ("bilinear", "trilinear") else mode
    if call.version < 11:
        style = Style(mode, "asymmetric", "simple")
    else:
        style = Style(
            mode,
            call.get("coordinate_transformation_mode", "half_pixel"),
            call.get("nearest_mode", "round_prefer_floor"),
            call.get("cubic_coeff_a", -0.75),
            bool(call.get("antialias", 0)) and mode != "nearest",
            bool(call.get("exclude_outside", 0)) and mode != "nearest",
        )
        if style.nearest not in _NEAREST:
            raise UnsupportedError(f"nearest_mode={style.nearest!r}")
    if mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedError(f"mode={mode!r}")
    if style.coordinates not in _COORDINATES:
        raise UnsupportedError(f"coordinate_transformation_mode={style.coordinates!r}")
    return style


def _listed(call: Call, position: int | None, read: Callable[[Tensor], list[Any]]) -> Listed:
    """An optional input as a list; None where it is absent or empty."""
    if position is None or not call.has(position):
        return lambda _: None
    if position in call.constants:
        fixed = read(call.constants[position]) or None
        return lambda _: fixed
    return lambda inputs: read(inputs[position]) or None


def _floats(tensor: Tensor) -> list[float]:
    return [float(value) for value in tensor.reshape(-1).tolist()]


def _scales(call: Call) -> Listed:
    """Factors: an attribute of Upsample before opset 9, the second input before Resize of opset 11, then the third."""
    if call.version >= 11 or call.has(1):
        return _listed(call, 2 if call.version >= 11 else 1, _floats)
    given = [float(each) for each in call.get("scales") or ()]
    return lambda _: given


def _resize(call: Call) -> Function:
    style, policy = _style(call), call.get("keep_aspect_ratio_policy", "stretch")
    chosen, beyond = call.get("axes"), call.get("extrapolation_value", 0.0)
    rois = _listed(call, 1 if call.version >= 11 else None, _floats)
    scales, sizes = _scales(call), _listed(call, 3, ints)
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise UnsupportedError(f"keep_aspect_ratio_policy={policy!r}")

    def resize(*inputs: Any) -> Tensor:
        x: Tensor = inputs[0]
        numbers = list(range(x.ndim)) if chosen is None else [axis % x.ndim for axis in chosen]
        plan = _plan(x.shape, numbers, scales(inputs), sizes(inputs), rois(inputs), policy)
        if style.coordinates != "tf_crop_and_resize":
            plan = [axis for axis in plan if axis.scale != 1 or axis.before != axis.after]
        return _fast(x, plan, style) if _is_fast(x, plan, style) else _general(x, plan, style, beyond)

    return resize


def _plan(
    shape: Sequence[int],
    numbers: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    roi: Sequence[float] | None,
    policy: str,
) -> list[Axis]:
    """Each axis that the node names, with its new size."""
    before = [shape[axis] for axis in numbers]
    if sizes is not None:
        factors = [after / size if size else 1.0 for after, size in zip(sizes, before, strict=True)]
        after = list(sizes)
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(before)
            after = [math.floor(factor * size + 0.5) for size in before]
    else:
        factors = list(scales or ())
        after = [scaled(size, factor) for size, factor in zip(before, factors, strict=True)]
    parts = [(0.0, 1.0)] * len(before) if roi is None else list(zip(roi, roi[len(before) :], strict=False))
    return [
        Axis(number, size, new, factor, *part)
        for number, size, new, factor, part in zip(numbers, before, after, factors, parts, strict=True)
    ]


def _is_fast(x: Tensor, plan: Sequence[Axis], style: Style) -> bool:
    """Whether torch's own interpolation is the same."""
    spatial = x.ndim - 2
    if not (x.is_floating_point() and 1 <= spatial <= 3 and plan and all(axis.number >= 2 for axis in plan)):
        return False
    if style.antialias or style.exclude_outside or min(x.shape) == 0:
        return False
    exact = _exact(plan)
    if style.mode == "nearest":
        whole = all(axis.after % axis.before == 0 and axis.after <= _SMALL * axis.before for axis in plan)
        floor = style.coordinates == "asymmetric" and style.nearest in ("floor", "simple")
        rounded = style.coordinates == "half_pixel" and style.nearest.startswith("round")
        return whole and exact and (floor or rounded)
    if style.mode == "cubic" and (spatial != 2 or style.cubic != -0.75):
        return False
    if style.coordinates == "align_corners":
        return exact
    if style.coordinates == "pytorch_half_pixel" and any(axis.after <= 1 for axis in plan):
        return False
    by_scale = all(math.floor(axis.before * axis.scale) == axis.after for axis in plan)
    return style.coordinates in ("half_pixel", "pytorch_half_pixel") and (exact or by_scale)


def _exact(plan: Sequence[Axis]) -> bool:
    """Whether scales are the ratios of the sizes, with nothing rounded."""
    return all(axis.after / axis.before == axis.scale for axis in plan)


def _fast(x: Tensor, plan: Sequence[Axis], style: Style) -> Tensor:
    mode = {"nearest": "nearest", "cubic": "bicubic"}.get(style.mode) or ("linear", "bilinear", "trilinear")[x.ndim - 3]
    corners = None if mode == "nearest" else style.coordinates == "align_corners"
    if _exact(plan):
        after = list(x.shape[2:])
        for axis in plan:
            after[axis.number - 2] = axis.after
        return F.interpolate(x, after, mode=mode, align_corners=corners)
    factors = [1.0] * (x.ndim - 2)
    for axis in plan:
        factors[axis.number - 2] = axis.scale
    return F.interpolate(x, scale_factor=factors, mode=mode, align_corners=corners)


def _general(x: Tensor, plan: Sequence[Axis], style: Style, beyond: float) -> Tensor:
    """One axis after the other."""
    y = x
    if style.mode == "nearest":
        for axis in plan:
            y = y.index_select(axis.number, torch.from_numpy(nearest(axis, style)).to(x.device))
    else:
        y = x if x.is_floating_point() else x.to(torch.float64)
        for axis in plan:
            matrix = torch.from_numpy(weights(axis, style)).to(y)
            y = (y.movedim(axis.number, -1) @ matrix.T).movedim(-1, axis.number)
    for axis in plan:
        missing = outside(axis, style)
        if missing is not None:
            mask = torch.from_numpy(missing).to(x.device).reshape(-1, *[1] * (x.ndim - 1 - axis.number))
            y = y.masked_fill(mask, beyond)
    if y.dtype == x.dtype:
        return y.contiguous()
    limits = torch.iinfo(x.dtype)
    return y.clamp(limits.min, limits.max).to(x.dtype)


def _grid_sample(call: Call) -> Function:
    modes = {
        "bilinear": "bilinear",
        "linear": "bilinear",
        "nearest": "nearest",
        "bicubic": "bicubic",
        "cubic": "bicubic",
    }
    mode = modes.get(call.get("mode", "linear"))
    padding, corners = call.get("padding_mode", "zeros"), bool(call.get("align_corners", 0))
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise UnsupportedError(f"mode={call.get('mode')!r} with padding_mode={padding!r}")
    return lambda x, grid: F.grid_sample(x, grid.to(x.dtype), mode, padding, corners)


def _affine_grid(call: Call) -> Function:
    corners = bool(call.get("align_corners", 0))
    fixed = ints(call.constants[1]) if 1 in call.constants else None
    return lambda theta, size: F.affine_grid(theta, fixed or ints(size), corners)


OPERATORS: Final[dict[str, Builder]] = {
    "AffineGrid": _affine_grid,
    "GridSample": _grid_sample,
    "Resize": _resize,
    "Upsample": _resize,
}
"""What this module covers, by ONNX's names."""
