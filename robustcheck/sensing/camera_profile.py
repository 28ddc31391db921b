"""The record of a camera: EMVA 1288's numbers, the converter's, and those of its high dynamic range."""

from __future__ import annotations

import itertools
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from robustcheck.sensing.error_probability import steps_of_bits
from robustcheck.sensing.profile_base import Bits, Fraction, OperatingPoints, Profile, Share
from robustcheck.sensing.quantity import Line, Quantity, Table, Within

Electrons = Annotated[Quantity, AfterValidator(Within("electron", 0, 1e5))]
Well = Annotated[Quantity, AfterValidator(Within("electron", 1, 1e8))]
Gain = Annotated[Quantity, AfterValidator(Within("DN/electron", 1e-6, 1e4))]
Codes = Annotated[Quantity, AfterValidator(Within("DN", 0, 65535))]
DarkCurrent = Annotated[Quantity, AfterValidator(Within("electron/s", 0, 1e9))]
Seconds = Annotated[Quantity, AfterValidator(Within("s", 1e-9, 1e5))]
Celsius = Annotated[Quantity, AfterValidator(Within("degC", -100, 200))]
Decibels = Annotated[Quantity, AfterValidator(Within("dB", 0, 240))]


_MOST_LINEAR: Final = 2**32
_MOST_CODES: Final = 2**20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Published(_Part):
    """What the maker or a measurement says of the whole, to hold the other numbers against."""

    snr_max_db: Decibels | None = None
    dynamic_range_db: Decibels | None = None


class Companding(_Part):
    """A curve from linear codes to fewer: straight between its knees.

    Attributes:
        input_dn: linear codes at the knees, rising from 0.
        output_dn: companded codes there, rising from 0.
    """

    title: Annotated[Line, Field(max_length=120)]
    input_dn: Table
    output_dn: Table

    @model_validator(mode="after")
    def _rising(self) -> Companding:
        ins, outs = self.input_dn.values, self.output_dn.values
        if len(ins) != len(outs) or len(ins) < 2:
            raise ValueError(f"expected as many inputs as outputs, at least two, got {len(ins)} and {len(outs)}")
        for name, values in (("input_dn", ins), ("output_dn", outs)):
            if values[0] != 0 or any(b <= a for a, b in itertools.pairwise(values)):
                raise ValueError(f"{name}: expected values that rise from 0")
        if ins[-1] > _MOST_LINEAR or outs[-1] > _MOST_CODES or any(ends[-1] != int(ends[-1]) for ends in (ins, outs)):
            raise ValueError(
                f"expected whole numbers at the end, of at most {_MOST_LINEAR} inputs and {_MOST_CODES} outputs, "
                f"got {ins[-1]:g} and {outs[-1]:g}"
            )
        return self


class Capture(_Part):
    """One more reading of the same scene, less sensitive than the one before it.

    Attributes:
        sensitivity: electrons for one electron of the profile's own (first) capture.
    """

    name: Annotated[Line, Field(max_length=32)]
    sensitivity: Share
    full_well_e: Well
    read_noise_e: Electrons
    gain_dn_per_e: Gain
    dark_current_e_per_s: DarkCurrent


class HighDynamicRange(_Part):
    """How several captures become one value.

    Attributes:
        method: `multi-exposure` (one after the other) or `split-pixel` (at the same time; two gains or two diodes).
        captures: the further captures, in falling sensitivity; the profile's own numbers are the first.
        hand_over: share of a capture's saturation above which the next one is used.
        companding: how the merged value is sent, if not as it is.
    """

    method: Literal["multi-exposure", "split-pixel"]
    captures: tuple[Capture, ...] = Field(min_length=1, max_length=8)
    hand_over: Share
    companding: Companding | None = None


class CameraProfile(Profile):
    """A camera: symbols and units of EMVA 1288 release 4.

    Attributes:
        bits: resolution b of the converter.
        full_well_e: saturation capacity.
        read_noise_e: temporal noise in the dark without dark current, σ_d0.
        gain_dn_per_e: overall system gain K at `bits` and an analog gain of 1.
        analog_gain: factor on K; read noise, which a real part lowers with it, stays what is given.
        black_level_dn: code of no light at `bits`.
        pixel_um: pitch.
        quantum_efficiency: η.
        dark_current_e_per_s: μ_I at `dark_reference_c`; doubles with each `dark_doubling_c`.
        prnu: photo response non-uniformity, standard deviation as a share of the signal.
        dsnu_e: dark signal non-uniformity, standard deviation.
        row_noise_e: temporal noise that a row shares.
        exposure_time_s: time of exposure that dark current and illuminance are taken at.
        temperature_c: of the sensor.
        f_number: of the lens, for illuminance.
        transmission: of the lens, for illuminance.
        reflectance: of a white object, for illuminance.
        colour_filter: `none`, or the Bayer pattern of the upper left four pixels.
        operating_points: named exposures, as shares of the full well.
    """

    kind: Literal["camera"]
    bits: Bits
    full_well_e: Well
    read_noise_e: Electrons
    gain_dn_per_e: Gain
    analog_gain: Annotated[Quantity, AfterValidator(Within("1", 0.01, 1000))] = Quantity(
        value=1, unit="1", kind="exact", status="derived", source="the gain at which the other numbers are stated"
    )
    black_level_dn: Codes
    pixel_um: Annotated[Quantity, AfterValidator(Within("um", 0.01, 100))]
    quantum_efficiency: Share
    dark_current_e_per_s: DarkCurrent
    dark_reference_c: Celsius
    dark_doubling_c: Annotated[Quantity, AfterValidator(Within("degC", 1, 100))]
    prnu: Fraction
    dsnu_e: Electrons
    row_noise_e: Electrons
    exposure_time_s: Seconds
    temperature_c: Celsius
    f_number: Annotated[Quantity, AfterValidator(Within("1", 0.3, 100))]
    transmission: Share
    reflectance: Share
    colour_filter: Literal["none", "rggb", "bggr", "grbg", "gbrg"] = "none"
    hdr: HighDynamicRange | None = None
    published: Published = Published()
    operating_points: OperatingPoints = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _black_below_white(self) -> CameraProfile:
        if self.black_level_dn.value >= self.steps:
            raise ValueError(f"black_level_dn: expected less than the last code, {self.steps}")
        return self

    @property
    def steps(self) -> int:
        """Codes of the converter less one, 2^b − 1."""
        return steps_of_bits(self.bits.value)
