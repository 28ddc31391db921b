"""Each form that an operator had since opset 9, against ONNX Runtime."""

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from robustcheck.networks.onnx.graph import read_graph, to_array, to_tensor

_SPEC = importlib.util.spec_from_file_location("onnx_node_cases", Path(__file__).with_name("onnx_node_cases.py"))
node_cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(node_cases)

OPSETS = (9, 11, 13, 17, 18, 20, 22)
LAST = OPSETS[-1]
RNG = np.random.default_rng(7)


@dataclass(frozen=True)
class Form:
    """One node; the first and last opset at which it is valid, its inputs (None for an absent one)."""

    op: str
    first: int
    last: int
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1

    def __str__(self) -> str:
        said = ",".join(f"{key}={value}" for key, value in self.attributes.items())
        shapes = "-".join("x".join(map(str, each.shape)) or "0d" for each in self.inputs if each is not None)
        return f"{self.op}[{said or shapes}]"


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def whole(low, high, *shape, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


def i64(*values):
    return np.array(values, dtype=np.int64)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype=dtype)


X, Y = normal(2, 3, 4), normal(2, 3, 4)
IMAGE = normal(2, 8, 4, 6)
TIES = whole(0, 3, 3, 4, 5, dtype=np.float32)
MANY_TIES = whole(0, 3, 200, dtype=np.float32)
WHOLE, OTHER = whole(-9, 10, 3, 4, dtype=np.int32), whole(1, 5, 4, dtype=np.int32)
BITS = whole(0, 7, 3, 4, dtype=np.uint8)
TRUTH = X > 0
ODD = np.array([np.nan, np.inf, -np.inf, 0.5, -2.5, 1.5], dtype=np.float32)
UNIT = RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
POSITIVE = RNG.uniform(1.1, 3, (3, 4)).astype(np.float32)
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


def sum_axes_since(op):
    return 13 if op == "ReduceSum" else 18


ARITHMETIC = [
    *(Form(op, 9, LAST, (X, normal(3, 1))) for op in ("Add", "Sub", "Mul", "Div")),
    *(Form(op, 9, LAST, (WHOLE, OTHER)) for op in ("Add", "Sub", "Mul", "Div")),
    Form("Add", 9, LAST, (scalar(1), X)),
    Form("Add", 9, LAST, (normal(3, 2, dtype=np.float64), normal(2, dtype=np.float64))),
    *(Form(op, 9, LAST, (UNIT,)) for op in ("Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh")),
    *(Form(op, 9, LAST, (UNIT,)) for op in ("Erf", "Exp", "Floor", "Neg", "Reciprocal", "Sign", "Sin", "Sinh", "Tan")),
    *(Form(op, 9, LAST, (POSITIVE,)) for op in ("Acosh", "Log", "Sqrt")),
    *(Form(op, 9, LAST, (WHOLE,)) for op in ("Abs", "Neg", "Sign")),
    Form("Round", 11, LAST, (ODD,)),
    Form("IsNaN", 9, LAST, (ODD,)),
    Form("IsInf", 10, LAST, (ODD,)),
    Form("IsInf", 10, LAST, (ODD,), {"detect_positive": 0}),
    Form("IsInf", 10, LAST, (ODD,), {"detect_negative": 0}),
    *(Form(op, 9, LAST, (TRUTH, TRUTH[:1])) for op in ("And", "Or", "Xor")),
    Form("Not", 9, LAST, (TRUTH,)),
    *(Form(op, 9, LAST, (X, normal(4))) for op in ("Greater", "Less")),
    *(Form(op, 12, LAST, (X, normal(4))) for op in ("GreaterOrEqual", "LessOrEqual")),
    Form("Equal", 9, LAST, (WHOLE, OTHER)),
    Form("Equal", 11, LAST, (TIES, TIES[:1])),
    Form("Where", 9, LAST, (TRUTH, X, scalar(-1))),
    Form("Where", 9, LAST, (WHOLE > 0, WHOLE.astype(np.int64), i64(7))),
    *(Form(op, 9, LAST, (X, Y[:1], normal(4))) for op in ("Max", "Min", "Sum", "Mean")),
    *(Form(op, 9, LAST, (X, Y)) for op in ("Max", "Min", "Sum", "Mean")),
    *(Form(op, 9, LAST, (X,)) for op in ("Max", "Min", "Sum", "Mean")),
    *(Form(op, 9, LAST, (np.append(ODD, ODD), normal(12))) for op in ("Max", "Min")),
    *(Form(op, 12, LAST, (WHOLE, OTHER)) for op in ("Max", "Min")),
    Form("Pow", 9, LAST, (POSITIVE, normal(4))),
    Form("Pow", 9, LAST, (X, scalar(2))),
    Form("Pow", 9, LAST, (X, np.array([3], dtype=np.float32))),
    Form("Pow", 9, LAST, (scalar(1.5), np.array([3], dtype=np.float32))),
    Form("Pow", 13, LAST, (X, i64(2))),
    Form("Pow", 13, LAST, (whole(1, 5, 3, dtype=np.int32), scalar(2.0))),
    Form("Mod", 10, LAST, (WHOLE, np.array([3, -3, 4, -4], dtype=np.int32))),
    Form("Mod", 10, LAST, (WHOLE, np.array([3, -3, 4, -4], dtype=np.int32)), {"fmod": 1}),
    Form("Mod", 10, LAST, (X, normal(4)), {"fmod": 1}),
    Form("BitShift", 11, LAST, (BITS, whole(0, 4, 4, dtype=np.uint8)), {"direction": "LEFT"}),
    Form("BitShift", 11, LAST, (BITS.astype(np.uint32), whole(0, 4, 4, dtype=np.uint32)), {"direction": "RIGHT"}),
    *(Form(f"Bitwise{name}", 18, LAST, (WHOLE, OTHER)) for name in ("And", "Or", "Xor")),
    Form("BitwiseNot", 18, LAST, (WHOLE,)),
    Form("Clip", 9, 10, (X,), {"min": -0.5, "max": 0.25}),
    Form("Clip", 9, 10, (X,), {"max": 0.25}),
    Form("Clip", 9, 10, (X,)),
    Form("Clip", 11, LAST, (X, scalar(-0.5), scalar(0.25))),
    Form("Clip", 11, LAST, (X, None, scalar(0.25))),
    Form("Clip", 11, LAST, (X, scalar(0.1))),
    Form("Clip", 11, LAST, (X,)),
    Form("Clip", 12, LAST, (WHOLE.astype(np.int64), scalar(-3, np.int64), scalar(4, np.int64))),
    Form("Clip", 13, LAST, (X, scalar(0.5), scalar(-0.5))),
    *(Form("Cast", 9, LAST, (4 * X,), {"to": to}) for to in (TensorProto.INT64, TensorProto.INT32, TensorProto.DOUBLE)),
    *(Form("Cast", 9, LAST, (ODD,), {"to": to}) for to in (TensorProto.FLOAT16, TensorProto.BOOL)),
    *(Form("Cast", 9, LAST, (WHOLE,), {"to": to}) for to in (TensorProto.FLOAT, TensorProto.BOOL, TensorProto.UINT8)),
    Form("CastLike", 15, LAST, (4 * X, WHOLE)),
]

REDUCED = [
    *(
        Form(f"Reduce{name}", 9, sum_axes_since(f"Reduce{name}") - 1, (values,), {"axes": axes, "keepdims": keep})
        for name in REDUCTIONS
        for axes, keep in (([1], 1), ([0, -1], 0))
        for values in (np.abs(X) + 0.5,)
        if min(axes) >= 0
    ),
    *(
        Form(f"Reduce{name}", 11, sum_axes_since(f"Reduce{name}") - 1, (np.abs(X) + 0.5,), {"axes": [0, -1]})
        for name in REDUCTIONS
    ),
    *(Form(f"Reduce{name}", 9, LAST, (np.abs(X) + 0.5,), {"keepdims": 0}) for name in REDUCTIONS),
    *(
        Form(f"Reduce{name}", sum_axes_since(f"Reduce{name}"), LAST, (np.abs(X) + 0.5, i64(-1, 0)), {"keepdims": keep})
        for name in REDUCTIONS
        for keep in (0, 1)
    ),
    *(
        Form(f"Reduce{name}", 18, LAST, (np.abs(X) + 0.5,), {"noop_with_empty_axes": noop})
        for name in REDUCTIONS
        for noop in (0, 1)
    ),
    *(Form(f"Reduce{name}", 18, LAST, (WHOLE, i64(1))) for name in ("L1", "Max", "Min", "Prod", "Sum", "SumSquare")),
    Form("ReduceMean", 18, LAST, (WHOLE, i64(1))),
    *(Form(op, 11, LAST, (TIES,), {"axis": -1}) for op in ("ArgMax", "ArgMin")),
    *(Form(op, 9, LAST, (TIES,)) for op in ("ArgMax", "ArgMin")),
    *(Form(op, 9, LAST, (TIES,), {"axis": 1, "keepdims": 0}) for op in ("ArgMax", "ArgMin")),
    *(Form(op, 13, LAST, (TIES,), {"axis": 1, "select_last_index": 1}) for op in ("ArgMax", "ArgMin")),
    *(
        Form("CumSum", 11, LAST, (X, scalar(axis, np.int64)), {"exclusive": exclusive, "reverse": reverse})
        for axis in (1, -1)
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
    Form("TopK", 9, 9, (TIES,), {"k": 3, "axis": 1}, 2),
    Form("TopK", 9, 9, (TIES,), {"k": 2}, 2),
    Form("TopK", 10, LAST, (X, i64(2)), {}, 2),
    Form("TopK", 11, LAST, (X, i64(2)), {"axis": 1, "largest": 0}, 2),
    Form("TopK", 11, LAST, (TIES, i64(4)), {}, 2),
    Form("TopK", 11, LAST, (MANY_TIES, i64(70)), {}, 2),
]

SHAPED = [
    Form("Reshape", 9, LAST, (X, i64(0, -1))),
    Form("Reshape", 9, LAST, (X, i64(4, 6))),
    Form("Reshape", 9, LAST, (X, i64(-1))),
    Form("Reshape", 17, LAST, (normal(0, 3), i64(3, 0)), {"allowzero": 1}),
    *(Form("Flatten", 9, LAST, (X,), {"axis": axis}) for axis in (0, 1, 2, 3)),
    Form("Flatten", 11, LAST, (X,), {"axis": -1}),
    Form("Flatten", 9, LAST, (normal(5),)),
    Form("Squeeze", 9, 12, (normal(1, 3, 1, 2),), {"axes": [0, 2]}),
    Form("Squeeze", 11, 12, (normal(1, 3, 1, 2),), {"axes": [-2]}),
    Form("Squeeze", 9, LAST, (normal(1, 3, 1, 2),)),
    Form("Squeeze", 13, LAST, (normal(1, 3, 1, 2), i64(0, -2))),
    Form("Unsqueeze", 9, 12, (X,), {"axes": [0, 4]}),
    Form("Unsqueeze", 11, 12, (X,), {"axes": [-1]}),
    Form("Unsqueeze", 13, LAST, (X, i64(-1, 1))),
    Form("Unsqueeze", 13, LAST, (scalar(3), i64(0))),
    Form("Transpose", 9, LAST, (X,)),
    Form("Transpose", 9, LAST, (X,), {"perm": [1, 2, 0]}),
    Form("Concat", 9, LAST, (X, Y, X), {"axis": 1}),
    Form("Concat", 11, LAST, (i64(1), i64(2, 3)), {"axis": -1}),
    Form("Split", 9, 12, (IMAGE,), {"axis": 1, "split": [3, 5]}, 2),
    Form("Split", 9, 17, (IMAGE,), {"axis": 1}, 4),
    Form("Split", 11, 17, (IMAGE,), {"axis": -1}, 3),
    Form("Split", 13, LAST, (IMAGE, i64(1, 5, 2)), {"axis": 1}, 3),
    Form("Split", 18, LAST, (IMAGE,), {"axis": 1, "num_outputs": 3}, 3),
    Form("Slice", 9, 9, (X,), {"starts": [1, -3], "ends": [99, -1], "axes": [1, 2]}),
    Form("Slice", 9, 9, (X,), {"starts": [0, 1], "ends": [1, 2**62]}),
    Form("Slice", 10, LAST, (X, i64(1, 0), i64(3, 2**63 - 1), i64(1, 2), i64(1, 2))),
    Form("Slice", 10, LAST, (X, i64(1, -3), i64(2, 99))),
    Form("Slice", 11, LAST, (X, i64(-1, 2), i64(-(2**63), 0), i64(-1, 1), i64(-1, -1))),
    Form("Slice", 11, LAST, (X, i64(99), i64(-99), i64(2), i64(-3))),
    Form("Slice", 11, LAST, (X, i64(-99), i64(-99), i64(2), i64(-1))),
    Form("Slice", 11, LAST, (X, i64(0), i64(2), i64(2), i64(-1))),
    Form("Slice", 13, LAST, (X, np.array([-2], np.int32), np.array([9], np.int32), np.array([-1], np.int32))),
    Form("Slice", 13, LAST, (X, i64(3), i64(1), i64(2))),
    Form("Expand", 9, LAST, (normal(3, 1), i64(2, 1, 4))),
    Form("Expand", 9, LAST, (X, i64(1, 1))),
    Form("Expand", 9, LAST, (normal(3, 1), i64(4))),
    Form("Tile", 9, LAST, (X, i64(2, 1, 3))),
    *(Form("Pad", 9, 10, (X,), {"pads": [0, 1, 2, 1, 0, 2], "mode": mode}) for mode in ("constant", "reflect", "edge")),
    Form("Pad", 9, 10, (X,), {"pads": [0, -1, 1, 1, 0, -2], "value": 2.5}),
    *(Form("Pad", 11, LAST, (X, i64(1, 1, 3, 0, 2, 2)), {"mode": mode}) for mode in ("constant", "edge")),
    Form("Pad", 11, LAST, (X, i64(1, 2, 3, 0, 2, 2)), {"mode": "reflect"}),
    Form("Pad", 11, LAST, (X, i64(0, -1, 1, 1, 0, -2), scalar(2.5))),
    Form("Pad", 13, LAST, (WHOLE, i64(0, 1, 1, 0), scalar(7, np.int32))),
    Form("Pad", 18, LAST, (X, i64(1, 2, 2, 1), None, i64(-1, 0))),
    Form("Pad", 18, LAST, (X, i64(1, 2), scalar(-1), i64(2)), {"mode": "edge"}),
    Form("Pad", 20, LAST, (X, i64(0, 1, 3, 0, 2, 2)), {"mode": "wrap"}),
    Form("Shape", 9, LAST, (X,)),
    *(Form("Shape", 15, LAST, (X,), {"start": start, "end": end}) for start, end in ((1, 2), (-2, 99), (-99, -1))),
    Form("Size", 9, LAST, (X,)),
    Form("DepthToSpace", 9, LAST, (IMAGE,), {"blocksize": 2}),
    Form("DepthToSpace", 11, LAST, (IMAGE,), {"blocksize": 2, "mode": "CRD"}),
    Form("SpaceToDepth", 9, LAST, (IMAGE,), {"blocksize": 2}),
    Form("Identity", 9, LAST, (X,)),
    Form("EyeLike", 9, LAST, (normal(3, 5),), {"k": 1}),
    Form("EyeLike", 9, LAST, (normal(3, 2),), {"k": -1, "dtype": TensorProto.INT64}),
    Form("ConstantOfShape", 9, LAST, (i64(2, 3),)),
    Form("ConstantOfShape", 9, LAST, (i64(2, 0),), {"value": helper.make_tensor("v", TensorProto.INT64, [1], [5])}),
    Form("Range", 11, LAST, (scalar(1), scalar(-3.2), scalar(-0.7))),
    Form("Range", 11, LAST, (scalar(2, np.int64), scalar(11, np.int64), scalar(3, np.int64))),
    Form("Range", 11, LAST, (scalar(2, np.int32), scalar(1, np.int32), scalar(3, np.int32))),
    Form("Trilu", 14, LAST, (X, scalar(1, np.int64))),
    Form("Trilu", 14, LAST, (X,), {"upper": 0}),
    Form("CenterCropPad", 18, LAST, (X, i64(5, 2)), {"axes": [0, 2]}),
    Form("Constant", 9, LAST, (), {"value": helper.make_tensor("v", TensorProto.FLOAT, [2], [1.5, 2])}),
    Form("Constant", 12, LAST, (), {"value_ints": [3, 4]}),
    Form("Constant", 12, LAST, (), {"value_float": 0.25}),
]

INDEXED = [
    Form("Gather", 9, LAST, (X, whole(0, 3, 2, 2)), {"axis": 1}),
    Form("Gather", 11, LAST, (X, i64(-1, 0, -2)), {"axis": -1}),
    Form("Gather", 9, LAST, (X, scalar(1, np.int64))),
    Form("Gather", 11, LAST, (X, scalar(-1, np.int32)), {"axis": 2}),
    Form("GatherElements", 11, LAST, (X, whole(-4, 4, 2, 3, 2)), {"axis": 2}),
    Form("GatherND", 11, LAST, (X, i64(0, 2, 1, -1).reshape(2, 2))),
    Form("GatherND", 11, LAST, (X, i64(0, 1, 2).reshape(3, 1, 1) % 2)),
    Form("GatherND", 12, LAST, (X, i64(2, 0).reshape(2, 1)), {"batch_dims": 1}),
    Form("Scatter", 9, 10, (X, i64(2, 0).reshape(1, 2, 1), normal(1, 2, 1)), {"axis": 1}),
    Form("ScatterElements", 11, LAST, (X, i64(-1, 0).reshape(1, 2, 1), normal(1, 2, 1)), {"axis": 1}),
    *(
        Form(
            "ScatterElements",
            first,
            LAST,
            (X, i64(1, 1).reshape(1, 2, 1), normal(1, 2, 1)),
            {"axis": 1, "reduction": how},
        )
        for how, first in (("add", 16), ("mul", 16), ("max", 18), ("min", 18))
    ),
    Form("ScatterND", 11, LAST, (X, i64(0, 2, 1, 0).reshape(2, 2), normal(2, 4))),
    Form("ScatterND", 11, LAST, (X, i64(1).reshape(1, 1), normal(1, 3, 4))),
    *(
        Form("ScatterND", first, LAST, (X, i64(0, 2, 0, 2).reshape(2, 2), normal(2, 4)), {"reduction": how})
        for how, first in (("add", 16), ("mul", 16), ("max", 18), ("min", 18))
    ),
    Form("Compress", 9, LAST, (X, np.array([True, False, True])), {"axis": 2}),
    Form("Compress", 11, LAST, (X, np.array([True, False, True])), {"axis": -2}),
    Form("Compress", 9, LAST, (X, np.array([False, True, False, True]))),
    Form("NonZero", 9, LAST, (WHOLE,)),
    Form("OneHot", 9, LAST, (i64(0, 3, 1), i64(4), normal(2))),
    Form("OneHot", 11, LAST, (whole(-5, 5, 2, 3), scalar(4, np.int64), normal(2)), {"axis": 1}),
    Form("OneHot", 9, LAST, (whole(0, 4, 2, 3).astype(np.float32), scalar(4, np.int64), i64(-1, 2)), {"axis": 0}),
    Form("ReverseSequence", 10, LAST, (X, i64(2, 3)), {"batch_axis": 0, "time_axis": 1}),
    Form("ReverseSequence", 10, LAST, (X, i64(2, 1, 1)), {"batch_axis": 1, "time_axis": 0}),
    Form("Unique", 11, LAST, (TIES,), {}, 4),
    Form("Unique", 11, LAST, (TIES[:, :, 0],), {"axis": 1, "sorted": 0}, 4),
]

FORMS = [*ARITHMETIC, *REDUCED, *SHAPED, *INDEXED]


SMOOTH = [
    form
    for form in FORMS
    if form.last == LAST
    and form.inputs
    and form.inputs[0].dtype == np.float32
    and not any(form.inputs[0] is tied for tied in (TIES, MANY_TIES))
    and form.inputs[0].size
    and not any(np.isnan(each).any() for each in form.inputs if each is not None)
    and form.op not in ("Cast", "CastLike", "EyeLike", "Range", "Unique")
]
"""Forms through which a gradient may flow."""


def model(form: Form, opset: int) -> onnx.ModelProto:
    names = ["" if each is None else f"x{i}" for i, each in enumerate(form.inputs)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in zip(names, form.inputs, strict=True)
        if each is not None
    ]
    outputs = [f"y{i}" for i in range(form.outputs)]
    node = helper.make_node(form.op, names, outputs, **form.attributes)
    graph = helper.make_graph([node], "form", inputs, [onnx.ValueInfoProto(name=name) for name in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def expected(proto: onnx.ModelProto, form: Form) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {f"x{i}": each for i, each in enumerate(form.inputs) if each is not None})


@pytest.mark.parametrize(
    ("form", "opset"),
    [pytest.param(f, opset, id=f"{f}-{opset}") for f in FORMS for opset in OPSETS if f.first <= opset <= f.last],
)
def test_form(form, opset):
    proto = model(form, opset)
    wanted = expected(proto, form)
    graph = read_graph(proto)
    for fixed in (False, True):
        given = [to_tensor(each) for each in form.inputs if each is not None]
        outputs = node_cases.run(graph, given, fixed)
        for output, reference in zip(map(to_array, outputs), wanted, strict=True):
            assert output.dtype == reference.dtype
            assert output.shape == reference.shape
            np.testing.assert_allclose(output, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", [pytest.param(form, id=str(form)) for form in SMOOTH])
def test_gradient_is_the_difference_quotient(form):
    doubles = tuple(each.astype(np.float64) if is_float(each) else each for each in form.inputs)
    graph = read_graph(model(replace(form, inputs=doubles), LAST))
    given = [to_tensor(each) for each in doubles if each is not None]
    for fixed in (False, True):

        def function(x, fixed=fixed):
            outputs = node_cases.run(graph, [x, *given[1:]], fixed)
            return tuple(output for output in outputs if output.is_floating_point())

        if function(given[0]):
            assert torch.autograd.gradcheck(function, (given[0].detach().requires_grad_(),))


def is_float(array):
    return array is not None and array.dtype == np.float32
