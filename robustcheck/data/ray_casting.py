"""Ray casting: the nearest surface that each ray of a LIDAR meets in a scene of simple solids, compiled by numba.

A solid is a unit shape seen through an affine map from the sensor's frame [m], so that one small piece of code serves
every size, place and turn of it: the plane z = 0, the cube and the ball of half width 1, and the upright cylinder of
radius 1 and half height 1. A ray o + t·d keeps its t under such a map, so distances come out in metres.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def"
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

NOTHING: Final = 0
PLANE: Final = 1
CUBE: Final = 2
BALL: Final = 3
CYLINDER: Final = 4

_jit: Any = njit(cache=True, error_model="numpy", inline="always")


def cast(
    shapes: NDArray[np.uint8],
    maps: NDArray[np.float64],
    reflectivity: NDArray[np.float64],
    directions: NDArray[np.float64],
    max_range_m: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int16]]:
    """The nearest hit of every ray in every scene; scenes share the threads, and one thread gives the same bits.

    Args:
        shapes: (n, s) uint8, the kind of each solid: NOTHING, PLANE, CUBE, BALL or CYLINDER.
        maps: (n, s, 3, 4) float64, from the sensor's frame [m] to that of the unit shape: x ↦ A·x + b is `[A | b]`.
        reflectivity: (n, s) float64, diffuse, 0 to 1; above 1 a retro-reflector, which returns as much at any angle.
        directions: (r, 3) float64 unit vectors; every ray starts at the sensor, the origin, outside all solids.
        max_range_m: nothing farther is met.

    Returns:
        Range [m] and brightness, (n, r) float64, and the solid that was hit, (n, r) int16; 0, 0 and −1 where none is.
        Brightness is the reflectivity, for a diffuse surface times the cosine of the angle of incidence (Lambert).

    >>> ground = np.array([[[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.8]]]], dtype=np.float64)
    >>> down = np.array([[0.0, 0.0, -1.0]])
    >>> ranges, brightness, hit = cast(np.array([[PLANE]], np.uint8), ground, np.array([[0.2]]), down, 100.0)
    >>> ranges.tolist(), brightness.tolist(), hit.tolist()
    ([[1.8]], [[0.2]], [[0]])
    """
    size = (len(shapes), len(directions))
    ranges, brightness = np.zeros(size), np.zeros(size)
    hit = np.full(size, -1, np.int16)
    # The loops are compiled anew for every layout in memory that comes.
    given = (np.ascontiguousarray(each) for each in (shapes, maps, reflectivity, directions))
    _cast(*given, float(max_range_m), ranges, brightness, hit)
    return ranges, brightness, hit


@_jit
def _plane(oz, dz):
    return -oz / dz if dz != 0.0 else -1.0


@_jit
def _slab(o, d):
    """Where a ray enters and leaves −1 ≤ x ≤ 1; an empty interval where it passes beside."""
    if d == 0.0:
        return (-math.inf, math.inf) if abs(o) <= 1.0 else (math.inf, -math.inf)
    near, far = (-1.0 - o) / d, (1.0 - o) / d
    return (near, far) if near <= far else (far, near)


@_jit
def _quadratic(a, b, c):
    """The roots of a·t² + 2·b·t + c, the smaller first; an empty interval where there is none."""
    discriminant = b * b - a * c
    if discriminant < 0.0 or a == 0.0:
        return math.inf, -math.inf
    root = math.sqrt(discriminant)
    return (-b - root) / a, (-b + root) / a


@_jit
def _entry(shape, ox, oy, oz, dx, dy, dz):
    """The t at which a ray enters a unit shape, −1 where it does not, and the axis of the face: 0 to 2, 3 if round."""
    if shape == PLANE:
        return _plane(oz, dz), 2
    if shape == BALL:
        near, far = _quadratic(
            dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1.0
        )
        return (near, 3) if near <= far else (-1.0, 3)
    low, high = _slab(oz, dz)
    if shape == CUBE:
        near_x, far_x = _slab(ox, dx)
        near_y, far_y = _slab(oy, dy)
        near = max(near_x, near_y, low)
        axis = 2 if near == low else (0 if near == near_x else 1)
        return (near, axis) if near <= min(far_x, far_y, high) else (-1.0, axis)
    a, c = dx * dx + dy * dy, ox * ox + oy * oy - 1.0
    # A ray along the axis is inside the round wall for all t, or for none.
    near, far = (
        ((-math.inf, math.inf) if c <= 0.0 else (math.inf, -math.inf))
        if a == 0.0
        else _quadratic(a, ox * dx + oy * dy, c)
    )
    axis = 2 if low > near else 4
    near = max(near, low)
    return (near, axis) if near <= min(far, high) else (-1.0, axis)


@_jit
def _lambert(shape_map, axis, ox, oy, oz, dx, dy, dz, t):
    """The cosine of the angle of incidence: a unit shape's normal m is Aᵀm in the sensor's frame."""
    mx = 1.0 if axis == 0 else (ox + t * dx if axis >= 3 else 0.0)
    my = 1.0 if axis == 1 else (oy + t * dy if axis >= 3 else 0.0)
    mz = 1.0 if axis == 2 else (oz + t * dz if axis == 3 else 0.0)
    nx = shape_map[0, 0] * mx + shape_map[1, 0] * my + shape_map[2, 0] * mz
    ny = shape_map[0, 1] * mx + shape_map[1, 1] * my + shape_map[2, 1] * mz
    nz = shape_map[0, 2] * mx + shape_map[1, 2] * my + shape_map[2, 2] * mz
    return min(1.0, abs(mx * dx + my * dy + mz * dz) / math.sqrt(nx * nx + ny * ny + nz * nz))


@njit(cache=True, error_model="numpy", parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _cast(shapes, maps, reflectivity, directions, max_range_m, ranges, brightness, hit):
    for scene in prange(len(shapes)):
        for ray in range(len(directions)):
            x, y, z = directions[ray, 0], directions[ray, 1], directions[ray, 2]
            nearest, solid, face = max_range_m, -1, 0
            for index in range(shapes.shape[1]):
                shape = shapes[scene, index]
                if shape == NOTHING:
                    continue
                m = maps[scene, index]
                dx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z
                dy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z
                dz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
                t, axis = _entry(shape, m[0, 3], m[1, 3], m[2, 3], dx, dy, dz)
                if 0.0 < t < nearest:
                    nearest, solid, face = t, index, axis
            if solid >= 0:
                m = maps[scene, solid]
                dx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z
                dy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z
                dz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
                value = reflectivity[scene, solid]
                if value <= 1.0:
                    value *= _lambert(m, face, m[0, 3], m[1, 3], m[2, 3], dx, dy, dz, nearest)
                ranges[scene, ray], brightness[scene, ray], hit[scene, ray] = nearest, value, solid
