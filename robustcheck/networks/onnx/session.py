"""Runs an ONNX file in ONNX Runtime; for the child, since foreign code on a foreign file may crash."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from onnx import ValueInfoProto

from robustcheck.errors import ModelError
from robustcheck.networks.onnx import checking, tensors
from robustcheck.networks.onnx.examples import DTYPES, Array, Input, made_up

VERSION: Final[str] = onnxruntime.__version__

_FLOATS: Final = ("tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)")
_MOST_BYTES: Final = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Ran:
    """What went in and what came out; `values` are the floats between, where they were asked for."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    values: dict[str, Array]


def run(
    path: Path,
    data: bytes | None,
    inputs: Mapping[str, Array] | None,
    hint: tuple[int, int, int] | None,
    optimisation: str,
    threads: int,
) -> Ran:
    """Run a checked file once.

    Args:
        path: of the file; external data lie beside it.
        data: its bytes where the values between are wanted too, else None.
        inputs: by name, or None to make them up.
        hint: channels, height and width of made-up images.
        optimisation: 'all' or 'disabled'.
        threads: how many each operator may use.

    Raises:
        ModelError: ONNX Runtime does not load or run the file.
    """
    source = str(path) if data is None else _with_values(data, path.parent)
    session = make_session(source, threads, optimisation)
    wanted = [Input(each.name, each.type, tuple(each.shape)) for each in session.get_inputs()]
    names = [each.name for each in session.get_outputs()]
    own = len(names)
    if data is not None:
        own = len(checking.parse(data).graph.output)
        floats = {each.name for each in session.get_outputs() if each.type in _FLOATS}
        names = names[:own] + [name for name in names[own:] if name in floats]
    fed, results = _first_that_runs(
        session, names, made_up(wanted, hint) if inputs is None else [_cast(wanted, inputs)]
    )
    outputs = {name: value for name, value in zip(names[:own], results[:own], strict=True) if value is not None}
    between = {name: value for name, value in zip(names[own:], results[own:], strict=True) if value is not None}
    return Ran(fed, outputs, between)


def make_session(source: str | bytes, threads: int, optimisation: str) -> Any:
    """A session on the CPU that gives the same outputs in every run; raises ModelError with ONNX Runtime's reason."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimisation == "all" else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base
        raise refused(error, "load") from error


def refused(error: Exception, doing: str) -> ModelError:
    """What ONNX Runtime says, on one line, with a way out."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "NOT_IMPLEMENTED" in text or "float16" in text:
        way_out = "on a processor it runs standard operators in float32 best; export the network so"
    elif "opset" in text or "IR version" in text:
        way_out = "export it again at an earlier opset, or install a newer onnxruntime"
    elif "bad_alloc" in text or "Failed to allocate" in text:
        way_out = "it asks for more memory than allowed"
    elif doing == "run":
        way_out = "give inputs of the shapes that it expects, or export it again"
    else:
        way_out = "export it again"
    return ModelError(f"ONNX Runtime {VERSION} does not {doing} it: {text[:400]}; {way_out}")


def _first_that_runs(
    session: Any, names: list[str], trials: Iterable[dict[str, Array]]
) -> tuple[dict[str, Array], list[Array | None]]:
    failure: Exception | None = None
    for fed in trials:
        try:
            return fed, _run(session, names, fed)
        except ModelError:
            raise
        except Exception as error:
            failure = failure or error
    raise refused(failure or ValueError("no inputs to try"), "run") from failure


def _run(session: Any, names: list[str], fed: dict[str, Array]) -> list[Array | None]:
    feeds = {name: _to_ort(array) for name, array in fed.items()}
    return [_from_ort(value) for value in session.run_with_ort_values(names, feeds)]


def _to_ort(array: Array) -> Any:
    if array.dtype == DTYPES["tensor(bfloat16)"]:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array).view(np.uint16), 16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _from_ort(value: Any) -> Array | None:
    if value is None or not value.has_value() or not value.is_tensor() or value.data_type() not in DTYPES:
        return None
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    shape, dtype = tuple(value.shape()), DTYPES["tensor(bfloat16)"]
    size = value.tensor_size_in_bytes()
    return (
        np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype=dtype).reshape(shape)
        if size
        else np.empty(shape, dtype)
    )


def _cast(wanted: list[Input], inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = {each.name for each in wanted}
    if set(inputs) != names:
        raise ModelError(f"inputs: expected {sorted(names)}, got {sorted(inputs)}; give one array for each")
    unknown = [each for each in wanted if each.type not in DTYPES]
    if unknown:
        raise ModelError(f"input {unknown[0].name!r}: expected a tensor of numbers, got {unknown[0].type}")
    return {each.name: inputs[each.name].astype(DTYPES[each.type], copy=False) for each in wanted}


def _with_values(data: bytes, folder: Path) -> bytes:
    model = checking.parse(data)
    tensors.bring_in(model, folder)
    if model.ByteSize() > _MOST_BYTES:
        raise ModelError("values between nodes: expected a network of at most 2 GiB, got a larger one")
    if model.functions:
        model = checking.inline(model)
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                model.graph.output.append(ValueInfoProto(name=name))
    return bytes(model.SerializeToString())
