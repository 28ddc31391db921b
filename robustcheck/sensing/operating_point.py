"""Operating points: where on its own axis a sensor works, and what that means in error probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.error_probability import check_ep

Axis = Literal["ep", "exposure", "signal"]


@dataclass(frozen=True)
class OperatingPoint:
    """A value on one axis.

    Attributes:
        axis: `ep` (error probability), `exposure` (share of the full well that white fills) or `signal` (share of a
            LIDAR's return that arrives).
        value: an error probability in (0, 1), an exposure in (0, 1] or a signal in (0, 1].
        noisy: false for the same light and resolution with rounding and clipping alone.
    """

    axis: Axis
    value: float
    noisy: bool = True

    def __post_init__(self) -> None:
        if self.axis == "ep":
            check_ep(self.value)
        else:
            check_share(self.value, self.axis)

    @property
    def name(self) -> str:
        """What the store calls it.

        >>> OperatingPoint("exposure", 0.1).name
        'exposure=0.1'
        """
        return f"{self.axis}={self.value!r}" + ("" if self.noisy else " quantised")


@dataclass(frozen=True)
class Reading:
    """What a channel's operating point means; None where a number does not apply.

    Attributes:
        sigma: noise scale [full scales]; 0 without noise. Of a camera: of a flat field at white.
        sigma_steps: the same in steps.
        ep: `ep_centre`.
        ep_adc: the same noise as a converter sees it.
        exposure: share of a camera's full well that white fills.
        bits: resolution, where the operating point decides it.
        signal: share of a LIDAR's return signal that arrives.
        range_ep: `ep_centre` of the ranges of a LIDAR, at the reference return of `sensing.lidar`.
        intensity_ep: `ep_centre` of its intensities there.
        detection: probability that the reference return is detected.
    """

    sigma: float | None = None
    sigma_steps: float | None = None
    ep: float | None = None
    ep_adc: float | None = None
    exposure: float | None = None
    bits: float | None = None
    signal: float | None = None
    range_ep: float | None = None
    intensity_ep: float | None = None
    detection: float | None = None


def check_share(value: float, what: str) -> float:
    """The exposure or signal, if it lies in (0, 1]; else InvalidValueError."""
    if not (isinstance(value, int | float) and 0 < value <= 1):
        raise InvalidValueError(what, expected=f"0 < {what} <= 1", got=value)
    return float(value)
