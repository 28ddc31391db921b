"""Range images to points and back, by a LIDAR's own table of beams.

Axes: x forward, y left, z up, in metres, the sensor at the origin. Azimuth is counted from x towards y (to the left,
counter-clockwise from above; Velodyne's own counts clockwise), elevation from the horizon upwards. Rows of an image are
beams, the uppermost first; columns are firings from left to right, so azimuth falls by a step a column; the middle of
the image is azimuth 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from robustcheck.errors import InvalidValueError

RANGE_SCALE_M: Final = 128.0
"""What 1 stands for in the range channel of a range image [m]."""

_SAME_ELEVATION: Final = 0.1
"""Beams of two tables look alike where they are nearer than this share of the narrowest gap between two of them."""
_SAME_STEP: Final = 0.01
"""Two azimuth steps are alike within this share: at the ends of a window of 128 columns, two thirds of a column."""


@dataclass(frozen=True)
class Beams:
    """Where the pixels of a range image look.

    Attributes:
        part: name of the LIDAR that looks so.
        elevation_deg: of each row, falling.
        azimuth_step_deg: between two columns.
    """

    part: str
    elevation_deg: tuple[float, ...]
    azimuth_step_deg: float

    def __str__(self) -> str:
        """In words, for reports and errors.

        >>> str(Beams("lidar-test", (2.0, 0.5, -1.0), 0.2))
        'lidar-test (3 beams from +2° to -1°, a firing every 0.2°)'
        """
        top, bottom = self.elevation_deg[0], self.elevation_deg[-1]
        beams = f"{len(self.elevation_deg)} beams from {top:+g}° to {bottom:+g}°"
        return f"{self.part} ({beams}, a firing every {self.azimuth_step_deg:g}°)"

    def difference(self, other: Beams) -> str:
        """How these beams look elsewhere than others, in words; empty if they do not.

        Beams are the same within a tenth of the narrowest gap between two of the others, azimuth steps within 1 %.

        >>> there = Beams("lidar-test", (2.0, 0.5, -1.0), 0.2)
        >>> Beams("mine", (2.1, 0.5, -1.0), 0.2).difference(there)
        ''
        >>> Beams("mine", (2.1, 0.5, -1.4), 0.2).difference(there)
        'beam 3 at -1.4° instead of -1°'
        """
        here, there = self.elevation_deg, other.elevation_deg
        if len(here) != len(there):
            return f"{len(here)} beams instead of {len(there)}"
        tolerance = _SAME_ELEVATION * min(_gaps(there), default=other.azimuth_step_deg)
        for number, (angle, expected) in enumerate(zip(here, there, strict=True), start=1):
            if abs(angle - expected) > tolerance:
                return f"beam {number} at {angle:g}° instead of {expected:g}°"
        if not math.isclose(self.azimuth_step_deg, other.azimuth_step_deg, rel_tol=_SAME_STEP):
            return f"a firing every {self.azimuth_step_deg:g}° instead of {other.azimuth_step_deg:g}°"
        return ""


def column_azimuths(columns: int, azimuth_step_deg: float) -> torch.Tensor:
    """Azimuth of each column [degrees], (columns,) float64, falling; the window is centred on 0.

    >>> column_azimuths(4, 0.5).tolist()
    [0.75, 0.25, -0.25, -0.75]
    """
    return ((columns - 1) / 2 - torch.arange(columns, dtype=torch.float64)) * azimuth_step_deg


def is_whole_turn(columns: int, azimuth_step_deg: float) -> bool:
    """Whether the last column and the first are neighbours, as less than one more column would fit between them.

    >>> is_whole_turn(1800, 0.2), is_whole_turn(1799, 0.2)
    (True, False)
    """
    return columns * azimuth_step_deg > 360 - azimuth_step_deg


def nearest_beam(elevation_deg: torch.Tensor, beams_deg: Sequence[float]) -> torch.Tensor:
    """Index of the beam that is nearest to each elevation.

    Args:
        elevation_deg: any shape [degrees].
        beams_deg: elevation of each beam [degrees], falling.

    Returns:
        int64 of that shape, in [0, beams).

    >>> nearest_beam(torch.tensor([40.0, 0.9, -9.0]), (10.0, 1.0, 0.0)).tolist()
    [0, 1, 2]
    """
    table = torch.tensor(beams_deg, dtype=elevation_deg.dtype, device=elevation_deg.device)
    between = (table[1:] + table[:-1]) / 2
    return torch.bucketize((-elevation_deg).contiguous(), -between)


def points_of(images: torch.Tensor, elevation_deg: Sequence[float], azimuth_step_deg: float) -> torch.Tensor:
    """The points that range images hold.

    Args:
        images: (n, 2, beams, columns) floating: range / 128 m and intensity, both in [0, 1]; range 0 is no return.
        elevation_deg: of each row [degrees], falling.
        azimuth_step_deg: between two columns [degrees].

    Returns:
        (n, beams·columns, 4) of the same dtype: x, y, z [m] and intensity, row by row; zeros where there is no return.

    Raises:
        InvalidValueError: images of another shape.

    >>> image = torch.tensor([10 / 128, 0.2], dtype=torch.float64).reshape(1, 2, 1, 1)
    >>> points_of(image, [30.0], 0.2)[0].round(decimals=3).tolist()
    [[8.66, 0.0, 5.0, 0.2]]
    """
    check_range_images(images, len(elevation_deg))
    elevation = torch.deg2rad(torch.tensor(elevation_deg, dtype=torch.float64)).unsqueeze(1)
    azimuth = torch.deg2rad(column_azimuths(images.shape[3], azimuth_step_deg)).unsqueeze(0)
    x, y = elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin()
    directions = torch.stack((x, y, elevation.sin().expand_as(x)), dim=-1).to(images)
    ranges = images[:, 0].unsqueeze(-1) * RANGE_SCALE_M
    points = torch.cat((ranges * directions, images[:, 1].unsqueeze(-1) * (ranges > 0)), dim=-1)
    return points.flatten(1, 2)


def range_image_of(
    points: torch.Tensor,
    elevation_deg: Sequence[float],
    azimuth_step_deg: float,
    columns: int,
    *,
    centre_deg: float = 0.0,
    tolerance_deg: float | None = None,
) -> torch.Tensor:
    """Range images of point clouds: each point goes to its nearest beam and firing, and the nearest return wins.

    Args:
        points: (n, points, 4 or more) float32 or float64: x, y, z [m], intensity in [0, 1]; the origin is no return.
        elevation_deg: of each row [degrees], falling.
        azimuth_step_deg: between two columns [degrees].
        columns: of the image.
        centre_deg: azimuth [degrees] that the middle of the image looks at.
        tolerance_deg: points farther than this [degrees] from every beam are left out; half of the widest gap between
            two beams where absent, or half a column where there is one beam.

    Returns:
        (n, 2, beams, columns) of the same dtype: range / 128 m and intensity, 0 without a return. Points beyond 128 m,
        or outside the window or the beams, are left out.

    Raises:
        InvalidValueError: points of another shape.

    >>> cloud = torch.tensor([[[8.0, 0.0, 0.0, 0.5], [4.0, 0.0, 0.0, 0.25]]])
    >>> range_image_of(cloud, [0.0, -2.0], 0.2, 1).tolist()
    [[[[0.03125], [0.0]], [[0.25], [0.0]]]]
    """
    if points.dim() != 3 or points.shape[2] < 4:
        raise InvalidValueError("points", expected="(n, points, 4 or more)", got=tuple(points.shape))
    beams = len(elevation_deg)
    ranges = points[..., :3].norm(dim=-1)
    elevation = torch.rad2deg(torch.atan2(points[..., 2], points[..., :2].norm(dim=-1)))
    azimuth = torch.rad2deg(torch.atan2(points[..., 1], points[..., 0])) - centre_deg
    azimuth = torch.remainder(azimuth + 180.0, 360.0) - 180.0
    row = nearest_beam(elevation, elevation_deg)
    column = ((columns - 1) / 2 - azimuth / azimuth_step_deg).round().long()
    if is_whole_turn(columns, azimuth_step_deg):
        # The gap behind the sensor need not be a whole step: half of it is the first column's, half the last's.
        column = column.clamp(0, columns - 1)
    if tolerance_deg is None:
        tolerance_deg = _half_gap(elevation_deg, azimuth_step_deg)
    off = (elevation - points.new_tensor(elevation_deg)[row]).abs()
    near = (ranges > 0) & (ranges <= RANGE_SCALE_M)
    inside = near & (column >= 0) & (column < columns) & (off <= tolerance_deg)
    # What lies outside goes to a cell of its own behind the image.
    cells = beams * columns
    cell = torch.where(inside, row * columns + column, cells)
    empty = points.new_full((len(points), cells + 1), torch.inf)
    nearest = empty.scatter_reduce(1, cell, ranges, "amin")
    wins = inside & (ranges == nearest.gather(1, cell))
    level = torch.zeros_like(empty).scatter_reduce(1, cell, points[..., 3] * wins, "amax")
    nearest = torch.where(nearest.isinf(), 0.0, nearest) / RANGE_SCALE_M
    return torch.stack((nearest, level), dim=1)[..., :cells].reshape(len(points), 2, beams, columns)


def _half_gap(elevation_deg: Sequence[float], azimuth_step_deg: float) -> float:
    return max(_gaps(elevation_deg), default=azimuth_step_deg) / 2


def _gaps(elevation_deg: Sequence[float]) -> list[float]:
    return [upper - lower for upper, lower in itertools.pairwise(elevation_deg)]


def check_range_images(images: torch.Tensor, beams: int) -> None:
    """InvalidValueError unless these are floating (n, 2, beams, columns); half precision loses steps of range."""
    if images.dim() != 4 or images.shape[1] != 2 or not images.is_floating_point():
        raise InvalidValueError(
            "range images",
            expected="floating (n, 2, beams, columns)",
            got=f"{images.dtype} {tuple(images.shape)}",
            remedy="channel 0 is range / 128 m, channel 1 intensity",
        )
    if images.shape[2] != beams:
        raise InvalidValueError(
            "rows of the range images",
            expected=f"{beams}, one a beam of the LIDAR",
            got=images.shape[2],
            remedy="choose a LIDAR with as many beams, or project the points by its table with range_image_of",
        )
