"""Things that stand beside a road, built of a few solids each: what the simulated LIDAR scenes are made of.

Sizes are those of common things of their kind, in metres. Reflectivities are for infrared light near 905 nm, rounded
and assumed: leaves and cloth are bright there, asphalt, rubber and glass dark; plates and signs throw the light back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.ray_casting import BALL, CUBE, CYLINDER, NOTHING

Floats = NDArray[np.float64]
Number = Floats | float
Point = tuple[Number, Number, Number]

DRAWS: Final = 96
"""Random numbers that one thing may take."""

_GLASS: Final = 0.06
_RUBBER: Final = 0.08
_SKIN: Final = 0.4
_RIM_SEGMENTS: Final = 8


@dataclass(frozen=True, eq=False)
class Solids:
    """The solids of n things, s each, in the thing's own frame: x forward, y left, z up from the ground [m].

    `shapes` (n, s) is a kind of `ray_casting`, `centre` and `half` (n, s, 3) say where and how large, the columns of
    `turn` (n, s, 3, 3) are the solid's axes, `reflectivity` (n, s) is above 1 for a retro-reflector.
    """

    shapes: NDArray[np.uint8]
    centre: Floats
    half: Floats
    turn: Floats
    reflectivity: Floats


class _Draws:
    """Takes one column of random numbers after the other."""

    def __init__(self, uniform: Floats) -> None:
        self._columns = iter(uniform.T)

    def __call__(self, low: float, high: float) -> Floats:
        drawn: Floats = low + (high - low) * next(self._columns)
        return drawn


@dataclass(frozen=True, eq=False)
class _Solid:
    shape: int
    centre: Point
    half: Point
    reflectivity: Number
    turn: Floats = field(default_factory=lambda: np.eye(3))


def things(kinds: NDArray[np.int64], uniform: Floats) -> Solids:
    """The things of the given kinds.

    Args:
        kinds: (n,) int64, an index into `THINGS` each; −1 for nothing.
        uniform: (n, DRAWS) float64 in [0, 1), which decide sizes, poses and materials.

    >>> found = things(np.array([0, -1]), np.full((2, DRAWS), 0.5))
    >>> int((found.shapes[0] != NOTHING).sum()), int((found.shapes[1] != NOTHING).sum())
    (9, 0)
    """
    built = {
        kind: _stack(int((kinds == kind).sum()), build(_Draws(uniform[kinds == kind])))
        for kind, build in enumerate(THINGS.values())
        if (kinds == kind).any()
    }
    n, most = len(kinds), max((part.shapes.shape[1] for part in built.values()), default=0)
    whole = Solids(
        np.full((n, most), NOTHING, np.uint8),
        np.zeros((n, most, 3)),
        np.ones((n, most, 3)),
        np.broadcast_to(np.eye(3), (n, most, 3, 3)).copy(),
        np.zeros((n, most)),
    )
    for kind, part in built.items():
        rows, count = kinds == kind, part.shapes.shape[1]
        for target, source in (
            (whole.shapes, part.shapes),
            (whole.centre, part.centre),
            (whole.half, part.half),
            (whole.turn, part.turn),
            (whole.reflectivity, part.reflectivity),
        ):
            target[rows, :count] = source
    return whole


def _stack(n: int, solids: Sequence[_Solid]) -> Solids:
    def column(point: Point) -> Floats:
        return np.stack([np.broadcast_to(value, (n,)) for value in point], axis=1)

    return Solids(
        np.array([[solid.shape for solid in solids]] * n, dtype=np.uint8),
        np.stack([column(solid.centre) for solid in solids], axis=1),
        np.stack([column(solid.half) for solid in solids], axis=1),
        np.stack([np.broadcast_to(solid.turn, (n, 3, 3)) for solid in solids], axis=1),
        np.stack([np.broadcast_to(solid.reflectivity, (n,)) for solid in solids], axis=1),
    )


def _box(x: tuple[Number, Number], y: tuple[Number, Number], z: tuple[Number, Number], reflectivity: Number) -> _Solid:
    """An upright box from one end to the other along each axis."""
    ends = (x, y, z)
    centre, half = ([(a + sign * b) / 2 for b, a in ends] for sign in (1, -1))
    return _Solid(CUBE, (centre[0], centre[1], centre[2]), (half[0], half[1], half[2]), reflectivity)


def _between(shape: int, a: Point, b: Point, half: tuple[Number, Number], reflectivity: Number) -> _Solid:
    """A solid whose own z axis goes from a to b, with these half widths across."""
    start, end = (np.stack(np.broadcast_arrays(*map(np.atleast_1d, point)), axis=-1) for point in (a, b))
    along = end - start
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    z = along / length
    # The axis across is made from whichever of y and x the solid does not lie along.
    other = np.where(np.abs(z[:, 1:2]) < 0.9, np.array([[0.0, 1.0, 0.0]]), np.array([[1.0, 0.0, 0.0]]))
    x = np.cross(other, z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    turn = np.stack([x, np.cross(z, x), z], axis=-1)
    middle = (start + end) / 2
    return _Solid(shape, (middle[:, 0], middle[:, 1], middle[:, 2]), (*half, length[:, 0] / 2), reflectivity, turn)


def _tube(a: Point, b: Point, radius: Number, reflectivity: Number) -> _Solid:
    return _between(CYLINDER, a, b, (radius, radius), reflectivity)


def _wheels(length: Number, width: Number, radius: Number) -> list[_Solid]:
    places = [(0.31 * length * front, side) for front in (-1, 1) for side in (-1, 1)]
    return [
        _tube((x, side * (width / 2 - 0.2), radius), (x, side * (width / 2 + 0.01), radius), radius, _RUBBER)
        for x, side in places
    ]


def _plates(length: Number, reflectivity: Number) -> list[_Solid]:
    """Number plates, 52 cm × 11 cm, in front and behind."""
    return [
        _box((end * length / 2 - 0.02, end * length / 2 + 0.02), (-0.26, 0.26), (0.4, 0.51), reflectivity)
        for end in (-1, 1)
    ]


def _car(draw: _Draws) -> list[_Solid]:
    length, width, height, paint = draw(3.7, 4.9), draw(1.65, 1.9), draw(1.4, 1.65), draw(0.1, 0.8)
    waist = 0.58 * height
    ends, sides = (-0.3 * length, 0.2 * length), (-0.42 * width, 0.42 * width)
    cabin = _box(ends, sides, (waist, height - 0.1), _GLASS)
    roof = _box(ends, sides, (height - 0.1, height), paint)
    body = _box((-length / 2, length / 2), (-width / 2, width / 2), (0.2, waist), paint)
    return [body, cabin, roof, *_wheels(length, width, 0.31), *_plates(length, draw(1.4, 2.4))]


def _van(draw: _Draws) -> list[_Solid]:
    length, width, height, paint = draw(4.8, 6.0), draw(1.85, 2.05), draw(1.95, 2.6), draw(0.1, 0.8)
    nose = length / 2 - draw(0.5, 1.1)
    body = _box((-length / 2, nose), (-width / 2, width / 2), (0.25, height), paint)
    bonnet = _box((nose, length / 2), (-width / 2, width / 2), (0.25, 1.15), paint)
    screen = _box((nose - 0.02, nose + 0.02), (-0.42 * width, 0.42 * width), (1.2, height - 0.2), _GLASS)
    return [body, bonnet, screen, *_wheels(length, width, 0.34), *_plates(length, draw(1.4, 2.4))]


def _pedestrian(draw: _Draws) -> list[_Solid]:
    height, stride, coat, trousers = draw(1.5, 1.95), draw(-0.35, 0.35), draw(0.15, 0.7), draw(0.1, 0.6)
    solids = [
        _between(BALL, (0.0, 0.0, 0.46 * height), (0.0, 0.0, 0.86 * height), (0.14, 0.23), coat),
        _Solid(BALL, (0.02, 0.0, 0.93 * height), (0.1, 0.08, 0.07 * height), _SKIN),
    ]
    for side in (-1, 1):
        solids.append(_tube((0.0, 0.09 * side, 0.5 * height), (side * stride, 0.09 * side, 0.0), 0.08, trousers))
        hand = (-0.8 * side * stride, 0.28 * side, 0.46 * height)
        solids.append(_tube((0.0, 0.22 * side, 0.8 * height), hand, 0.05, coat))
    return solids


def _cyclist(draw: _Draws) -> list[_Solid]:
    radius, base, paint, coat, trousers = (
        draw(0.31, 0.35), draw(0.98, 1.1), draw(0.1, 0.6), draw(0.15, 0.8), draw(0.1, 0.6),
    )  # fmt: skip
    lean, pedal = draw(0.15, 0.5), draw(0.0, 2 * math.pi)
    rear, front = (-base / 2, 0.0, radius), (base / 2, 0.0, radius)
    seat, bracket, head = (-0.2, 0.0, 0.95), (-0.05, 0.0, 0.28), (base / 2 - 0.15, 0.0, 0.95)
    shoulders = (-0.2 + lean, 0.0, 1.5 - 0.25 * lean)
    solids = [
        _tube(a, b, 0.02, paint)
        for a, b in ((bracket, seat), (bracket, head), (seat, head), (head, front), (seat, rear))
    ]
    for hub in (rear[0], front[0]):
        corners = [2 * math.pi * k / _RIM_SEGMENTS for k in range(_RIM_SEGMENTS + 1)]
        rim = [(hub + radius * math.cos(angle), 0.0, radius + radius * math.sin(angle)) for angle in corners]
        solids += [_tube(a, b, 0.025, _RUBBER) for a, b in itertools.pairwise(rim)]
    solids.append(_tube((head[0], -0.27, 1.0), (head[0], 0.27, 1.0), 0.02, paint))
    solids.append(_between(BALL, seat, shoulders, (0.14, 0.22), coat))
    solids.append(_Solid(BALL, (shoulders[0] + 0.06, 0.0, shoulders[2] + 0.2), (0.1, 0.08, 0.13), _SKIN))
    for side in (-1, 1):
        knee = (0.15 + 0.08 * side * np.cos(pedal), 0.1 * side, 0.68 + 0.08 * side * np.sin(pedal))
        foot = (-0.05 + 0.17 * side * np.cos(pedal), 0.1 * side, 0.28 + 0.17 * side * np.sin(pedal))
        solids += [_tube((-0.2, 0.1 * side, 0.95), knee, 0.08, trousers), _tube(knee, foot, 0.06, trousers)]
        solids.append(_tube((shoulders[0], 0.2 * side, shoulders[2]), (head[0], 0.24 * side, 1.0), 0.05, coat))
    reflector = _box((-0.27, -0.22), (-0.04, 0.04), (0.7, 0.78), draw(1.2, 2.0))
    return [*solids, reflector]


def _pole(draw: _Draws) -> list[_Solid]:
    height, radius = draw(2.5, 7.0), draw(0.04, 0.16)
    pole = _tube((0.0, 0.0, 0.0), (0.0, 0.0, height), radius, draw(0.15, 0.6))
    # Half of the poles carry a traffic sign, a retro-reflector seen from one side; the others' has no size.
    half = np.where(draw(-1.0, 1.0) > 0, draw(0.2, 0.35), 1e-6)
    middle = np.minimum(height - 0.4, 2.3)
    sides = ((radius, radius + 0.02, draw(1.2, 2.4)), (radius - 0.02, radius, 0.3))
    return [pole, *(_box((a, b), (-half, half), (middle - half, middle + half), shine) for a, b, shine in sides)]


def _wall(draw: _Draws) -> list[_Solid]:
    length, height, thickness = draw(4.0, 12.0), draw(0.9, 2.2), draw(0.1, 0.4)
    return [_box((-length / 2, length / 2), (-thickness / 2, thickness / 2), (0.0, height), draw(0.2, 0.6))]


def _foliage(draw: _Draws, count: int, middle: Number, half: tuple[Number, Number], size: Number) -> list[_Solid]:
    """Clusters of leaves, spread over an ellipsoid: rough and full of holes, as leaves are to a narrow beam."""
    leaves = draw(0.25, 0.6)
    clusters = []
    for number in range(count):
        # A golden-angle spiral spreads them evenly; what is drawn moves them off it.
        turn, rise = 2.399963 * number + draw(-0.6, 0.6), (2 * number + 1) / count - 1
        across, depth = np.sqrt(1 - rise * rise), draw(0.2, 1.0)
        centre = (half[0] * depth * across * np.cos(turn), half[0] * depth * across * np.sin(turn))
        radius = size * draw(0.6, 1.2)
        clusters.append(
            _Solid(BALL, (*centre, middle + half[1] * depth * rise), (radius, radius, 0.7 * radius), leaves)
        )
    return clusters


def _tree(draw: _Draws) -> list[_Solid]:
    clear, radius, half = draw(1.5, 2.6), draw(0.08, 0.25), (draw(0.9, 2.2), draw(0.9, 2.0))
    trunk = _tube((0.0, 0.0, 0.0), (0.0, 0.0, clear + half[1]), radius, draw(0.2, 0.5))
    return [trunk, *_foliage(draw, 22, clear + half[1], half, 0.3 * half[0])]


def _bush(draw: _Draws) -> list[_Solid]:
    half, height = draw(0.4, 1.2), draw(0.5, 1.7)
    return _foliage(draw, 16, 0.5 * height, (half, 0.5 * height), 0.38 * half)


THINGS: Final[dict[str, Callable[[_Draws], list[_Solid]]]] = {
    "car": _car,
    "van": _van,
    "pedestrian": _pedestrian,
    "cyclist": _cyclist,
    "pole": _pole,
    "wall": _wall,
    "tree": _tree,
    "bush": _bush,
}

EXTENT_M: Final = np.array([2.2, 2.7, 0.35, 0.9, 0.2, 6.0, 1.6, 0.9])
"""About half the width of each of `THINGS`, the heading unknown: for placing others beside it."""

REACH_M: Final = np.array([30.0, 30.0, 12.0, 14.0, 18.0, 30.0, 30.0, 16.0])
"""How far away each of `THINGS` still has beams enough on it to be told from others."""
