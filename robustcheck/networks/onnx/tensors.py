"""The tensors of an ONNX file: how large they claim to be, what they hold, and where those in other files lie."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from robustcheck.errors import ModelError, UnsafeFileError

EXTERNAL_LIMIT: Final = 8 * 2**30
"""The most bytes that the tensors of other files may hold in all."""

SPARSE_LIMIT: Final = 256 * 2**20
"""The most bytes that the sparse tensors of a file may take when they are written out."""

_MOST_AXES: Final = 64
_MOST_REUSE: Final = 4

# Bits of an element, and the field that holds elements where the bytes are not in `raw_data`.
_TYPES: Final[dict[int, tuple[int, str]]] = {
    TensorProto.FLOAT: (32, "float_data"),
    TensorProto.UINT8: (8, "int32_data"),
    TensorProto.INT8: (8, "int32_data"),
    TensorProto.UINT16: (16, "int32_data"),
    TensorProto.INT16: (16, "int32_data"),
    TensorProto.INT32: (32, "int32_data"),
    TensorProto.INT64: (64, "int64_data"),
    TensorProto.STRING: (0, "string_data"),
    TensorProto.BOOL: (8, "int32_data"),
    TensorProto.FLOAT16: (16, "int32_data"),
    TensorProto.DOUBLE: (64, "double_data"),
    TensorProto.UINT32: (32, "uint64_data"),
    TensorProto.UINT64: (64, "uint64_data"),
    TensorProto.COMPLEX64: (64, "float_data"),
    TensorProto.COMPLEX128: (128, "double_data"),
    TensorProto.BFLOAT16: (16, "int32_data"),
    **dict.fromkeys(range(17, 21), (8, "int32_data")),
    **dict.fromkeys(range(21, 24), (4, "int32_data")),
    24: (8, "int32_data"),
    **dict.fromkeys(range(25, 27), (2, "int32_data")),
    **dict.fromkeys(range(27, 29), (6, "int32_data")),
}


@dataclass(frozen=True)
class Slice:
    """Where the bytes of a tensor lie in another file; `location` is as the model says it, `file` is resolved."""

    tensor: str
    location: str
    file: Path
    offset: int
    length: int


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Every node: of the graph, of sub-graphs after the node that they belong to, and of local functions."""
    yield from nodes_in(model.graph.node)
    for function in model.functions:
        yield from nodes_in(function.node)


def nodes_in(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, each with those of its sub-graphs after it."""
    for node in nodes:
        yield node
        for body in _bodies(node):
            yield from nodes_in(body.node)


def graphs_of(model: ModelProto) -> Iterator[GraphProto]:
    """The main graph, and the sub-graphs of all nodes, those of local functions included."""
    yield model.graph
    for node in nodes_of(model):
        yield from _bodies(node)


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every dense tensor, initialisers first; the parts of sparse ones are left out."""
    for graph in graphs_of(model):
        yield from graph.initializer
    for attribute in _attributes(model):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def sparse_of(model: ModelProto) -> Iterator[SparseTensorProto]:
    """Every sparse tensor, initialisers first."""
    for graph in graphs_of(model):
        yield from graph.sparse_initializer
    for attribute in _attributes(model):
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor
        yield from attribute.sparse_tensors


def elements(dims: Iterable[int], name: str) -> int:
    """How many elements a shape has; raises ModelError for shapes that no tensor can have."""
    sizes = list(dims)
    if len(sizes) > _MOST_AXES or any(size < 0 for size in sizes):
        shown = ", ".join(map(str, sizes[:8])) + (", …" if len(sizes) > 8 else "")
        raise ModelError(f"tensor {name!r}: expected at most {_MOST_AXES} axes of sizes from 0, got ({shown})")
    return math.prod(sizes)


def size_in_bytes(tensor: TensorProto) -> int:
    """What the shape and type of a tensor ask for; raises ModelError for an unknown type and for strings outside."""
    if tensor.data_type not in _TYPES:
        raise ModelError(f"tensor {tensor.name!r}: expected an ONNX element type, got {tensor.data_type}")
    return -(-elements(tensor.dims, tensor.name) * _TYPES[tensor.data_type][0] // 8)


def check_size(tensor: TensorProto) -> None:
    """Raise ModelError unless a tensor holds just the data that its shape asks for; it must not be an external one."""
    wanted = size_in_bytes(tensor)
    if tensor.HasField("raw_data"):
        held, unit = len(tensor.raw_data), "bytes"
    else:
        bits, field = _TYPES[tensor.data_type]
        wanted, held, unit = elements(tensor.dims, tensor.name), len(getattr(tensor, field)), f"values in {field}"
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            wanted *= 2
        elif bits in (2, 4):
            wanted = -(-wanted * bits // 8)
    if held != wanted:
        raise ModelError(
            f"tensor {tensor.name!r}: its shape {tuple(tensor.dims)} asks for {wanted} {unit}, the file holds {held}; "
            "the file is damaged or cut off, fetch or export it again"
        )


def is_external(tensor: TensorProto) -> bool:
    """Whether the data of a tensor lie in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def external_slices(tensors: Iterable[TensorProto], folder: Path) -> list[Slice]:
    """Where each of some external tensors lies, in their order, checked against the files.

    Args:
        tensors: all are external.
        folder: of the model; nothing outside of it is looked at.

    Raises:
        UnsafeFileError: a path leads out of the folder.
        ModelError: a file is missing or too short, or offsets, lengths and shapes do not fit together.
    """
    slices = [_slice(tensor, folder) for tensor in tensors]
    total, held = sum(each.length for each in slices), sum(file.stat().st_size for file in {s.file for s in slices})
    if total > EXTERNAL_LIMIT:
        raise ModelError(
            f"external data: expected at most {EXTERNAL_LIMIT / 2**30:g} GiB, got {total / 2**30:.1f} GiB; "
            "export a smaller network"
        )
    if total > _MOST_REUSE * held:
        raise ModelError(f"external data: tensors of {total} bytes share files that hold {held}; export the file again")
    ordered = sorted((each for each in slices if each.length), key=lambda each: (each.file, each.offset, each.length))
    for one, other in pairwise(ordered):
        apart = one.file != other.file or one.offset + one.length <= other.offset
        if not apart and (one.offset, one.length) != (other.offset, other.length):
            raise ModelError(
                f"external data: tensors {one.tensor!r} and {other.tensor!r} overlap in {one.location!r}; "
                "the file is damaged, export it again"
            )
    return slices


def read_slice(wanted: Slice) -> bytes:
    """The bytes of a slice; raises ModelError where the file has changed since it was checked."""
    with wanted.file.open("rb") as file:
        file.seek(wanted.offset)
        data = file.read(wanted.length)
    if len(data) != wanted.length:
        raise ModelError(f"external data {wanted.location!r}: changed while it was read; try again")
    return data


def bring_in(model: ModelProto, folder: Path, seen: Callable[[bytes], object] | None = None) -> None:
    """Put the data of all external tensors inside; `seen` is given each one's place, then its data."""
    external = [tensor for tensor in tensors_of(model) if is_external(tensor)]
    for tensor, place in zip(external, external_slices(external, folder), strict=True):
        data = read_slice(place)
        if seen is not None:
            seen(f"\0{place.location}\0{place.offset}\0{place.length}\0".encode())
            seen(data)
        tensor.raw_data = data
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def _slice(tensor: TensorProto, folder: Path) -> Slice:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, wanted = entries.get("location", ""), size_in_bytes(tensor)
    if not isinstance(location, str) or not location or "\0" in location or tensor.data_type == TensorProto.STRING:
        raise ModelError(f"tensor {tensor.name!r}: expected the path of its external data, got {location!r}")
    file = _inside(location, folder)
    offset = _number(entries.get("offset") or "0", f"offset of tensor {tensor.name!r}")
    length = _number(entries.get("length") or str(wanted), f"length of tensor {tensor.name!r}")
    if length != wanted:
        raise ModelError(
            f"tensor {tensor.name!r}: its shape {tuple(tensor.dims)} asks for {wanted} bytes of external data, "
            f"the model says {length}; export the file again"
        )
    held = file.stat().st_size
    if offset + length > held:
        raise ModelError(
            f"external data {location!r}: tensor {tensor.name!r} ends at byte {offset + length}, the file at {held}; "
            "it is cut off, fetch or export it again"
        )
    return Slice(tensor.name, location, file, offset, length)


def _inside(location: str, folder: Path) -> Path:
    windows = PureWindowsPath(location)
    if windows.drive or windows.root or ".." in windows.parts or ".." in PurePosixPath(location).parts:
        raise UnsafeFileError(
            f"external data {location!r}: expected a path inside the model's folder; "
            "put the data beside the model and export it again"
        )
    try:
        home = folder.resolve(strict=True)
        file = (home / location).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"external data {location!r}: expected beside the model, not found; fetch that file too"
        ) from error
    if not file.is_relative_to(home):
        raise UnsafeFileError(
            f"external data {location!r}: a link that leaves the model's folder; copy what it points to into the folder"
        )
    if not stat.S_ISREG(file.stat().st_mode):
        raise ModelError(f"external data {location!r}: expected a file, got a folder or a device")
    return file


def _number(text: str, what: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 19):
        raise ModelError(f"{what}: expected a number of bytes from 0, got {text[:40]!r}; export the file again")
    return int(text)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _attributes(model: ModelProto) -> Iterator[AttributeProto]:
    for node in nodes_of(model):
        yield from node.attribute
    for function in model.functions:
        yield from function.attribute_proto
