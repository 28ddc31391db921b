"""Labelled point clouds as range images: a folder of clouds a class, each seen with the beams of a LIDAR."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.data.class_folders import check_losses, class_labels, find_class_files, path_ids
from robustcheck.data.listing import Decoded, Listing, Request, check_size, enumerate_names, printable
from robustcheck.data.pointclouds import SUFFIXES, PointCloud, read_points
from robustcheck.data.preprocessing import Preprocessing
from robustcheck.data.splits import Ints
from robustcheck.errors import DataError, UnknownNameError, UsageError
from robustcheck.sensing.lidar_geometry import range_image_of
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor

COLUMNS: Final = 128
LEAST_RETURNS: Final = 5

CLOUD_PART: Final = "lidar-vlp16"
_AROUND: Final = 0.5
"""Length of the mean of the unit vectors towards the points, below which they lie all around the sensor."""


def read_clouds(rest: str, request: Request) -> Listing:
    """A folder with one sub-folder a class, of `.bin`, `.pcd`, `.ply` and `.npz` clouds; `train/`, `test/` are kept.

    Each cloud is one thing as a LIDAR at the origin sees it: x forward, y left, z up [m]. It becomes the range image
    that the beams of this LIDAR give, `[PART:]PATH`, or else those of a VLP-16: 128 firings wide, the middle looking at
    the points' mean azimuth. A sample's id is a hash of its relative path. Clouds that cannot be read, or seen so, are
    left out and noted; so are points that are not finite. Intensities that are absent, or scaled otherwise than most,
    are noted.

    Raises DataError for a folder without at least two classes, and if more than half of a class is left out; UsageError
    for a part that is no LIDAR.
    """
    profile, root, named = part_and_root("clouds", rest, CLOUD_PART)
    files, notes = find_class_files(root, SUFFIXES, "point cloud")
    classes, labels = class_labels(root, files, request.class_names)
    names = [file.relative.as_posix() for file in files]

    def read(row: int) -> tuple[PointCloud, NDArray[np.float32]]:
        cloud = read_points(root / files[row].relative)
        return cloud, cloud.xyz

    def decode(rows: Ints, _: Preprocessing) -> Decoded:
        decoded = gather(root, names, rows, read, profile)
        check_losses(root, classes, labels[rows], decoded)
        return decoded

    if not named:
        notes = (*notes, f"no LIDAR was named, so {CLOUD_PART} was taken; clouds:PART:PATH names the one that saw them")
    return Listing(
        name=printable(root.resolve().name),
        source=f"folder of point clouds, seen with the beams of {profile.beams}",
        classes=classes,
        labels=labels,
        sample_ids=path_ids(root, names),
        fixed_split=np.array([file.part for file in files], dtype=np.int64),
        decode=decode,
        notes=notes,
        beams=profile.beams,
    )


def part_and_root(kind: str, rest: str, default: str) -> tuple[LidarProfile, Path, bool]:
    """The LIDAR and the folder that `[PART:]PATH` names, and whether it names a LIDAR; `default` is taken if not.

    PART is a shipped profile's name or the path of a profile, which ends in `.toml`; what precedes the first colon is
    none where it is a drive's letter, nor where the whole is a folder. Raises UsageError for a part that is no LIDAR.

    >>> profile, root, named = part_and_root("clouds", "lidar-os1-64:scans/2026", "lidar-vlp16")
    >>> profile.name, str(root), named
    ('lidar-os1-64', 'scans/2026', True)
    >>> str(part_and_root("clouds", "C:/scans", "lidar-vlp16")[1])
    'C:/scans'
    """
    named = None if Path(rest).is_dir() else re.fullmatch(r"(.*?\.toml|[^:\\/]{2,}|):(.*)", rest)
    part, path = (default, rest) if named is None else named.groups()
    if not (part and path):
        raise UsageError(
            f"data: expected '{kind}:[PART:]PATH', got '{kind}:{rest}'; an example is {kind}:{default}:scans"
        )
    try:
        profile: Any = load_sensor(part)
    except UnknownNameError as error:
        remedy = f"What precedes the first colon of {kind}:PART:PATH is the LIDAR that took the clouds"
        raise UsageError(f"data: {error} {remedy}") from error
    if not isinstance(profile, LidarProfile):
        raise UsageError(
            f"data: expected a LIDAR before the path, got {part}, a {profile.kind}; name one such as {default}"
        )
    return profile, Path(path), named is not None


def window(cloud: PointCloud, thing: NDArray[np.float32], profile: LidarProfile) -> NDArray[np.float32]:
    """The range image of a cloud around the mean azimuth of some of its points, `thing` (m, 3) [m].

    Returns (beams, 128, 2) float32, range / 128 m and intensity, 0 where nothing returns. Raises DataError if there
    are none of these points, if they lie all around the sensor, or if fewer than 5 of the cloud's meet the beams within
    the window.

    >>> profile = load_sensor("lidar-vlp16")
    >>> near = np.array([[10, y / 30, -1.0] for y in range(30)], np.float32)
    >>> image = window(PointCloud(near), near, profile)
    >>> image.shape, round(float(image[..., 0].max()) * 128, 1)
    ((16, 128, 2), 10.1)
    """
    if not len(thing):
        raise DataError("expected points of the labelled thing, got none with finite numbers")
    towards = thing[:, :2] / np.maximum(np.linalg.norm(thing[:, :2], axis=1, keepdims=True), 1e-6)
    mean = towards.mean(axis=0)
    if np.hypot(*mean) < _AROUND:
        raise DataError(
            "expected one thing as a LIDAR at the origin sees it (x forward, y left, z up, in metres), got points all "
            "around the origin; move them to where the sensor saw them"
        )
    step = profile.azimuth_step_deg.value
    centre = math.degrees(math.atan2(float(mean[1]), float(mean[0])))
    centre += _phase(np.degrees(np.arctan2(thing[:, 1], thing[:, 0])) - centre, step)
    intensity = np.zeros(len(cloud), np.float32) if cloud.intensity is None else cloud.intensity
    points = torch.from_numpy(np.column_stack([cloud.xyz, intensity])[None])
    image = range_image_of(
        points,
        profile.elevation_deg.values,
        step,
        COLUMNS,
        centre_deg=centre,
    )[0]
    returns = int((image[0] > 0).sum())
    if returns < LEAST_RETURNS:
        raise DataError(f"expected at least {LEAST_RETURNS} points on the beams of {profile.name}, got {returns}")
    return image.permute(1, 2, 0).numpy()


def _phase(azimuth_deg: NDArray[np.floating[Any]], step_deg: float) -> float:
    """How far to turn a window that looks at azimuth 0 so that firings fall on the middles of its columns [degrees].

    Else the firings of a scan may fall on the borders of columns, where rounding puts two into one and none into the
    next. Their phase is the circular mean of their azimuths in units of the step.
    """
    firings = azimuth_deg.astype(np.float64)
    firings = (firings - 360 * np.rint(firings / 360)) / step_deg
    phase = float(np.angle(np.exp(2j * np.pi * firings).mean())) / (2 * math.pi)
    off = phase - (COLUMNS - 1) / 2
    return step_deg * (off - round(off))


def gather(
    root: Path,
    names: Sequence[str],
    rows: Ints,
    read: Callable[[int], tuple[PointCloud, NDArray[np.float32]]],
    profile: LidarProfile,
) -> Decoded:
    """The range images of these rows, and notes on what was left out.

    Args:
        root: folder of the clouds; messages name paths below it.
        names: the path of each row's cloud below it.
        rows: (k,) int64.
        read: gives the cloud of a row and the points that the window looks at; may raise DataError.
        profile: the LIDAR that sees them.
    """
    size = (len(profile.elevation_deg.values), COLUMNS, 2)
    check_size(4 * len(rows) * math.prod(size))
    images = np.zeros((len(rows), *size), np.float32)
    readable = np.zeros(len(rows), np.bool_)
    reasons: list[str] = []
    omitted: dict[str, int] = {}
    full_scales: dict[str, float] = {}
    for place, row in enumerate(rows.tolist()):
        try:
            cloud, thing = read(row)
        except DataError as error:
            reasons.append(str(error).replace(f"{root}/", ""))
            continue
        try:
            images[place] = window(cloud, thing, profile)
        except DataError as error:
            reasons.append(f"{names[row]}: {error}")
            continue
        readable[place] = True
        omitted[names[row]] = cloud.omitted
        lit = cloud.intensity is not None and cloud.intensity.any()
        full_scales[names[row]] = cloud.full_scale if lit else 0.0
    notes = [f"{len(reasons)} of {len(rows)} clouds were left out: {enumerate_names(reasons)}"] if reasons else []
    notes += _point_notes(omitted) + _intensity_notes(full_scales)
    return Decoded(images[readable], readable, tuple(notes))


def _point_notes(omitted: dict[str, int]) -> list[str]:
    """A note on points that were not finite, by the clouds they were in."""
    torn = sorted(name for name, points in omitted.items() if points)
    if not torn:
        return []
    where = f"{sum(omitted.values())} in {len(torn)} of {len(omitted)} clouds, {enumerate_names(torn)}"
    return [f"points with a coordinate or an intensity that is not finite were left out: {where}"]


def _intensity_notes(full_scales: dict[str, float]) -> list[str]:
    """Notes on clouds without intensity (0 here), and on clouds scaled otherwise than most, which may be a mistake."""
    notes = []
    dark = sorted(name for name, full in full_scales.items() if not full)
    if dark:
        notes.append(
            f"{len(dark)} of {len(full_scales)} clouds have no intensity above 0, which stands for a reflectivity of "
            f"0.5 %: {enumerate_names(dark)}"
        )
    lit = {name: full for name, full in full_scales.items() if full}
    usual = Counter(sorted(lit.values())).most_common(1)[0][0] if lit else 0.0
    odd = sorted(f"{name} ({full:g})" for name, full in lit.items() if full != usual)
    if odd:
        notes.append(
            f"intensities have a full scale of {usual:g}, but another in {len(odd)} of {len(lit)} clouds: "
            f"{enumerate_names(odd)}; each was scaled by its own, so store them alike if they are one sensor's"
        )
    return notes
