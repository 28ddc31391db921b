"""A sensor: a profile with the settings of a study, before an operating point is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.converter import FORMS, Form
from robustcheck.sensing.deviates import NOISES, Noise
from robustcheck.sensing.error_probability import MAX_STEPS, bits_of_steps, steps_of_bits
from robustcheck.sensing.operating_point import check_share
from robustcheck.sensing.profile import ConverterProfile, SensorProfile, load_sensor, with_settings

Placement = Literal["sensor", "network"]
Range = Literal["unit", "calibrated"]
Vary = Literal["exposure", "bits"]
PLACEMENTS: Final[tuple[Placement, ...]] = get_args(Placement)
RANGES: Final[tuple[Range, ...]] = get_args(Range)
VARIED: Final[tuple[Vary, ...]] = get_args(Vary)
_BITS_ROUNDED: Final = 0.005  # by which bits may miss a whole number of steps: half of their second decimal
HALF_WELL: Final = 0.5
"""The exposure at which `vary` bits reads a camera unless another is named: EMVA 1288's usual 50 % of saturation."""


@dataclass(frozen=True)
class Sensor:
    """A profile as a study uses it; build it with `sensor`.

    Attributes:
        profile: what the sensor is, the settings of the study among its numbers.
        steps: steps per unit p, the profile's own or an override.
        noise: distribution of the noise that the error probability sets.
        form: for placement `sensor` the converter at the input, `aod` or `doa`; for placement `network` what stands
            around every layer, `aod` for DOA → layer → AOD, `doa` for DOA → layer.
        placement: `sensor` (noise at the input) or `network` (also around every layer and on its weights).
        range: of the layers, for placement `network`: `unit` is [−1, 1], `calibrated` follows the training data.
        settings: numbers of the profile that were set otherwise, by name.
        vary: what an error probability moves in a camera.
        at_exposure: the exposure where it moves the bits.
        device_seed: which specimen of the part: its maps of non-uniformity, dead beams and biases.
    """

    profile: SensorProfile
    steps: int
    noise: Noise = "gaussian"
    form: Form = "aod"
    placement: Placement = "sensor"
    range: Range = "calibrated"
    settings: tuple[tuple[str, float], ...] = ()
    vary: Vary = "exposure"
    at_exposure: float = HALF_WELL
    device_seed: int = 0

    @property
    def kind(self) -> str:
        """`converter`, `camera` or `lidar`."""
        return self.profile.kind

    @property
    def key(self) -> str:
        """Unique name within a study, e.g. `adc-4bit/16 steps`, `adc-4bit/doa only` or `camera-imx477/prnu=0`."""
        parts = [self.profile.name]
        if self.steps != self.profile.steps:
            parts.append(f"{self.steps} steps" if self.kind == "converter" else f"{self.bits:g} bits")
        if self.kind == "camera" and self.vary == "bits":
            parts.append(f"bits at exposure {self.at_exposure:g}")
        if self.placement == "network" and self.form == "doa":
            parts.append("doa only")
        parts += [f"{name}={value:g}" for name, value in self.settings if name != "bits"]
        if self.device_seed:
            parts.append(f"device {self.device_seed}")
        return "/".join(parts)

    @property
    def bits(self) -> float:
        """log2(steps + 1)."""
        return bits_of_steps(self.steps)

    def as_dict(self) -> dict[str, Any]:
        """All that decides what the sensor does, for hashing."""
        if self.kind != "converter":
            return {
                "profile": self.profile.sha256,
                "steps": self.steps,
                "vary": self.vary,
                "at_exposure": self.at_exposure,
                "device_seed": self.device_seed,
            }
        return {
            "profile": self.profile.sha256,
            "steps": self.steps,
            "noise": self.noise,
            "form": None if self.placement == "network" and self.form == "aod" else self.form,
            "placement": self.placement,
            "range": self.range if self.placement == "network" else None,
        }


def sensor(
    spec: str | SensorProfile,
    *,
    bits: float | None = None,
    steps: int | None = None,
    noise: Noise = "gaussian",
    form: Form = "aod",
    placement: Placement = "sensor",
    range: Range = "calibrated",
    settings: Mapping[str, float] | None = None,
    vary: Vary = "exposure",
    at_exposure: float = HALF_WELL,
    device_seed: int = 0,
) -> Sensor:
    """Bind a profile to settings.

    Args:
        spec: a profile, its name or its path.
        bits: override the resolution, 1 to 16, as far as p = 2^b − 1 is whole to two decimals of b; not together with
            `steps`; not for a LIDAR.
        steps: override the resolution as steps per unit, 1 to 65535.
        noise: gaussian, uniform or laplace; a camera or LIDAR has its own.
        form: aod (noise, clamp, quantise) or doa (clamp, quantise, noise), for a converter; with placement network
            aod is DOA → layer → AOD, doa only the DOA before each layer.
        placement: sensor or network; network for a converter alone.
        range: unit or calibrated.
        settings: numbers of the profile to set otherwise, by name.
        vary: what an error probability moves in a camera: exposure, or bits.
        at_exposure: in (0, 1], where it moves the bits.
        device_seed: in [0, 2^63).

    Raises:
        UnknownNameError: no such sensor, noise, form, placement, range or number.
        InvalidValueError: a number out of its range.
        UsageError: a setting that this kind of sensor has not.

    >>> sensor("adc-4bit", steps=16).key
    'adc-4bit/16 steps'
    """
    for kind, name, known in (
        ("noise", noise, NOISES),
        ("converter form", form, FORMS),
        ("placement", placement, PLACEMENTS),
        ("range", range, RANGES),
        ("quantity to vary", vary, VARIED),
    ):
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if bits is not None and steps is not None:
        raise InvalidValueError("resolution", expected="bits or steps, not both", got=(bits, steps))
    if not 0 <= device_seed < 2**63:
        raise InvalidValueError("device seed", expected="0 <= seed < 2^63", got=device_seed)
    settings = dict(settings or {})
    profile = load_sensor(spec) if isinstance(spec, str) else spec
    if "bits" in settings:
        raise UsageError("--set bits: expected --bits, with which gain and black level follow the resolution; use that")
    profile = with_settings(profile, settings)
    resolution = bits if bits is not None else steps
    _check_kind(profile, noise, form, placement, resolution=resolution, vary=vary)
    _check_moved(profile, resolution, vary, at_exposure, device_seed)
    if bits is not None:
        steps = whole_steps(bits)
    if steps is None:
        steps = profile.steps
    elif not (isinstance(steps, int) and 1 <= steps <= MAX_STEPS):
        raise InvalidValueError("steps", expected=f"a whole number from 1 to {MAX_STEPS}", got=steps)
    named = tuple(sorted((name, float(value)) for name, value in settings.items()))
    at = check_share(at_exposure, "exposure")
    return Sensor(profile, steps, noise, form, placement, range, named, vary, at, device_seed)


def whole_steps(bits: float) -> int:
    """The steps p = 2^b − 1 of a resolution that names them: bits are never moved to those of other steps.

    Raises:
        InvalidValueError: bits are not in [1, 16], or lie between those of two numbers of steps.

    >>> whole_steps(8), whole_steps(2.585)
    (255, 5)
    """
    steps = steps_of_bits(bits)
    if abs(bits_of_steps(steps) - bits) > _BITS_ROUNDED:
        around = sorted((steps, steps - 1 if bits_of_steps(steps) > bits else steps + 1))
        known = " or ".join(f"{p} ({bits_of_steps(p):.4g} bits)" for p in around)
        expected = "those of a whole number of steps, 2^bits − 1"
        raise InvalidValueError("bits", expected=expected, got=bits, remedy=f"use steps {known}")
    return steps


def _check_kind(
    profile: SensorProfile, noise: str, form: str, placement: str, resolution: float | None, vary: str
) -> None:
    """UsageError for a setting that this kind of sensor has not."""
    if isinstance(profile, ConverterProfile):
        if vary != "exposure":
            raise UsageError(f"{profile.name} is a converter, which has no exposure: expected vary to be left out")
        return
    what = f"{profile.name} is a {'LIDAR' if profile.kind == 'lidar' else 'camera'}"
    if noise != "gaussian":
        raise UsageError(f"{what} with a noise of its own: expected none named, got {noise!r}; leave it out")
    if form != "aod":
        raise UsageError(f"{what}, which quantises after its noise: expected form 'aod', got {form!r}; leave it out")
    if placement != "sensor":
        raise UsageError(
            f"{what} in front of the network: expected placement 'sensor', got {placement!r}; "
            "noise inside the network is a converter's, such as adc-4bit"
        )
    if profile.kind == "lidar":
        if resolution is not None:
            raise UsageError(f"{what}: expected no bits or steps; its resolution is range_lsb_m, which can be set")
        if vary != "exposure":
            raise UsageError(f"{what}, which has no exposure: expected vary to be left out")


def _check_moved(
    profile: SensorProfile, resolution: float | None, vary: str, at_exposure: float, device_seed: int
) -> None:
    """UsageError for a setting that would do nothing, or that the part's companding curve is not made for."""
    if vary == "bits" and resolution is not None:
        raise UsageError(f"bits or steps: expected none where an EP moves the bits, got {resolution:g}; leave it out")
    if vary != "bits" and at_exposure != HALF_WELL:
        raise UsageError("at_exposure: expected it with vary 'bits' alone, where it says the light")
    if profile.kind == "converter" and device_seed:
        raise UsageError(
            f"device seed: expected a camera or LIDAR, got {profile.name}, of which all specimens are alike"
        )
    hdr = profile.hdr if isinstance(profile, CameraProfile) else None
    if hdr is not None and hdr.companding is not None and (vary == "bits" or resolution is not None):
        raise UsageError(
            f"{profile.name} sends companded codes, whose curve is made for its own {profile.steps + 1} codes: "
            "expected no other resolution; leave out bits, steps and vary"
        )
