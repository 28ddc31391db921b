"""Range images and points, beside spherical coordinates in NumPy and counting by hand."""

import numpy as np
import pytest
import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.lidar_geometry import (
    Beams,
    column_azimuths,
    is_whole_turn,
    nearest_beam,
    points_of,
    range_image_of,
)

UNEVEN = (12.0, 5.0, 3.5, -0.25, -1.0, -8.0, -24.0)


def images(beams, columns, seed=0, empty=0.3):
    """Random ranges of 1 to 120 m, some of them absent, and intensities."""
    generator = np.random.default_rng(seed)
    ranges = generator.uniform(1 / 128, 120 / 128, (3, beams, columns))
    ranges[generator.random(ranges.shape) < empty] = 0
    levels = generator.random(ranges.shape) * (ranges > 0)
    return torch.tensor(np.stack((ranges, levels), axis=1), dtype=torch.float32)


def test_columns_run_from_left_to_right_about_azimuth_0():
    np.testing.assert_allclose(column_azimuths(5, 0.2), [0.4, 0.2, 0, -0.2, -0.4], atol=1e-12)
    np.testing.assert_allclose(column_azimuths(2, 1.0), [0.5, -0.5])


def test_points_are_spherical_coordinates():
    image = images(len(UNEVEN), 9)
    points = points_of(image, UNEVEN, 2.0).numpy().reshape(3, len(UNEVEN), 9, 4)
    for row, elevation in enumerate(np.radians(UNEVEN)):
        for column in range(9):
            azimuth = np.radians((4 - column) * 2.0)
            direction = (
                np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
            )  # fmt: skip
            expected = 128 * image[:, 0, row, column].numpy()[:, None] * np.array(direction)
            np.testing.assert_allclose(points[:, row, column, :3], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(points[:, row, column, 3], image[:, 1, row, column])


def test_left_is_positive_y_and_up_is_positive_z():
    image = torch.zeros(1, 2, 2, 2)
    image[0, 0, 0, 0] = 0.5
    x, y, z, _ = points_of(image, (10.0, -10.0), 20.0)[0, 0].tolist()
    assert x > 0
    assert y > 0
    assert z > 0


@pytest.mark.parametrize("columns", [1, 8, 33, 720])
def test_the_way_there_and_back_changes_nothing(columns):
    image = images(len(UNEVEN), columns)
    back = range_image_of(points_of(image, UNEVEN, 0.5), UNEVEN, 0.5, columns)
    torch.testing.assert_close(back, image, rtol=2e-6, atol=0)
    assert bool(((back[:, 0] == 0) == (image[:, 0] == 0)).all())


def test_a_return_at_full_scale_comes_back():
    image = torch.ones(1, 2, len(UNEVEN), 50)
    torch.testing.assert_close(range_image_of(points_of(image, UNEVEN, 0.3), UNEVEN, 0.3, 50), image, rtol=1e-6, atol=0)


def test_the_nearest_return_wins_and_of_equals_the_brighter():
    rows = [[9.0, 0, 0, 0.9], [3.0, 0, 0, 0.1], [3.0, 0, 0, 0.3], [6.0, 0, 0, 0.8]]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        image = range_image_of(torch.tensor([[rows[i] for i in order]]), (0.0,), 0.2, 3)
        assert image[0, 0, 0].tolist() == [0, 3 / 128, 0]
        assert image[0, 1, 0].tolist() == pytest.approx([0, 0.3, 0])


def test_what_no_beam_meets_is_left_out():
    def found(elevation, azimuth=0.0, radius=10.0, **options):
        elevation, azimuth = np.radians(elevation), np.radians(azimuth)
        place = (
            radius * np.cos(elevation) * np.cos(azimuth), radius * np.cos(elevation) * np.sin(azimuth),
            radius * np.sin(elevation), 0.5,
        )  # fmt: skip
        image = range_image_of(torch.tensor([[place]], dtype=torch.float64), (2.0, 0.0, -4.0), 1.0, 4, **options)
        return image[0, 0].nonzero().tolist()

    assert found(3.9, 0.3) == [[0, 1]]
    assert found(4.1, 0.3) == []
    assert found(2.4, 0.3, tolerance_deg=0.5) == [[0, 1]]
    assert found(2.6, 0.3, tolerance_deg=0.5) == []
    assert found(-1.9, -0.3) == [[1, 2]]
    assert found(-2.1, -0.3) == [[2, 2]]
    assert found(0, 1.9) == [[1, 0]]
    assert found(0, 2.1) == []
    assert found(0, -1.9) == [[1, 3]]
    assert found(0, -2.1) == []
    assert found(0, 182.1, centre_deg=180.0) == []
    assert found(0, -178.4, centre_deg=180.0) == [[1, 0]]
    assert found(0, 30.4, centre_deg=30.0) == [[1, 1]]
    assert found(0, 0.4, centre_deg=30.0) == []
    assert found(0, 0.3, radius=127.9) == [[1, 1]]
    assert found(0, 0.3, radius=128.1) == []
    assert found(0, 0.3, radius=0.0) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_turn_has_a_pixel_for_each_azimuth(dtype):
    for columns, step in ((1800, 0.2), (2083, 0.1728), (1024, 360 / 1024), (7, 360 / 7)):
        assert is_whole_turn(columns, step)
        assert not is_whole_turn(columns - 1, step)
        for azimuth in (180.0, -180.0, 179.999, -179.999, 90.0, 0.0):
            turned = np.radians(azimuth)
            point = [[10 * np.cos(turned), 10 * np.sin(turned), 0.0, 0.5]]
            # Exactly behind, the arc tangent is ±180° by the sign of y, which may be that of a zero.
            point[0][1] = np.copysign(0.0, azimuth) if abs(azimuth) == 180 else point[0][1]
            for centre in (0.0, 33.3, -120.0):
                image = range_image_of(torch.tensor([point], dtype=dtype), (0.0,), step, columns, centre_deg=centre)
                (column,) = image[0, 0, 0].nonzero().ravel().tolist()
                off = abs(float(column_azimuths(columns, step)[column]) + centre - azimuth) % 360
                widest = max(step, 360 - (columns - 1) * step)  # the seam may be wider than a step
                assert min(off, 360 - off) <= widest / 2 + 1e-4


def test_a_window_that_is_no_whole_turn_ends_at_its_ends():
    behind = torch.tensor([[[-10.0, 0.0, 0.0, 0.5]]])
    assert not range_image_of(behind, (0.0,), 0.2, 1799).any()
    assert not range_image_of(behind, (0.0,), 0.2, 128).any()


def test_beams_are_compared_row_by_row():
    there = Beams("lidar-there", (10.0, 8.0, 4.0), 0.2)
    cases = [
        ((10.0, 8.0, 4.0), 0.2, ""),
        ((10.19, 7.81, 4.19), 0.2, ""),
        ((10.0, 8.21, 4.0), 0.2, "beam 2 at 8.21° instead of 8°"),
        ((10.0, 8.0, 3.79), 0.3, "beam 3 at 3.79° instead of 4°"),
        ((10.0, 8.0), 0.2, "2 beams instead of 3"),
        ((10.0, 8.0, 4.0, 2.0), 0.2, "4 beams instead of 3"),
        ((10.0, 8.0, 4.0), 0.2019, ""),
        ((10.0, 8.0, 4.0), 0.2021, "a firing every 0.2021° instead of 0.2°"),
        ((10.0, 8.0, 4.0), 0.1979, "a firing every 0.1979° instead of 0.2°"),
    ]
    for angles, step, difference in cases:
        assert Beams("x", angles, step).difference(there) == difference
    one = Beams("one", (0.0,), 0.2)
    assert Beams("x", (0.019,), 0.2).difference(one) == ""
    assert Beams("x", (0.021,), 0.2).difference(one) == "beam 1 at 0.021° instead of 0°"


def test_one_beam_takes_what_lies_within_half_a_column():
    near, far = ([[10.0, 0.0, 10 * np.tan(np.radians(e)), 0.5]] for e in (0.09, 0.11))
    image = range_image_of(torch.tensor([near, far]), (0.0,), 0.2, 1)
    assert (image[:, 0, 0, 0] > 0).tolist() == [True, False]


def test_the_nearest_beam_is_that_of_the_smallest_difference():
    angles = np.random.default_rng(3).uniform(-40, 30, 1000)
    expected = np.abs(angles[:, None] - np.array(UNEVEN)).argmin(axis=1)
    np.testing.assert_array_equal(nearest_beam(torch.tensor(angles), UNEVEN), expected)


def test_an_intensity_without_a_range_is_no_return():
    image = torch.zeros(1, 2, 7, 3)
    image[:, 1] = 0.5
    assert not points_of(image, UNEVEN, 1.0).any()


def test_the_layout_of_the_points_does_not_matter():
    image = images(7, 20)
    points = points_of(image, UNEVEN, 1.0)
    turned = points.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(range_image_of(turned, UNEVEN, 1.0, 20), image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_points_keep_the_dtype(dtype):
    assert points_of(images(7, 3).to(dtype), UNEVEN, 1.0).dtype == dtype


def test_wrong_shapes_are_named():
    with pytest.raises(InvalidValueError, match=r"expected 7, one a beam of the LIDAR, got 3; choose a LIDAR"):
        points_of(torch.zeros(1, 2, 3, 4), UNEVEN, 1.0)
    for wrong in (torch.zeros(2, 7, 4), torch.zeros(1, 3, 7, 4), torch.zeros(1, 2, 7, 4, dtype=torch.int32)):
        with pytest.raises(InvalidValueError, match="range images: expected floating"):
            points_of(wrong, UNEVEN, 1.0)
    for wrong in (torch.zeros(1, 4), torch.zeros(1, 5, 3)):
        with pytest.raises(InvalidValueError, match="points: expected"):
            range_image_of(wrong, UNEVEN, 1.0, 4)
