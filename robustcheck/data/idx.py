"""IDX files, in which MNIST and its kin are published: images and labels, a training and a test part in one folder.

The format is described at http://yann.lecun.com/exdb/mnist/: two zero bytes, one byte for the type of the values, one
for the number of axes, each axis's length as four bytes (big-endian), then the values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.listing import Listing, Request, check_labels, check_size, listing_of_arrays, printable, renamed
from robustcheck.errors import DataError, UsageError

_UINT8: Final = 0x08
_PARTS: Final = ("train", "t10k")


def read_idx(rest: str, request: Request) -> Listing:
    """`PATH`, a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and those of `t10k`, or their `.gz`.

    Such as Debian's package dataset-fashion-mnist puts into /usr/share/datasets/fashion-mnist, or torchvision into
    ROOT/FashionMNIST/raw. Classes are the labels unless names are given. Ids count training rows, then test rows.
    Raises DataError for what is missing, damaged or too large.
    """
    if not rest:
        raise UsageError("data: expected 'idx:PATH', got 'idx'; give the folder of the files")
    folder = Path(rest)
    parts = [(_read(folder, f"{part}-images-idx3-ubyte", 3), _read(folder, f"{part}-labels-idx1-ubyte", 1))
             for part in _PARTS]  # fmt: skip
    for images, labels in parts:
        check_labels(labels, len(images), 256)
    (images, labels), (test_images, test_labels) = parts
    if images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{folder}: expected test images as the others, {images.shape[1:]}, got {test_images.shape[1:]}"
        )
    every = np.concatenate([labels, test_labels]).astype(np.int64)
    classes = renamed([str(label) for label in range(int(every.max(initial=0)) + 1)], request.class_names)
    return listing_of_arrays(
        printable(folder.resolve().name),
        "IDX files",
        np.concatenate([images, test_images])[..., np.newaxis],
        every,
        classes,
        test_count=len(test_labels),
    )


def _read(folder: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """The array of one file, compressed or not; its size is checked before it is read."""
    path = folder / f"{name}.gz" if (folder / f"{name}.gz").is_file() else folder / name
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4 + 4 * axes)
            if start[:4] != bytes((0, 0, _UINT8, axes)) or len(start) < 4 + 4 * axes:
                raise DataError(
                    f"{path}: expected an IDX file of bytes with {axes} axes, got one that begins {start[:4]!r}"
                )
            shape = tuple(int(length) for length in np.frombuffer(start, dtype=">u4", offset=4))
            size = math.prod(shape)
            check_size(size)
            values = file.read(size + 1)
    except FileNotFoundError as error:
        raise DataError(f"{folder}: expected {name} or {name}.gz, got neither") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a readable IDX file, got: {error}") from error
    if len(values) != size or not size:
        got = "more" if len(values) > size else len(values)
        raise DataError(f"{path}: expected {size} values, as its header says, and at least one, got {got}")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
