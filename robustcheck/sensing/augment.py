"""albumentations transforms that pass images through a sensor.

`robustcheck` does not import this module, since albumentations takes seconds to load. Import it where you use it, also
before `albumentations.load` or `from_dict` reads a pipeline that has it:

>>> from robustcheck.sensing.augment import SensorNoise
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.sensing.channel import channel
from robustcheck.sensing.profile import SensorProfile

Image = NDArray[Any]


class SensorNoise(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations 2.0.8 has no types
    """What a sensor delivers of an image: the codes of `sensing.channel.channel`, as an albumentations transform.

    The noise of each call is drawn anew, by a sample id from the generator that albumentations seeds
    (`Compose(seed=…)`, `set_random_seed`). The frames of `images`, `volume` or `volumes` have noise of their own, and
    the maps that belong to the device in common: frame i is draw i of the sample, an `image` is draw 0. Targets that
    are added with `additional_targets` share the noise. albumentations seeds all transforms of a pipeline alike, so two
    sensors in one pipeline need each a `seed` of its own.

    Images are uint8 or float32: (h, w), (h, w, 1) or (h, w, 3) in sRGB for a camera, whose colour filter needs three
    channels; (h, w, 2) float32 for a LIDAR, range and intensity as `sensing.lidar` states them. uint8 is read as code /
    255, and the result rounded to the nearest of those codes.

    Args:
        profile: name of a shipped profile, path of one (`.toml`), or a profile, which cannot be serialised.
        ep: error probability in (0, 1), for a converter or a camera. Without an operating point the sensor quantises
            without noise.
        exposure: share of a camera's full well that white fills, in (0, 1].
        signal: share of a LIDAR's return signal that arrives, in (0, 1].
        bits: override the resolution, 1 to 16.
        settings: numbers of the profile to set otherwise, such as {"read_noise_e": 5}.
        device_seed: which specimen of the camera or LIDAR.
        seed: of the sensor's noise, in [0, 2^63).
        p: probability of applying it; a sensor takes every image, so 1 unless given.

    Raises:
        UnknownNameError: no such profile, or number of the profile.
        InvalidValueError: a number out of its range; on a call, an image of another type or shape.
        UsageError: an operating point or a setting that this kind of sensor has not; on serialising, a profile that was
            not given by its name or path.

    >>> transform = A.Compose([SensorNoise("adc-4bit", ep=0.5)], seed=0)
    >>> noisy = transform(image=np.full((2, 2, 3), 128, dtype=np.uint8))["image"]
    >>> noisy.shape, noisy.dtype, sorted({int(code) % 17 for code in noisy.flat})  # 17 = 255 / 15 steps
    ((2, 2, 3), dtype('uint8'), [0])
    """

    # An InitSchema, by which albumentations checks its own transforms, would turn a profile into a dictionary.
    def __init__(
        self,
        profile: str | Path | SensorProfile,
        ep: float | None = None,
        exposure: float | None = None,
        signal: float | None = None,
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
        self._settings = {
            "ep": ep,
            "exposure": exposure,
            "signal": signal,
            "bits": bits,
            "settings": None if settings is None else dict(settings),
            "device_seed": device_seed,
            "seed": seed,
        }
        self._channel = channel(
            self._profile, ep=ep, exposure=exposure, signal=signal, bits=bits, settings=settings,
            device_seed=device_seed, seed=seed,
        )  # fmt: skip

    def get_params(self) -> dict[str, Any]:
        """The sample id of this call, in [0, 2^63)."""
        return {"sample_id": self.py_random.getrandbits(63)}

    def apply(self, img: Image, sample_id: int, **_: Any) -> Image:
        """One image, (h, w) or (h, w, c)."""
        sensed: Image = self._sense(img[None], sample_id)[0]
        return sensed

    def apply_to_images(self, images: Image, sample_id: int, **_: Any) -> Image:
        """The frames of a batch or a volume, (n, h, w) or (n, h, w, c)."""
        return self._sense(np.asarray(images), sample_id)

    def apply_to_volumes(self, volumes: Image, sample_id: int, **_: Any) -> Image:
        """The frames of several volumes, (volumes, depth, h, w) or (volumes, depth, h, w, c)."""
        frames = np.asarray(volumes)
        return self._sense(frames.reshape(-1, *frames.shape[2:]), sample_id).reshape(frames.shape)

    def get_transform_init_args(self) -> dict[str, Any]:
        """The arguments; a profile that was given as a record by its name."""
        profile = self._profile if isinstance(self._profile, str) else self._profile.name
        return {"profile": profile, **self._settings}

    def to_dict_private(self) -> dict[str, Any]:
        """What albumentations serialises; UsageError if the profile was not given by its name or path."""
        if not isinstance(self._profile, str):
            raise UsageError(
                f"SensorNoise: expected a profile given by its name or path, got the record of {self._profile.name!r}, "
                "which cannot be serialised; save it as a .toml file and give its path"
            )
        serialised: dict[str, Any] = super().to_dict_private()
        return serialised

    def _sense(self, frames: Image, sample_id: int) -> Image:
        """(n, h, w) or (n, h, w, c) to the same; frame i is draw i of the sample."""
        lidar = self._channel.sensor.kind == "lidar"
        allowed = ("float32",) if lidar else ("uint8", "float32")
        if frames.dtype.name not in allowed:
            remedy = "convert it, whole numbers to [0, 1]"
            raise InvalidValueError("dtype", expected=" or ".join(allowed), got=frames.dtype.name, remedy=remedy)
        if frames.ndim not in (3, 4):
            raise InvalidValueError("image", expected="(h, w) or (h, w, c)", got=frames.shape[1:])
        whole = frames.dtype == np.uint8
        physical = frames.astype(np.float32) / 255 if whole else frames.astype(np.float32)
        grey = frames.ndim == 3
        planes = physical[:, None] if grey else np.moveaxis(physical, -1, 1)
        ids = torch.full((len(frames),), sample_id, dtype=torch.int64)
        sensed = self._channel(torch.from_numpy(planes), ids, torch.arange(len(frames))).numpy()
        pixels = sensed[:, 0] if grey else np.moveaxis(sensed, 1, -1)
        return np.rint(pixels * 255).astype(np.uint8) if whole else pixels
