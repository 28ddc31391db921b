"""PLY 1.0, the polygon file format of Stanford: http://paulbourke.net/dataformats/ply/."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LONGEST_HEADER: Final = 65536
_LONGEST_WORD: Final = 64
_TYPES: Final = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS: Final = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def numbers_of(words: list[bytes]) -> NDArray[np.float64]:
    """Words as numbers; ValueError where one is none, or longer than a number need be, which would pad all the others.

    >>> numbers_of([b"1.5", b"-2"]).tolist()
    [1.5, -2.0]
    """
    longest = max(map(len, words), default=0)
    if longest > _LONGEST_WORD:
        raise ValueError(f"a word of {longest} characters where a number is expected")
    return np.array(words, dtype=np.bytes_).astype(np.float64)


def as_stated(values: NDArray[np.float64], dtype: np.dtype[Any], field: str) -> NDArray[Any]:
    """Numbers as the type that a header states; ValueError where a whole number is stated and another is there.

    Of a float whatever it cannot hold becomes infinite.

    >>> as_stated(np.array([1.0, 255.0]), np.dtype("u1"), "i").tolist()
    [1, 255]
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    bounds = np.iinfo(dtype)
    wrong = ~((values >= bounds.min) & (values < bounds.max + 1.0) & (values == np.rint(values)))
    if wrong.any():
        expected = f"whole numbers from {bounds.min} to {bounds.max}"
        raise ValueError(f"{values[wrong][0]:g} in the field {field!r}, which states {expected}")
    return values.astype(dtype)


def ply_columns(data: bytes) -> dict[str, NDArray[Any]]:
    """The properties of a PLY file's first element, `vertex`, by name, (n,) each; what follows it is not read.

    Raises ValueError, saying what was found, where the header is not one or the numbers are fewer than it says.

    >>> text = "ply|format ascii 1.0|element vertex 2|property float x|property uchar i|end_header|1.5 7|2 8|"
    >>> {name: values.tolist() for name, values in ply_columns(text.replace("|", chr(10)).encode()).items()}
    {'x': [1.5, 2.0], 'i': [7, 8]}
    """
    order, points, row, start = _header(data)
    names = row.names or ()
    body = data[start:]
    if order != "=":
        if len(body) < points * row.itemsize:
            got = f"{len(body)} bytes where {points} vertices of {row.itemsize} are stated"
            raise ValueError(f"{got}; the file is cut off")
        rows = np.frombuffer(body, row, count=points)
        return {name: rows[name] for name in names}
    lines = body.splitlines()[:points]
    words = b" ".join(lines).split()
    if len(lines) < points or len(words) != points * len(names):
        raise ValueError(
            f"{len(words)} numbers in {len(lines)} lines where {points} vertices of {len(names)} are stated"
        )
    values = numbers_of(words).reshape(points, len(names))
    return {name: as_stated(values[:, column], row[name], name) for column, name in enumerate(names)}


def _header(data: bytes) -> tuple[str, int, np.dtype[Any], int]:
    """Byte order, number of vertices, their type, and where the header ends."""
    end = data.find(b"end_header", 0, _LONGEST_HEADER)
    newline = data.find(b"\n", end)
    if not data.startswith((b"ply\n", b"ply\r\n")) or end < 0 or newline < 0:
        raise ValueError("no PLY header")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()[1:]]
    lines = [line for line in lines if line and line[0] not in ("comment", "obj_info")]
    if not lines or lines[0][0] != "format" or len(lines[0]) != 3 or lines[0][1] not in _ORDERS or lines[0][2] != "1.0":
        raise ValueError(f"the format {' '.join(lines[0])[:60] if lines else '(none)'!r}")
    order = _ORDERS[lines[0][1]]
    if len(lines) < 2 or lines[1][:2] != ["element", "vertex"] or len(lines[1]) != 3:
        raise ValueError(
            f"the first element {' '.join(lines[1])[:60] if len(lines) > 1 else '(none)'!r}; put vertex first"
        )
    count = lines[1][2]
    if not count.isdecimal() or len(count) > 12:
        raise ValueError(f"the number of vertices {count[:60]!r}")
    fields: list[tuple[str, str]] = []
    for line in lines[2:]:
        if line[0] == "element":
            break
        if len(line) != 3 or line[0] != "property" or line[1] not in _TYPES:
            raise ValueError(
                f"the line {' '.join(line)[:60]!r} among the vertex's properties; lists are not read there"
            )
        fields.append((line[2], order + _TYPES[line[1]]))
    if not fields or len({name for name, _ in fields}) < len(fields):
        raise ValueError("a vertex without properties, or with two of one name")
    return order, int(count), np.dtype(fields), newline + 1
