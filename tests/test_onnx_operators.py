"""Every test of ONNX's own of every operator that we claim, in every type that torch can hold."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcheck.networks.onnx.operators import OPERATORS

_SPEC = importlib.util.spec_from_file_location("onnx_node_cases", Path(__file__).with_name("onnx_node_cases.py"))
node_cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(node_cases)

WITHOUT_CASES = ("GlobalLpPool", "MaxRoiPool")
"""Operators that ONNX has no test for; tested against ONNX Runtime in test_onnx_old_opsets.py."""


@pytest.fixture(autouse=True)
def _every_warning():
    """torch warns of most things once a process, which would make the order of tests matter."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


def apply(op, *inputs, version=22, **attributes):
    call = node_cases.Call(op, version, attributes, (True,) * len(inputs))
    return node_cases.claimed()[op](call)(*inputs)


def complaints(outcome) -> str:
    return "\n".join(f"{name}: {' '.join(why.split())[:300]}" for name, why in outcome.failed.items())


@pytest.mark.parametrize("op", sorted(node_cases.claimed()))
def test_operator(op):
    outcome = node_cases.run_tests(op)
    assert not outcome.failed, complaints(outcome)
    assert outcome.passed or op in WITHOUT_CASES, f"none of {len(outcome.left_out)} tests was run"


def test_other_operators_written_out_in_those_that_we_claim():
    others = sorted(set(node_cases.cases()) - set(node_cases.claimed()))
    outcomes = {op: node_cases.run_tests(op) for op in others}
    assert sum(len(outcome.passed) for outcome in outcomes.values()) > 50
    assert not any(outcome.failed for outcome in outcomes.values()), "\n".join(map(complaints, outcomes.values()))


def test_the_package_offers_what_its_modules_hold():
    assert set(OPERATORS) == set(node_cases.claimed())


def test_exclusions_are_tests_of_operators_that_we_claim():
    names = {case.name for op in node_cases.claimed() for case in node_cases.cases().get(op, [])}
    assert set(node_cases.EXCLUDED) <= names


def test_a_wrong_operator_is_noticed(monkeypatch):
    monkeypatch.setitem(node_cases.claimed(), "Add", node_cases.claimed()["Sub"])
    assert node_cases.run_tests("Add").failed


@pytest.mark.parametrize("op", ["Add", "Concat", "Where", "Max", "Gather", "ScatterND", "OneHot"])
def test_what_is_computed_on_the_cpu_joins_data_elsewhere(op):
    values, whole = torch.ones(2, device="meta"), torch.zeros(2, dtype=torch.int64)
    inputs = {
        "Where": (whole > 0, values, torch.ones(2)),
        "Gather": (values, whole),
        "ScatterND": (values, whole[:, None], torch.ones(2)),
        "OneHot": (whole, torch.tensor(3), values),
    }.get(op, (torch.ones(2), values))
    assert apply(op, *inputs, axis=0).device.type == "meta"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_unsigned_integers_beyond_half_of_their_range_are_exact(dtype):
    top = np.iinfo(dtype).max
    a, b = np.array([1, top, top // 2, top - 1], dtype=dtype), np.array([top, 2, 3, top], dtype=dtype)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    for op, function in {"Add": np.add, "Div": np.floor_divide, "Mod": np.remainder, "Less": np.less}.items():
        np.testing.assert_array_equal(apply(op, x, y).numpy(), function(a, b))
    for op, function in {"Max": np.maximum, "Min": np.minimum, "BitwiseXor": np.bitwise_xor}.items():
        np.testing.assert_array_equal(apply(op, x, y).numpy(), function(a, b))
    assert apply("ReduceMax", x, keepdims=0).item() == top
    assert apply("ReduceMin", x, keepdims=0).item() == 1
    assert apply("ArgMax", x, keepdims=0).item() == 1
    largest, places = apply("TopK", x, torch.tensor([3]))
    assert largest.tolist() == [top, top - 1, top // 2]
    assert places.tolist() == [1, 3, 2]
    index = torch.zeros(4, dtype=torch.int64)
    np.testing.assert_array_equal(
        apply("ScatterElements", x, index, y, reduction="max").numpy(), [top, top, top // 2, top - 1]
    )


def test_sequences_are_changed_at_either_end():
    one, two, three = torch.tensor(1), torch.tensor(2), torch.tensor(3)
    assert apply("SequenceErase", (one, two, three)) == (one, two)
    assert apply("SequenceErase", (one, two, three), torch.tensor(-3)) == (two, three)
    assert apply("SequenceInsert", (one, two), three) == (one, two, three)
    assert apply("SequenceInsert", (one, two), three, torch.tensor(-1)) == (one, three, two)
    assert apply("SequenceAt", (one, two), torch.tensor(-1)) is two
