"""ONNX's own tests of its operators, run on the functions that the interpreter uses."""

import importlib
import pkgutil
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from torch import Tensor

from robustcheck.networks.onnx import operators as package
from robustcheck.networks.onnx.graph import Graph, Node, read_graph, to_array, to_tensor, torch_dtype
from robustcheck.networks.onnx.operators.call import Builder, Call
from robustcheck.networks.onnx.operators.sequences import GIVES_SEQUENCE

_TWO_UNITS = {"bfloat16": 2**-6, "float16": 2**-9}
_DRAWS = "draws random numbers"
_TRAINING = "statistics of the batch as outputs of the node"

EXCLUDED: dict[str, str] = {
    "test_batchnorm_epsilon_training_mode": _TRAINING,
    "test_batchnorm_example_training_mode": _TRAINING,
    "test_scan_sum": "the form of Scan before opset 9",
    "test_training_dropout": _DRAWS,
    "test_training_dropout_default": _DRAWS,
    "test_training_dropout_default_mask": _DRAWS,
    "test_training_dropout_mask": _DRAWS,
}
"""Tests of operators that we claim which are left out, by name, with the reason."""


@dataclass
class Outcome:
    """What came of the tests of one operator: names, and reasons or complaints."""

    passed: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1)
def claimed() -> dict[str, Builder]:
    """The builders of all modules of the package."""
    found: dict[str, Builder] = {}
    for module in pkgutil.iter_modules(package.__path__):
        found |= getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "OPERATORS", {})
    return found


@lru_cache(maxsize=1)
def cases() -> dict[str, list[TestCase]]:
    """The tests by the operator that each is about, be it as one node or expanded into others.

    ONNX draws the inputs from NumPy's global generator, which is put back as it was.
    """
    from onnx.backend.test.case.model import collect_testcases as collect_models
    from onnx.backend.test.case.node import collect_testcases as collect_nodes

    state = np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.random.seed(0)
            nodes = list(collect_nodes())
            models = [case for case in collect_models() if case.name.startswith("test_sequence_model")]
    finally:
        np.random.set_state(state)
    subject = {case.name: _operators(case)[0] for case in nodes if "_expanded" not in case.name}
    found: dict[str, list[TestCase]] = defaultdict(list)
    for case in nodes:
        found[subject[case.name.split("_expanded")[0]]].append(case)
    for case in models:
        for op in set(_operators(case)) - set(found):
            found[op].append(case)
    return dict(found)


def run_tests(op: str) -> Outcome:
    """Run the tests that are about an operator; those that need another which is not claimed are left out."""
    outcome = Outcome()
    for case in cases().get(op, []):
        reason = _reason(case)
        if reason:
            outcome.left_out[case.name] = reason
            continue
        try:
            for fixed in (False, True):
                check(case, fixed)
        except Exception as error:
            outcome.failed[case.name] = f"{type(error).__name__}: {error}"
        else:
            outcome.passed.append(case.name)
    return outcome


def summary() -> dict[str, tuple[int, dict[str, str]]]:
    """For each operator that is claimed the number of tests that passed, and why others are left out, by name."""
    outcomes = {op: run_tests(op) for op in sorted(claimed())}
    return {op: (len(outcome.passed), outcome.left_out) for op, outcome in outcomes.items()}


def check(case: TestCase, fixed: bool) -> None:
    """Raise AssertionError where an output differs, or an input was overwritten.

    Args:
        case: one of ONNX's tests.
        fixed: say of the inputs that they never change, which lets builders read them once.
    """
    graph = read_graph(case.model)
    for inputs, expected in case.data_sets:
        given = [_tensor(_array(each)) for each in inputs]
        # Running statistics, the fourth and fifth input of a batch normalisation, take no gradient.
        for each in given[:3]:
            if not fixed and isinstance(each, Tensor) and each.is_floating_point():
                each.requires_grad_()
        outputs = run(graph, given, fixed)
        assert len(outputs) == len(expected)
        for output, wanted in zip(outputs, expected, strict=True):
            _compare(output, _array(wanted), case.rtol, case.atol)
        for each, before in zip(given, inputs, strict=True):
            _compare(each, _array(before), 0, 0)


def run(graph: Graph, inputs: list[Any], fixed: bool = False) -> list[Any]:
    """The outputs of a graph, one node after the other."""
    names = [value.name for value in graph.inputs]
    given = dict(zip(names, inputs, strict=True))
    return _run(graph, given, {name: value for name, value in given.items() if fixed and isinstance(value, Tensor)})


def _run(graph: Graph, values: dict[str, Any], constants: dict[str, Tensor]) -> list[Any]:
    initialisers = {name: to_tensor(array) for name, array in graph.initialisers.items()}
    values, constants = {**values, **initialisers}, {**constants, **initialisers}

    def run_body(body: Graph, *inputs: Any) -> tuple[Any, ...]:
        own = dict(zip((value.name for value in body.inputs), inputs, strict=True))
        return tuple(_run(body, {**values, **own}, {k: v for k, v in constants.items() if k not in own}))

    for node in graph.nodes:
        result = claimed()[node.op](_call(node, graph.opset, constants, run_body))(
            *(values[name] if name else None for name in node.inputs)
        )
        several = isinstance(result, tuple) and node.op not in GIVES_SEQUENCE
        for name, value in zip(node.outputs, result if several else (result,), strict=False):
            values[name] = value
            if node.op == "Constant":
                constants[name] = value
    return [values[value.name] for value in graph.outputs]


def _call(node: Node, version: int, constants: dict[str, Tensor], run_body: Any) -> Call:
    fixed = {position: constants[name] for position, name in enumerate(node.inputs) if name in constants}
    present = tuple(bool(name) for name in node.inputs)
    return Call(node.op, version, node.attributes, present, fixed, len(node.outputs), run_body)


def _operators(case: TestCase) -> list[str]:
    return [node.op for _, node in read_graph(case.model).walk()]


def _reason(case: TestCase) -> str:
    """Why a test cannot be run; '' where it can."""
    if case.name in EXCLUDED:
        return EXCLUDED[case.name]
    infos = (*case.model.graph.input, *case.model.graph.output, *case.model.graph.value_info)
    types = [reason for info in infos if (reason := _type_reason(info.type))]
    for _, node in read_graph(case.model).walk():
        types += [_element_reason(node.attributes[name]) for name in ("to", "dtype") if name in node.attributes]
    missing = [op for op in _operators(case) if op not in claimed()]
    return next((reason for reason in types if reason), f"is made of {missing[0]}" if missing else "")


def _type_reason(kind: onnx.TypeProto) -> str:
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return _type_reason(kind.sequence_type.elem_type)
    return _element_reason(kind.tensor_type.elem_type) if which == "tensor_type" else f"{which}"


def _element_reason(number: int) -> str:
    try:
        torch_dtype(number)
    except KeyError:
        return f"element type {onnx.TensorProto.DataType.Name(number).lower()}"
    return ""


def _array(value: Any) -> Any:
    if isinstance(value, list):
        return [_array(each) for each in value]
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _tensor(array: Any) -> Any:
    return tuple(map(_tensor, array)) if isinstance(array, list) else to_tensor(array)


def _compare(output: Any, wanted: Any, rtol: float, atol: float) -> None:
    """As onnx.backend.test.runner does, which also allows two units in the last place where the type is short."""
    if isinstance(wanted, list):
        assert isinstance(output, tuple)
        assert len(output) == len(wanted)
        for one, other in zip(output, wanted, strict=True):
            _compare(one, other, rtol, atol)
        return
    array = to_array(output)
    assert array.shape == wanted.shape, f"shape {array.shape}, wanted {wanted.shape}"
    assert array.dtype == wanted.dtype, f"dtype {array.dtype}, wanted {wanted.dtype}"
    if array.dtype.name in _TWO_UNITS:
        rtol = max(rtol, _TWO_UNITS[array.dtype.name])
        array, wanted = array.astype(np.float32), wanted.astype(np.float32)
    np.testing.assert_allclose(array, wanted, rtol=rtol, atol=atol)
