"""A channel: a sensor at one operating point, with one seed. It maps a batch to what the sensor would deliver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import torch

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.sensing.converter import FORMS, Converter, Form
from robustcheck.sensing.deviates import NOISES, Noise
from robustcheck.sensing.error_probability import (
    MAX_STEPS,
    bits_of_steps,
    check_ep,
    error_probability,
    noise_sigma,
    steps_of_bits,
)
from robustcheck.sensing.profile import SensorProfile, load_sensor
from robustcheck.sensing.random import Key, constant_in_graphs, stream_key

Placement = Literal["sensor", "network"]
Range = Literal["unit", "calibrated"]
PLACEMENTS: Final[tuple[Placement, ...]] = get_args(Placement)
RANGES: Final[tuple[Range, ...]] = get_args(Range)


@dataclass(frozen=True)
class Sensor:
    """A profile as a study uses it; build it with `sensor`.

    Attributes:
        profile: what the sensor is.
        steps: steps per unit p, the profile's own or an override.
        noise: distribution of the noise that the error probability sets.
        form: `aod` or `doa`, for placement `sensor`.
        placement: `sensor` (noise at the input) or `network` (also around every layer and on its weights).
        range: of the layers, for placement `network`: `unit` is [−1, 1], `calibrated` follows the training data.
    """

    profile: SensorProfile
    steps: int
    noise: Noise
    form: Form
    placement: Placement
    range: Range

    @property
    def key(self) -> str:
        """Unique name within a study, e.g. `adc-4bit` or `adc-4bit/16 steps`."""
        return self.profile.name + ("" if self.steps == self.profile.steps else f"/{self.steps} steps")

    @property
    def bits(self) -> float:
        """log2(steps + 1)."""
        return bits_of_steps(self.steps)

    def as_dict(self) -> dict[str, Any]:
        """All that decides what the sensor does, for hashing."""
        return {
            "profile": self.profile.sha256,
            "steps": self.steps,
            "noise": self.noise,
            "form": self.form if self.placement == "sensor" else None,
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
) -> Sensor:
    """Bind a profile to settings.

    Args:
        spec: a profile, its name or its path.
        bits: override the resolution, 1 to 16 (p = 2^b − 1); not together with `steps`.
        steps: override the resolution as steps per unit, 1 to 65535.
        noise: gaussian, uniform or laplace.
        form: aod (noise, clamp, quantise) or doa (clamp, quantise, noise).
        placement: sensor or network.
        range: unit or calibrated.

    >>> sensor("adc-4bit", steps=16).key
    'adc-4bit/16 steps'
    """
    for kind, name, known in (
        ("noise", noise, NOISES),
        ("converter form", form, FORMS),
        ("placement", placement, PLACEMENTS),
        ("range", range, RANGES),
    ):
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if bits is not None and steps is not None:
        raise InvalidValueError("resolution", expected="bits or steps, not both", got=(bits, steps))
    profile = spec if isinstance(spec, SensorProfile) else load_sensor(spec)
    if bits is not None:
        steps = steps_of_bits(bits)
    if steps is None:
        steps = profile.steps
    if not (isinstance(steps, int) and 1 <= steps <= MAX_STEPS):
        raise InvalidValueError("steps", expected=f"a whole number from 1 to {MAX_STEPS}", got=steps)
    return Sensor(profile, steps, noise, form, placement, range)


@dataclass(frozen=True)
class Channel:
    """A sensor at an error probability, or rounding without noise (`ep` None), with a seed.

    Attributes:
        sensor: what to model.
        ep: error probability (`ep_centre`) in (0, 1), or None for quantisation alone.
        seed: study seed in [0, 2^63).
        stream: what the draws are for (`train`, `validation`, `test`); streams share no random number.
    """

    sensor: Sensor
    ep: float | None
    seed: int = 0
    stream: str = "test"

    @property
    def sigma(self) -> float:
        """Noise scale [full scales]."""
        return 0.0 if self.ep is None else float(_constant_sigma(self.ep, self.sensor.steps, self.sensor.noise))

    @property
    def ep_adc(self) -> float | None:
        """The error probability that a converter shows for values anywhere within their code."""
        if self.ep is None:
            return None
        return error_probability(self.sigma, self.sensor.steps, noise=self.sensor.noise, definition="adc")

    def key(self, site: str, purpose: str) -> Key:
        """Random stream of one site (a layer's path, `input` for the image) and purpose."""
        return stream_key(self.seed, self.stream, site, purpose)

    def converter(self, form: Form, *, signed: bool, scale: float = 1.0) -> Converter:
        """A converter with this channel's resolution and noise."""
        return Converter(form, self.sensor.steps, self.sigma, self.sensor.noise, signed, scale)

    def at(self, ep: float | None) -> Channel:
        """The same channel at another error probability."""
        return replace(self, ep=ep)

    def __call__(
        self, images: torch.Tensor, sample_ids: torch.Tensor | None = None, draw: int | torch.Tensor = 0
    ) -> torch.Tensor:
        """Sense a batch.

        Args:
            images: (n, …) floating, physical values in [0, 1].
            sample_ids: (n,) int64 that stay with the samples; 0, 1, … where absent.
            draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one an image.

        Returns:
            A tensor like `images`. With placement `network` this is the first converter (DOA) alone.
        """
        if sample_ids is None:
            sample_ids = torch.arange(len(images), dtype=torch.int64, device=images.device)
        inside = self.sensor.placement == "network"
        convert = self.converter("doa" if inside else self.sensor.form, signed=inside)
        return convert(images, self.key("input", "doa" if inside else self.sensor.form), sample_ids, draw)


@constant_in_graphs
def _constant_sigma(ep: float, steps: int, noise: Noise) -> float:
    """For `torch.compile`, which cannot look into SciPy."""
    return _sigma(ep, steps, noise)


@lru_cache(maxsize=1024)
def _sigma(ep: float, steps: int, noise: Noise) -> float:
    return noise_sigma(ep, steps, noise=noise)


def channel(
    spec: str | SensorProfile | Sensor,
    *,
    ep: float | None,
    seed: int = 0,
    bits: float | None = None,
    steps: int | None = None,
    noise: Noise = "gaussian",
    form: Form = "aod",
    placement: Placement = "sensor",
    range: Range = "calibrated",
) -> Channel:
    """A channel that noises images as a sensor does.

    Args:
        spec: name or path of a profile, a profile, or a `Sensor`.
        ep: error probability in (0, 1); None quantises without noise.
        seed: study seed.
        bits: override the resolution, 1 to 16.
        steps: the same as steps per unit, 1 to 65535; not together with `bits`.
        noise: gaussian, uniform or laplace.
        form: aod (noise, clamp, quantise) or doa (clamp, quantise, noise).
        placement: sensor (the input alone), or network: `train` and `evaluate` then noise every layer and weight too.
        range: of the layers, for placement network: calibrated (from the training data) or unit ([−1, 1]).

    Returns:
        A callable `channel(images, sample_ids, draw)`; see `Channel`.

    Raises:
        UnknownNameError: no such sensor, noise, form, placement or range.
        InvalidValueError: a number out of its range.

    >>> images = torch.full((2, 1, 2, 2), 0.5)
    >>> noisy = channel("adc-2bit", ep=0.5)(images)
    >>> noisy.shape, bool(((noisy * 3).round() / 3 - noisy).abs().max() < 1e-6)
    (torch.Size([2, 1, 2, 2]), True)
    """
    if isinstance(spec, Sensor):
        bound = spec
    else:
        bound = sensor(spec, bits=bits, steps=steps, noise=noise, form=form, placement=placement, range=range)
    return Channel(bound, None if ep is None else check_ep(ep), seed)
