"""The ray caster against closed forms in NumPy, one ray and one solid at a time."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from robustcheck.data.ray_casting import BALL, CUBE, CYLINDER, NOTHING, PLANE, cast

FAR = 500.0


def rays(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in all directions."""
    drawn = np.random.default_rng(seed).normal(size=(count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def towards(point: np.ndarray, spread: float, count: int = 4000, seed: int = 0) -> np.ndarray:
    """Unit vectors from the origin to points around a place, so that about half of them hit what is there."""
    drawn = point + spread * np.random.default_rng(seed).normal(size=(count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def rotation(seed: int) -> np.ndarray:
    """A random rotation; its columns are the axes of the solid."""
    found, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    found = found * np.sign(np.diag(upper))
    return found if np.linalg.det(found) > 0 else found[:, ::-1]


def into_unit(centre: np.ndarray, half: np.ndarray, turn: np.ndarray) -> np.ndarray:
    linear = turn.T / np.asarray(half)[:, None]
    return np.concatenate([linear, -(linear @ centre)[:, None]], axis=1)


def cast_one(shape: int, matrix: np.ndarray, directions: np.ndarray, reflectivity: float = 1.0, far: float = FAR):
    found = cast(np.array([[shape]], np.uint8), matrix[None, None], np.array([[reflectivity]]), directions, far)
    return tuple(each[0] for each in found)


def compare(found: tuple, distance: np.ndarray, cosine: np.ndarray, reflectivity: float) -> None:
    """`distance` is NaN where the closed form has no hit."""
    ranges, brightness, hit = found
    expected = np.isfinite(distance) & (distance > 0) & (distance < FAR)
    assert 0.05 < expected.mean() < 0.98
    np.testing.assert_array_equal(hit, np.where(expected, 0, -1))
    np.testing.assert_allclose(ranges, np.where(expected, distance, 0), rtol=1e-9)
    np.testing.assert_allclose(brightness, np.where(expected, reflectivity * cosine, 0), atol=1e-9)


def test_a_plane_is_met_where_its_equation_says() -> None:
    normal, offset = rotation(1)[:, 2], 1.8  # the points x with n·x = −offset
    turn = rotation(1)
    d = rays(4000)
    with np.errstate(divide="ignore"):
        distance = -offset / (d @ normal)
    matrix = np.concatenate([turn.T, [[0], [0], [offset]]], axis=1)
    compare(cast_one(PLANE, matrix, d, 0.3), np.where(distance > 0, distance, np.nan), abs(d @ normal), 0.3)


def test_a_plane_along_the_ray_is_never_met() -> None:
    ground = into_unit(np.array([0, 0, -1.8]), np.ones(3), np.eye(3))
    assert cast_one(PLANE, ground, np.array([[1.0, 0.0, 0.0]]))[2].tolist() == [-1]


@pytest.mark.parametrize("radius", [0.05, 1.0, 7.0])
def test_a_sphere_is_met_at_the_smaller_root(radius: float) -> None:
    centre = np.array([6.0, -7.0, 2.0])
    d = towards(centre, 0.6 * radius)
    along = d @ centre
    with np.errstate(invalid="ignore"):
        distance = along - np.sqrt(radius**2 - (centre @ centre - along**2))
    normal = (distance[:, None] * d - centre) / radius
    compare(
        cast_one(BALL, into_unit(centre, np.full(3, radius), rotation(2)), d, 0.5),
        distance,
        abs((normal * d).sum(1)),
        0.5,
    )


def test_an_ellipsoid_has_the_normal_of_its_gradient() -> None:
    centre, half, turn = np.array([9.0, 1.0, -1.0]), np.array([2.0, 0.7, 1.1]), rotation(3)
    d = towards(centre, 1.0)
    inverse = turn @ np.diag(1 / half**2) @ turn.T  # (x − c)ᵀ M (x − c) = 1
    a, b, c = np.einsum("ni,ij,nj->n", d, inverse, d), -d @ inverse @ centre, centre @ inverse @ centre - 1
    with np.errstate(invalid="ignore"):
        distance = (-b - np.sqrt(b * b - a * c)) / a
    gradient = (distance[:, None] * d - centre) @ inverse
    cosine = abs((gradient * d).sum(1)) / np.linalg.norm(gradient, axis=1)
    compare(cast_one(BALL, into_unit(centre, half, turn), d, 0.4), distance, cosine, 0.4)


def test_a_box_is_met_at_the_nearest_face_whose_point_is_inside_the_others() -> None:
    centre, half, turn = np.array([5.0, 3.0, 1.0]), np.array([1.0, 0.4, 0.8]), rotation(4)
    d = towards(centre, 0.8)
    distance, cosine = np.full(len(d), np.nan), np.zeros(len(d))
    for axis in range(3):
        for side in (-1, 1):
            normal = side * turn[:, axis]
            t = (normal @ (centre + half[axis] * normal)) / (d @ normal)
            local = (t[:, None] * d - centre) @ turn
            others = [k for k in range(3) if k != axis]
            better = (abs(local[:, others]) <= half[others]).all(1) & (t > 0) & ~(t >= distance)
            distance, cosine = np.where(better, t, distance), np.where(better, abs(d @ normal), cosine)
    compare(cast_one(CUBE, into_unit(centre, half, turn), d, 0.7), distance, cosine, 0.7)


def test_a_cylinder_is_met_at_its_side_or_at_an_end() -> None:
    centre, radius, height, turn = np.array([4.0, -3.0, 0.5]), 0.6, 1.2, rotation(5)
    d = towards(centre, 0.7)
    axis = turn[:, 2]
    across, offset = d - np.outer(d @ axis, axis), centre - (centre @ axis) * axis
    a, b, c = (across**2).sum(1), -across @ offset, offset @ offset - radius**2
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(b * b - a * c)) / a
    rise = t * (d @ axis) - centre @ axis
    normal = (t[:, None] * across - offset) / radius
    distance = np.where(abs(rise) <= height, t, np.nan)
    cosine = abs((normal * d).sum(1))
    for side in (-1, 1):
        t = (centre @ axis + side * height) / (d @ axis)
        on_it = np.linalg.norm(t[:, None] * across - offset, axis=1) <= radius
        better = on_it & (t > 0) & ~(t >= distance)
        distance, cosine = np.where(better, t, distance), np.where(better, abs(d @ axis), cosine)
    assert np.isfinite(distance).mean() > 0.2
    matrix = into_unit(centre, np.array([radius, radius, height]), turn)
    compare(cast_one(CYLINDER, matrix, d, 0.2), distance, cosine, 0.2)


def test_rays_along_an_axis_meet_boxes_and_cylinders() -> None:
    ahead = np.array([[1.0, 0.0, 0.0]])
    box = into_unit(np.array([10.0, 0.5, 0.0]), np.array([1.0, 2.0, 3.0]), np.eye(3))
    assert cast_one(CUBE, box, ahead)[0] == pytest.approx(9.0)
    beside = into_unit(np.array([10.0, 2.5, 0.0]), np.array([1.0, 2.0, 3.0]), np.eye(3))
    assert cast_one(CUBE, beside, ahead)[2].tolist() == [-1]
    lying = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).T  # its axis is the ray's
    for offset, expected in ((0.5, 7.0), (1.5, 0.0)):
        end_on = into_unit(np.array([9.0, offset, 0.0]), np.array([1.0, 1.0, 2.0]), lying)
        ranges, brightness, _ = cast_one(CYLINDER, end_on, ahead)
        assert ranges == pytest.approx(expected)
        assert brightness == pytest.approx(1.0 if expected else 0.0)


def test_nothing_behind_the_sensor_beyond_the_range_or_of_no_kind() -> None:
    ahead = np.array([[1.0, 0.0, 0.0]])
    for x, shape in ((-10.0, BALL), (-10.0, CUBE), (-10.0, CYLINDER), (102.0, BALL), (10.0, NOTHING)):
        ball = into_unit(np.array([x, 0.0, 0.0]), np.ones(3), np.eye(3))
        ranges, brightness, hit = cast_one(shape, ball, ahead, far=100.0)
        assert (ranges[0], brightness[0], hit[0]) == (0, 0, -1)


def test_the_nearest_solid_wins_and_a_reflector_shines_at_any_angle() -> None:
    near, far = (into_unit(np.array([x, 0.0, 0.0]), np.full(3, 0.5), rotation(6)) for x in (5.0, 9.0))
    d = towards(np.array([5.0, 0.0, 0.0]), 0.3)
    shapes, reflectivity = np.array([[BALL, BALL]], np.uint8), np.array([[0.3, 1.7]])
    ranges, brightness, hit = (each[0] for each in cast(shapes, np.stack([far, near])[None], reflectivity, d, FAR))
    alone = cast_one(BALL, near, d)
    assert (hit == 1).sum() > 1000
    np.testing.assert_array_equal(ranges[hit == 1], alone[0][alone[0] > 0])
    assert set(brightness[hit == 1].tolist()) == {1.7}


def test_one_thread_gives_the_same_bits() -> None:
    rng = np.random.default_rng(7)
    shapes = rng.integers(0, 5, (9, 20)).astype(np.uint8)
    maps = rng.normal(size=(9, 20, 3, 4)) * [1, 1, 1, 9]
    arguments = (shapes, maps, rng.random((9, 20)) * 2, rays(300), 100.0)
    threads = numba.get_num_threads()
    several = cast(*arguments)
    try:
        numba.set_num_threads(1)
        one = cast(*arguments)
    finally:
        numba.set_num_threads(threads)
    assert (several[2] >= 0).any()
    for a, b in zip(several, one, strict=True):
        assert a.tobytes() == b.tobytes()
    for scene in range(9):
        alone = cast(shapes[[scene]], maps[[scene]], arguments[2][[scene]], arguments[3], 100.0)
        assert alone[0].tobytes() == several[0][scene].tobytes()
