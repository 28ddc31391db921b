"""Sensor profiles: a TOML file of cited numbers, parsed into the record of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from robustcheck import content
from robustcheck.errors import UnknownNameError, UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.error_probability import steps_of_bits
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile_base import Bits, Profile
from robustcheck.sensing.quantity import Quantity
from robustcheck.tomlfile import parse_record, read_toml


class ConverterProfile(Profile):
    """A converter with no noise of its own; an error probability sets the noise."""

    kind: Literal["converter"]
    bits: Bits

    @property
    def steps(self) -> int:
        """Steps per unit, p = 2^b − 1."""
        return steps_of_bits(self.bits.value)


SensorProfile = ConverterProfile | CameraProfile | LidarProfile
RECORDS: Final[dict[str, type[SensorProfile]]] = {
    "converter": ConverterProfile,
    "camera": CameraProfile,
    "lidar": LidarProfile,
}


def load_sensor(spec: str | Path) -> SensorProfile:
    """A shipped profile by name, or any profile by the path of its TOML file.

    Args:
        spec: a name such as `camera-imx477` (see `robustcheck sensors list`) or a path that ends in `.toml`.

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
    return read_toml(path, RECORDS)


def with_settings(profile: SensorProfile, settings: Mapping[str, float]) -> SensorProfile:
    """The profile with other numbers, each by its name; they count as assumed, their source being whoever set them.

    A number keeps its kind: a largest error that is set stays a largest error. A LIDAR's range noise that is set takes
    the place of its table by signal-to-noise ratio.

    Raises:
        UnknownNameError: the profile has no such number.
        UsageError: a value is out of range.

    >>> with_settings(load_sensor("adc-4bit"), {"bits": 5}).steps
    31
    """
    if not settings:
        return profile
    document = profile.model_dump()
    known = [name for name, number in profile.numbers.items() if isinstance(number, Quantity)]
    for name, value in settings.items():
        if name not in known:
            raise UnknownNameError(f"number of {profile.name}", name, known)
        place: Any = document
        for part in name.split("."):
            place = place[int(part)] if isinstance(place, list | tuple) else place[part]
        place |= {"value": value, "status": "assumed", "source": f"set by the user to {value:g}"}
    if profile.kind == "lidar" and not settings.keys().isdisjoint(("range_noise_m", "range_noise_limit_m")):
        document["range_noise_by_snr"] = None
    try:
        return parse_record(document, type(profile))
    except ValueError as error:
        raise UsageError(f"--set: {error}") from error


def sensor_names() -> list[str]:
    """Names of the shipped profiles, converters by their bits, then cameras and LIDARs."""
    return sorted(
        content.names("sensors", ".toml"),
        key=lambda name: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in name.replace("bit", "").split("-")],
    )
