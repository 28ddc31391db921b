"""SemanticKITTI: each labelled thing of a scan as a range image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.class_folders import path_ids
from robustcheck.data.cloud_folders import gather, part_and_root
from robustcheck.data.listing import Listing, Request, enumerate_names, printable, renamed
from robustcheck.data.pointclouds import PointCloud, read_labels, read_points
from robustcheck.data.splits import TEST, TRAIN, VALIDATION, Ints
from robustcheck.errors import DataError

LEAST_POINTS: Final = 50
"""An instance of fewer points in a scan is no sample."""
LEAST_INSTANCES: Final = 10

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


@dataclass(frozen=True)
class _Instance:
    """A thing in a scan: the number of the scan, and its label as SemanticKITTI stores it, less the class."""

    scan: int
    label: int
    instance: int


def read_kitti(rest: str, request: Request) -> Listing:
    """SemanticKITTI: `sequences/NN/velodyne/*.bin` and `sequences/NN/labels/*.label` below PATH.

    Each instance of a thing (car, person, bicyclist …) with at least 50 points in a scan is a sample: the range image
    that the beams of the LIDAR give, `[PART:]PATH`, or else those of an HDL-64E, SemanticKITTI's own: 128 firings wide,
    around the instance's mean azimuth, its surroundings included. Of a sequence of more than 100 scans every tenth is
    taken, 1 s after the other, for neighbours are nearly the same. Scans are split as they follow one another, not at
    random: sequence 08, or else the last, is the test part and the last of the others validation; of fewer than three,
    the first .6 of each is training, the next .2 validation. Scans without labels, or whose labels are not one a point,
    are left out and noted.

    Raises DataError if there is no such file or no labels, or if fewer than two classes have 10 instances; UsageError
    for a part that is no LIDAR.
    """
    profile, root, _ = part_and_root("kitti", rest, KITTI_PART)
    scans, parts, notes = _labelled_scans(root)
    numbers = {number: label for label, values in enumerate(KITTI_CLASSES.values()) for number in values}
    found: list[_Instance] = []
    unfit: list[str] = []
    for scan, (cloud_path, label_path) in enumerate(scans):
        try:
            found += _instances(scan, cloud_path, label_path, numbers)
        except DataError as error:
            unfit.append(str(error).replace(f"{root}/", ""))
    if unfit:
        notes += (f"{len(unfit)} of {len(scans)} scans were left out: {enumerate_names(unfit)}",)
    counts = np.bincount([instance.label for instance in found], minlength=len(KITTI_CLASSES))
    kept = [label for label, count in enumerate(counts) if count >= LEAST_INSTANCES]
    classes = list(KITTI_CLASSES)
    if len(kept) < 2:
        got = ", ".join(f"{counts[label]} of '{classes[label]}'" for label in np.flatnonzero(counts)) or "none"
        raise DataError(
            f"{root}: expected two classes with {LEAST_INSTANCES} labelled instances of {LEAST_POINTS} points,"
            f" got {'; '.join((got, *notes))}; give more scans"
        )
    rare = [classes[label] for label in np.flatnonzero(counts) if label not in kept]
    if rare:
        notes += (f"fewer than {LEAST_INSTANCES} instances, and left out: {enumerate_names(rare)}",)
    found = [instance for instance in found if instance.label in kept]
    names = [scans[instance.scan][0].relative_to(root).as_posix() for instance in found]

    def read(row: int) -> tuple[PointCloud, NDArray[np.float32]]:
        cloud = read_points(*scans[found[row].scan])
        return cloud, cloud.xyz[_belongs(cloud, found[row], numbers)]

    return Listing(
        name=printable(root.resolve().name),
        source=f"SemanticKITTI's labelled instances in {len(scans)} scans, seen with the beams of {profile.beams}",
        classes=renamed([classes[label] for label in kept], request.class_names),
        labels=np.array([kept.index(instance.label) for instance in found], dtype=np.int64),
        sample_ids=path_ids(root, [f"{name}#{e.label}:{e.instance}" for name, e in zip(names, found, strict=True)]),
        fixed_split=parts[[instance.scan for instance in found]],
        decode=lambda rows, _: gather(root, names, rows, read, profile),
        notes=notes,
        beams=profile.beams,
    )


def _labelled_scans(root: Path) -> tuple[list[tuple[Path, Path]], Ints, tuple[str, ...]]:
    """The scans that are taken, each with its labels, the part of each, and a note on scans without labels."""
    sequences = []
    bare: dict[str, int] = {}
    try:
        for folder in sorted((root / "sequences").iterdir()):
            clouds = sorted((folder / "velodyne").glob("*.bin"))
            pairs = [(cloud, folder / "labels" / f"{cloud.stem}.label") for cloud in clouds]
            labelled = [pair for pair in pairs if pair[1].is_file()]
            bare[folder.name] = len(pairs) - len(labelled)
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
    for number, (_, pairs) in enumerate(sequences):
        whole = {test: TEST, validation: VALIDATION}.get(number, TRAIN)
        place = (np.arange(len(pairs)) + 0.5) / len(pairs)
        in_time = np.select([place < 0.6, place < 0.8], [TRAIN, VALIDATION], TEST)
        parts.append(in_time if len(names) < 3 else np.full(len(pairs), whole))
    without = [f"{name} ({count})" for name, count in bare.items() if count]
    note = f"scans without labels were not read, so many in each sequence: {enumerate_names(without)}"
    scans = [pair for _, pairs in sequences for pair in pairs]
    return scans, np.concatenate(parts).astype(np.int64), (note,) if without else ()


def _instances(scan: int, cloud: Path, label: Path, numbers: dict[int, int]) -> list[_Instance]:
    """The things of a scan that have enough points; DataError where its labels are not one a point."""
    kinds, marks = read_labels(label, cloud)
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
