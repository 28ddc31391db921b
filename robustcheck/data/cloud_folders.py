"""Labelled point clouds as range images: a folder of clouds a class, or the instances of SemanticKITTI's scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.data.class_folders import check_losses, class_labels, find_class_files, path_ids
from robustcheck.data.listing import (
    Decoded,
    Listing,
    Request,
    check_size,
    enumerate_names,
    printable,
    renamed,
)
from robustcheck.data.pointclouds import SUFFIXES, PointCloud, read_labels, read_points
from robustcheck.data.preprocessing import Preprocessing
from robustcheck.data.splits import TEST, TRAIN, VALIDATION, Ints
from robustcheck.errors import DataError
from robustcheck.sensing.lidar_geometry import range_image_of
from robustcheck.sensing.lidar_profile import LidarProfile
from robustcheck.sensing.profile import load_sensor

COLUMNS: Final = 128
LEAST_POINTS: Final = 50
"""An instance of fewer points in a scan of SemanticKITTI is no sample."""
LEAST_INSTANCES: Final = 10
LEAST_RETURNS: Final = 5

CLOUD_PART: Final = "lidar-vlp16"
KITTI_PART: Final = "lidar-hdl64e"
KITTI_CLASSES: Final = {
    "car": (10, 252), "bicycle": (11,), "bus": (13, 257), "motorcycle": (15,), "on-rails": (16, 256),
    "truck": (18, 258), "other-vehicle": (20, 259), "person": (30, 254), "bicyclist": (31, 253),
    "motorcyclist": (32, 255),
}  # fmt: skip
"""SemanticKITTI's classes of countable things, and the numbers of each, still and moving (arXiv 1904.01416)."""
_KITTI_TEST: Final = "08"
"""The sequence that SemanticKITTI's authors keep for validation."""
_MANY_SCANS: Final = 100
_STRIDE: Final = 10
_AROUND: Final = 0.5
"""Length of the mean of the unit vectors towards the points, below which they lie all around the sensor."""


def read_clouds(rest: str, request: Request) -> Listing:
    """A folder with one sub-folder a class, of `.bin`, `.pcd`, `.ply` and `.npz` clouds; `train/`, `test/` are kept.

    Each cloud is one thing as a LIDAR at the origin sees it: x forward, y left, z up [m]. It becomes the range image
    that the beams of a VLP-16 give, 128 firings wide, the middle looking at the points' mean azimuth. A sample's id is
    a hash of its relative path. Clouds that cannot be read, or seen so, are left out and noted.

    Raises DataError for a folder without at least two classes, and if more than half of a class is left out.
    """
    root = Path(rest)
    files, notes = find_class_files(root, SUFFIXES, "point cloud")
    classes, labels = class_labels(root, files, request.class_names)
    profile = _profile(CLOUD_PART)

    def images(rows: Ints) -> Iterator[NDArray[np.float32] | str]:
        for row in rows:
            try:
                cloud = read_points(root / files[row].relative)
                yield window(cloud, cloud.xyz, profile)
            except DataError as error:
                yield str(error).replace(f"{root}/", "")

    def decode(rows: Ints, _: Preprocessing) -> Decoded:
        decoded = _gather(images(rows), len(rows), profile)
        check_losses(root, classes, labels[rows], decoded)
        return decoded

    fixed = np.array([file.part for file in files], dtype=np.int64)
    ids = path_ids(root, [file.relative.as_posix() for file in files])
    name = printable(root.resolve().name)
    source = f"folder of point clouds, seen with the beams of {CLOUD_PART}"
    return Listing(name, source, classes, labels, ids, fixed, decode, notes, "range")


def window(cloud: PointCloud, thing: NDArray[np.float32], profile: LidarProfile) -> NDArray[np.float32]:
    """The range image of a cloud around the mean azimuth of some of its points, `thing` (m, 3) [m].

    Returns (beams, 128, 2) float32, range / 128 m and intensity, 0 where nothing returns. Raises DataError if these
    points lie all around the sensor, or fewer than 5 of the cloud's meet the beams within the window.

    >>> profile = load_sensor("lidar-vlp16")
    >>> near = np.array([[10, y / 30, -1.0] for y in range(30)], np.float32)
    >>> image = window(PointCloud(near), near, profile)
    >>> image.shape, round(float(image[..., 0].max()) * 128, 1)
    ((16, 128, 2), 10.1)
    """
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


@dataclass(frozen=True)
class _Instance:
    """A thing in a scan: the number of the scan, and its label as SemanticKITTI stores it, less the class."""

    scan: int
    label: int
    instance: int


def read_kitti(rest: str, request: Request) -> Listing:
    """SemanticKITTI: `sequences/NN/velodyne/*.bin` and `sequences/NN/labels/*.label` below PATH.

    Each instance of a thing (car, person, bicyclist …) with at least 50 points in a scan is a sample: the range image
    that the beams of an HDL-64E give, 128 firings wide, around the instance's mean azimuth, its surroundings included.
    Of a sequence of more than 100 scans every tenth is taken, 1 s after the other, for neighbours are nearly the same.
    Scans are split as they follow one another, not at random: sequence 08, or else the last, is the test part and the
    last of the others validation; of fewer than three, the first .6 of each is training, the next .2 validation.

    Raises DataError if there is no such file or no labels, or if fewer than two classes have 10 instances.
    """
    root = Path(rest)
    scans, parts = _kitti_scans(root)
    numbers = {number: label for label, values in enumerate(KITTI_CLASSES.values()) for number in values}
    found = [instance for scan, (_, labels) in enumerate(scans) for instance in _instances(scan, labels, numbers)]
    counts = np.bincount([instance.label for instance in found], minlength=len(KITTI_CLASSES))
    kept = [label for label, count in enumerate(counts) if count >= LEAST_INSTANCES]
    names = list(KITTI_CLASSES)
    if len(kept) < 2:
        got = ", ".join(f"{counts[label]} of '{names[label]}'" for label in np.flatnonzero(counts)) or "none"
        raise DataError(
            f"{root}: expected two classes with {LEAST_INSTANCES} labelled instances of {LEAST_POINTS} points,"
            f" got {got}; give more scans"
        )
    rare = [names[label] for label in np.flatnonzero(counts) if label not in kept]
    found = [instance for instance in found if instance.label in kept]
    profile = _profile(KITTI_PART)

    def images(rows: Ints) -> Iterator[NDArray[np.float32] | str]:
        for row in rows:
            cloud_path, label_path = scans[found[row].scan]
            try:
                cloud = read_points(cloud_path, label_path)
                yield window(cloud, cloud.xyz[_belongs(cloud, found[row], numbers)], profile)
            except DataError as error:
                yield str(error).replace(f"{root}/", "")

    notes = (f"fewer than {LEAST_INSTANCES} instances, and left out: {enumerate_names(rare)}",) if rare else ()
    paths = [scans[instance.scan][0].relative_to(root).as_posix() for instance in found]
    return Listing(
        name=printable(root.resolve().name),
        source=f"SemanticKITTI's labelled instances in {len(scans)} scans, seen with the beams of {KITTI_PART}",
        classes=renamed([names[label] for label in kept], request.class_names),
        labels=np.array([kept.index(instance.label) for instance in found], dtype=np.int64),
        sample_ids=path_ids(root, [f"{path}#{e.label}:{e.instance}" for path, e in zip(paths, found, strict=True)]),
        fixed_split=parts[[instance.scan for instance in found]],
        decode=lambda rows, _: _gather(images(rows), len(rows), profile),
        notes=notes,
        modality="range",
    )


def _kitti_scans(root: Path) -> tuple[list[tuple[Path, Path]], Ints]:
    """The scans that are taken, each with its labels, and the part of each."""
    sequences = []
    try:
        for folder in sorted((root / "sequences").iterdir()):
            clouds = sorted((folder / "velodyne").glob("*.bin"))
            pairs = [(cloud, folder / "labels" / f"{cloud.stem}.label") for cloud in clouds]
            labelled = [pair for pair in pairs if pair[1].is_file()]
            if labelled:
                sequences.append((folder.name, labelled[:: _STRIDE if len(labelled) > _MANY_SCANS else 1]))
    except OSError as error:
        raise DataError(
            f"{root}: expected SemanticKITTI's folder sequences/, got: {error.strerror or error}; KITTI's object and"
            " raw data have no label a point, and are not read"
        ) from error
    if not sequences:
        raise DataError(
            f"{root}: expected sequences/NN/velodyne/*.bin with sequences/NN/labels/*.label, got no such pair; the"
            " labels are a download of their own at semantic-kitti.org"
        )
    names = [name for name, _ in sequences]
    test = names.index(_KITTI_TEST) if _KITTI_TEST in names else len(names) - 1
    validation = max(number for number in range(-1, len(names)) if number != test)
    parts = []
    for number, (_, scans) in enumerate(sequences):
        whole = {test: TEST, validation: VALIDATION}.get(number, TRAIN)
        place = (np.arange(len(scans)) + 0.5) / len(scans)
        in_time = np.select([place < 0.6, place < 0.8], [TRAIN, VALIDATION], TEST)
        parts.append(in_time if len(names) < 3 else np.full(len(scans), whole))
    return [pair for _, scans in sequences for pair in scans], np.concatenate(parts).astype(np.int64)


def _instances(scan: int, path: Path, numbers: dict[int, int]) -> list[_Instance]:
    """The things of a scan that have enough points."""
    kinds, marks = read_labels(path)
    labels = (
        np.array([numbers.get(kind, -1) for kind in range(1 << 16)], dtype=np.int64)[kinds] if len(kinds) else kinds
    )
    chosen = (labels >= 0) & (marks > 0)
    pairs, counts = np.unique(np.stack([labels[chosen], marks[chosen]]), axis=1, return_counts=True)
    return [
        _Instance(scan, int(label), int(instance))
        for (label, instance), count in zip(pairs.T, counts, strict=True)
        if count >= LEAST_POINTS
    ]


def _belongs(cloud: PointCloud, instance: _Instance, numbers: dict[int, int]) -> NDArray[np.bool_]:
    assert cloud.classes is not None
    assert cloud.instances is not None
    kinds = [number for number, label in numbers.items() if label == instance.label]
    chosen: NDArray[np.bool_] = np.isin(cloud.classes, kinds) & (cloud.instances == instance.instance)
    return chosen


def _gather(images: Iterator[NDArray[np.float32] | str], count: int, profile: LidarProfile) -> Decoded:
    """The images that came, and why the others did not."""
    size = (len(profile.elevation_deg.values), COLUMNS, 2)
    check_size(4 * count * math.prod(size))
    gathered = np.zeros((count, *size), np.float32)
    readable = np.zeros(count, np.bool_)
    reasons: list[str] = []
    for row, image in enumerate(images):
        if isinstance(image, str):
            reasons.append(image)
        else:
            gathered[row], readable[row] = image, True
    return Decoded(gathered[readable], readable, _notes(reasons, count))


def _notes(reasons: Sequence[str], count: int) -> tuple[str, ...]:
    return (f"{len(reasons)} of {count} clouds were left out: {enumerate_names(reasons)}",) if reasons else ()


def _profile(name: str) -> LidarProfile:
    profile: Any = load_sensor(name)
    assert isinstance(profile, LidarProfile)
    return profile
