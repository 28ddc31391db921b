"""LIDAR scenes: simulated range images of one labelled thing each, ray-cast with the beams of a real part.

A thing stands 4 to 30 m away on gently sloping ground, with others beside and behind it, often partly hidden. The
sensor is 1.8 m above the ground. All is matt and still, and nothing is noisy: noise is the channel's to add.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.data.lidar_objects import DRAWS, EXTENT_M, REACH_M, THINGS, Floats, Solids, things
from robustcheck.data.listing import Listing, Request, listing_of_arrays, renamed
from robustcheck.data.ray_casting import CUBE, NOTHING, PLANE, cast
from robustcheck.errors import UsageError
from robustcheck.sensing.lidar_geometry import RANGE_SCALE_M, column_azimuths
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.random import random_words, stream_key

PART: Final = "lidar-vlp16"
CLASSES: Final = tuple(THINGS)
COLUMNS: Final = 128
SAMPLES_A_CLASS: Final = 800
LEAST_RETURNS: Final = 32
"""Fewer returns from the labelled thing, and the scene is left out: it is hidden, or too far for its size."""

_SEED: Final = 0
_SCENES_A_CLASS: Final = 980
_FULL_CODE: Final = 100 / 255
"""Intensity of a white matt surface: code 100 of 255; codes above are retro-reflectors."""
_GRID: Final = 2.0**20
"""Numbers are whole 1/2²⁰, .12 mm of range, lest the last bit of a sine, in which libraries differ, be seen in them."""
_SIDE_THINGS: Final = 3
_HIDERS: Final = tuple(CLASSES.index(name) for name in ("pole", "bush", "pedestrian"))


@dataclass(frozen=True, eq=False)
class Scenes:
    """Simulated range images.

    `images` is (n, 16, 128, 2) float32: range / 128 m and intensity, 0 where nothing returns. `labels` (n,) int64
    indexes `CLASSES`, `returns` (n,) int64 counts the labelled thing's, `sample_ids` (n,) int64 is each scene's seed.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    returns: NDArray[np.int64]
    sample_ids: NDArray[np.int64]


def read_lidar_scenes(rest: str, request: Request) -> Listing:
    """The embedded scenes, 800 a class; a sample's id is its row. UsageError where anything follows the name."""
    if rest:
        raise UsageError(f"data: expected 'lidar-scenes', got 'lidar-scenes:{rest}'; nothing follows the name")
    scenes = all_scenes()
    return listing_of_arrays(
        "lidar-scenes",
        f"ray-cast scenes, seen with the beams of {PART}; simulated, without noise",
        scenes.images,
        scenes.labels,
        renamed(CLASSES, request.class_names),
        beams=_profile().beams,
        notes=(
            "simulated: simple matt solids on a plane, one labelled thing a sample; no substitute for a real set",
            f"{_SCENES_A_CLASS * len(CLASSES)} scenes were drawn; the first {SAMPLES_A_CLASS} of each class with at "
            f"least {LEAST_RETURNS} returns from the labelled thing are kept",
        ),
    )


@functools.lru_cache(maxsize=1)
def all_scenes() -> Scenes:
    """The scenes of `lidar-scenes`, some seconds' work; kept in memory."""
    blocks = np.array_split(np.arange(_SCENES_A_CLASS * len(CLASSES)), 16)
    images, labels, returns, sample_ids = (
        np.concatenate(parts) for parts in zip(*map(_columns, map(draw_scenes, blocks)), strict=True)
    )
    seen = returns >= LEAST_RETURNS
    rows = [np.flatnonzero(seen & (labels == label))[:SAMPLES_A_CLASS] for label in range(len(CLASSES))]
    kept = np.sort(np.concatenate(rows))
    return Scenes(images[kept], labels[kept], returns[kept], sample_ids[kept])


def _columns(scenes: Scenes) -> tuple[NDArray[Any], ...]:
    return scenes.images, scenes.labels, scenes.returns, scenes.sample_ids


def draw_scenes(sample_ids: NDArray[np.int64]) -> Scenes:
    """The scenes with these ids; each depends on its own id alone. The classes take turns.

    Args:
        sample_ids: (n,) int64, not negative.

    >>> scenes = draw_scenes(np.array([5, 0]))
    >>> scenes.images.shape, [CLASSES[label] for label in scenes.labels]
    ((2, 16, 128, 2), ['wall', 'car'])
    """
    profile = _profile()
    labels = sample_ids % len(CLASSES)
    seen = _place(sample_ids, labels)
    shapes, maps, reflectivity = (np.concatenate(parts, axis=1) for parts in zip(*seen, strict=True))
    directions = beam_directions(profile)
    ranges, brightness, hit = cast(shapes, maps, reflectivity, directions, profile.max_range_m.value)
    images = np.stack([ranges / RANGE_SCALE_M, np.minimum(brightness * _FULL_CODE, 1)], axis=-1)
    images = np.rint(images * _GRID) / _GRID
    returns = ((hit >= 0) & (hit < seen[0][0].shape[1])).sum(axis=1)
    size = (len(sample_ids), len(profile.elevation_deg.values), COLUMNS, 2)
    return Scenes(images.reshape(size).astype(np.float32), labels, returns, sample_ids)


def _profile() -> LidarProfile:
    profile = load_sensor(PART)
    assert isinstance(profile, LidarProfile)
    return profile


def beam_directions(profile: LidarProfile) -> Floats:
    """Unit vectors of every firing of the window, (beams·columns, 3) float64, row by row: x forward, y left, z up.

    >>> profile = load_sensor("lidar-vlp16")
    >>> beam_directions(profile)[0].round(3).tolist()
    [0.942, 0.212, 0.259]
    """
    azimuths = column_azimuths(COLUMNS, profile.azimuth_step_deg.value).tolist()
    return np.array(
        [
            (math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))
            for e in map(math.radians, profile.elevation_deg.values)
            for a in map(math.radians, azimuths)
        ]
    )


@dataclass(frozen=True, eq=False)
class _Pose:
    """Where things stand, (n,) each: distance [m], azimuth and heading [rad]; the sensor's height [m] and tilt."""

    distance: Floats
    azimuth: Floats
    heading: Floats
    height: Floats
    level: Floats
    """(n, 3, 3), from the sensor's frame to one whose z is the ground's normal."""


_Seen = tuple[NDArray[np.uint8], Floats, Floats]
"""Shapes, maps from the sensor's frame and reflectivities of solids, as `cast` takes them."""


def _uniform(sample_ids: NDArray[np.int64], purpose: str, count: int) -> Floats:
    """Random numbers in (0, 1), (n, count), a function of scene and purpose alone."""
    words = random_words(stream_key(_SEED, "lidar-scenes", purpose), torch.from_numpy(sample_ids), 0, count)
    uniform: Floats = (words.numpy() + 0.5) / 2**32
    return uniform


def _place(sample_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> list[_Seen]:
    """The labelled thing, then what may hide it, what stands beside it, a building behind, and the ground."""
    u = _uniform(sample_ids, "scene", 24 + 8 * _SIDE_THINGS)
    height, level = 1.7 + 0.2 * u[:, 0], _tilt(np.radians(3 * u[:, 1] - 1.5), np.radians(3 * u[:, 2] - 1.5))
    extent = EXTENT_M[labels]
    distance = np.maximum(4 * (REACH_M[labels] / 4) ** u[:, 3], extent + 1.5)
    azimuth = np.radians(3 * u[:, 4] - 1.5)
    half = np.arctan2(extent, distance)

    def pose(distance: Floats, azimuth: Floats, heading: Floats) -> _Pose:
        return _Pose(distance, azimuth, heading, height, level)

    target = things(labels, _uniform(sample_ids, "thing", DRAWS))
    seen = [_seen_from(pose(distance, azimuth, 2 * math.pi * u[:, 5]), target)]

    hider = np.array(_HIDERS)[(u[:, 6] * len(_HIDERS)).astype(np.int64)]
    hider_distance = distance * (0.4 + 0.3 * u[:, 7])
    # Its near edge lies between the thing's middle and a little beyond the thing's edge.
    aside = np.arctan2(EXTENT_M[hider], hider_distance) + half * (1.3 * u[:, 8])
    hides = (u[:, 9] < 0.3) & (hider_distance > EXTENT_M[hider] + 1.5)
    stands = pose(hider_distance, azimuth + np.where(u[:, 10] < 0.5, aside, -aside), 2 * math.pi * u[:, 11])
    seen.append(_seen_from(stands, things(np.where(hides, hider, -1), _uniform(sample_ids, "hider", DRAWS))))

    for number in range(_SIDE_THINGS):
        v = u[:, 24 + 8 * number : 32 + 8 * number]
        kinds = (v[:, 0] * len(CLASSES)).astype(np.int64)
        away = np.maximum(5 + 40 * v[:, 1], EXTENT_M[kinds] + 1.5)
        aside = half + np.arctan2(EXTENT_M[kinds], away) + np.radians(0.5 + 8 * v[:, 2])
        stands = pose(away, azimuth + np.where(v[:, 3] < 0.5, aside, -aside), 2 * math.pi * v[:, 4])
        beside = things(np.where(v[:, 5] < 0.55, kinds, -1), _uniform(sample_ids, f"side {number}", DRAWS))
        seen.append(_seen_from(stands, beside))

    behind = distance + extent + 4 + 26 * u[:, 12]
    turned = azimuth + math.pi / 2 + np.radians(60 * u[:, 13] - 30)
    building = _building(u[:, 14] < 0.6, 12 + 24 * u[:, 15], 4 + 8 * u[:, 16], 0.15 + 0.4 * u[:, 17])
    return [*seen, _seen_from(pose(behind, azimuth, turned), building), _ground(height, level, 0.1 + 0.3 * u[:, 18])]


def _building(present: NDArray[np.bool_], length: Floats, height: Floats, reflectivity: Floats) -> Solids:
    """A box of this length and height [m], 1 m deep, where there is one."""
    centre = np.stack([np.zeros_like(height), np.zeros_like(height), height / 2], axis=1)
    half = np.stack([length / 2, np.full_like(length, 0.5), height / 2], axis=1)
    shapes = np.where(present, CUBE, NOTHING).astype(np.uint8)
    turn = np.broadcast_to(np.eye(3), (len(present), 1, 3, 3))
    return Solids(shapes[:, None], centre[:, None], half[:, None], turn, reflectivity[:, None])


def _tilt(pitch: Floats, roll: Floats) -> Floats:
    """Rotations (n, 3, 3) about y, then x [rad]."""
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)
    c, s, k, r = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=-1).reshape(-1, 3, 3)
    about_x = np.stack([one, zero, zero, zero, k, -r, zero, r, k], axis=-1).reshape(-1, 3, 3)
    tilted: Floats = about_x @ about_y
    return tilted


def _seen_from(pose: _Pose, solids: Solids) -> _Seen:
    """Things at their poses, mapped from the sensor's frame."""
    c, s = np.cos(pose.heading), np.sin(pose.heading)
    zero, one = np.zeros_like(c), np.ones_like(c)
    heading = np.stack([c, s, zero, -s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    x, y = pose.distance * np.cos(pose.azimuth), pose.distance * np.sin(pose.azimuth)
    # Into the frame of the thing, then of each solid, then to its unit size.
    turn = heading @ pose.level
    origin = (heading @ np.stack([-x, -y, pose.height], axis=-1)[..., None])[:, None, :, 0] - solids.centre
    inverse = np.swapaxes(solids.turn, -1, -2) / solids.half[..., None]
    maps = np.concatenate([inverse @ turn[:, None], inverse @ origin[..., None]], axis=-1)
    return solids.shapes, maps, solids.reflectivity


def _ground(height: Floats, level: Floats, reflectivity: Floats) -> _Seen:
    """The plane of the ground, which may slope."""
    maps = np.concatenate([level, np.zeros((len(height), 3, 1))], axis=-1)[:, None]
    maps[:, 0, 2, 3] = height
    return np.full((len(height), 1), PLANE, np.uint8), maps, reflectivity[:, None]
