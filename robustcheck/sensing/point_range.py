"""Operating points to draw from: one, or a range, as a pipeline that augments its images names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.channel import camera_at, check_axis
from robustcheck.sensing.operating_point import Axis, OperatingPoint
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.profile import ConverterProfile
from robustcheck.sensing.sensor import Sensor

LEVELS: Final = 256
"""Values that a range is drawn from; few, since to find the exposure of an error probability takes milliseconds."""


@dataclass(frozen=True)
class PointRange:
    """The operating points from `low` to `high`, ends included; one where they are equal. Build it with `point_range`.

    Attributes:
        axis: `ep`, evenly spaced; `exposure` or `signal`, evenly spaced in their logarithm.
        low: where level 0 is.
        high: where the last level is.
    """

    axis: Axis
    low: float
    high: float

    def at(self, level: int) -> OperatingPoint:
        """The operating point of a level, 0 to LEVELS − 1.

        >>> [round(PointRange("exposure", 0.01, 0.5).at(level).value, 4) for level in (0, 127, 255)]
        [0.01, 0.0702, 0.5]
        """
        share = level / (LEVELS - 1)
        if self.axis == "ep":
            value = self.low + (self.high - self.low) * share
        else:
            value = self.low * (self.high / self.low) ** share
        return OperatingPoint(self.axis, min(value, self.high))


def point_range(
    sensor: Sensor,
    *,
    ep: float | Sequence[float] | None = None,
    exposure: float | Sequence[float] | None = None,
    lux: float | Sequence[float] | None = None,
    signal: float | Sequence[float] | None = None,
    point: str | None = None,
) -> PointRange | None:
    """What one of these says for a sensor; None where none is given.

    Args:
        sensor: a profile with its settings.
        ep: error probability in (0, 1), or its (low, high).
        exposure: share of a camera's full well that white fills, in (0, 1], or its (low, high).
        lux: illuminance of the scene [lux], or its (low, high), by the lens and exposure time of the camera's profile.
        signal: share of a LIDAR's return signal that arrives, in (0, 1], or its (low, high).
        point: name of an operating point in the profile.

    Raises:
        InvalidValueError: more than one of them, no number or range of two, or one out of its range.
        UsageError: this kind of sensor has it not, or the part cannot reach an end of the range.
        UnknownNameError: the profile names no such operating point.

    >>> from robustcheck.sensing.sensor import sensor
    >>> point_range(sensor("camera-imx477"), exposure=[0.01, 0.5])
    PointRange(axis='exposure', low=0.01, high=0.5)
    """
    named = {"ep": ep, "exposure": exposure, "lux": lux, "signal": signal, "point": point}
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) > 1:
        raise InvalidValueError(
            "operating point", expected="ep, exposure, lux, signal or point, one of them", got=given
        )
    found: PointRange | None = None
    if point is not None:
        found = _named(sensor, point)
    elif lux is not None:
        found = PointRange("exposure", *(_exposure(sensor, end) for end in ends("lux", lux)))
    elif ep is not None:
        found = PointRange("ep", *ends("ep", ep))
    elif exposure is not None:
        found = PointRange("exposure", *ends("exposure", exposure))
    elif signal is not None:
        found = PointRange("signal", *ends("signal", signal))
    for end in () if found is None else (OperatingPoint(found.axis, found.low), OperatingPoint(found.axis, found.high)):
        check_axis(sensor, end)
        if sensor.kind == "camera":
            camera_at(sensor, end)
    return found


def ends(name: str, given: object) -> tuple[float, float]:
    """Both ends of a range; a number is both.

    >>> ends("exposure", [0.01, 0.5]), ends("exposure", 0.1)
    ((0.01, 0.5), (0.1, 0.1))
    """
    pair = tuple(given) if isinstance(given, list | tuple) else (given, given)
    numbers = [float(end) for end in pair if isinstance(end, Real)]
    if len(pair) != 2 or len(numbers) != 2 or not -math.inf < numbers[0] <= numbers[1] < math.inf:
        raise InvalidValueError(name, expected="a number, or a range (low, high)", got=given)
    return numbers[0], numbers[1]


def _exposure(sensor: Sensor, lux: float) -> float:
    if not isinstance(sensor.profile, CameraProfile):
        raise UsageError(f"lux: expected a camera to expose, got {sensor.profile.name}")
    return exposure_of_lux(sensor.profile, lux)


def _named(sensor: Sensor, point: str) -> PointRange:
    profile = sensor.profile
    if isinstance(profile, ConverterProfile):
        raise UsageError(f"point: expected a camera or LIDAR, got {profile.name}, a converter that names none; use ep")
    if point not in profile.operating_points:
        raise UnknownNameError(f"operating point of {profile.name}", point, profile.operating_points)
    value = profile.operating_points[point].value
    return PointRange("exposure" if profile.kind == "camera" else "signal", value, value)
