"""Passes named arrays between two processes by a folder; nothing in it is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

_CARRIERS: Final = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


def save_arrays(folder: Path, stem: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays as STEM.npz, and as STEM.json their names and dtypes: the file cannot say bfloat16 and its like."""
    listed = [(name, array.dtype.name) for name, array in arrays.items()]
    plain = [_plain(array) for array in arrays.values()]
    np.savez(folder / f"{stem}.npz", *plain)
    (folder / f"{stem}.json").write_text(json.dumps(listed), encoding="utf-8")


def load_arrays(folder: Path, stem: str) -> dict[str, Array]:
    """What `save_arrays` wrote; empty where it wrote nothing."""
    if not (folder / f"{stem}.json").is_file():
        return {}
    listed = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{stem}.npz", allow_pickle=False) as file:
        return {name: _typed(file[f"arr_{index}"], dtype) for index, (name, dtype) in enumerate(listed)}


def _plain(array: Array) -> Array:
    # 2 is NumPy's mark of a dtype that another package has added.
    return np.ascontiguousarray(array).view(_CARRIERS[array.dtype.itemsize]) if array.dtype.isbuiltin == 2 else array


def _typed(array: Array, dtype: str) -> Array:
    return array if array.dtype.name == dtype else array.view(np.dtype(getattr(ml_dtypes, dtype)))
