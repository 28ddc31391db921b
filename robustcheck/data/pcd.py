"""PCD 0.7, the Point Cloud Library's file format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from robustcheck.data.ply import as_stated, numbers_of

_MOST_UNPACKED: Final = 2**30
_LONGEST_HEADER: Final = 65536
_MOST_COLUMNS: Final = 256
_KINDS: Final = {"F": "f", "I": "i", "U": "u"}
_SIZES: Final = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
_KEYS: Final = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


def pcd_columns(data: bytes) -> dict[str, NDArray[Any]]:
    """The fields of a PCD file by name, (n,) each; of a field with several numbers a point, the first is taken.

    Raises ValueError, saying what was found, where the header is not one or the numbers are fewer than it says.

    >>> text = "VERSION .7|FIELDS x y|SIZE 4 4|TYPE F F|COUNT 1 1|WIDTH 2|HEIGHT 1|POINTS 2|DATA ascii|1 2|3 4|"
    >>> {name: values.tolist() for name, values in pcd_columns(text.replace("|", chr(10)).encode()).items()}
    {'x': [1.0, 3.0], 'y': [2.0, 4.0]}
    """
    header, start = _header(data)
    names = header["FIELDS"]
    columns = [(name, *field) for name, field in zip(names, _fields(header), strict=True)]
    points = _points(header)
    row = np.dtype([(f"{number}", kind, (count,)) for number, (_, kind, count) in enumerate(columns)])
    body, storage = data[start:], header["DATA"][0]
    if storage == "ascii":
        rows = _ascii(body, points, row, names)
    elif storage == "binary":
        rows = _binary(body, points, row)
    elif storage == "binary_compressed":
        rows = _compressed(body, points, row)
    else:
        raise ValueError(f"DATA {storage!r}, which is none of ascii, binary and binary_compressed")
    # A name that comes twice is padding, `_`, most of the time; its first counts.
    return {name: rows[f"{number}"][:, 0] for number, name in enumerate(names) if names.index(name) == number}


def _header(data: bytes) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in header:
        end = data.find(b"\n", start, _LONGEST_HEADER)
        if end < 0:
            raise ValueError("no PCD header: there is no DATA line")
        words = data[start:end].decode("ascii", "replace").split()
        start = end + 1
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in _KEYS or words[0] in header or len(words) == 1:
            raise ValueError(f"the header line {' '.join(words)[:60]!r}")
        header[words[0]] = words[1:]
    if header.get("VERSION") not in (["0.7"], [".7"]):
        raise ValueError(f"PCD version {' '.join(header.get('VERSION', ['(none)']))}; store version 0.7")
    missing = [key for key in ("FIELDS", "SIZE", "TYPE", "POINTS") if key not in header]
    if missing:
        raise ValueError(f"a header without {' and '.join(missing)}")
    return header, start


def _fields(header: dict[str, list[str]]) -> list[tuple[str, int]]:
    """The NumPy type of each field, and how many numbers a point has of it."""
    count = header.get("COUNT", ["1"] * len(header["FIELDS"]))
    if not len(header["FIELDS"]) == len(header["SIZE"]) == len(header["TYPE"]) == len(count):
        raise ValueError("a header whose FIELDS, SIZE, TYPE and COUNT differ in length")
    found = []
    for name, size, kind, number in zip(header["FIELDS"], header["SIZE"], header["TYPE"], count, strict=True):
        if kind not in _KINDS or not size.isdecimal() or int(size) not in _SIZES[kind]:
            raise ValueError(f"the field {name!r} of type {kind!r} and size {size!r}")
        if not number.isdecimal() or not 1 <= int(number) <= _MOST_COLUMNS:
            raise ValueError(f"the field {name!r} with count {number!r}")
        found.append((f"<{_KINDS[kind]}{size}", int(number)))
    if sum(number for _, number in found) > _MOST_COLUMNS:
        raise ValueError(f"more than {_MOST_COLUMNS} numbers a point")
    return found


def _points(header: dict[str, list[str]]) -> int:
    """Their number; a width and a height that make another say that the file is not what it was."""
    found = {}
    for key in ("POINTS", "WIDTH", "HEIGHT"):
        if key in header:
            text = header[key][0]
            if not text.isdecimal() or len(text) > 12:
                raise ValueError(f"{key} {text[:60]!r}")
            found[key] = int(text)
    points = found["POINTS"]
    if "WIDTH" in found and "HEIGHT" in found and found["WIDTH"] * found["HEIGHT"] != points:
        stated = f"WIDTH {found['WIDTH']} × HEIGHT {found['HEIGHT']} = {found['WIDTH'] * found['HEIGHT']}"
        raise ValueError(f"{stated} where POINTS says {points}; write the number that is there to both")
    return points


def _ascii(body: bytes, points: int, row: np.dtype[Any], names: list[str]) -> NDArray[Any]:
    width = sum(row[name].shape[0] for name in row.names or ())
    words = body.split()
    if len(words) != points * width:
        raise ValueError(f"{len(words)} numbers where {points} points of {width} are stated")
    values = numbers_of(words).reshape(points, width)
    rows, column = np.empty(points, row), 0
    for name, field in zip(row.names or (), names, strict=True):
        count = row[name].shape[0]
        rows[name] = as_stated(values[:, column : column + count], row[name].base, field)
        column += count
    return rows


def _binary(body: bytes, points: int, row: np.dtype[Any]) -> NDArray[Any]:
    if len(body) < points * row.itemsize:
        raise ValueError(f"{len(body)} bytes where {points} points of {row.itemsize} are stated; the file is cut off")
    return np.frombuffer(body, row, count=points)


def _compressed(body: bytes, points: int, row: np.dtype[Any]) -> NDArray[Any]:
    """Two sizes, then the fields one after the other, each for all points, compressed as one."""
    if len(body) < 8:
        raise ValueError("a file that ends before its compressed data")
    packed, size = np.frombuffer(body, "<u4", count=2).tolist()
    if len(body) - 8 < packed:
        raise ValueError(f"{len(body) - 8} compressed bytes where {packed} are stated; the file is cut off")
    if size != points * row.itemsize:
        raise ValueError(f"{size} bytes uncompressed where {points} points of {row.itemsize} are stated")
    # A compressed byte stands for fewer than 264 bytes, so a small file can not claim to hold much.
    if size > 264 * packed:
        raise ValueError(f"{size} bytes in {packed} compressed ones, which is more than they can hold")
    if size > _MOST_UNPACKED:
        raise ValueError(f"{size} bytes uncompressed, which is more than {_MOST_UNPACKED}; store the cloud in parts")
    unpacked, start = lzf_decompress(body[8 : 8 + packed], size), 0
    rows = np.empty(points, row)
    for name in row.names or ():
        width = row[name].itemsize * points
        rows[name] = np.frombuffer(unpacked[start : start + width], row[name].base).reshape(points, -1)
        start += width
    return rows


def lzf_decompress(packed: bytes, size: int) -> bytes:
    r"""Undo LibLZF (Lehmann, http://software.schmorp.de/pkg/liblzf.html): runs as they are, and references back.

    A control byte below 32 begins a run of that many bytes and one. Any other is a reference: its upper 3 bits, and
    if all are set the next byte, are the length less 2; its lower 5 bits and one more byte are the distance less 1.

    Raises ValueError unless exactly `size` bytes come out.

    >>> lzf_decompress(b"\x01ab\xe0\x01\x01", 12)
    b'abababababab'
    """
    out, at = bytearray(), 0
    while at < len(packed):
        control = packed[at]
        at += 1
        if control < 32:
            if at + control + 1 > len(packed):
                raise ValueError("compressed data that end within a run")
            out += packed[at : at + control + 1]
            at += control + 1
        else:
            length = control >> 5
            if at + (length == 7) >= len(packed):
                raise ValueError("compressed data that end within a reference")
            if length == 7:
                length += packed[at]
                at += 1
            distance = ((control & 31) << 8) + packed[at] + 1
            at += 1
            if distance > len(out):
                raise ValueError("compressed data that refer to what is before their beginning")
            # A reference may reach into what it makes itself, and then repeats it.
            piece = bytes(out[-distance:])
            out += (piece * ((length + 2) // distance + 1))[: length + 2]
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError(f"compressed data that make {len(out)} bytes or more where {size} are stated")
    return bytes(out)
