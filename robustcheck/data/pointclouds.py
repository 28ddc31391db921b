"""Point clouds: KITTI's `.bin`, SemanticKITTI's `.label`, PCD, PLY and npz files, checked before they are believed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.listing import printable
from robustcheck.data.pcd import pcd_columns
from robustcheck.data.ply import ply_columns
from robustcheck.errors import DataError

LARGEST_BYTES: Final = 2**29
_INTENSITIES: Final = ("intensity", "reflectivity", "reflectance", "remission", "scalar_intensity", "i")
_FULL_CODE: Final = 255.0
_BIN_POINT: Final = 16
"""Bytes of a point in a `.bin` file."""

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in the frame of their file, all of them finite.

    `xyz` is (n, 3) float32 [m], n at least 1; `intensity` (n,) float32 in [0, 1], 1 being the code 255, or None where
    the file has none; `classes` and `instances` (n,) int64, SemanticKITTI's, or None without a `.label` file.
    `full_scale` is the number that intensity 1 had in the file: 1, 255 or 65535. `omitted` counts the points that were
    left out since a number was not finite.
    """

    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    classes: NDArray[np.int64] | None = None
    instances: NDArray[np.int64] | None = None
    full_scale: float = 1.0
    omitted: int = 0

    def __len__(self) -> int:
        return len(self.xyz)


def read_points(path: str | Path, labels: str | Path | None = None) -> PointCloud:
    """The points of a file; those with a coordinate or intensity that is not finite are no returns, and left out.

    `.bin` holds x, y, z and remission, float32 (KITTI); `.pcd` is PCD 0.7, ascii, binary or binary_compressed; `.ply`
    is PLY 1.0, ascii or binary, whose first element is `vertex`; `.npz` has `points`, (n, 3) or (n, 4), the fourth
    being intensity, or `intensity` beside it. An intensity is a code up to 255 if it is uint8 or goes beyond 1, of
    65535 if it is uint16, else a share of the full scale.

    Args:
        path: of the cloud.
        labels: of a `.label` file (SemanticKITTI), one uint32 a point: class in the lower 16 bits, instance above.

    Raises:
        DataError: the file cannot be read, is larger than 512 MiB, or is not what its name says; no point is left.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "one.bin").write_bytes(np.array([1, 2, 3, 0.5], "<f4").tobytes())
    ...     cloud = read_points(Path(folder, "one.bin"))
    >>> cloud.xyz.tolist(), cloud.intensity.tolist()
    ([[1.0, 2.0, 3.0]], [0.5])
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a point cloud ({', '.join(SUFFIXES)}), got {path.suffix or 'no suffix'!r}")
    columns = _read(path, reader)
    missing = [name for name in "xyz" if name not in columns]
    if missing:
        got = ", ".join(map(printable, columns)) or "none"
        raise DataError(f"{path}: expected the fields x, y and z, got {got}; name the coordinates so")
    # Numbers beyond float32 become infinite, and are left out with the others that are.
    with np.errstate(over="ignore"):
        xyz = np.stack([columns[name].astype(np.float32) for name in "xyz"], axis=1)
    marks = None if labels is None else _marks(Path(labels), path, len(xyz))
    name = next((name for name in columns if name.lower() in _INTENSITIES), None)
    full_scale, intensity = (1.0, None) if name is None else _scaled(path, columns[name])
    finite = np.isfinite(xyz).all(axis=1)
    if intensity is not None:
        finite &= np.isfinite(intensity)
    if not finite.any():
        raise DataError(f"{path}: expected at least one point with finite numbers, got none of {len(xyz)}")
    return PointCloud(
        xyz[finite],
        None if intensity is None else intensity[finite],
        None if marks is None else (marks[finite] & 0xFFFF).astype(np.int64),
        None if marks is None else (marks[finite] >> 16).astype(np.int64),
        full_scale,
        int((~finite).sum()),
    )


def read_labels(path: str | Path, cloud: str | Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and instance of each point of a KITTI cloud, (n,) int64 each, from its SemanticKITTI `.label` file.

    Raises:
        DataError: the file cannot be read, or has not as many labels as the `.bin` file `cloud` has points.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     label, cloud = Path(folder, "a.label"), Path(folder, "a.bin")
    ...     _ = label.write_bytes(np.array([7 << 16 | 10], "<u4").tobytes()), cloud.write_bytes(bytes(16))
    ...     [values.tolist() for values in read_labels(label, cloud)]
    [[10], [7]]
    """
    try:
        points = Path(cloud).stat().st_size // _BIN_POINT
    except OSError as error:
        raise DataError(f"{cloud}: expected a point cloud, got: {error.strerror or error}") from error
    marks = _marks(Path(path), Path(cloud), points)
    return (marks & 0xFFFF).astype(np.int64), (marks >> 16).astype(np.int64)


def _marks(path: Path, cloud: Path, points: int) -> NDArray[Any]:
    """The numbers of a `.label` file, one for each point of a cloud."""
    marks = _read(path, lambda data: {"mark": _whole(data, "<u4", 1)[:, 0]}, "labels of points")["mark"]
    if len(marks) != points:
        raise DataError(f"{path}: expected a label for each of {points} points of {cloud.name}, got {len(marks)}")
    return marks


def _read(path: Path, reader: Callable[[bytes], Columns], expected: str = "a point cloud") -> Columns:
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise DataError(f"{path}: expected at most {LARGEST_BYTES >> 20} MiB, got {size >> 20} MiB; cut it up")
        return reader(path.read_bytes())
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: expected {expected}, got: {printable(reason[:200])}") from error


def _whole(data: bytes, dtype: str, width: int) -> NDArray[Any]:
    """The bytes as rows of `width` numbers; ValueError where something is left over."""
    row = np.dtype(dtype).itemsize * width
    if len(data) % row:
        raise ValueError(f"{len(data)} bytes, which are no multiple of {row}; the file is cut off or of another kind")
    return np.frombuffer(data, dtype).reshape(-1, width)


def _bin_columns(data: bytes) -> Columns:
    rows = _whole(data, "<f4", 4)
    return {name: rows[:, column] for column, name in enumerate(("x", "y", "z", "remission"))}


def _npz_columns(data: bytes) -> Columns:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "points" not in members:
            raise ValueError(f"the arrays {', '.join(members) or '(none)'}, of which none is 'points'")
        wanted = {name: members[name] for name in ("points", "intensity") if name in members}
        if sum(info.file_size for info in wanted.values()) > LARGEST_BYTES:
            raise ValueError(f"arrays of more than {LARGEST_BYTES >> 20} MiB")
        arrays = {name: _npy_array(name, archive.read(info)) for name, info in wanted.items()}
    points, intensity = arrays["points"], arrays.get("intensity")
    if points.ndim != 2 or points.shape[1] not in (3, 4):
        raise ValueError(f"points of shape {points.shape}; store (n, 3) or (n, 4)")
    columns = {name: points[:, column] for column, name in enumerate(("x", "y", "z", "intensity")[: points.shape[1]])}
    if intensity is not None:
        if intensity.shape != points.shape[:1] or points.shape[1] == 4:
            raise ValueError(f"intensity of shape {intensity.shape} beside points of shape {points.shape}")
        columns["intensity"] = intensity
    return columns


def _npy_array(name: str, data: bytes) -> NDArray[Any]:
    """An array whose header says no more than what is there; nothing is unpickled."""
    file = BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} in npy version {version[0]}.{version[1]}; store version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "fiu":
        raise ValueError(f"{name} of {dtype}; store numbers")
    values: NDArray[Any] = np.frombuffer(data, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _scaled(path: Path, values: NDArray[Any]) -> tuple[float, NDArray[np.float32]]:
    """What 1 is in the file, and intensities in [0, 1], not finite where the file's are not."""
    full = {np.dtype(np.uint8): _FULL_CODE, np.dtype(np.uint16): 65535.0}.get(values.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):
        intensity = values.astype(np.float32)
    finite = intensity[np.isfinite(intensity)]
    low, high = finite.min(initial=0.0), finite.max(initial=0.0)
    if full is None:
        full = 1.0 if high <= 1 else _FULL_CODE
    if low < 0 or high > full:
        raise DataError(f"{path}: expected intensities from 0 to 1 or 255, got {low:g} to {high:g}; scale them")
    return full, intensity / np.float32(full)


_READERS: Final[dict[str, Callable[[bytes], Columns]]] = {
    ".bin": _bin_columns,
    ".pcd": pcd_columns,
    ".ply": ply_columns,
    ".npz": _npz_columns,
}
SUFFIXES: Final = tuple(_READERS)
