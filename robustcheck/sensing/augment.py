"""albumentations transforms that pass images through a sensor.

`robustcheck` does not import this module, since albumentations takes seconds to load. Import it where you use it, also
before `albumentations.load` or `from_dict` reads a pipeline that has it:

>>> from robustcheck.sensing.augment import SensorNoise
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.kernels import cpu
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.point_range import LEVELS, ends, point_range
from robustcheck.sensing.profile import SensorProfile
from robustcheck.sensing.sensor import sensor

Image = NDArray[Any]
Ranged = float | Sequence[float] | None

_IDS: Final = 2**63
_ROUNDING: Final = 1e-4  # what a resize in float32 may leave beyond [0, 1]; the sensor clips it


class SensorNoise(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations 2.0.8 has no types
    """What a sensor delivers of an image: the codes of `sensing.channel.channel`, as an albumentations transform.

    The noise of each call is drawn anew, by a sample id from the generator that albumentations seeds
    (`Compose(seed=…)`, `set_random_seed`). The frames of `images`, `volume` or `volumes` have noise of their own, and
    the maps that belong to the device in common: frame i is draw i of the sample, an `image` is draw 0. Targets that
    are added with `additional_targets` share the noise. albumentations seeds all transforms of a pipeline alike, so two
    sensors in one pipeline need each a `seed` of its own.

    Where the operating point is a range (low, high), each call draws one of 256 points that lie evenly over it, in the
    logarithm unless it is an error probability, and `get_applied_params` says which.

    albumentations 2.0.8 gives all workers of a `DataLoader` the same generator. In a worker the sample id therefore
    takes in the worker's seed too: each worker and epoch has noise of its own, which torch's seed (or the `generator`
    of the `DataLoader`) repeats. A worker uses one thread.

    Images are uint8, read as code / 255 and rounded to the nearest of those codes in the end, or float32 in [0, 1]:
    (h, w), (h, w, 1) or (h, w, 3) in sRGB for a camera, whose colour filter takes part where there are three channels;
    (h, w, 2) float32 for a LIDAR, range and intensity as `sensing.lidar` states them.

    Args:
        profile: name of a shipped profile, path of one (`.toml`), or a profile, which cannot be serialised.
        ep: error probability in (0, 1), for a converter or a camera; or its range. Without an operating point the
            sensor quantises without noise.
        exposure: share of a camera's full well that white fills, in (0, 1]; or its range.
        lux: illuminance of a camera's scene [lux], by the lens and exposure time of its profile; or its range.
        signal: share of a LIDAR's return signal that arrives, in (0, 1]; or its range.
        point: name of an operating point of the profile, such as `daylight`.
        bits: override the resolution, 1 to 16.
        settings: numbers of the profile to set otherwise, such as {"read_noise_e": 5}.
        device_seed: which specimen of the camera or LIDAR.
        seed: of the sensor's noise, in [0, 2^63).
        p: probability of applying it; a sensor takes every image, so 1 unless given.

    Raises:
        UnknownNameError: no such profile, number or operating point of it.
        InvalidValueError: a number out of its range; on a call, an image of another type, shape or range of values.
        UsageError: an operating point or a setting that this kind of sensor has not, or one that the part cannot reach;
            on serialising, a profile that was not given by its name or path.

    >>> transform = A.Compose([SensorNoise("adc-4bit", ep=0.5)], seed=0)
    >>> noisy = transform(image=np.full((2, 2, 3), 128, dtype=np.uint8))["image"]
    >>> noisy.shape, noisy.dtype, sorted({int(code) % 17 for code in noisy.flat})  # 17 = 255 / 15 steps
    ((2, 2, 3), dtype('uint8'), [0])
    >>> darker = SensorNoise("camera-imx477", exposure=(0.01, 0.5))
    >>> dark = darker(image=np.full((2, 2, 3), 128, dtype=np.uint8))["image"]
    >>> 0.01 <= darker.get_applied_params()["exposure"] <= 0.5
    True
    """

    # An InitSchema, by which albumentations checks its own transforms, would turn a profile into a dictionary.
    def __init__(
        self,
        profile: str | Path | SensorProfile,
        ep: Ranged = None,
        exposure: Ranged = None,
        lux: Ranged = None,
        signal: Ranged = None,
        point: str | None = None,
        bits: float | None = None,
        settings: Mapping[str, float] | None = None,
        device_seed: int = 0,
        seed: int = 0,
        p: float = 1.0,
    ) -> None:
        if not 0 <= p <= 1:
            raise InvalidValueError("probability p of applying the sensor", expected="0 <= p <= 1", got=p)
        super().__init__(p=p)
        self._profile = str(profile) if isinstance(profile, Path) else profile
        bound = sensor(self._profile, bits=bits, settings=settings, device_seed=device_seed)
        self._range = point_range(bound, ep=ep, exposure=exposure, lux=lux, signal=signal, point=point)
        self._channel = Channel(bound, None if self._range is None else self._range.at(0), seed)
        self._channels: dict[float, Channel] = {}
        ranges = {"ep": ep, "exposure": exposure, "lux": lux, "signal": signal}
        self._arguments = {name: _plain(name, given) for name, given in ranges.items()} | {
            "point": point,
            "bits": None if bits is None else float(bits),
            "settings": None if settings is None else {name: float(value) for name, value in settings.items()},
            "device_seed": device_seed,
            "seed": seed,
        }

    def get_params(self) -> dict[str, Any]:
        """The sample id of this call, in [0, 2^63), and the value of its operating point by its axis."""
        sample_id = self.py_random.getrandbits(63)
        worker = get_worker_info()
        if worker is not None:
            sample_id ^= worker.seed % _IDS
        if self._range is None:
            return {"sample_id": sample_id}
        key = self._channel.key("input", "operating point")
        word = int(cpu.random_words(key, torch.tensor([sample_id]), 0, 1)[0, 0])
        return {"sample_id": sample_id, self._range.axis: self._range.at(word * LEVELS >> 32).value}

    def apply(self, img: Image, **params: Any) -> Image:
        """One image, (h, w) or (h, w, c)."""
        sensed: Image = self._sense(img[None], params)[0]
        return sensed

    def apply_to_images(self, images: Image, **params: Any) -> Image:
        """The frames of a batch or a volume, (n, h, w) or (n, h, w, c)."""
        return self._sense(np.asarray(images), params)

    def apply_to_volumes(self, volumes: Image, **params: Any) -> Image:
        """The frames of several volumes, (volumes, depth, h, w) or (volumes, depth, h, w, c)."""
        frames = np.asarray(volumes)
        return self._sense(frames.reshape(-1, *frames.shape[2:]), params).reshape(frames.shape)

    def get_transform_init_args(self) -> dict[str, Any]:
        """The arguments; a profile that was given as a record by its name."""
        profile = self._profile if isinstance(self._profile, str) else self._profile.name
        return {"profile": profile, **self._arguments}

    def to_dict_private(self) -> dict[str, Any]:
        """What albumentations serialises; UsageError if the profile was not given by its name or path."""
        if not isinstance(self._profile, str):
            raise UsageError(
                f"SensorNoise: expected a profile given by its name or path, got the record of {self._profile.name!r}, "
                "which cannot be serialised; save it as a .toml file and give its path"
            )
        serialised: dict[str, Any] = super().to_dict_private()
        return serialised

    def _sense(self, frames: Image, params: Mapping[str, Any]) -> Image:
        """(n, h, w) or (n, h, w, c) to the same; frame i is draw i of the sample."""
        _check(frames, lidar=self._channel.sensor.kind == "lidar")
        if get_worker_info() is not None:
            cpu.set_threads(1)  # those of the process that it was forked from are gone, and using them ends it
        whole = frames.dtype == np.uint8
        physical = frames.astype(np.float32) / 255 if whole else frames.astype(np.float32)
        grey = frames.ndim == 3
        planes = physical[:, None] if grey else np.moveaxis(physical, -1, 1)
        ids = torch.full((len(frames),), params["sample_id"], dtype=torch.int64)
        sensed = self._channel_at(params)(torch.from_numpy(planes), ids, torch.arange(len(frames))).numpy()
        pixels = sensed[:, 0] if grey else np.moveaxis(sensed, 1, -1)
        return np.rint(pixels * 255).astype(np.uint8) if whole else pixels

    def _channel_at(self, params: Mapping[str, Any]) -> Channel:
        if self._range is None:
            return self._channel
        value = params[self._range.axis]
        if value not in self._channels:
            self._channels[value] = self._channel.at(OperatingPoint(self._range.axis, value))
        return self._channels[value]


def _plain(name: str, given: Ranged) -> float | tuple[float, float] | None:
    """A number or range as files can hold it."""
    if given is None:
        return None
    low, high = ends(name, given)
    return (low, high) if isinstance(given, Sequence) else low


def _check(frames: Image, *, lidar: bool) -> None:
    """InvalidValueError unless these are images that the sensor takes."""
    allowed = ("float32",) if lidar else ("uint8", "float32")
    if frames.dtype.name not in allowed:
        remedy = "convert it, whole numbers to [0, 1]"
        raise InvalidValueError("dtype", expected=" or ".join(allowed), got=frames.dtype.name, remedy=remedy)
    if lidar and (frames.ndim != 4 or frames.shape[3] != 2):
        remedy = "put range / 128 m and intensity / 255 last"
        raise InvalidValueError("range image", expected="(h, w, 2)", got=frames.shape[1:], remedy=remedy)
    if not lidar and not (frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] in (1, 3))):
        remedy = "leave out a channel of alpha" if frames.ndim == 4 and frames.shape[3] == 4 else ""
        raise InvalidValueError("image", expected="(h, w), (h, w, 1) or (h, w, 3)", got=frames.shape[1:], remedy=remedy)
    if frames.dtype == np.uint8:
        return
    low, high = float(frames.min(initial=0)), float(frames.max(initial=0))
    if low != low:
        remedy = "replace what is no number, or find out where it comes from"
        raise InvalidValueError("image", expected="numbers in [0, 1]", got=low, remedy=remedy)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        remedy = "divide codes by 255, clip what a resize overshot, and normalise after the sensor"
        got = f"{low:.6g} to {high:.6g}"
        raise InvalidValueError("values of the image", expected="float32 in [0, 1]", got=got, remedy=remedy)
