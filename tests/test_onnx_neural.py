"""The operators of neural networks against ONNX Runtime, at old and new versions and in their rarer forms."""

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.graph import read_graph, to_array
from robustcheck.networks.onnx.operators import (
    activation,
    attention,
    control,
    convolution,
    detection,
    image,
    linear,
    normalisation,
    pooling,
    recurrent,
)
from robustcheck.networks.onnx.operators.call import Call, UnsupportedError

MODULES = (
    activation,
    attention,
    control,
    convolution,
    detection,
    image,
    linear,
    normalisation,
    pooling,
    recurrent,
)
OPERATORS = {name: builder for module in MODULES for name, builder in module.OPERATORS.items()}


def drawn(*shape, seed=0, scale=1.0, dtype=np.float32):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(*shape, generator=generator).numpy() * scale).astype(dtype)


def one_node(op, opset, inputs, attributes, outputs):
    # Absent inputs at the end are left out: an empty name there crashes ONNX Runtime in LayerNormalization.
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    names = ["" if each is None else f"x{at}" for at, each in enumerate(inputs)]
    results = [f"y{at}" for at in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in zip(names, inputs, strict=True)
        if name
    ]
    graph = helper.make_graph(
        [node], "one", given, [helper.make_value_info(name, onnx.TypeProto()) for name in results]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def in_runtime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {f"x{at}": each for at, each in enumerate(inputs) if each is not None})


def ours(model, inputs, fixed=False, grad=False):
    graph = read_graph(model)
    node = graph.nodes[0]
    tensors = [None if each is None else torch.from_numpy(np.array(each)) for each in inputs]
    for tensor in tensors:
        if grad and tensor is not None and tensor.is_floating_point():
            tensor.requires_grad_()
    constants = {at: each for at, each in enumerate(tensors[1:], 1) if each is not None} if fixed else {}
    present = tuple(each is not None for each in inputs)
    call = Call(node.op, graph.opset, node.attributes, present, constants, len(node.outputs))
    result = OPERATORS[op_of(model)](call)(*tensors)
    return result if isinstance(result, tuple) else (result,)


def op_of(model) -> Any:
    return model.graph.node[0].op_type


def agree(op, opset, inputs, attributes=None, outputs=1, rtol=1e-5, atol=2e-6):
    model = one_node(op, opset, inputs, attributes or {}, outputs)
    expected = in_runtime(model, inputs)
    for fixed in (False, True):
        found = ours(model, inputs, fixed)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert to_array(one).dtype == other.dtype
            np.testing.assert_allclose(to_array(one), other, rtol=rtol, atol=atol, equal_nan=True)
    return expected


UNARY = [
    ("Relu", 9, {}),
    ("Relu", 13, {}),
    ("LeakyRelu", 9, {"alpha": 0.3}),
    ("Elu", 9, {"alpha": 0.7}),
    ("Elu", 9, {}),
    ("Selu", 9, {}),
    ("Selu", 22, {"alpha": 1.1, "gamma": 0.9}),
    ("Celu", 12, {"alpha": 0.6}),
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("Mish", 18, {}),
    ("HardSwish", 14, {}),
    ("HardSigmoid", 9, {}),
    ("HardSigmoid", 11, {"alpha": 0.4, "beta": 0.3}),
    ("HardSigmoid", 13, {"alpha": 1 / 6, "beta": 0.5}),
    ("Softplus", 9, {}),
    ("Softsign", 9, {}),
    ("Tanh", 9, {}),
    ("Sigmoid", 9, {}),
    ("ThresholdedRelu", 10, {"alpha": 0.4}),
    ("Shrink", 9, {"bias": 0.2, "lambd": 0.4}),
    ("GlobalAveragePool", 9, {}),
    ("GlobalMaxPool", 9, {}),
    ("GlobalLpPool", 9, {"p": 3}),
    ("LpNormalization", 9, {"axis": 1, "p": 1}),
    ("LpNormalization", 22, {"axis": -2}),
    ("MeanVarianceNormalization", 9, {}),
    ("MeanVarianceNormalization", 13, {"axes": [1, 2]}),
    ("LRN", 9, {"size": 3, "alpha": 0.3, "beta": 0.6, "bias": 1.5}),
    ("LRN", 13, {"size": 5, "alpha": 0.3}),
    ("Dropout", 9, {"ratio": 0.3}),
    ("Dropout", 13, {}),
    *[
        (op, opset, attributes)
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset in (9, 11, 13, 20)
        for attributes in (
            {},
            {"axis": 0},
            {"axis": 1},
            {"axis": 2},
            {"axis": 3},
            *([{"axis": -2}] if opset > 9 else []),
        )
    ],
]


@pytest.mark.parametrize(("op", "opset", "attributes"), UNARY)
def test_one_input(op, opset, attributes):
    agree(op, opset, [drawn(2, 5, 4, 3, scale=2.0)], attributes)


@pytest.mark.parametrize("opset", [9, 16])
@pytest.mark.parametrize("shape", [(1,), (4, 1, 1), (1, 4, 1, 1), (3, 5), (5,), (2, 4, 3, 5)])
def test_prelu_slopes(opset, shape):
    agree("PRelu", opset, [drawn(2, 4, 3, 5), drawn(*shape)])


PADS = [{}, {"pads": [1, 2, 1, 2]}, {"pads": [1, 0, 2, 1]}, {"auto_pad": "VALID"}]
SAME = [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}]


@pytest.mark.parametrize("opset", [9, 22])
@pytest.mark.parametrize("pads", PADS + SAME)
@pytest.mark.parametrize("more", [{}, {"strides": [2, 3]}, {"dilations": [2, 1], "kernel_shape": [3, 2]}])
def test_conv(opset, pads, more):
    if "auto_pad" in pads and pads in SAME and "dilations" in more:
        return  # ONNX Runtime has no such form
    agree("Conv", opset, [drawn(2, 4, 9, 8), drawn(6, 2, 3, 2), drawn(6)], {"group": 2, **pads, **more})


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("attributes", [{}, {"pads": 1}, {"auto_pad": "SAME_UPPER", "strides": 2}, {"strides": 2}])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_conv_of_other_ranks(op, rank, attributes):
    counts = {"pads": 2 * rank, "strides": rank}
    spread = {key: [value] * counts[key] if key in counts else value for key, value in attributes.items()}
    agree(op, 11, [drawn(1, 3, *[5] * rank), drawn(3, 3, *[3] * rank)], spread)


TRANSPOSED = [
    {},
    {"strides": [2, 3]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"strides": [2, 2], "pads": [1, 0, 0, 1]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    {"strides": [3, 2], "pads": [0, 1, 1, 0], "output_padding": [2, 1]},
    {"strides": [2, 2], "output_shape": [9, 11]},
    {"strides": [2, 2], "output_shape": [9, 11], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "output_shape": [10, 12], "output_padding": [1, 1]},
    {"strides": [3, 3], "output_shape": [15, 16], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "auto_pad": "VALID"},
    {"dilations": [2, 2], "pads": [2, 1, 2, 1], "kernel_shape": [3, 3]},
    {"group": 2, "strides": [2, 2], "pads": [1, 1, 0, 0]},
]


@pytest.mark.parametrize("opset", [11, 22])
@pytest.mark.parametrize("attributes", TRANSPOSED)
def test_conv_transpose(opset, attributes):
    weights = drawn(4, 4 // attributes.get("group", 1), 3, 3)
    agree("ConvTranspose", opset, [drawn(2, 4, 5, 6), weights, drawn(4)], attributes)


POOLS = [
    {},
    {"strides": [2, 2]},
    {"strides": [2, 3], "pads": [1, 1, 1, 1]},
    {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"strides": [2, 2], "ceil_mode": 1},
    {"strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"strides": [2, 2], "ceil_mode": 1, "pads": [2, 0, 1, 2]},
]


@pytest.mark.parametrize("opset", [9, 10, 22])
@pytest.mark.parametrize("attributes", [*POOLS, {"dilations": [2, 2]}, {"dilations": [2, 1], "pads": [1, 1, 0, 0]}])
@pytest.mark.parametrize("more", [(1, 0), (2, 0), (2, 1)])
def test_max_pool(opset, attributes, more):
    outputs, order = more
    if opset < 10 and {"ceil_mode", "dilations"} & set(attributes):
        return  # there is no such form in this version
    if order:
        attributes = {**attributes, "storage_order": 1}
    agree("MaxPool", opset, [drawn(2, 3, 8, 9)], {"kernel_shape": [3, 3], **attributes}, outputs)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_of_other_ranks(op, rank):
    attributes = {"kernel_shape": [3] * rank, "strides": [2] * rank}
    agree(op, 11, [drawn(2, 3, *[7] * rank)], attributes)
    agree(op, 22, [drawn(2, 3, *[7] * rank)], {**attributes, "pads": [1] * rank + [0] * rank})
    if op == "MaxPool":
        for order in (0, 1):
            agree(op, 12, [drawn(2, 3, *range(7, 7 + rank))], {**attributes, "storage_order": order}, outputs=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float64])
def test_max_pool_of_other_types(dtype):
    x = drawn(1, 2, 6, 6, scale=30).astype(np.int8).astype(dtype)
    agree("MaxPool", 12, [x], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]})
    agree("MaxPool", 12, [x], {"kernel_shape": [2, 2]}, outputs=2)


@pytest.mark.parametrize("opset", [9, 11, 22])
@pytest.mark.parametrize("attributes", [*POOLS, {"dilations": [2, 2]}, {"dilations": [2, 1], "pads": [1, 1, 0, 0]}])
@pytest.mark.parametrize("padded", [0, 1])
def test_average_pool(opset, attributes, padded):
    if (opset < 10 and "ceil_mode" in attributes) or (opset < 19 and "dilations" in attributes):
        return  # there is no such form in this version
    agree(
        "AveragePool", opset, [drawn(2, 3, 8, 9)], {"kernel_shape": [3, 3], "count_include_pad": padded, **attributes}
    )


@pytest.mark.parametrize("opset", [9, 18])
@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(opset, attributes, p):
    if opset < 18 and "ceil_mode" in attributes:
        return  # there is no such form in this version
    agree("LpPool", opset, [drawn(2, 3, 8, 9)], {"kernel_shape": [3, 3], "p": p, **attributes}, rtol=1e-4)


def test_max_unpool_is_the_reverse_of_max_pool():
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    largest, places = agree("MaxPool", 11, [drawn(2, 3, 6, 8)], attributes, outputs=2)
    agree("MaxUnpool", 11, [largest, places], attributes)


@pytest.mark.parametrize("opset", [9, 14, 15])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 4, 5, 6), (2, 4, 3, 2, 2)])
def test_batch_normalization(opset, shape):
    inputs = [drawn(*shape), drawn(4), drawn(4, seed=1), drawn(4, seed=2), np.abs(drawn(4, seed=3))]
    agree("BatchNormalization", opset, inputs, {"epsilon": 1e-3, "momentum": 0.8})


def test_batch_normalization_that_trains_is_no_function():
    for version, attributes, outputs in ((15, {"training_mode": 1}, 3), (9, {}, 5)):
        with pytest.raises(UnsupportedError):
            OPERATORS["BatchNormalization"](Call("BatchNormalization", version, attributes, (True,) * 5, {}, outputs))


@pytest.mark.parametrize("opset", [9, 22])
@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 5, 6), (2, 4, 3, 2, 2)])
def test_instance_normalization(opset, shape):
    agree("InstanceNormalization", opset, [drawn(*shape), drawn(4), drawn(4, seed=1)], {"epsilon": 1e-3}, rtol=1e-4)


@pytest.mark.parametrize("axis", [-1, 1, 2, -2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_normalization(axis, bias, outputs):
    x = drawn(2, 3, 4, 5)
    shape = x.shape[axis:]
    agree(
        "LayerNormalization", 17, [x, drawn(*shape), drawn(*shape, seed=1) if bias else None], {"axis": axis}, outputs
    )


def test_layer_normalization_with_a_weight_that_broadcasts():
    agree("LayerNormalization", 17, [drawn(2, 3, 4), drawn(4), drawn(1, 4)], {"axis": 1})


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset):
    count = 3 if opset == 18 else 6
    agree("GroupNormalization", opset, [drawn(2, 6, 4, 4), drawn(count), drawn(count, seed=1)], {"num_groups": 3})


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis):
    agree("RMSNormalization", 23, [drawn(2, 3, 4), drawn(*(2, 3, 4)[axis:])], {"axis": axis})


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("turned", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("shape", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(opset, turned, shape):
    a, b = drawn(3, 4), drawn(4, 5)
    inputs = [a.T.copy() if turned[0] else a, b.T.copy() if turned[1] else b]
    attributes = {"transA": turned[0], "transB": turned[1]}
    if shape is None:
        if opset > 9:
            agree("Gemm", opset, inputs, {**attributes, "alpha": 0.5})
        return
    agree("Gemm", opset, [*inputs, drawn(*shape, 1)[..., 0]], attributes)
    agree("Gemm", opset, [*inputs, drawn(*shape, 1)[..., 0]], {**attributes, "alpha": 0.5, "beta": 1.5})


@pytest.mark.parametrize(
    ("shapes", "equation"),
    [
        (((2, 3, 4), (4, 5)), None),
        (((4,), (2, 4, 5)), None),
        (((2, 3, 4), (2, 4, 3)), "bij,bjk->bik"),
        (((2, 3, 4), (2, 4, 3)), "...ij, ...jk"),
        (((3, 4), (3, 4)), "ij,ij->"),
    ],
)
def test_products(shapes, equation):
    op, attributes = ("Einsum", {"equation": equation}) if equation else ("MatMul", {})
    for opset in (12, 13):
        agree(op, opset, [drawn(*shape) for shape in shapes], attributes)


def test_determinants():
    agree("Det", 11, [drawn(2, 3, 4, 4)], rtol=1e-4)


def scales(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factors", [(2, 2), (3, 1), (1.5, 2.7), (5, 7)])
def test_upsample(opset, mode, factors):
    op = "Upsample" if opset == 9 else "Resize"
    agree(op, opset, [drawn(1, 2, 5, 6), scales(1, 1, *factors)], {"mode": mode}, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factors", [(0.5, 0.5), (0.3, 0.7), (2, 0.4)])
def test_resize_before_opset_11_to_smaller_sizes(mode, factors):
    agree("Resize", 10, [drawn(1, 2, 9, 10), scales(1, 1, *factors)], {"mode": mode}, atol=1e-5)


def test_resize_symmetric():
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}
    for factors in ((2, 3), (1.55, 0.73)):
        agree("Resize", 19, [drawn(1, 2, 5, 6), None, scales(1, 1, *factors)], attributes, atol=1e-5)


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
SIZES = [(10, 12), (3, 4), (13, 5), (7, 1), (5, 6), (15, 24)]


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_to_sizes(opset, coordinates, mode):
    roi = np.zeros(0, dtype=np.float32) if opset < 13 else None
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for size in SIZES:
        inputs = [drawn(1, 2, 5, 6), roi, scales() if opset < 13 else None, np.array([1, 2, *size])]
        agree("Resize", opset, inputs, attributes, atol=1e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_by_scales(coordinates, mode):
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for factors in ((2, 3), (1.6, 1.5), (0.6, 0.5), (0.8, 4), (8, 8), (0.2, 9)):
        if coordinates == "align_corners" and any(
            (size * factor) % 1 for size, factor in zip((5, 6), factors, strict=True)
        ):
            continue
        agree("Resize", 11, [drawn(1, 2, 5, 6), scales(), scales(1, 1, *factors)], attributes, atol=1e-5)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_resize_nearest(nearest, coordinates):
    attributes = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    for size in SIZES:
        agree("Resize", 13, [drawn(1, 2, 5, 6), None, None, np.array([1, 2, *size])], attributes)


def test_resize_by_every_small_factor_is_a_repetition():
    x = drawn(1, 1, 1, 50)
    for factor in range(1, 20):
        found = agree(
            "Resize", 13, [x, None, scales(1, 1, 1, factor)], {"coordinate_transformation_mode": "asymmetric"}
        )
        assert factor > 2 or np.array_equal(found[0], x.repeat(factor, 3))
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        (found,) = ours(
            one_node("Resize", 13, [x, None, scales(1, 1, 1, factor)], attributes, 1),
            [x, None, scales(1, 1, 1, factor)],
        )
        np.testing.assert_array_equal(to_array(found), x.repeat(factor, 3))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(3, 4), (10, 3), (2, 9)])
def test_resize_with_antialias(mode, size):
    attributes = {"mode": mode, "antialias": 1}
    agree("Resize", 18, [drawn(1, 2, 7, 11), None, None, np.array([1, 2, *size])], attributes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_resize_cubic_kernels(exclude, a):
    attributes = {"mode": "cubic", "cubic_coeff_a": a, "exclude_outside": exclude}
    agree("Resize", 13, [drawn(1, 2, 5, 6), None, None, np.array([1, 2, 12, 9])], attributes, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_a_part(mode):
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    roi = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.3], dtype=np.float32)
    agree("Resize", 13, [drawn(1, 2, 6, 8), roi, None, np.array([1, 2, 5, 9])], attributes, atol=1e-5)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_resize_of_axes(policy):
    attributes = {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    agree("Resize", 18, [drawn(1, 2, 6, 8), None, None, np.array([9, 10])], attributes, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 7), (1, 2, 4, 5, 6)])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
def test_resize_of_other_ranks(shape, coordinates):
    size = np.array([*shape[:2], *(2 * side - 1 for side in shape[2:])])
    attributes = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    agree("Resize", 13, [drawn(*shape), None, None, size], attributes, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(opset, mode, padding, corners):
    name = (("bilinear", "nearest", "bicubic"), ("linear", "nearest", "cubic"))[opset > 16][mode]
    attributes = {"mode": name, "padding_mode": padding, "align_corners": corners}
    agree("GridSample", opset, [drawn(2, 3, 5, 6), drawn(2, 4, 3, 2)], attributes, rtol=1e-4, atol=1e-5)
    if opset == 20 and mode < 2:
        agree("GridSample", opset, [drawn(1, 2, 3, 4, 5), drawn(1, 2, 3, 4, 3)], attributes, rtol=1e-4, atol=1e-5)


def boxes(count, size, seed=0):
    points = np.sort(np.abs(drawn(count, 2, 2, seed=seed)) * size / 2, axis=1)
    return points.reshape(count, 4)


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("more", [{}, {"coordinate_transformation_mode": "output_half_pixel"}])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(opset, mode, more, ratio):
    if opset < 16 and more:
        return  # there is no such form in this version
    attributes = {"mode": mode, "output_height": 3, "output_width": 4, "sampling_ratio": ratio, "spatial_scale": 0.5}
    rois = np.concatenate((boxes(5, 16), scales([-1.2, -0.8, 6, 5], [10, 12, 27, 25])))
    inputs = [drawn(2, 3, 9, 10), rois, np.array([0, 1, 1, 0, 1, 0, 1])]
    agree("RoiAlign", opset, inputs, {**attributes, **more}, rtol=1e-4, atol=1e-5)


def test_max_roi_pool():
    rois = np.concatenate((np.array([[0], [1], [1]], dtype=np.float32), np.round(boxes(3, 12))), axis=1)
    agree("MaxRoiPool", 9, [drawn(2, 3, 9, 10), rois], {"pooled_shape": [2, 3], "spatial_scale": 0.7})


@pytest.mark.parametrize("opset", [10, 11])
@pytest.mark.parametrize("centred", [0, 1])
def test_non_max_suppression(opset, centred):
    given, scores = np.stack([boxes(12, 4), boxes(12, 4, seed=1)]), np.abs(drawn(2, 3, 12))
    limits = [np.array([4]), scales(0.3), scales(0.2)]
    for count in (0, 1, 2, 3):
        agree("NonMaxSuppression", opset, [given, scores, *limits[:count]], {"center_point_box": centred})
    agree("NonMaxSuppression", opset, [np.roll(given, 2, axis=2), scores, *limits], {"center_point_box": centred})


def test_deform_conv():
    inputs = [drawn(1, 4, 7, 8), drawn(6, 2, 3, 3), drawn(1, 36, 6, 6, scale=0.6), drawn(6), np.abs(drawn(1, 18, 6, 6))]
    for attributes in ({"pads": [1, 0, 0, 0]}, {"pads": [0, 0, 1, 0], "kernel_shape": [3, 3]}):
        agree("DeformConv", 19, inputs, {"group": 2, "offset_group": 2, **attributes}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 2]])
def test_col2im(pads):
    rows, columns = (6 + pads[0] + pads[2] - 2) // 2 + 1, 7 + pads[1] + pads[3] - 2
    inputs = [drawn(2, 12, rows * columns), np.array([6, 7]), np.array([2, 2])]
    agree("Col2Im", 18, inputs, {"pads": pads, "strides": [2, 1], "dilations": [1, 2]})


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrence(op, direction="forward", layout=0, bias=True, state=True, steps=5, batch=3, size=4, hidden=6):
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[op]
    x = drawn(steps, batch, size)
    h, c = drawn(directions, batch, hidden, seed=1), drawn(directions, batch, hidden, seed=2)
    if layout:
        x, h, c = (np.ascontiguousarray(each.swapaxes(0, 1)) for each in (x, h, c))
    inputs = [
        x,
        drawn(directions, gates * hidden, size, scale=0.5),
        drawn(directions, gates * hidden, hidden, scale=0.5),
    ]
    inputs += [drawn(directions, 2 * gates * hidden, seed=3) if bias else None, None]
    inputs += [h if state else None] + ([c if state else None] if op == "LSTM" else [])
    return inputs


@pytest.mark.parametrize("opset", [9, 22])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("form", ["plain", "bare", "lengths", "clip"])
def test_recurrent(op, opset, direction, form):
    inputs = recurrence(op, direction, bias=form != "bare", state=form != "bare")
    attributes = {"hidden_size": 6, "direction": direction}
    if form == "lengths":
        inputs[4] = np.array([5, 2, 3], dtype=np.int32)
    if form == "clip":
        attributes["clip"] = 0.4
    for last in (0, 1) if op == "GRU" else (None,):
        more = {} if last is None else {"linear_before_reset": last}
        agree(op, opset, inputs, {**attributes, **more}, outputs=3 if op == "LSTM" else 2, atol=1e-5)
    agree(op, opset, inputs, attributes, outputs=1, atol=1e-5)


@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lstm_with_peepholes_and_coupled_gates(coupled, direction):
    inputs = [*recurrence("LSTM", direction), drawn(2 if direction == "bidirectional" else 1, 18, seed=4)]
    attributes = {"hidden_size": 6, "direction": direction, "input_forget": coupled}
    agree("LSTM", 14, inputs, attributes, outputs=3, atol=1e-5)
    agree("LSTM", 14, inputs[:7], attributes, outputs=3, atol=1e-5)


ACTIVATIONS = [
    ("Relu", [], []),
    ("Sigmoid", [], []),
    ("Affine", [0.7], [0.1]),
    ("LeakyRelu", [0.2], []),
    ("ThresholdedRelu", [0.3], []),
    ("ScaledTanh", [0.8], [0.6]),
    ("HardSigmoid", [0.3], [0.4]),
    ("HardSigmoid", [], []),
    ("Elu", [0.5], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
]


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_activations(op, name, alpha, beta):
    default = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
    for place in range(len(default)):
        names = [*default[:place], name, *default[place + 1 :], *default]
        attributes = {"hidden_size": 6, "direction": "bidirectional", "activations": names}
        if alpha:
            attributes["activation_alpha"] = alpha
        if beta:
            attributes["activation_beta"] = beta
        agree(op, 14, recurrence(op, "bidirectional"), attributes, outputs=2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_with_batches_first_is_the_same_turned(op, direction):
    """ONNX Runtime has no layout=1."""
    attributes = {"hidden_size": 6, "direction": direction, "linear_before_reset": 1}
    attributes = attributes if op == "GRU" else {key: attributes[key] for key in ("hidden_size", "direction")}
    outputs = 3 if op == "LSTM" else 2
    first, last = recurrence(op, direction, layout=1), recurrence(op, direction)
    found = ours(one_node(op, 14, first, {**attributes, "layout": 1}, outputs), first)
    expected = ours(one_node(op, 14, last, attributes, outputs), last)
    torch.testing.assert_close(found[0], expected[0].permute(2, 0, 1, 3))
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other.transpose(0, 1))


def onnx_order(weights, gates):
    return torch.cat([weights.chunk(len(gates))[gate] for gate in gates])[None]


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("fused", [True, False])
def test_gradients_reach_the_weights_as_in_torch(op, fused):
    gates = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}[op]
    generator = torch.Generator().manual_seed(0)
    layer = getattr(torch.nn, op)(4, 6).double()
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    expected = layer(x)[0]
    expected.square().sum().backward()
    own = dict(layer.named_parameters())
    w, r, *b = (
        onnx_order(own[f"{name}_l0"].detach(), gates).requires_grad_()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    attributes = {"hidden_size": 6} | ({"linear_before_reset": 1} if op == "GRU" else {})
    if not fused:
        attributes["clip"] = 1e6
    function = OPERATORS[op](Call(op, 14, attributes, (True,) * 4, {}, 1))
    y = function(x, w, r, torch.cat(b, 1))
    torch.testing.assert_close(y[:, 0], expected)
    y.square().sum().backward()
    for tensor, name in zip((w, r, *b), ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), strict=True):
        torch.testing.assert_close(tensor.grad, onnx_order(own[f"{name}_l0"].grad, gates))


def test_weights_of_recurrent_layers_lie_in_one_piece():
    inputs = [torch.from_numpy(each) for each in recurrence("LSTM", "bidirectional")[1:4]]
    parts = recurrent.flat_weights("LSTM", *inputs)
    order = [parts[at] for at in (0, 1, 4, 5, 2, 3, 6, 7)]
    for one, other in itertools.pairwise(order):
        assert one.data_ptr() + one.numel() * one.element_size() == other.data_ptr()


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("masked", [None, "bool", "float"])
def test_attention(causal, heads, masked):
    many, few = heads
    inputs = [drawn(2, 5, many * 6), drawn(2, 7, few * 6), drawn(2, 7, few * 6)]
    if masked:
        mask = drawn(5, 7)
        inputs.append(mask > -0.5 if masked == "bool" else mask)
    attributes = {"q_num_heads": many, "kv_num_heads": few, "is_causal": causal}
    agree("Attention", 23, inputs, attributes, rtol=1e-4, atol=1e-5)
    agree("Attention", 23, inputs, {**attributes, "softcap": 0.7, "scale": 0.3}, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_norm_is_finite_where_all_is_zero():
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    y = OPERATORS["LpNormalization"](Call("LpNormalization", 22, {"axis": 1}))(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()


DIFFERENTIABLE = [
    ("Resize", {"mode": "cubic", "exclude_outside": 1}, lambda x: (x, None, None, torch.tensor([1, 2, 7, 3]))),
    ("Resize", {"mode": "linear", "antialias": 1}, lambda x: (x, None, None, torch.tensor([1, 2, 2, 3]))),
    ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}, lambda x: (x,)),
    ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}, lambda x: (x,)),
    ("LpPool", {"kernel_shape": [2, 2], "p": 3}, lambda x: (x,)),
    ("LRN", {"size": 2}, lambda x: (x,)),
    ("Conv", {"auto_pad": "SAME_LOWER"}, lambda x: (x, torch.ones(3, 2, 2, 3).double())),
    ("ConvTranspose", {"pads": [1, 0, 0, 1], "strides": [2, 2]}, lambda x: (x, torch.ones(2, 3, 3, 3).double())),
    (
        "RoiAlign",
        {"mode": "max", "output_height": 2},
        lambda x: (x, torch.tensor([[0.3, 0.4, 3.2, 3.6]]).double(), torch.tensor([0])),
    ),
]


@pytest.mark.parametrize(("op", "attributes", "inputs"), DIFFERENTIABLE)
def test_gradients_as_by_differences(op, attributes, inputs):
    x = torch.from_numpy(drawn(1, 2, 4, 5, dtype=np.float64)).requires_grad_()
    present = tuple(each is not None for each in inputs(x))
    function = OPERATORS[op](Call(op, 18, attributes, present))
    assert torch.autograd.gradcheck(lambda x: function(*inputs(x)), (x,))


def test_a_loop_without_end_is_an_error():
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    model = one_node("Loop", 13, [None, np.array(True)], {"body": body}, 0)
    node = read_graph(model).nodes[0]
    call = Call("Loop", 13, node.attributes, (False, True), {}, 0, lambda graph, turn, going: (going,))
    with pytest.raises(ModelError, match="100,000 iterations"):
        OPERATORS["Loop"](call)(None, torch.tensor(True))


def test_a_loop_of_no_turns_gives_empty_outputs_of_the_stated_type():
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["state"], ["after"]),
            helper.make_node("Cast", ["state"], ["seen"], to=TensorProto.DOUBLE),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("seen", TensorProto.DOUBLE, [2, 3]),
        ],
    )
    inputs = [np.array(0), np.array(True), drawn(2, 3)]
    model = one_node("Loop", 13, inputs, {"body": body}, 2)
    expected = in_runtime(model, inputs)
    node = read_graph(model).nodes[0]
    call = Call("Loop", 13, node.attributes, (True,) * 3, {}, 2, lambda *_: pytest.fail("a turn was run"))
    found = OPERATORS["Loop"](call)(*map(torch.from_numpy, map(np.array, inputs)))
    for one, other in zip(found, expected, strict=True):
        assert to_array(one).dtype == other.dtype
        np.testing.assert_array_equal(to_array(one), other)


def test_scan_reads_and_writes_along_other_axes_and_backwards():
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "part"], ["after"]), helper.make_node("Identity", ["after"], ["seen"])],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("state", "part")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("after", "seen")],
    )
    attributes = {
        "body": body,
        "num_scan_inputs": 1,
        "scan_input_axes": [1],
        "scan_input_directions": [1],
        "scan_output_axes": [1],
        "scan_output_directions": [1],
    }
    inputs = [drawn(3), drawn(3, 4)]
    for opset in (9, 11, 16):
        model = one_node("Scan", opset, inputs, attributes, 2)
        expected = in_runtime(model, inputs)
        node = read_graph(model).nodes[0]
        call = Call("Scan", opset, node.attributes, (True,) * 2, {}, 2, lambda _, state, part: (state + part,) * 2)
        for one, other in zip(OPERATORS["Scan"](call)(*map(torch.from_numpy, inputs)), expected, strict=True):
            np.testing.assert_allclose(to_array(one), other, rtol=1e-6)


UNSUPPORTED = [
    ("Gelu", {"approximate": "erf"}),
    ("Conv", {"auto_pad": "SAME"}),
    ("Conv", {"kernel_shape": [1, 1, 1, 1]}),
    ("MaxPool", {}),
    ("Resize", {"mode": "area"}),
    ("Resize", {"coordinate_transformation_mode": "half"}),
    ("LSTM", {"activations": ["Sigmoid", "Tanh", "Erf"]}),
    ("LSTM", {"direction": "backward"}),
    ("RoiAlign", {"mode": "sum"}),
    ("Einsum", {}),
    ("Loop", {}),
]


@pytest.mark.parametrize(("op", "attributes"), UNSUPPORTED)
def test_what_is_not_covered_is_said_when_the_node_is_read(op, attributes):
    with pytest.raises(UnsupportedError):
        OPERATORS[op](Call(op, 18, attributes, (True, True)))
