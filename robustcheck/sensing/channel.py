"""A channel: a sensor at one operating point, with one seed. It maps a batch to what the sensor would deliver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import torch

from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.sensing import camera, camera_ep, lidar
from robustcheck.sensing.camera_profile import CameraProfile
from robustcheck.sensing.converter import Converter, Form
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.error_probability import error_probability, noise_sigma
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.operating_point import OperatingPoint, Reading
from robustcheck.sensing.profile import SensorProfile
from robustcheck.sensing.random import Key, constant_in_graphs, stream_key
from robustcheck.sensing.sensor import HALF_WELL, Placement, Range, Sensor, Vary, sensor

_LEAST_WHITE: Final = 0.9
"""Parts whose well does not quite fit their converter clip white a little at exposure 1; that is theirs."""


@dataclass(frozen=True)
class Channel:
    """A sensor at one operating point, or rounding without noise (`point` None), with a seed.

    Attributes:
        sensor: what to model.
        point: an error probability for a converter or a camera, an exposure for a camera, a signal for a LIDAR; or
            None for quantisation alone.
        seed: study seed in [0, 2^63).
        stream: what the draws are for (`train`, `validation`, `test`); streams share no random number.
    """

    sensor: Sensor
    point: OperatingPoint | None
    seed: int = 0
    stream: str = "test"

    def __post_init__(self) -> None:
        check_axis(self.sensor, self.point)

    @property
    def ep(self) -> float | None:
        """The error probability that was asked for; None where another axis was, and without noise."""
        return self.point.value if self.point is not None and self.point.axis == "ep" and self.noisy else None

    @property
    def noisy(self) -> bool:
        """Whether the channel has noise, beside rounding and clipping."""
        return self.point is not None and self.point.noisy

    @property
    def sigma(self) -> float:
        """Noise scale of a converter [full scales]."""
        return 0.0 if self.ep is None else float(_constant_sigma(self.ep, self.sensor.steps, self.sensor.noise))

    @cached_property
    def reading(self) -> Reading:
        """What the operating point means: noise, error probabilities, exposure."""
        return _reading(self.sensor, self.point)

    @cached_property
    def _camera(self) -> camera.CameraSetting:
        return camera_at(self.sensor, self.point)

    @cached_property
    def _lidar(self) -> lidar.LidarSetting:
        return lidar_at(self.sensor, self.point)

    def key(self, site: str, purpose: str) -> Key:
        """Random stream of one site (a layer's path, `input` for the image) and purpose."""
        return stream_key(self.seed, self.stream, site, purpose)

    def converter(self, form: Form, *, signed: bool, scale: float = 1.0) -> Converter:
        """A converter with this channel's resolution and noise."""
        return Converter(form, self.sensor.steps, self.sigma, self.sensor.noise, signed, scale)

    def at(self, point: OperatingPoint | None) -> Channel:
        """The same channel at another operating point."""
        return replace(self, point=point)

    def __call__(
        self, images: torch.Tensor, sample_ids: torch.Tensor | None = None, draw: int | torch.Tensor = 0
    ) -> torch.Tensor:
        """Sense a batch.

        Args:
            images: (n, …) floating, physical values in [0, 1]. For a camera (n, c, h, w), sRGB as image files have it;
                for a LIDAR (n, 2, beams, columns), range and intensity as `sensing.lidar` states them.
            sample_ids: (n,) int64 that stay with the samples; 0, 1, … where absent.
            draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one an image.

        Returns:
            A tensor like `images`. With placement `network` this is the first converter (DOA) alone.
        """
        if sample_ids is None:
            sample_ids = torch.arange(len(images), dtype=torch.int64, device=images.device)
        if self.sensor.kind == "camera":
            return camera.sense(
                images, self._camera, self.seed, self.stream, sample_ids, draw,
                device_seed=self.sensor.device_seed,
            )  # fmt: skip
        if self.sensor.kind == "lidar":
            return lidar.sense(
                images, self._lidar, self.seed, self.stream, sample_ids, draw,
                device_seed=self.sensor.device_seed,
            )  # fmt: skip
        inside = self.sensor.placement == "network"
        convert = self.converter("doa" if inside else self.sensor.form, signed=inside)
        return convert(images, self.key("input", "doa" if inside else self.sensor.form), sample_ids, draw)


def check_axis(sensor: Sensor, point: OperatingPoint | None) -> None:
    """UsageError unless this kind of sensor has the axis of the operating point."""
    allowed = {"converter": ("ep",), "camera": ("ep", "exposure"), "lidar": ("signal",)}[sensor.kind]
    if point is None or point.axis in allowed:
        return
    if sensor.kind == "lidar":
        why = "a LIDAR, whose operating point is the share of the return signal that arrives; use --signal"
    elif sensor.kind == "camera":
        why = "a camera; use --exposure or --ep"
    else:
        why = "a converter; use --ep"
    raise UsageError(f"{sensor.profile.name}: expected {' or '.join(allowed)}, got {point.name}: it is {why}")


def camera_at(sensor: Sensor, point: OperatingPoint | None) -> camera.CameraSetting:
    """The camera's numbers at the operating point; without one, at full exposure and without noise."""
    profile = sensor.profile
    assert isinstance(profile, CameraProfile)
    exposure, bits = 1.0, sensor.bits
    if point is not None and point.axis == "exposure":
        exposure = point.value
    elif point is not None and sensor.vary == "bits":
        exposure = sensor.at_exposure
        bits = camera_ep.bits_at_ep(profile, point.value, exposure=exposure)
    elif point is not None:
        exposure = camera_ep.exposure_at_ep(profile, point.value, bits=bits)
    setting = camera.camera_setting(profile, exposure=exposure, bits=bits, noisy=point is not None and point.noisy)
    reached = camera.white_reached(setting)
    if point is not None and reached < _LEAST_WHITE:
        raise UsageError(
            f"{sensor.key} at exposure {exposure:.4g}: expected white within the converter's codes, got one that clips "
            f"at {reached:.3g} of it; use an exposure of at most {reached * exposure:.3g}, or less gain"
        )
    return setting


def lidar_at(sensor: Sensor, point: OperatingPoint | None) -> lidar.LidarSetting:
    """The LIDAR's numbers at the operating point; without one, at full signal and without noise."""
    assert isinstance(sensor.profile, LidarProfile)
    signal, noisy = (1.0, False) if point is None else (point.value, point.noisy)
    return lidar.lidar_setting(sensor.profile, signal=signal, noisy=noisy)


def _reading(sensor: Sensor, point: OperatingPoint | None) -> Reading:
    if point is None or not point.noisy:
        return Reading(sigma=0.0, sigma_steps=0.0)
    if sensor.kind == "camera":
        found = camera_ep.reading(camera_at(sensor, point))
        return found if sensor.vary == "bits" and point.axis == "ep" else replace(found, bits=None)
    if sensor.kind == "lidar":
        return lidar.reading(lidar_at(sensor, point))
    sigma = _sigma(point.value, sensor.steps, sensor.noise)
    return Reading(
        sigma=sigma,
        sigma_steps=sigma * sensor.steps,
        ep=point.value,
        ep_adc=error_probability(sigma, sensor.steps, noise=sensor.noise, definition="adc"),
    )


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
    ep: float | None = None,
    exposure: float | None = None,
    signal: float | None = None,
    seed: int = 0,
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
) -> Channel:
    """A channel that noises images as a sensor does.

    Args:
        spec: name or path of a profile, a profile, or a `Sensor`.
        ep: error probability in (0, 1), for a converter or a camera; without any operating point the channel quantises
            without noise.
        exposure: share of a camera's full well that white fills, in (0, 1].
        signal: share of a LIDAR's return signal that arrives, in (0, 1].
        seed: study seed.
        bits: override the resolution, 1 to 16.
        steps: the same as steps per unit, 1 to 65535; not together with `bits`.
        noise: gaussian, uniform or laplace, for a converter.
        form: aod (noise, clamp, quantise) or doa (clamp, quantise, noise), for a converter; with placement network
            aod is DOA → layer → AOD, doa only the DOA before each layer.
        placement: sensor (the input alone), or network: `train` and `evaluate` then noise every layer and weight too.
        range: of the layers, for placement network: calibrated (from the training data) or unit ([−1, 1]).
        settings: numbers of the profile to set otherwise, such as {"read_noise_e": 5}.
        vary: what `ep` moves in a camera: exposure, or bits.
        at_exposure: the exposure where it moves the bits.
        device_seed: which specimen of the camera or LIDAR.

    Returns:
        A callable `channel(images, sample_ids, draw)`; see `Channel`.

    Raises:
        UnknownNameError: no such sensor, noise, form, placement, range or number of the profile.
        InvalidValueError: a number out of its range.
        UsageError: an axis or setting that this kind of sensor has not, or an EP that the part cannot reach.

    >>> images = torch.full((2, 1, 2, 2), 0.5)
    >>> noisy = channel("adc-2bit", ep=0.5)(images)
    >>> noisy.shape, bool(((noisy * 3).round() / 3 - noisy).abs().max() < 1e-6)
    (torch.Size([2, 1, 2, 2]), True)
    >>> channel("camera-imx477", exposure=0.1)(torch.full((1, 3, 4, 4), 0.5)).shape
    torch.Size([1, 3, 4, 4])
    """
    if isinstance(spec, Sensor):
        bound = spec
    else:
        bound = sensor(
            spec, bits=bits, steps=steps, noise=noise, form=form, placement=placement, range=range, settings=settings,
            vary=vary, at_exposure=at_exposure, device_seed=device_seed,
        )  # fmt: skip
    given = [
        (axis, value) for axis, value in (("ep", ep), ("exposure", exposure), ("signal", signal)) if value is not None
    ]
    if len(given) > 1:
        raise InvalidValueError("operating point", expected="ep, exposure or signal, one of them", got=given)
    return Channel(bound, OperatingPoint(*given[0]) if given else None, seed)  # type: ignore[arg-type]
