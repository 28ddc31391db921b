"""Reads ONNX files: checked in a child process first, then as a graph, with all tensors inside."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx import AttributeProto, GraphProto, ModelProto, ValueInfoProto

from robustcheck.errors import ModelError
from robustcheck.networks.onnx import tensors
from robustcheck.networks.onnx.children import MEMORY, SECONDS, Answer, Request, Trial, started
from robustcheck.networks.onnx.graph import Graph, read_graph
from robustcheck.networks.onnx.trial import check_many

FILE_LIMIT: Final = 2**31 - 1
"""The most bytes that a protobuf message can have; larger networks keep their tensors in other files."""


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """An ONNX file.

    Attributes:
        path: as it was given.
        proto: the model as the file says it, with external data brought in and local functions inlined.
        graph: its main graph, with all shapes that could be inferred.
        sha256: of the file's bytes, and of the external data that its tensors refer to.
        external: whether tensors lay in other files.
        notes: what the user should know.
        trial: what ONNX Runtime made of it, where asked for.
    """

    path: Path
    proto: ModelProto = field(repr=False)
    graph: Graph = field(repr=False)
    sha256: str
    external: bool
    notes: tuple[str, ...]
    trial: Trial | None = field(default=None, repr=False)


def read_onnx(
    path: str | Path,
    *,
    trial: bool = False,
    hint: tuple[int, int, int] | None = None,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> OnnxFile:
    """Read a file of any opset from 9 to the newest that the onnx package knows.

    Args:
        path: of the file; its external data must lie in the same folder or below.
        trial: also run it in ONNX Runtime, in the same child, with made-up inputs; see `run_trial`.
        hint: channels, height and width of made-up images where the file leaves them open.
        seconds: the longest that check and trial may take.
        memory: the most bytes of address space that the child may use.

    Raises:
        ModelError: the file is missing, damaged, of a version that is not covered, quantised, or takes too much.
        UnsafeFileError: its external data lie outside of its folder.
    """
    request = Request(Path(path), run=trial, hint=hint, seconds=seconds, memory=memory)
    _check_path(request.path)
    with started([request]) as child:
        data = _bytes(request.path)
        digest = hashlib.sha256(data)
        answer = child.answer()
    return _read(request.path, data, digest, answer)


def read_many(requests: Sequence[Request]) -> list[OnnxFile | ModelError]:
    """Read many files with one child; one that cannot be read gives its error in its place."""
    results: list[OnnxFile | ModelError] = []
    for request, answer in zip(requests, check_many(requests), strict=True):
        if isinstance(answer, ModelError):
            results.append(answer)
            continue
        try:
            _check_path(request.path)
            data = _bytes(request.path)
            results.append(_read(request.path, data, hashlib.sha256(data), answer))
        except ModelError as error:
            results.append(error)
    return results


def _check_path(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected an ONNX file, it cannot be opened: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path}: expected an ONNX file, got a folder or a device; give the path of the .onnx file")
    if status.st_size > FILE_LIMIT:
        raise ModelError(
            f"{path}: expected at most 2 GiB, got {status.st_size / 2**30:.1f} GiB; export it with external data"
        )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise ModelError(f"{path}: expected an ONNX file, it cannot be read: {error}") from error


def _read(path: Path, data: bytes, digest: hashlib._Hash, answer: Answer) -> OnnxFile:
    if digest.hexdigest() != answer.digest:
        raise ModelError(f"{path}: changed while it was read; try again")
    try:
        proto = ModelProto.FromString(data)
        if answer.external:
            tensors.bring_in(proto, path.parent, digest.update)
        if answer.inlined is not None:
            _take_inlined(proto, ModelProto.FromString(answer.inlined))
        with _shapes_of(proto.graph, ModelProto.FromString(answer.inferred).graph):
            graph = read_graph(proto)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # a file can be valid, and hold what no array or record can
        raise ModelError(f"{path}: cannot be read: {type(error).__name__}: {error}; export it again") from error
    return OnnxFile(path, proto, graph, digest.hexdigest(), answer.external, answer.notes, answer.trial)


def _take_inlined(proto: ModelProto, inlined: ModelProto) -> None:
    for field_name in ("node", "value_info"):
        del getattr(proto.graph, field_name)[:]
        getattr(proto.graph, field_name).extend(getattr(inlined.graph, field_name))
    del proto.functions[:], proto.opset_import[:]
    proto.opset_import.extend(inlined.opset_import)


@contextmanager
def _shapes_of(proto: GraphProto, inferred: GraphProto) -> Iterator[None]:
    # The file's own proto must stay as it is, and a copy would double its memory.
    pairs = list(_pairs(proto, inferred))
    own = [(list(map(_copy, graph.value_info)), list(map(_copy, graph.output))) for graph, _ in pairs]
    for graph, other in pairs:
        _put(graph, other.value_info, other.output)
    yield
    for (graph, _), (values, outputs) in zip(pairs, own, strict=True):
        _put(graph, values, outputs)


def _pairs(graph: GraphProto, other: GraphProto) -> Iterator[tuple[GraphProto, GraphProto]]:
    yield graph, other
    for node, twin in zip(graph.node, other.node, strict=True):
        for attribute, its_twin in zip(node.attribute, twin.attribute, strict=True):
            if attribute.type == AttributeProto.GRAPH:
                yield from _pairs(attribute.g, its_twin.g)


def _put(graph: GraphProto, values: Iterable[ValueInfoProto], outputs: Iterable[ValueInfoProto]) -> None:
    del graph.value_info[:], graph.output[:]
    graph.value_info.extend(values)
    graph.output.extend(outputs)


def _copy(value: ValueInfoProto) -> ValueInfoProto:
    return ValueInfoProto.FromString(value.SerializeToString())
