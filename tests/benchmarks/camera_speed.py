"""A camera beside albumentations' `GaussNoise` a value, and beside the package getframes a frame.

All of the camera is on: sRGB in and out, Poisson, full well, both maps of non-uniformity, read and row noise, dark
current, rounding and clipping. `GaussNoise` adds one Gaussian and clips. getframes is given linear light, and does
Poisson, a response map, read noise, dark current, full well and rounding in its single precision, without truth.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import numpy as np
import torch
from measuring import Times, paired, ratio, use_threads
from table import Row, at_least, milliseconds

from robustcheck.sensing import camera
from robustcheck.sensing.profile import load_sensor, with_settings

SHAPE = (64, 3, 64, 64)
FRAME = 1024
EXPOSURES = (0.5, 0.005)
OURS, GAUSS, GETFRAMES = "robustcheck", "GaussNoise", "getframes"
SETTINGS = {"prnu": 0.01, "dsnu_e": 1.0, "row_noise_e": 0.5, "dark_current_e_per_s": 10.0}
Calls = dict[str, Callable[[], object]]


def images(shape: tuple[int, ...]) -> torch.Tensor:
    """Uniform in [0, 1), float32."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def ours(x: torch.Tensor, exposure: float) -> Callable[[], torch.Tensor]:
    """The whole camera on x."""
    setting = camera.camera_setting(with_settings(load_sensor("camera-imx477"), SETTINGS), exposure=exposure)
    ids = torch.arange(len(x))
    return lambda: camera.sense(x, setting, 0, "bench", ids, 0)


def gauss_noise(x: torch.Tensor) -> Callable[[], object]:
    """albumentations' noise on the same images, one after the other, since a batch of its own shares one noise."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    noise = albumentations.GaussNoise(std_range=(0.05, 0.05), p=1.0)
    arrays = list(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))
    return lambda: [noise(image=array) for array in arrays]


def getframes_camera(x: torch.Tensor, exposure: float) -> Callable[[], object]:
    """getframes' simulation of the same sensor, for one frame of linear light."""
    import getframes

    profile = load_sensor("camera-imx477")
    config = getframes.CameraConfig(
        name="imx477",
        sensor_type="CMOS",
        resolution=tuple(x.shape[2:]),
        pixel_size_um=profile.pixel_um.value,
        quantum_efficiency=1.0,
        full_well_e=profile.full_well_e.value,
        bit_depth=12,
        gain_e_per_adu=1 / profile.gain_dn_per_e.value,
        bias_offset_adu=profile.black_level_dn.value,
        read_noise_e=profile.read_noise_e.value,
        dark_current_e_per_s=SETTINGS["dark_current_e_per_s"],
        prnu=SETTINGS["prnu"],
    )
    sensor = getframes.Camera(config, precision="single")
    rate = x[0, 0].numpy() ** 2.2 * exposure * profile.full_well_e.value
    return lambda: sensor.expose(rate, 1.0, seed=0, include_truth=False)


def _per_value(times: Times, name: str, elements: int) -> str:
    return f"{name} {elements / statistics.median(times[name]) / 1e6:.0f} M values/s"


def rows(repeats: int = 31, shape: tuple[int, ...] = SHAPE, frame: int = FRAME) -> list[Row]:
    """Wall time, without gradients; the kernel has as many threads as the row says, the others have one."""
    found = []
    x, whole = images(shape), images((1, 1, frame, frame))
    for threads in (2, 1):
        use_threads(threads)
        count = "two threads" if threads == 2 else "one thread"
        for exposure in EXPOSURES:
            calls: Calls = {OURS: ours(x, exposure), GAUSS: gauss_noise(x)}
            times = paired(calls, repeats)
            floor, goal = at_least(3, 6) if threads == 2 else (None, None)
            found.append(
                Row(
                    f"{shape[0]} images of {shape[2]} × {shape[3]} × {shape[1]} at exposure {exposure:g}, {count}: "
                    f"times faster than {GAUSS}",
                    ratio(times, GAUSS, OURS),
                    "×",
                    floor,
                    goal,
                    f"{_per_value(times, OURS, x.numel())}, {_per_value(times, GAUSS, x.numel())}",
                )
            )
            calls = {OURS: ours(whole, exposure), GETFRAMES: getframes_camera(whole, exposure)}
            times = paired(calls, max(3, repeats // 3))
            floor, goal = at_least(5) if threads == 2 else (None, None)
            found.append(
                Row(
                    f"a frame of {frame} × {frame} at exposure {exposure:g}, {count}: times faster than {GETFRAMES}",
                    ratio(times, GETFRAMES, OURS),
                    "×",
                    floor,
                    goal,
                    f"{OURS} {milliseconds(times[OURS])}, {GETFRAMES} {milliseconds(times[GETFRAMES])}",
                )
            )
    return found
