"""A camera at one exposure and resolution: sRGB images to what it would deliver (EMVA 1288 release 4, and beyond).

White is mapped to a share of the electrons at saturation, the exposure; what the converter reads is re-gained
digitally, so that white is white again. The physics of a pixel are in `kernels.camera_reference`; this module binds
them to a profile, to several captures and to a colour filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing import colour_filter, hdr
from robustcheck.sensing.camera_profile import CameraProfile, Companding
from robustcheck.sensing.converter import mask_gradient
from robustcheck.sensing.device_maps import NonUniformity, device_map
from robustcheck.sensing.error_probability import steps_of_bits
from robustcheck.sensing.kernels import camera_reference
from robustcheck.sensing.kernels.camera_reference import Output, Pixel
from robustcheck.sensing.kernels.reference import pack_mask
from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.operating_point import check_share
from robustcheck.sensing.random import draw_number, stream_key
from robustcheck.sensing.srgb import encode

_DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class CaptureSetting:
    """One reading of the scene.

    Attributes:
        sensitivity: electrons for one electron of the first capture; 1 for the first.
        full_well_e: saturation capacity [electrons].
        read_noise_e: temporal noise in the dark without dark current, standard deviation [electrons].
        gain_dn_per_e: overall system gain K at the setting's bits [DN/electron].
        dark_e: mean dark electrons in the exposure time.
        photodiode: of the pixel, 0 for the first; captures of one photodiode share its maps of non-uniformity.
    """

    sensitivity: float
    full_well_e: float
    read_noise_e: float
    gain_dn_per_e: float
    dark_e: float
    photodiode: int = 0


@dataclass(frozen=True)
class CameraSetting:
    """Everything the physics need at one exposure and resolution; build it with `camera_setting`.

    Attributes:
        captures: in falling sensitivity; one without high dynamic range.
        white_e: electrons of the first capture that white (linear light of 1) gives.
        exposure: share of the electrons at saturation that white fills.
        bits: resolution b, not necessarily whole.
        max_code: highest code, round(2^b) − 1.
        black_dn: code of no light, whole [DN].
        prnu: photo response non-uniformity, standard deviation as a share of the signal.
        dsnu_e: dark signal non-uniformity, standard deviation [electrons].
        row_noise_e: temporal noise that a row shares, standard deviation [electrons].
        colour_filter: `none`, or the Bayer pattern of the upper left four pixels.
        hand_over: share of a capture's saturation above which the next one is used.
        companding: how the merged value is sent, if not as it is.
        noisy: false leaves rounding and clipping alone: no shot, read or row noise and no non-uniformity.
    """

    captures: tuple[CaptureSetting, ...]
    white_e: float
    exposure: float
    bits: float
    max_code: int
    black_dn: float
    prnu: float
    dsnu_e: float
    row_noise_e: float
    colour_filter: str
    hand_over: float
    companding: Companding | None
    noisy: bool


def saturation_e(profile: CameraProfile) -> float:
    """Electrons of the first capture where the wells of the camera are full: those of its least sensitive capture.

    The converter may clip earlier; see `white_reached`.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> saturation_e(load_sensor("camera-imx477"))
    8180.0
    """
    further = profile.hdr.captures if profile.hdr else ()
    return max(profile.full_well_e.value, *(one.full_well_e.value / one.sensitivity.value for one in further), 0.0)


def white_reached(setting: CameraSetting) -> float:
    """The share of white at which the camera's last capture clips, at most 1: its well or its converter is full.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> white_reached(camera_setting(load_sensor("camera-imx477"), exposure=0.5))
    1.0
    """
    last = max(
        min(capture.full_well_e, (setting.max_code + 0.5 - setting.black_dn) / capture.gain_dn_per_e)
        / capture.sensitivity
        for capture in setting.captures
    )
    return min(1.0, last / setting.white_e)


def camera_setting(
    profile: CameraProfile, *, exposure: float, bits: float | None = None, noisy: bool = True
) -> CameraSetting:
    """A camera's numbers at an exposure and a resolution.

    Gain and black level follow the resolution, K(b) = K · 2^(b − b_profile), and the gain the analog gain too. The dark
    current is μ_I(T) = μ_I.ref · 2^((T − T_ref) / T_d) (EMVA 1288 release 4, dark current against temperature). The
    exposure time of a further capture of a `multi-exposure` is shorter by its sensitivity, that of a `split-pixel` the
    same: there a capture as sensitive as the one before it is the same photodiode at another gain, a less sensitive one
    another photodiode.

    Args:
        profile: the camera.
        exposure: share of the electrons at saturation that white fills, in (0, 1].
        bits: resolution, 1 to 16, the profile's own where absent.
        noisy: false for rounding and clipping alone.

    Raises:
        InvalidValueError: an exposure or bits out of range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-imx477"), exposure=0.5, bits=10)
    >>> setting.white_e, setting.max_code, setting.black_dn
    (4090.0, 1023, 64.0)
    """
    check_share(exposure, "exposure")
    own_bits = profile.bits.value
    bits = own_bits if bits is None else bits
    max_code = steps_of_bits(bits)
    scale = 2.0 ** (bits - own_bits)
    gain_scale = scale * profile.analog_gain.value
    warmer = profile.temperature_c.value - profile.dark_reference_c.value
    doubled_s = profile.exposure_time_s.value * 2.0 ** (warmer / profile.dark_doubling_c.value)
    captures = [
        CaptureSetting(
            sensitivity=1.0,
            full_well_e=profile.full_well_e.value,
            read_noise_e=profile.read_noise_e.value,
            gain_dn_per_e=profile.gain_dn_per_e.value * gain_scale,
            dark_e=profile.dark_current_e_per_s.value * doubled_s,
        )
    ]
    for further in profile.hdr.captures if profile.hdr else ():
        sensitivity = further.sensitivity.value
        multi_exposure = profile.hdr is not None and profile.hdr.method == "multi-exposure"
        same_photodiode = multi_exposure or sensitivity == captures[-1].sensitivity
        captures.append(
            CaptureSetting(
                sensitivity=sensitivity,
                full_well_e=further.full_well_e.value,
                read_noise_e=further.read_noise_e.value,
                gain_dn_per_e=further.gain_dn_per_e.value * gain_scale,
                dark_e=further.dark_current_e_per_s.value * doubled_s * (sensitivity if multi_exposure else 1.0),
                photodiode=captures[-1].photodiode + (0 if same_photodiode else 1),
            )
        )
    return CameraSetting(
        captures=tuple(captures),
        white_e=exposure * saturation_e(profile),
        exposure=exposure,
        bits=bits,
        max_code=max_code,
        black_dn=float(round(profile.black_level_dn.value * scale)),
        prnu=profile.prnu.value,
        dsnu_e=profile.dsnu_e.value,
        row_noise_e=profile.row_noise_e.value,
        colour_filter=profile.colour_filter,
        hand_over=profile.hdr.hand_over.value if profile.hdr else 1.0,
        companding=profile.hdr.companding if profile.hdr else None,
        noisy=noisy,
    )


def sense(
    images: torch.Tensor,
    setting: CameraSetting,
    seed: int,
    stream: str,
    sample_ids: torch.Tensor,
    draw: int | torch.Tensor,
    *,
    device_seed: int = 0,
) -> torch.Tensor:
    """What the camera delivers for a batch of images.

    The gradient is straight-through: 1 where nothing clipped the value and 0 where something did. With one capture and
    no colour filter that is the full well, the converter or the range [0, 1]; else that range of image and result.

    Args:
        images: (n, c, h, w) float32, float64, bfloat16 or float16, sRGB in [0, 1]; the arithmetic is in float32. A
            colour filter needs c = 3; images of another c are sensed without it.
        setting: the camera at its operating point.
        seed: of the study, in [0, 2^63).
        stream: what the draws are for.
        sample_ids: (n,) int64 in [0, 2^63).
        draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one an image.
        device_seed: which specimen of the camera, in [0, 2^63): its maps of non-uniformity.

    Returns:
        A contiguous tensor of the shape and dtype of `images`, sRGB in [0, 1].

    Raises:
        InvalidValueError: images of another shape or dtype, samples that do not fit, a seed or draw out of range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-imx477"), exposure=0.5)
    >>> sensed = sense(torch.full((1, 3, 8, 8), 0.5), setting, 0, "test", torch.tensor([0]), 0)
    >>> sensed.shape, f"{sensed.mean():.2f}"
    (torch.Size([1, 3, 8, 8]), '0.50')
    """
    _check(images, sample_ids)
    camera = _Camera(setting, seed, stream, sample_ids, draw if type(draw) is int else draw_number(draw), device_seed)
    dense = images.contiguous()
    if torch.is_grad_enabled() and images.requires_grad:
        out: torch.Tensor = _StraightThrough.apply(dense, camera)
        return out
    return camera.sense(dense.detach(), keep_mask=False)[0]


def codes(
    images: torch.Tensor,
    setting: CameraSetting,
    seed: int,
    stream: str,
    sample_ids: torch.Tensor,
    draw: int | torch.Tensor,
    *,
    device_seed: int = 0,
) -> torch.Tensor:
    """The converter's codes for a batch of images, as an analysis by EMVA 1288 takes them.

    Arguments and errors are those of `sense`; also InvalidValueError for a setting of several captures. A colour filter
    is left out: each element is a pixel of its own.

    Returns:
        (n, c, h, w) float32, whole numbers from 0 to `max_code`, the black level included [DN].

    >>> from robustcheck.sensing.profile import load_sensor
    >>> setting = camera_setting(load_sensor("camera-imx477"), exposure=0.5, noisy=False)
    >>> codes(torch.ones(1, 1, 1, 1), setting, 0, "test", torch.tensor([0]), 0).item()
    2178.0
    """
    _check(images, sample_ids)
    if len(setting.captures) != 1:
        raise InvalidValueError(
            "captures", expected="one, whose codes are read", got=len(setting.captures), remedy="use sense"
        )
    camera = _Camera(setting, seed, stream, sample_ids, draw if type(draw) is int else draw_number(draw), device_seed)
    return camera.capture(images.detach().float().contiguous(), 0, output="codes")[0]


def _check(images: torch.Tensor, sample_ids: torch.Tensor) -> None:
    if images.dtype not in _DTYPES:
        raise InvalidValueError(
            "dtype of the images", expected="a floating type", got=images.dtype, remedy="divide whole numbers by 255"
        )
    if images.dim() != 4:
        raise InvalidValueError("shape of the images", expected="(n, c, h, w)", got=tuple(images.shape))
    if sample_ids.shape != images.shape[:1]:
        raise InvalidValueError("sample ids", expected=f"({len(images)},), one an image", got=tuple(sample_ids.shape))


@dataclass(frozen=True)
class _Camera:
    """A setting with all that its random numbers depend on."""

    setting: CameraSetting
    seed: int
    stream: str
    sample_ids: torch.Tensor
    draw: int | torch.Tensor
    device_seed: int

    def sense(self, images: torch.Tensor, *, keep_mask: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Contiguous images as the camera delivers them, and the mask of what nothing clipped."""
        filtered = self.setting.colour_filter != "none" and images.shape[1] == 3
        if len(self.setting.captures) == 1 and not filtered:
            return self.capture(images, 0, output="srgb", keep_mask=keep_mask)
        seen = images.float()
        if filtered:
            seen = colour_filter.mosaic(seen, self.setting.colour_filter).contiguous()
        if len(self.setting.captures) == 1:
            linear = self.capture(seen, 0, output="linear")[0]
        else:
            readings = [self.capture(seen, index, output="codes")[0] for index in range(len(self.setting.captures))]
            linear = hdr.merge(readings, self.setting)
        if filtered:
            linear = colour_filter.demosaic(linear, self.setting.colour_filter)
        passed = (linear >= 0) & (linear <= 1) & (images >= 0) & (images <= 1) if keep_mask else None
        packed = None if passed is None else pack_mask(passed.flatten(1))
        return encode(linear).to(images.dtype).contiguous(), packed

    def capture(
        self, values: torch.Tensor, index: int, *, output: Output, keep_mask: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One capture of contiguous (n, c, h, w) values, each a pixel."""
        setting, capture = self.setting, self.setting.captures[index]
        height, device = values.shape[2], values.device
        number = (str(index),) if index else ()
        shot, read, row = (
            stream_key(self.seed, self.stream, "camera", purpose, *number) for purpose in ("shot", "read", "row")
        )
        noisy, row_noise = setting.noisy and len(values) > 0, setting.row_noise_e
        ids = self.sample_ids.to(device)
        sensed: tuple[torch.Tensor, torch.Tensor | None] = _kernel(device.type).sense(
            values,
            pixel_of(setting, capture),
            shot,
            read,
            ids,
            self.draw,
            response=self._map("prnu", capture, values) if noisy and setting.prnu > 0 else None,
            dark=self._map("dsnu", capture, values) if noisy and setting.dsnu_e > 0 else None,
            rows_e=noise_field(row, ids, self.draw, height) * row_noise if noisy and row_noise > 0 else None,
            output=output,
            keep_mask=keep_mask,
        )
        return sensed

    def _map(self, kind: NonUniformity, capture: CaptureSetting, values: torch.Tensor) -> torch.Tensor:
        channels, height, width = values.shape[1:]
        return device_map(self.device_seed, kind, capture.photodiode, (channels, height, width), values.device)


def pixel_of(setting: CameraSetting, capture: CaptureSetting) -> Pixel:
    """What the kernels need of one capture."""
    return Pixel(
        white_e=setting.white_e * capture.sensitivity,
        dark_e=capture.dark_e,
        full_well_e=capture.full_well_e,
        read_noise_e=capture.read_noise_e,
        prnu=setting.prnu,
        dsnu_e=setting.dsnu_e,
        gain_dn_per_e=capture.gain_dn_per_e,
        black_dn=setting.black_dn,
        max_code=setting.max_code,
        noisy=setting.noisy,
    )


@cache
def _kernel(device_type: str) -> Any:
    """The module that senses on this device: `camera_cpu`, or `camera_reference` on every other."""
    if device_type == "cpu":
        from robustcheck.sensing.kernels import camera_cpu

        return camera_cpu
    return camera_reference


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, camera: _Camera) -> torch.Tensor:
        out, packed = camera.sense(images, keep_mask=True)
        ctx.save_for_backward(packed)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (packed,) = ctx.saved_tensors
        return mask_gradient(gradients[0], packed), None
