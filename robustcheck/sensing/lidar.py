"""A LIDAR: what it would report of a range image or a point cloud that says what is there.

A range image is (n, 2, beams, columns): range / 128 m, 0 where nothing is met, and calibrated intensity / 255 codes, in
which code 100 is a perfect diffuse reflector; axes and signs are those of `sensing.lidar_geometry`. Its values are
taken as the truth. Where they were measured, that sensor's own noise and losses are in them already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Final

import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.deviates import Noise
from robustcheck.sensing.error_probability import error_probability
from robustcheck.sensing.lidar_geometry import RANGE_SCALE_M, check_range_images, is_whole_turn, nearest_beam
from robustcheck.sensing.lidar_returns import (
    FULL_REFLECTIVITY,
    REFERENCE_RANGE_M,
    REFERENCE_REFLECTIVITY,
    LidarSetting,
    detection_probability,
    intensity_sigma,
    lidar_setting,
    range_sigma,
    reflectivity,
    return_snr,
)
from robustcheck.sensing.noise_field import noise_field
from robustcheck.sensing.operating_point import Reading
from robustcheck.sensing.random import stream_key

__all__ = [
    "RANGE_SCALE_M",
    "LidarSetting",
    "lidar_setting",
    "range_sigma",
    "reading",
    "reflectivity",
    "return_snr",
    "sense",
    "sense_points",
]

_FARTHEST: Final = 6.4  # the Gaussian of `sensing.deviates` ends at 6.34 standard deviations


def sense(
    images: torch.Tensor,
    setting: LidarSetting,
    seed: int,
    stream: str,
    sample_ids: torch.Tensor,
    draw: int | torch.Tensor,
    *,
    device_seed: int = 0,
) -> torch.Tensor:
    """Sense range images.

    In this order: the firing looks off its direction and may meet a neighbouring pixel; the return is detected if its
    amplitude SNR + N(0, 1) exceeds the threshold; its range gets noise, the beam's bias and is rounded; outside the
    minimum and maximum range it is lost; its intensity is the truth times the signal, with the same noise of the
    amplitude and the intensity's own, rounded. A firing without a return may give a false one: uniform in range, with
    the intensity that a return just at the threshold has there. Dead beams, and those left out, report nothing.

    Gradients are straight-through: where a return survives, that of the range passes unchanged and that of the
    intensity times the signal, to the pixel that was met; elsewhere it is 0.

    Args:
        images: (n, 2, beams, columns) floating, in [0, 1].
        setting: the LIDAR, from `lidar_setting`.
        seed: study seed, in [0, 2^63).
        stream: what the draws are for.
        sample_ids: (n,) int64, in [0, 2^63).
        draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one an image.
        device_seed: which specimen: its dead beams and biases.

    Returns:
        A tensor like `images`, in [0, 1].

    Raises:
        InvalidValueError: images of another shape, or with another number of rows than the LIDAR has beams.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> image = torch.full((1, 2, 16, 8), 0.1)
    >>> quantised = lidar_setting(load_sensor("lidar-vlp16"), signal=1, noisy=False)
    >>> sense(image, quantised, 0, "test", torch.tensor([0]), 0)[0, :, 0, 0] * torch.tensor([128 / 0.002, 255])
    tensor([6400.,   26.])
    """
    check_range_images(images, len(setting.elevation_deg))
    field = _fields(seed, stream, sample_ids, draw, images[:, 0].shape)
    met = _met(images, setting, field) if setting.noisy else images
    farthest_m = min(setting.max_range_m, RANGE_SCALE_M)
    with torch.no_grad():
        ranges, levels = met[:, 0].float() * RANGE_SCALE_M, met[:, 1].float()
        beams = torch.arange(images.shape[2], device=images.device).unsqueeze(1)
        ranges, levels, survives = _reported(ranges, levels, beams, setting, field, device_seed, farthest_m)
        out = torch.stack((ranges / RANGE_SCALE_M, levels), dim=1).clamp(0, 1).to(images.dtype)
        if not images.requires_grad:
            return out
        passed = torch.stack((survives.float(), survives * (setting.signal if setting.noisy else 1.0)), dim=1)
    through: torch.Tensor = _StraightThrough.apply(met, out, passed)
    return through


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, met: torch.Tensor, out: torch.Tensor, passed: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        ctx.save_for_backward(passed)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (passed,) = ctx.saved_tensors
        return gradients[0] * passed.to(gradients[0].dtype), None, None


def sense_points(
    points: torch.Tensor,
    setting: LidarSetting,
    seed: int,
    stream: str,
    sample_ids: torch.Tensor,
    draw: int | torch.Tensor,
    *,
    device_seed: int = 0,
) -> torch.Tensor:
    """Sense point clouds: the physics of `sense` along the ray of each point.

    Differences: angular noise turns the ray, as the surface between the points is unknown; a false return appears on
    the ray of a point that was lost, as firings that met nothing are not in a cloud. There is no gradient.

    Args:
        points: (n, points, 4 or 5) floating: x, y, z [m], intensity in [0, 1], and the index of the beam; the nearest
            beam by elevation where that is absent. Axes are those of `sensing.lidar_geometry`; the origin is no return.
        setting: the LIDAR, from `lidar_setting`.
        seed: study seed, in [0, 2^63).
        stream: what the draws are for.
        sample_ids: (n,) int64, in [0, 2^63).
        draw: number of the noisy evaluation, in [0, 2^32); or (n,) int64, one a cloud.
        device_seed: which specimen: its dead beams and biases.

    Returns:
        A tensor like `points`, in the same order; x, y, z and intensity are 0 where there is no return.

    Raises:
        InvalidValueError: points of another shape, or a beam that the LIDAR does not have.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> quantised = lidar_setting(load_sensor("lidar-vlp16"), signal=1, noisy=False)
    >>> cloud = torch.tensor([[[3.0003, 0.0, 0.0, 0.2]]])
    >>> sense_points(cloud, quantised, 0, "test", torch.tensor([0]), 0)
    tensor([[[3.0000, 0.0000, 0.0000, 0.2000]]])
    """
    if points.dim() != 3 or points.shape[2] not in (4, 5) or not points.is_floating_point():
        raise InvalidValueError(
            "points", expected="floating (n, points, 4 or 5)", got=f"{points.dtype} {tuple(points.shape)}"
        )
    with torch.no_grad():
        place = points[..., :3].float()
        ranges, flat = place.norm(dim=-1), place[..., :2].norm(dim=-1)
        azimuth, elevation = torch.atan2(place[..., 1], place[..., 0]), torch.atan2(place[..., 2], flat)
        beams = _beams(points, elevation, setting)
        field = _fields(seed, stream, sample_ids, draw, ranges.shape)
        if setting.noisy and setting.angular_noise_deg > 0:
            off = math.radians(setting.angular_noise_deg)
            azimuth, elevation = azimuth + off * field("azimuth"), elevation + off * field("elevation")
        seen, levels, _ = _reported(
            ranges, points[..., 3].float(), beams, setting, field, device_seed, setting.max_range_m
        )
        aimed = ranges > 0  # a row without a point has no ray that a false return could lie on
        seen, levels = seen * aimed, levels * aimed
        x, y = elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin()
        out = torch.stack((seen * x, seen * y, seen * elevation.sin(), levels), dim=-1).to(points.dtype)
        return torch.cat((out, points[..., 4:]), dim=-1)


def reading(setting: LidarSetting) -> Reading:
    """What the share of the signal means for the reference return, a 10 % reflector at 20 m.

    The error probabilities are those of its range and of its intensity, each beside its own step. `sigma` is the error
    of its range as a share of the maximum range, `sigma_steps` in steps of range.

    >>> from robustcheck.sensing.profile import load_sensor
    >>> reading(lidar_setting(load_sensor("lidar-vlp16"), signal=0.5)).range_ep > 0.9
    True
    """
    if not setting.noisy:
        return Reading(sigma=0.0, sigma_steps=0.0, signal=setting.signal)
    reflectivities = torch.tensor(REFERENCE_REFLECTIVITY, dtype=torch.float64)
    snr = return_snr(torch.tensor(REFERENCE_RANGE_M, dtype=torch.float64), reflectivities, setting)
    sigma = float(range_sigma(snr, setting))
    level = setting.signal * REFERENCE_REFLECTIVITY / FULL_REFLECTIVITY
    return Reading(
        sigma=sigma / setting.max_range_m,
        sigma_steps=sigma / setting.range_lsb_m,
        signal=setting.signal,
        range_ep=error_probability(sigma / setting.range_lsb_m, 1),
        intensity_ep=error_probability(level * float(intensity_sigma(snr, setting)), setting.intensity_steps),
        detection=float(detection_probability(snr, setting)),
    )


def _fields(
    seed: int, stream: str, sample_ids: torch.Tensor, draw: int | torch.Tensor, shape: torch.Size
) -> Callable[..., torch.Tensor]:
    """The noise of one evaluation: a tensor of this shape for each purpose."""

    def field(purpose: str, noise: Noise = "gaussian") -> torch.Tensor:
        key = stream_key(seed, stream, "lidar", purpose)
        return noise_field(key, sample_ids, draw, math.prod(shape[1:]), noise).reshape(shape)

    return field


def _met(images: torch.Tensor, setting: LidarSetting, field: Callable[..., torch.Tensor]) -> torch.Tensor:
    """What the firings meet: the pixel that is nearest to where each one looks."""
    beams, columns = images.shape[2:]
    table, angle, step = setting.elevation_deg, setting.angular_noise_deg, setting.azimuth_step_deg
    row = torch.arange(beams, device=images.device).unsqueeze(1)
    column = torch.arange(columns, device=images.device)
    gap = min((upper - lower for upper, lower in itertools.pairwise(table)), default=math.inf)
    misses_column, misses_row = 2 * _FARTHEST * angle > step, 2 * _FARTHEST * angle > gap
    if not (misses_column or misses_row):
        return images
    if misses_column:
        column = column + (field("azimuth") * (angle / step)).round().long()
        column = column % columns if is_whole_turn(columns, step) else column.clamp(0, columns - 1)
    if misses_row:
        elevation = torch.tensor(table, device=images.device).unsqueeze(1) + angle * field("elevation")
        row = nearest_beam(elevation, table)
    place = (row * columns + column).broadcast_to(images[:, 0].shape).flatten(1)
    return images.flatten(2).gather(2, place.unsqueeze(1).expand(-1, 2, -1)).reshape(images.shape)


def _beams(points: torch.Tensor, elevation: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """Index of each point's beam: as given, or the nearest."""
    if points.shape[2] == 4:
        return nearest_beam(torch.rad2deg(elevation), setting.elevation_deg)
    beams, count = points[..., 4].long(), len(setting.elevation_deg)
    if beams.numel() and (int(beams.min()) < 0 or int(beams.max()) >= count):
        raise InvalidValueError(
            "beams of the points",
            expected=f"indices from 0 to {count - 1}, the uppermost beam first",
            got=f"{int(beams.min())} to {int(beams.max())}",
        )
    return beams


def _reported(
    ranges: torch.Tensor,
    levels: torch.Tensor,
    beams: torch.Tensor,
    setting: LidarSetting,
    field: Callable[..., torch.Tensor],
    device_seed: int,
    farthest_m: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ranges [m] and intensities that are reported of true ones, and which of the true returns survived."""
    works = beams % setting.every == 0
    if setting.noisy:
        lives = _of_beams("dead beam", "uniform", setting, device_seed, ranges.device) > 2 * setting.dead_beams - 1
        works = works & lives[beams]
        nearest_m = max(setting.min_range_m, setting.range_lsb_m)
        read, level, passes = _measured(ranges, levels, beams, setting, field, device_seed)
        survives = works & passes & (ranges > 0) & (read >= nearest_m) & (read < farthest_m + setting.range_lsb_m / 2)
    else:
        read, level = _stepped(ranges, setting), levels
        survives = works & (read > 0)
    reported = survives
    if setting.noisy and setting.false_return_rate > 0:
        false = works & ~survives & (field("false return", "uniform") > 1 - 2 * setting.false_return_rate)
        at = nearest_m + (farthest_m - nearest_m) * (1 + field("false range", "uniform")) / 2
        read = torch.where(false, _stepped(at, setting), read)
        level = torch.where(false, _level_at_threshold(at, setting), level)
        reported = survives | false
    level = (level.clamp(0, 1) * setting.intensity_steps).round() / setting.intensity_steps
    return torch.where(reported, read, 0.0), torch.where(reported, level, 0.0), survives


def _measured(
    ranges: torch.Tensor,
    levels: torch.Tensor,
    beams: torch.Tensor,
    setting: LidarSetting,
    field: Callable[..., torch.Tensor],
    device_seed: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Range [m] and intensity with their noise, and whether the amplitude exceeds the threshold."""
    snr = return_snr(ranges, reflectivity(levels), setting)
    amplitude = snr + field("amplitude")
    read = ranges + range_sigma(snr, setting) * field("range")
    if setting.beam_bias_m > 0:
        biases = _of_beams("beam bias", "gaussian", setting, device_seed, ranges.device)
        read = read + setting.beam_bias_m * biases[beams]
    level = levels * setting.signal * (amplitude / snr) * (1 + setting.intensity_noise * field("intensity"))
    return _stepped(read, setting), level, amplitude > setting.detection_snr


def _stepped(ranges_m: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    return (ranges_m / setting.range_lsb_m).round() * setting.range_lsb_m


def _level_at_threshold(ranges_m: torch.Tensor, setting: LidarSetting) -> torch.Tensor:
    """The intensity that is reported of a return whose amplitude just reaches the threshold at this range."""
    return REFERENCE_REFLECTIVITY / FULL_REFLECTIVITY * (ranges_m / setting.range_at_10_percent_m).square()


def _of_beams(
    purpose: str, noise: Noise, setting: LidarSetting, device_seed: int, device: torch.device
) -> torch.Tensor:
    """(beams,) numbers that are the specimen's own."""
    one = torch.zeros(1, dtype=torch.int64, device=device)
    return noise_field(stream_key(device_seed, "device", purpose), one, 0, len(setting.elevation_deg), noise)[0]
