"""Sensor profiles: a TOML file of cited numbers, parsed into a frozen record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from robustcheck import content
from robustcheck.errors import FileFormatError, UnknownNameError
from robustcheck.sensing.error_probability import MAX_BITS, steps_of_bits
from robustcheck.tomlfile import read_toml


class Quantity(BaseModel):
    """A number, and why one may believe it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    unit: str
    kind: Literal["exact", "1sigma", "typical", "max"]
    status: Literal["measured", "datasheet", "derived", "modelled", "assumed"]
    source: str = Field(min_length=1)


class SensorProfile(BaseModel):
    """What a sensor is, independent of light and settings. Today: a generic converter (ADC).

    >>> load_sensor("adc-8bit").steps
    255
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]*$", max_length=64)
    kind: Literal["converter"]
    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    bits: Quantity

    @property
    def steps(self) -> int:
        """Steps per unit, p = 2^b − 1."""
        return steps_of_bits(self.bits.value)

    @property
    def sha256(self) -> str:
        """Hash of all fields, as canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of the numbers that have no source."""
        return tuple(
            name
            for name in type(self).model_fields
            if isinstance(quantity := getattr(self, name), Quantity) and quantity.status == "assumed"
        )


def load_sensor(spec: str | Path) -> SensorProfile:
    """A shipped profile by name, or any profile by the path of its TOML file.

    Args:
        spec: a name such as `adc-8bit` (see `robustcheck sensors list`) or a path that ends in `.toml`.

    Raises:
        UnknownNameError: no shipped profile has this name.
        FileFormatError: the file cannot be read, or a field is missing, unknown or out of range.

    >>> load_sensor("adc-4bit").title
    'Generic 4-bit converter'
    """
    if str(spec).endswith(".toml"):
        path = Path(spec)
    else:
        known = sensor_names()
        if str(spec) not in known:
            raise UnknownNameError(
                "sensor", str(spec), known, remedy="A profile of your own is given by its path, ./NAME.toml."
            )
        path = content.shelf("sensors") / f"{spec}.toml"
    profile = read_toml(path, SensorProfile)
    bits = profile.bits
    if bits.unit != "bit" or not 1 <= bits.value <= MAX_BITS or bits.value != int(bits.value):
        raise FileFormatError(
            f"{path}: field bits: expected a whole number of bits from 1 to {MAX_BITS}, got {bits.value:g} {bits.unit}"
        )
    return profile


def sensor_names() -> list[str]:
    """Names of the shipped profiles, converters by their bits."""
    return sorted(
        content.names("sensors", ".toml"),
        key=lambda name: [int(part) if part.isdigit() else 0 for part in name.replace("bit", "").split("-")],
    )
