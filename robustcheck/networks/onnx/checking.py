"""Decides whether the bytes of an ONNX file are fit to be read; runs in the child, where a crash does no harm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.inliner
import onnx.shape_inference
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from robustcheck.errors import ModelError
from robustcheck.networks.onnx import tensors

OLDEST_OPSET: Final = 9
MOST_NODES: Final = 1_000_000

_DEEPEST: Final = 200
_BIG: Final = 64 * 2**10
_MOST_ELEMENTS: Final = 2**31

_QUANTISED: Final = frozenset(
    {
        "ConvInteger",
        "ConvIntegerToFloat",
        "DequantizeBFP",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "QuantizeBFP",
        "QuantizeLinear",
    }
)

_MAGIC: Final = (
    (0, b"PK\x03\x04", "a zip archive (of torch, perhaps)"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x80\x02", "a pickle"),
    (0, b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself by `git lfs pull`"),
    (4, b"ORTM", "a file in ONNX Runtime's own format; bring the .onnx file that it was made from"),
    (4, b"TFL3", "a TensorFlow Lite file"),
)


@dataclass(frozen=True, eq=False)
class Checked:
    """What the check found.

    Attributes:
        digest: SHA-256 of the bytes.
        inferred: the model with all shapes that could be inferred, without its initialisers.
        inlined: the model with its local functions inlined, without large initialisers; None where it has no functions.
        external: whether tensors lie in other files.
        notes: what the user should know.
    """

    digest: str
    inferred: bytes
    inlined: bytes | None
    external: bool
    notes: tuple[str, ...]


def check(data: bytes, folder: Path) -> Checked:
    """Check a model that lies in a folder; raises ModelError, and whatever a hostile file makes foreign code raise."""
    model = parse(data)
    check_header(model)
    _check_nodes(model)
    _check_functions(model)
    external = _check_tensors(model, folder)
    lean = without_large(model, folder)
    _run_checker(lean)
    notes, inlined = [], None
    if lean.functions:
        names = ", ".join(sorted(function.name for function in lean.functions)[:8])
        notes.append(f"{len(lean.functions)} local functions were inlined: {names}")
        lean = inline(lean)
        inlined = lean.SerializeToString()
    inferred = _infer(lean, notes)
    del inferred.graph.initializer[:]
    del inferred.graph.sparse_initializer[:]
    digest = hashlib.sha256(data).hexdigest()
    return Checked(digest, inferred.SerializeToString(), inlined, external, tuple(notes))


def parse(data: bytes) -> ModelProto:
    """The message that the bytes hold; raises ModelError where they are none."""
    for offset, magic, what in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            raise ModelError(f"expected an ONNX file, got {what}")
    try:
        model = ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(
            f"expected an ONNX file, got {len(data)} bytes that do not parse as one; "
            "the file is cut off, damaged or no ONNX file, fetch or export it again"
        ) from error
    if not data or not model.HasField("graph"):
        raise ModelError(f"expected an ONNX file, got {len(data)} bytes that hold no graph; export it again")
    return model


def check_header(model: ModelProto) -> None:
    """Raise ModelError for versions that are not covered and for training graphs."""
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"expected IR version at most {onnx.IR_VERSION} (onnx {onnx.__version__}), got {model.ir_version}; "
            "install a newer onnx, or export the file again for an older one"
        )
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"expected one opset of {domain or 'ai.onnx'}, got two; export the file again")
    newest = onnx.defs.onnx_opset_version()
    opset = versions.get("", newest)
    if not OLDEST_OPSET <= opset <= newest:
        way_out = (
            "convert it by onnx.version_converter, or export it again at opset 17 or later"
            if opset < OLDEST_OPSET
            else f"export it again at opset {newest} or earlier, or install a newer onnx"
        )
        raise ModelError(f"expected an opset from {OLDEST_OPSET} to {newest}, got {opset}; {way_out}")
    if model.training_info:
        raise ModelError(
            "expected a network for inference, got a training graph; export the network in evaluation mode"
        )


def without_large(model: ModelProto, folder: Path) -> ModelProto:
    """The model itself, its large initialisers made into inputs and other external tensors brought in.

    Checking and inference ask for types and shapes of the large ones, never for values.
    """
    graph, known = model.graph, {value.name for value in model.graph.input}
    kept = []
    for tensor in graph.initializer:
        if tensors.size_in_bytes(tensor) <= _BIG:
            kept.append(TensorProto.FromString(tensor.SerializeToString()))
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    tensors.bring_in(model, folder)
    return model


def inline(model: ModelProto) -> ModelProto:
    """The model without local functions."""
    return onnx.inliner.inline_local_functions(model)


def _check_nodes(model: ModelProto) -> None:
    quantised: list[str] = []
    for count, node in enumerate(tensors.nodes_of(model), 1):
        if count > MOST_NODES:
            raise ModelError(f"expected at most {MOST_NODES} nodes, got more; export a smaller network")
        _check_text(node)
        if node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
            quantised.append(f"{node.op_type} {node.name or (node.output[0] if node.output else '')!r}")
    if quantised:
        raise ModelError(
            f"expected a network of floats, got one that is quantised already ({len(quantised)} nodes, first "
            f"{quantised[0]}); its integers can be neither retrained nor noised, bring the float model it was made from"
        )


def _check_functions(model: ModelProto) -> None:
    # A chain of functions that each call the next one twice would grow beyond all bounds when it is inlined.
    bodies = {(each.domain, each.name): list(tensors.nodes_in(each.node)) for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> int:
        if key in above or len(above) > _DEEPEST:
            raise ModelError(
                f"local function {key[1]!r}: expected functions that do not call themselves; export it again"
            )
        if key not in sizes:
            calls = [(node.domain, node.op_type) for node in bodies[key]]
            sizes[key] = sum(size(call, (*above, key)) if call in bodies else 1 for call in calls)
        return sizes[key]

    total = sum(
        size((each.domain, each.op_type), ())
        for each in tensors.nodes_of(model)
        if (each.domain, each.op_type) in bodies
    )
    if total > MOST_NODES:
        raise ModelError(f"expected at most {MOST_NODES} nodes, got {total:.3g} with local functions inlined")


def _check_text(node: NodeProto) -> None:
    # Names that are not UTF-8 come as bytes, and no code downstream expects these.
    names = (node.op_type, node.name, node.domain, *node.input, *node.output)
    if not all(isinstance(name, str) for name in (*names, *(attribute.name for attribute in node.attribute))):
        raise ModelError(f"node {node.name!r}: expected names in UTF-8; the file is damaged, fetch or export it again")


def _check_tensors(model: ModelProto, folder: Path) -> bool:
    external = []
    for tensor in tensors.tensors_of(model):
        if not isinstance(tensor.name, str):
            raise ModelError(f"tensor {tensor.name!r}: expected a name in UTF-8; the file is damaged, export it again")
        if tensors.is_external(tensor):
            external.append(tensor)
        else:
            tensors.check_size(tensor)
    tensors.external_slices(external, folder)
    for graph in tensors.graphs_of(model):
        _check_names(graph)
    written_out = 0
    for sparse in tensors.sparse_of(model):
        written_out += _sparse_size(sparse)
        if written_out > tensors.SPARSE_LIMIT:
            raise ModelError(
                f"sparse tensor {sparse.values.name!r}: expected at most {tensors.SPARSE_LIMIT // 2**20} MiB for all "
                "sparse tensors when written out; export the network with dense weights"
            )
    return bool(external)


def _check_names(graph: GraphProto) -> None:
    names = [tensor.name for tensor in graph.initializer] + [each.values.name for each in graph.sparse_initializer]
    for what, given in (("initialisers", names), ("inputs", [value.name for value in graph.input])):
        if len(set(given)) < len(given):
            twice = next(name for name in given if given.count(name) > 1)
            raise ModelError(f"expected {what} with different names, got {twice!r} twice; export the file again")


def _sparse_size(sparse: SparseTensorProto) -> int:
    values, indices, name = sparse.values, sparse.indices, sparse.values.name
    if tensors.is_external(values) or tensors.is_external(indices):
        raise ModelError(f"sparse tensor {name!r}: expected its data inside the file; export it with dense weights")
    tensors.check_size(values)
    tensors.check_size(indices)
    count = tensors.elements(sparse.dims, name)
    if count > _MOST_ELEMENTS:
        raise ModelError(f"sparse tensor {name!r}: expected at most 2**31 elements, got {count}")
    places = numpy_helper.to_array(indices)
    held = tensors.elements(values.dims, name)
    rank = len(sparse.dims)
    bounds = np.array([count] if places.ndim == 1 else sparse.dims, dtype=np.int64)
    fits = indices.data_type == TensorProto.INT64 and places.shape in ((held,), (held, rank))
    if not fits or bool(((places < 0) | (places >= bounds)).any()):
        raise ModelError(
            f"sparse tensor {name!r}: expected {held} indices inside of {tuple(sparse.dims)}, got others; "
            "the file is damaged, export it again"
        )
    return count * max(1, -(-tensors.size_in_bytes(values) // max(held, 1)))


def _run_checker(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        text = " ".join(str(error).split())
        reason = (
            "its nodes are not in an order of execution, or form a cycle; " if "topologically sorted" in text else ""
        )
        raise ModelError(f"not a valid ONNX file: {reason}onnx says: {text[:400]}; export it again") from error


def _infer(model: ModelProto, notes: list[str]) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        notes.append(f"not all shapes could be inferred: {' '.join(str(error).split())[:300]}")
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return model
