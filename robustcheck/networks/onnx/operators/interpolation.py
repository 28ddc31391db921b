"""Where each element of a resized axis comes from, and with what weights, by ONNX's definition of Resize."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Style:
    """The attributes of Resize that say how an axis is sampled.

    Attributes:
        mode: nearest, linear or cubic.
        coordinates: `coordinate_transformation_mode`.
        nearest: `nearest_mode`, or `simple` for what there was before opset 11.
        cubic: the cubic kernel's coefficient a.
        antialias: whether the kernel widens when an axis shrinks.
        exclude_outside: whether only elements inside count.
    """

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis to be resized: sizes before and after, scale, and the part of it that is taken, from 0 to 1."""

    number: int
    before: int
    after: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def scaled(size: int, scale: float) -> int:
    """An axis's new size, of a product in float32, as ONNX Runtime forms it.

    >>> scaled(10, float(np.float32(0.7))), int(10 * float(np.float32(0.7)))
    (7, 6)
    """
    return int(np.float32(size) * np.float32(scale))


def coordinates(axis: Axis, style: Style) -> Array:
    """The places that an axis's new elements lie at, in elements of the old one.

    In float32, as ONNX Runtime does, since rounding decides which element is the nearest.

    >>> coordinates(Axis(0, 2, 4, 2.0), Style()).tolist()
    [-0.25, 0.25, 0.75, 1.25]
    """
    one = np.float32
    y, scale, before = np.arange(axis.after, dtype=np.float32), one(axis.scale), one(axis.before)
    after = one(axis.scale * axis.before)
    match style.coordinates:
        case "align_corners":
            return np.zeros_like(y) if after == 1 else y * (before - one(1)) / (after - one(1))
        case "asymmetric":
            return y / scale
        case "pytorch_half_pixel" if after <= 1:
            return np.zeros_like(y)
        case "half_pixel_symmetric":
            offset = before / one(2) * (one(1) - one(axis.after) / after)
            return offset + (y + one(0.5)) / scale - one(0.5)
        case "tf_crop_and_resize":
            start, end = one(axis.start), one(axis.end)
            if after == 1:
                return np.full_like(y, (start + end) * (before - one(1)) / one(2))
            return start * (before - one(1)) + y * (end - start) * (before - one(1)) / (after - one(1))
        case _:
            return (y + one(0.5)) / scale - one(0.5)


def nearest(axis: Axis, style: Style) -> Array:
    """The element that each new one is a copy of."""
    places = coordinates(axis, style)
    match style.nearest:
        case "floor":
            found = np.floor(places)
        case "ceil":
            found = np.ceil(places)
        case "round_prefer_ceil":
            found = np.floor(places + np.float32(0.5))
        case "simple":
            found = np.ceil(places) if axis.scale < 1 else np.trunc(places)
        case _:
            found = np.ceil(places - np.float32(0.5))
    return np.clip(found, 0, axis.before - 1).astype(np.int64)


@lru_cache(maxsize=64)
def weights(axis: Axis, style: Style) -> Array:
    """The matrix, shape (after, before), float64, that a linearly or cubically resized axis is multiplied with."""
    places = coordinates(axis, style).astype(np.float64)
    narrow = min(axis.scale, 1.0) if style.antialias else 1.0
    reach = (2 if style.mode == "cubic" else 1) / narrow
    first = np.floor(places).astype(np.int64)
    # The kernel's points lie as far to the left as to the right; a place on an element has no weight at the ends.
    points = np.arange(int(np.floor(-reach)) + 1, int(np.ceil(reach)) + 1)
    members = first[:, None] + points
    distances = np.abs(members - places[:, None]) * narrow
    share = _cubic(distances, style.cubic) if style.mode == "cubic" else np.clip(1 - distances, 0, 1)
    if style.exclude_outside:
        share = np.where((members >= 0) & (members < axis.before), share, 0.0)
    if style.exclude_outside or style.antialias:
        total = share.sum(axis=1, keepdims=True)
        share = share / np.where(total == 0, 1.0, total)
    matrix = np.zeros((axis.after, axis.before))
    np.add.at(matrix, (np.arange(axis.after)[:, None], np.clip(members, 0, axis.before - 1)), share)
    return matrix


def _cubic(x: Array, a: float) -> Array:
    """Keys' convolution kernel, doi:10.1109/TASSP.1981.1163711."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def outside(axis: Axis, style: Style) -> Array | None:
    """Which new elements lie outside of the old axis and take the extrapolation value; None where none does."""
    if style.coordinates != "tf_crop_and_resize":
        return None
    places = coordinates(axis, style)
    found = (places < 0) | (places > axis.before - 1)
    return found if found.any() else None
