"""Datasets: from a data spec to physical samples in [0, 1], labels and stable sample ids, in three splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from robustcheck.data.arrays import TORCHVISION, read_digits, read_npz, read_torchvision
from robustcheck.data.cloud_folders import CLOUD_PART, read_clouds
from robustcheck.data.folders import read_folder
from robustcheck.data.idx import read_idx
from robustcheck.data.kitti import KITTI_PART, read_kitti
from robustcheck.data.lidar_scenes import read_lidar_scenes
from robustcheck.data.listing import ONLY_CLASSIFICATION, Listing, Request, enumerate_names, printable
from robustcheck.data.preprocessing import Preprocessing, check_range_images
from robustcheck.data.splits import SPLIT_NAMES, TEST, Ints, assign, choose
from robustcheck.errors import DataError, InvalidValueError, UnknownNameError, UsageError
from robustcheck.sensing.lidar_geometry import Beams


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split, ordered by sample id.

    `images` is (n, c, h, w), uint8 (0 to 255 stand for [0, 1]) or float32 in [0, 1]; `labels` is (n,) int64, an index
    into the classes; `sample_ids` is (n,) int64, not negative, different over all splits of a data set.
    """

    images: torch.Tensor
    labels: torch.Tensor
    sample_ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def physical(self, index: torch.Tensor | slice | None = None) -> torch.Tensor:
        """The images, or those at `index`, as float32 in [0, 1], (n, c, h, w).

        >>> split = Split(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), torch.tensor([0]), torch.tensor([0]))
        >>> split.physical().flatten().tolist()
        [0.0, 1.0]
        """
        images = self.images if index is None else self.images[index]
        return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in three splits, and where they come from.

    `sha256` covers images, labels, class names, sample ids and the split. `source` says what was read, `notes` what
    was left out or changed. `fixed_test` is true if the source itself has a test part. `beams` say where the pixels of
    range images look; None for images of a camera.
    """

    spec: str
    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    sha256: str
    source: str
    notes: tuple[str, ...]
    preprocessing: Preprocessing
    split_seed: int
    fixed_test: bool
    beams: Beams | None = None

    @property
    def modality(self) -> Literal["image", "range"]:
        """What the channels are: colours (or grey), or range and intensity as `sensing.lidar_geometry` has them."""
        return "image" if self.beams is None else "range"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def chance(self) -> float:
        """The accuracy of always naming the test split's largest class, in (0, 1]."""
        return int(self.test.labels.bincount().max()) / len(self.test)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return dict(zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True))

    def summary(self) -> dict[str, Any]:
        """What `robustcheck data show` tells, as JSON has it: counts per split and class, range, hash, notes."""
        images = [split.images for split in self.splits.values()]
        extremes = [[float(part.min()) for part in images], [float(part.max()) for part in images]]
        unit = 255 if images[0].dtype == torch.uint8 else 1
        counts = {name: split.labels.bincount(minlength=len(self.classes)) for name, split in self.splits.items()}
        return {
            "spec": self.spec,
            "name": self.name,
            "source": self.source,
            "modality": self.modality,
            "beams": None if self.beams is None else asdict(self.beams),
            "sha256": self.sha256,
            "shape": list(self.shape),
            "dtype": str(images[0].dtype).removeprefix("torch."),
            "range": [min(extremes[0]) / unit, max(extremes[1]) / unit],
            "classes": list(self.classes),
            "splits": {name: {"samples": int(n.sum()), "per_class": n.tolist()} for name, n in counts.items()},
            "chance": self.chance,
            "fixed_test": self.fixed_test,
            "split_seed": self.split_seed,
            "preprocessing": self.preprocessing.as_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Kind:
    """A kind of data source: how its spec is written, and the function that reads what follows the colon."""

    grammar: str
    example: str
    about: str
    read: Callable[[str, Request], Listing]


KINDS: Final[dict[str, Kind]] = {
    "clouds": Kind(
        "clouds:[PART:]PATH",
        "clouds:scans",
        "one sub-folder of .bin, .pcd, .ply, .npz clouds a class; train/, test/ kept; PART, by default "
        f"{CLOUD_PART}, is the LIDAR that took them",
        read_clouds,
    ),
    "digits": Kind("digits", "digits", "scikit-learn's handwritten digits, 1797 of 8×8, embedded", read_digits),
    "folder": Kind(
        "folder:PATH", "folder:photos", "one sub-folder of image files a class; train/, test/ kept", read_folder
    ),
    "idx": Kind(
        "idx:PATH",
        "idx:/usr/share/datasets/fashion-mnist",
        "a folder of MNIST's IDX files, train- and t10k-, or .gz of them",
        read_idx,
    ),
    "kitti": Kind(
        "kitti:[PART:]PATH",
        "kitti:dataset",
        f"SemanticKITTI: the labelled instances in sequences/NN; PART is {KITTI_PART} by default",
        read_kitti,
    ),
    "lidar-scenes": Kind(
        "lidar-scenes",
        "lidar-scenes",
        "6400 ray-cast LIDAR scenes of one thing each, simulated, embedded",
        read_lidar_scenes,
    ),
    "npz": Kind("npz:PATH", "npz:cells.npz", "arrays images and labels; test_images, test_labels kept", read_npz),
    "torchvision": Kind(
        "torchvision:NAME:ROOT", "torchvision:FashionMNIST:data", ", ".join(sorted(TORCHVISION)), read_torchvision
    ),
}


def load_data(
    spec: str,
    *,
    split_seed: int = 0,
    max_samples: int | None = None,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    download: bool = False,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """The data set that a spec names, such as `digits`, `folder:PATH` or `lidar-scenes`; see `KINDS` for all.

    The splits are stratified by class, .6 train, .2 validation, .2 test; a test part that the source has is kept, and
    validation is then .2 of the rest. They follow from `split_seed` (0 to 2⁶⁴ − 1) and the sample ids alone.
    `max_samples` bounds the samples of the three splits together, in proportion, each class of each split keeping at
    least one; a larger number keeps all that a smaller one keeps. Of a folder only the kept files are decoded.
    `class_names` says the order of a folder's classes, or renames the classes of other sources. Nothing is
    downloaded unless `download` is true.

    Raises UsageError for a spec or value that makes no sense (UnknownNameError and InvalidValueError are such), and
    DataError for data that cannot be read or are no labelled images in at least two classes.

    >>> data = load_data("digits")
    >>> data.shape, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), 1079, 359, 359)
    """
    kind, separator, rest = spec.partition(":")
    if kind not in KINDS:
        raise UnknownNameError("kind of data", printable(kind), KINDS, remedy=f"{_grammars()}; {ONLY_CLASSIFICATION}")
    if (separator and not rest) or (not separator and KINDS[kind].grammar != kind):
        raise UsageError(f"data: expected {KINDS[kind].grammar!r}, got {spec!r}; an example is {KINDS[kind].example!r}")
    if isinstance(split_seed, bool) or not 0 <= split_seed < 2**64:
        raise InvalidValueError("split seed", expected="0 to 2**64 - 1", got=split_seed)
    if max_samples is not None and max_samples < 1:
        raise InvalidValueError("max samples", expected="at least 1", got=max_samples)
    listing = KINDS[kind].read(rest, Request(download=download, class_names=class_names))
    if listing.beams is not None:
        check_range_images(preprocessing)
    fixed_test = bool((listing.fixed_split == TEST).any())
    absent = _check_classes(listing, fixed_test=fixed_test)
    split = assign(listing.labels, listing.sample_ids, listing.fixed_split, split_seed)
    rows = choose(listing.labels, listing.sample_ids, split, split_seed, max_samples)
    decoded = listing.decode(rows, preprocessing)
    rows = rows[decoded.readable]
    splits = [_split(listing, decoded.images, rows, split[rows] == part) for part in range(len(SPLIT_NAMES))]
    lacking = _check_splits(listing, splits)
    return Dataset(
        spec=spec,
        name=listing.name,
        classes=listing.classes,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        sha256=_sha256(listing.classes, splits),
        source=listing.source,
        notes=(*listing.notes, *decoded.notes, *absent, *lacking),
        preprocessing=preprocessing,
        split_seed=split_seed,
        fixed_test=fixed_test,
        beams=listing.beams,
    )


def _grammars() -> str:
    return "data are given as " + ", ".join(kind.grammar for kind in KINDS.values())


def _check_classes(listing: Listing, *, fixed_test: bool) -> tuple[str, ...]:
    """DataError unless every class that is there can be split; returns a note on classes without samples."""
    everywhere = np.bincount(listing.labels, minlength=len(listing.classes))
    if np.count_nonzero(everywhere) < 2:
        present = enumerate_names([listing.classes[label] for label in np.flatnonzero(everywhere)])
        raise DataError(f"{listing.name}: expected at least two classes, got {present or 'none'}")
    trained = np.bincount(listing.labels[listing.fixed_split != TEST], minlength=len(listing.classes))
    least = 2 if fixed_test else 3
    few = np.flatnonzero((everywhere > 0) & (trained < least))
    if len(few):
        got = ", ".join(f"{trained[label]} of '{listing.classes[label]}'" for label in few[:10])
        beside = " beside the test part" if fixed_test else ""
        raise DataError(
            f"{listing.name}: expected at least {least} samples a class{beside}, to be split, got {got};"
            " add samples or leave the class out"
        )
    absent = [listing.classes[label] for label in np.flatnonzero(everywhere == 0)]
    return (f"{len(absent)} classes have no sample: {enumerate_names(absent)}",) if absent else ()


def _check_splits(listing: Listing, splits: list[Split]) -> tuple[str, ...]:
    """Notes on classes that a split lacks, by a fixed part or by unreadable files; DataError if training lacks one.

    The split is drawn before anything is decoded and stays as it is: a damaged or repaired file moves no other sample.
    """
    notes = []
    present = set(listing.labels.tolist())
    for name, split in zip(SPLIT_NAMES, splits, strict=True):
        lacking = enumerate_names([listing.classes[label] for label in sorted(present - set(split.labels.tolist()))])
        if not len(split) or (lacking and name == "train"):
            raise DataError(
                f"{listing.name}: expected readable samples of each class in the {name} split, got none of {lacking};"
                " add samples, or repair the unreadable files"
            )
        if lacking:
            notes.append(f"the {name} split has no sample of {lacking}")
    return tuple(notes)


def _split(listing: Listing, images: NDArray[Any], rows: Ints, chosen: NDArray[np.bool_]) -> Split:
    arranged = np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2))
    kept = rows[chosen]
    return Split(
        torch.from_numpy(arranged),
        torch.from_numpy(listing.labels[kept]),
        torch.from_numpy(listing.sample_ids[kept]),
    )


def _sha256(classes: tuple[str, ...], splits: list[Split]) -> str:
    digest = hashlib.sha256(json.dumps(classes).encode())
    for split in splits:
        for tensor in (split.images, split.labels, split.sample_ids):
            array = tensor.numpy()
            little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{little_endian.dtype.str}{little_endian.shape}".encode())
            digest.update(little_endian.data)
    return digest.hexdigest()
