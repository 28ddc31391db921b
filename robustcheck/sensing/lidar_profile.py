"""The record of a LIDAR: its beams, the error of its ranges, and what it needs to see anything."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from robustcheck.sensing.lidar_geometry import Beams
from robustcheck.sensing.profile_base import Bits, Fraction, OperatingPoints, Profile
from robustcheck.sensing.quantity import Quantity, Table, Within

Metres = Annotated[Quantity, AfterValidator(Within("m", 0, 1e4))]
Length = Annotated[Quantity, AfterValidator(Within("m", 1e-9, 1e4))]
Angle = Annotated[Quantity, AfterValidator(Within("deg", 0, 90))]
Ratio = Annotated[Quantity, AfterValidator(Within("1", 1e-3, 1e4))]


class RangeNoise(BaseModel):
    """The standard deviation of a range against the return's signal-to-noise ratio; straight between, on log axes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snr: Annotated[Table, AfterValidator(Within("1", 1e-3, 1e6))]
    sigma_m: Annotated[Table, AfterValidator(Within("m", 1e-9, 1e4))]

    @model_validator(mode="after")
    def _matching(self) -> RangeNoise:
        if len(self.snr.values) != len(self.sigma_m.values):
            raise ValueError(f"expected one sigma an snr, got {len(self.sigma_m.values)} for {len(self.snr.values)}")
        if any(b <= a for a, b in zip(self.snr.values, self.snr.values[1:], strict=False)):
            raise ValueError("snr: expected rising values")
        return self


class LidarProfile(Profile):
    """A LIDAR.

    Attributes:
        elevation_deg: of each beam, the uppermost first.
        azimuth_step_deg: between two firings of a beam.
        range_lsb_m: step of the ranges that it reports.
        range_noise_m: standard deviation of a strong return's range, or what its `kind` says.
        range_noise_limit_m: the same at the limit of detection.
        range_noise_by_snr: published table, which is then used instead of those two.
        intensity_bits: of the reported intensity.
        intensity_noise: standard deviation of the intensity of a strong return, as a share of it.
        min_range_m: nothing nearer is reported.
        max_range_m: nothing farther is reported.
        range_at_10_percent_m: where half of the returns of a 10 % reflector are detected.
        detection_snr: signal-to-noise ratio there.
        false_return_rate: probability of a return from nothing, per firing.
        beam_bias_m: standard deviation of a beam's constant range error.
        dead_beams: share of beams that report nothing.
        angular_noise_deg: standard deviation of a firing's direction.
        ambient_noise: noise of the receiver under the sun, as a multiple of that at which the ranges are stated.
        keep_every: every n-th beam works, the uppermost one among them; 4 makes 16 beams of 64.
        operating_points: named shares of the return signal that arrive (1 is clear air and a clean window).
    """

    kind: Literal["lidar"]
    elevation_deg: Annotated[Table, AfterValidator(Within("deg", -90, 90))]
    azimuth_step_deg: Annotated[Quantity, AfterValidator(Within("deg", 1e-3, 45))]
    range_lsb_m: Annotated[Quantity, AfterValidator(Within("m", 1e-5, 100))]
    range_noise_m: Length
    range_noise_limit_m: Length
    range_noise_by_snr: RangeNoise | None = None
    intensity_bits: Bits
    intensity_noise: Fraction
    min_range_m: Metres
    max_range_m: Length
    range_at_10_percent_m: Length
    detection_snr: Ratio
    false_return_rate: Fraction
    beam_bias_m: Metres
    dead_beams: Fraction
    angular_noise_deg: Angle
    ambient_noise: Annotated[Quantity, AfterValidator(Within("1", 0.01, 1000))] = Quantity(
        value=1, unit="1", kind="exact", status="derived", source="the light at which the other numbers are stated"
    )
    keep_every: Annotated[Quantity, AfterValidator(Within("1", 1, 64, whole=True))] = Quantity(
        value=1, unit="1", kind="exact", status="derived", source="all beams, unless a study leaves some out"
    )
    operating_points: OperatingPoints = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _consistent(self) -> LidarProfile:
        angles = self.elevation_deg.values
        if any(b >= a for a, b in itertools.pairwise(angles)):
            raise ValueError("elevation_deg: expected falling values, the uppermost beam first")
        if self.min_range_m.value >= self.max_range_m.value:
            raise ValueError("min_range_m: expected less than max_range_m")
        return self

    @property
    def steps(self) -> int:
        """Steps of range up to the maximum."""
        return round(self.max_range_m.value / self.range_lsb_m.value)

    @property
    def beams(self) -> Beams:
        """Where its beams look; those that `keep_every` leaves out among them."""
        return Beams(self.name, self.elevation_deg.values, self.azimuth_step_deg.value)
