"""Listing: what a data source says about its samples before their images are decoded, and the limits it must keep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.preprocessing import Preprocessing, prepare
from robustcheck.data.splits import FREE, TEST, Ints
from robustcheck.errors import DataError
from robustcheck.sensing.lidar_geometry import Beams

LARGEST_BYTES: Final = 4 * 2**30
LARGEST_CLASS_COUNT: Final = 100_000
ONLY_CLASSIFICATION: Final = (
    "robustcheck works on image classification only: images, a camera's or a LIDAR's, with one class label each"
)

_NAMED = 100
_LONGEST_NAME = 255


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images read from a source: (k, h, w, c), uint8 or float32 in [0, 1], and which of the n asked rows they are.

    `readable` is (n,) bool with k true; `notes` says what was not read, and why.
    """

    images: NDArray[Any]
    readable: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Listing:
    """The samples of a source: labels, ids and fixed splits, (n,) int64 each, and how to decode some of them.

    `fixed_split` is FREE, TRAIN, VALIDATION or TEST. `decode` takes rows (int64) and the preprocessing. `beams` are
    those of range images (h beams, w columns, 2 channels), which no preprocessing may resize or crop; None of others.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    labels: Ints
    sample_ids: Ints
    fixed_split: Ints
    decode: Callable[[Ints, Preprocessing], Decoded]
    notes: tuple[str, ...] = ()
    beams: Beams | None = None


@dataclass(frozen=True)
class Request:
    """What a reader is asked for beside the place: whether it may download, and the class names if they are given."""

    download: bool = False
    class_names: tuple[str, ...] | None = None


def listing_of_arrays(
    name: str,
    source: str,
    images: NDArray[Any],
    labels: Ints,
    classes: Sequence[str],
    *,
    test_count: int = 0,
    notes: tuple[str, ...] = (),
    beams: Beams | None = None,
) -> Listing:
    """The listing of decoded images (n, h, w, c), of which the last `test_count` are the fixed test part.

    A sample's id is its row. Raises DataError for a label outside the classes.
    """
    check_labels(labels, len(images), len(classes))
    fixed = np.full(len(labels), FREE, dtype=np.int64)
    fixed[len(labels) - test_count :] = TEST

    def decode(rows: Ints, preprocessing: Preprocessing) -> Decoded:
        height, width = preprocessing.output_size(*images.shape[1:3])
        check_size(len(rows) * height * width * images.shape[3] * images.itemsize)
        prepared = np.empty((len(rows), height, width, images.shape[3]), images.dtype)
        for position, row in enumerate(rows):
            prepared[position] = prepare(images[row], preprocessing)
        return Decoded(prepared, np.ones(len(rows), dtype=np.bool_))

    sample_ids = np.arange(len(labels), dtype=np.int64)
    return Listing(name, source, tuple(classes), labels.astype(np.int64), sample_ids, fixed, decode, notes, beams)


def check_labels(labels: NDArray[Any], images: int, classes: int) -> None:
    """DataError unless there is one integer label an image, each in [0, classes)."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        got = f"shape {labels.shape}, {labels.dtype}"
        raise DataError(f"labels: expected one integer an image, shape (n,), got {got}; {ONLY_CLASSIFICATION}")
    if len(labels) != images:
        raise DataError(f"labels: expected as many as images, {images}, got {len(labels)}")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        got = f"{labels.min()} to {labels.max()}"
        if labels.min() < 0:
            raise DataError(f"labels: expected integers from 0, got {got}")
        raise DataError(f"labels: expected 0 to {classes - 1}, for {classes} classes, got {got}; give all class names")


def check_size(size: int) -> None:
    """DataError if the decoded images [bytes] are more than is kept in memory."""
    if size > LARGEST_BYTES:
        limit = LARGEST_BYTES / 2**30
        raise DataError(
            f"images: expected at most {limit:.4g} GiB when decoded, got {size / 2**30:.1f} GiB;"
            " use --max-samples or --resize"
        )


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names with unprintable characters escaped; DataError if one is empty, long or there twice, or too many."""
    if len(names) > LARGEST_CLASS_COUNT:
        raise DataError(f"class names: expected at most {LARGEST_CLASS_COUNT}, got {len(names)}")
    if not all(0 < len(name) <= _LONGEST_NAME for name in names):
        lengths = sorted({len(name) for name in names})
        raise DataError(f"class names: expected 1 to {_LONGEST_NAME} characters, got {lengths[0]} to {lengths[-1]}")
    cleaned = tuple(printable(name) for name in names)
    twice = [name for name, count in Counter(cleaned).items() if count > 1]
    if twice:
        raise DataError(f"class names: expected each once, got more than one {enumerate_names(twice)}")
    return cleaned


def renamed(classes: Sequence[str], class_names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names given by the caller instead of the source's, which must be as many."""
    if class_names is not None and len(class_names) != len(classes):
        raise DataError(f"class names: expected {len(classes)}, as the data has, got {len(class_names)}")
    return check_class_names(class_names or classes)


def printable(text: str | Path) -> str:
    r"""Text from a file name or a file, safe to print: what cannot be printed is escaped.

    >>> printable("cat\x1b[31m")
    'cat\\x1b[31m'
    """
    decoded = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)


def enumerate_names(names: Sequence[str]) -> str:
    """Names for a message, the first hundred of them.

    >>> enumerate_names(["a", "b"])
    "'a', 'b'"
    """
    listed = ", ".join(f"'{printable(name)}'" for name in names[:_NAMED])
    return listed + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
