"""Arrays: images that come as arrays, from scikit-learn's digits, an npz file or torchvision."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.listing import (
    LARGEST_CLASS_COUNT,
    ONLY_CLASSIFICATION,
    Listing,
    Request,
    check_class_names,
    check_labels,
    check_size,
    enumerate_names,
    listing_of_arrays,
    printable,
    renamed,
)
from robustcheck.errors import DataError, UnknownNameError, UsageError

_IMAGES: Final = ("images", "x", "X")
_LABELS: Final = ("labels", "y", "Y")
_MNIST_FAMILY: Final = ("FashionMNIST", "KMNIST", "MNIST")
TORCHVISION: Final = (*_MNIST_FAMILY, "CIFAR10", "CIFAR100", "SVHN")


def read_digits(rest: str, request: Request) -> Listing:
    """scikit-learn's digits: 1797 images of 8×8, float32, the counts 0 to 16 divided by 16. An id is a row."""
    if rest:
        raise UsageError(f"data: expected 'digits', got 'digits:{rest}'; digits takes nothing after its name")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., np.newaxis] / 16).astype(np.float32)
    classes = renamed([str(name) for name in bunch.target_names], request.class_names)
    return listing_of_arrays("digits", "scikit-learn's digits", images, bunch.target.astype(np.int64), classes)


def read_npz(rest: str, request: Request) -> Listing:
    """An npz file: images (`images`, `x` or `X`), labels (`labels`, `y` or `Y`); a fixed test part in `test_images`
    and `test_labels`, and names in `class_names` (text, (k,)), if they are there.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w), c being 1 or 3, uint8 or float in [0, 1]. Nothing is
    unpickled, and each array's header is checked before the array is read. A sample's id is its row; test rows count
    on from the last training row. Raises DataError for whatever does not fit.
    """
    path = Path(rest)
    arrays, ignored = _read_members(path)
    images, labels = _only(arrays, _IMAGES), _only(arrays, _LABELS)
    if images is None or labels is None:
        raise DataError(
            f"{path}: expected images ({', '.join(_IMAGES)}) and labels ({', '.join(_LABELS)}),"
            f" got {enumerate_names([*arrays, *ignored]) or 'nothing'}; {ONLY_CLASSIFICATION}"
        )
    test_count = 0
    images = _as_nhwc(images, path)
    check_labels(labels, len(images), LARGEST_CLASS_COUNT)
    if ("test_images" in arrays) != ("test_labels" in arrays):
        raise DataError(f"{path}: expected both test_images and test_labels, got one of them")
    if "test_images" in arrays:
        test_images, test_labels = _as_nhwc(arrays["test_images"], path), arrays["test_labels"]
        check_labels(test_labels, len(test_images), LARGEST_CLASS_COUNT)
        test_count = len(test_images)
        if test_images.shape[1:] != images.shape[1:] or test_images.dtype != images.dtype:
            got = f"{test_images.shape[1:]} {test_images.dtype}"
            raise DataError(f"{path}: expected test images as the others, {images.shape[1:]} {images.dtype}, got {got}")
        images = np.concatenate([images, test_images])
        labels = np.concatenate([labels.astype(np.int64), test_labels.astype(np.int64)])
    classes = _class_names(path, labels, arrays.get("class_names"), request.class_names)
    notes = (f"arrays not used: {enumerate_names(ignored)}",) if ignored else ()
    return listing_of_arrays(
        printable(path.stem), "npz file", images, labels, classes, test_count=test_count, notes=notes
    )


def read_torchvision(rest: str, request: Request) -> Listing:
    """`NAME:ROOT`, a data set of torchvision with a fixed test part, in torchvision's own layout under ROOT.

    MNIST's family is read from raw IDX files. CIFAR's files are pickles and SVHN's are MATLAB files: torchvision
    reads these only if their MD5 is that of the published file, so nothing unknown is unpickled. Nothing is
    downloaded unless the request says so. Ids count training rows, then test rows. Raises DataError if files are
    missing or damaged, UnknownNameError for another data set.
    """
    name, separator, root = rest.partition(":")
    if name not in TORCHVISION:
        raise UnknownNameError("torchvision data set", name, TORCHVISION, remedy=ONLY_CLASSIFICATION)
    if not (separator and root):
        raise UsageError(
            f"data: expected 'torchvision:NAME:ROOT', got 'torchvision:{rest}'; give the folder of the data"
        )
    parts = [_torchvision_part(name, Path(root), train=train, download=request.download) for train in (True, False)]
    images, labels = (np.concatenate(both) for both in zip(*(part[:2] for part in parts), strict=True))
    classes = renamed(parts[0][2], request.class_names)
    return listing_of_arrays(name, f"torchvision's {name}", images, labels, classes, test_count=len(parts[1][1]))


def _torchvision_part(
    name: str, root: Path, *, train: bool, download: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    from torchvision import datasets

    which = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    try:
        check_size(sum(file.stat().st_size for file in (root / name).rglob("*") if file.is_file()))
        part = getattr(datasets, name)(str(root), download=download, **which)
    except DataError:
        raise
    except Exception as error:
        # The readers raise whatever a damaged file provokes: assertions, struct, zlib, unpickling and type errors.
        remedy = "" if download else "; give the folder that holds it, or allow --download"
        raise DataError(f"torchvision:{name} in {root}: expected its files, got: {error}{remedy}") from error
    images, labels = np.asarray(part.data), np.asarray(part.labels if name == "SVHN" else part.targets)
    if name == "SVHN":
        images = images.transpose(0, 2, 3, 1)
    elif name in _MNIST_FAMILY:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise DataError(f"torchvision:{name} in {root}: expected uint8 images, got {images.shape} {images.dtype}")
    classes = tuple(str(digit) for digit in range(10)) if name == "SVHN" else tuple(part.classes)
    check_labels(labels, len(images), len(classes))
    return images, labels.astype(np.int64), classes


def _read_members(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays with a known name, and the names of the rest."""
    known = {*_IMAGES, *_LABELS, "test_images", "test_labels", "class_names"}
    arrays: dict[str, NDArray[Any]] = {}
    ignored: list[str] = []
    total = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name not in known or name in arrays:
                    ignored.append(name)
                    continue
                with archive.open(member) as file:
                    total += _declared_bytes(file, member.file_size, f"{path}: {name}")
                check_size(total)
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected an npz file, got none there") from error
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: expected a readable npz file, got: {printable(str(error)[:200])}") from error
    return arrays, ignored


def _declared_bytes(file: IO[bytes], member_bytes: int, where: str) -> int:
    """The size of the array that an npy header declares, which must be what follows the header."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{where}: expected npy version 1.0 or 2.0, got {version[0]}.{version[1]}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise DataError(
            f"{where}: expected numbers or text, got Python objects, which are not read (a pickle may run code)"
        )
    declared = dtype.itemsize
    for side in shape:
        declared *= side
    if declared != member_bytes - file.tell():
        raise DataError(f"{where}: expected {declared} bytes, as its header says, got {member_bytes - file.tell()}")
    return declared


def _only(arrays: dict[str, NDArray[Any]], keys: tuple[str, ...]) -> NDArray[Any] | None:
    found = [key for key in keys if key in arrays]
    if len(found) > 1:
        raise DataError(f"npz: expected one of {', '.join(keys)}, got {' and '.join(found)}")
    return arrays[found[0]] if found else None


def _as_nhwc(images: NDArray[Any], path: Path) -> NDArray[Any]:
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{path}: expected images of uint8, or float in [0, 1], got {images.dtype}")
    shape, wanted = images.shape, "(n, h, w), (n, h, w, c) or (n, c, h, w), c being 1 or 3"
    channels_first, channels_last = (images.ndim == 4 and shape[axis] in (1, 3) for axis in (1, 3))
    if 0 in shape or not (images.ndim == 3 or channels_first or channels_last):
        raise DataError(f"{path}: expected images {wanted}, none of them 0, got {shape}; {ONLY_CLASSIFICATION}")
    if channels_first and channels_last:
        raise DataError(f"{path}: expected images {wanted}, got {shape}, which can be read both ways; store (n, h, w)")
    if images.dtype != np.uint8:
        smallest, largest = images.min(), images.max()
        if not (smallest >= 0 and largest <= 1):
            got = "NaN" if np.isnan(smallest) else f"{smallest:.6g} to {largest:.6g}"
            raise DataError(
                f"{path}: expected float images in [0, 1], got {got}; divide by the largest value, or use uint8"
            )
        images = images.astype(np.float32, copy=False)
    if images.ndim == 3:
        return images[..., np.newaxis]
    return images.transpose(0, 2, 3, 1) if channels_first else images


def _class_names(
    path: Path, labels: NDArray[Any], stored: NDArray[Any] | None, given: tuple[str, ...] | None
) -> tuple[str, ...]:
    if stored is not None and (stored.ndim != 1 or stored.dtype.kind != "U"):
        raise DataError(f"{path}: expected class_names as text of shape (k,), got {stored.shape} {stored.dtype}")
    if stored is not None:
        return renamed([str(name) for name in stored], given)
    if given is not None:
        return check_class_names(given)
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        got = f"{len(present)} different labels from {present.min()} to {present.max()}"
        raise DataError(f"{path}: expected labels 0 to k - 1, each of them there, got {got}; store class_names")
    return check_class_names([str(label) for label in present])
