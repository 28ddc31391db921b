"""A data set in files, decoded once and mapped by every process that uses it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustcheck.data.datasets import Dataset, Split
from robustcheck.errors import DataError

_PARTS = tuple(field.name for field in fields(Split))


@dataclass(frozen=True)
class _Array:
    """A tensor's file (its numbers in the order of memory), shape and strides.

    Strides are kept even where they move nothing, as those of a single channel: torch's convolutions choose their
    algorithm by them, and with it the last bit of a result.
    """

    path: Path
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> torch.Tensor:
        return torch.from_numpy(np.load(self.path, mmap_mode="c")).as_strided(self.shape, self.strides)


@dataclass(frozen=True)
class SharedDataset:
    """Where a data set's arrays are, and all else that it says; small enough to be sent to another process."""

    splits: dict[str, dict[str, _Array]]
    about: dict[str, Any]

    def open(self) -> Dataset:
        """The data set, its arrays mapped: processes share the pages in memory, and read them when they are used.

        A process that writes to an array gets a copy of that page for itself; the files stay as they are.
        """
        splits = {
            name: Split(**{part: array.open() for part, array in arrays.items()})
            for name, arrays in self.splits.items()
        }
        return Dataset(**{**self.about, **splits})


def share(dataset: Dataset, folder: Path) -> SharedDataset:
    """Write a data set's arrays into a folder, which must outlive every use of what is returned.

    Raises:
        DataError: the folder cannot be written.

    >>> import tempfile
    >>> from robustcheck.data.datasets import load_data
    >>> data = load_data("digits", max_samples=100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = share(data, Path(folder)).open()
    >>> bool((again.test.images == data.test.images).all()), again.test.images.stride() == data.test.images.stride()
    (True, True)
    """
    try:
        splits = {
            name: {part: _write(folder / f"{name}-{part}.npy", getattr(split, part)) for part in _PARTS}
            for name, split in dataset.splits.items()
        }
    except OSError as error:
        raise DataError(
            f"{folder}: the data cannot be written here for the worker processes to share: {error}; make room, set "
            "TMPDIR to a folder that has it, or use --jobs 1"
        ) from error
    about = {field.name: getattr(dataset, field.name) for field in fields(Dataset) if field.name not in splits}
    return SharedDataset(splits, about)


def _write(path: Path, tensor: torch.Tensor) -> _Array:
    tensor = tensor.contiguous()
    np.save(path, tensor.as_strided((tensor.numel(),), (1,)).numpy())
    return _Array(path, tuple(tensor.shape), tensor.stride())
