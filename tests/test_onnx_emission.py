"""Activation functions written as ONNX nodes compute in ONNX Runtime what the catalogue's modules compute."""

from typing import Final

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from robustcheck.activations.catalogue import CATALOGUE, activation
from robustcheck.errors import SurgeryError
from robustcheck.networks.kinds import new_module
from robustcheck.networks.onnx.emission import Emission, emit
from robustcheck.networks.onnx.formulas import FORMULAS
from robustcheck.networks.onnx.graph import read_graph
from robustcheck.networks.onnx.patterns import find_activations

FLOAT, DOUBLE, HALF, BFLOAT16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16
TYPES: Final = {FLOAT: torch.float32, DOUBLE: torch.float64, HALF: torch.float16, BFLOAT16: torch.bfloat16}
OPSETS: Final = (9, 11, 13, 15, 17, 18, 20, 22, 26)
"""Up to the newest that ONNX Runtime takes."""

SPECS: Final = (
    *(name for name, entry in CATALOGUE.items() if not entry.gated and name not in ("interpolate", "surrogate")),
    *("leaky_relu(slope=0.2)", "elu(alpha=0.5)", "celu(alpha=2)", "pdelu(t=0.5)", "pdelu(t=0)", "aptx(alpha=0.5)"),
    *("interpolate(relu, gelu, i=0.25)", "interpolate(relu, silu, i=0.5)", "interpolate(relu, gelu, i=0)"),
    *("interpolate(relu, gelu, i=1, s=4)", "interpolate(relu, silu, i=1)"),
    *("interpolate(relu, gelu, i=0.25, alpha=0.1)", "interpolate(relu, silu, i=0, alpha=0.1)"),
    *("surrogate(relu, gelu)", "surrogate(leaky_relu, tanh)", "surrogate(mish, relu)", "surrogate(elu, selu)"),
    *("surrogate(leaky_relu(slope=0.2), gelu)", "surrogate(interpolate(relu, gelu, i=0.25), relu)"),
)
SAME: Final = (
    *("relu", "leaky_relu", "leaky_relu(slope=0.2)", "prelu", "elu", "elu(alpha=0.5)", "selu", "celu(alpha=2)"),
    *("gelu", "gelu_tanh", "gelu_sigmoid", "silu", "mish", "softplus", "relu6", "hardswish", "hardtanh", "hardsigmoid"),
    *("softsign", "sigmoid", "tanh", "lisht", "elliott"),
)
READ_BACK: Final = {
    **{spec: spec for spec in SAME},
    "swish": "silu",
    "aptx": "swish(beta=2)",
    "aptx_learned": "swish(beta=2)",
    "interpolate(relu, gelu, i=0)": "relu",
    "interpolate(relu, silu, i=1)": "silu",
    "interpolate(relu, silu, i=0, alpha=0.1)": "leaky_relu(slope=0.1)",
    "surrogate(relu, gelu)": "relu",
    "surrogate(leaky_relu, tanh)": "leaky_relu",
    "surrogate(mish, relu)": "mish",
    "surrogate(elu, selu)": "elu",
    "surrogate(leaky_relu(slope=0.2), gelu)": "leaky_relu(slope=0.2)",
}
"""What a function that was written is found to be: as values say, x(1 + tanh x)/2 is x·sigmoid(2x). Others: none."""


def points(limit: float = 1e4) -> torch.Tensor:
    near = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    tiny = torch.logspace(-6, 0, 61, dtype=torch.float64)
    far = torch.logspace(0.9, np.log10(limit), 100, dtype=torch.float64)
    return torch.cat([near, tiny, -tiny, far, -far, torch.tensor([0.0, 3.0, -3.0, 6.0, -1e-4])]).reshape(-1, 4)


def trained(spec: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The catalogue's module with learned parameters moved from where they start."""
    module = new_module(activation(spec))
    with torch.no_grad():
        for position, parameter in enumerate(module.parameters()):
            parameter.mul_(1.07).add_(0.01 * (position + 1))
    return module.to(dtype)


def written(module: nn.Module, spec: str, opset: int, kind: int = FLOAT, rank: int | None = 2) -> Emission:
    return emit(module, spec, source="x", target="y", opset=opset, element_type=kind, prefix="net/act", rank=rank)


def model_of(emission: Emission, opset: int, kind: int = FLOAT, rank: int = 2, inner: bool = False) -> onnx.ModelProto:
    """A model of nothing else; `inner` adds a reduction, so that the result is not the output."""
    axes = [f"n{axis}" for axis in range(rank)]
    nodes = [*emission.nodes, *([helper.make_node("ReduceMean", ["y"], ["out"], keepdims=0)] if inner else [])]
    output = helper.make_tensor_value_info(*(("out", kind, []) if inner else ("y", kind, axes)))
    given = [helper.make_tensor_value_info("x", kind, axes)]
    graph = helper.make_graph(nodes, "g", given, [output], list(emission.initialisers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto, x: torch.Tensor) -> torch.Tensor:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to values beyond 1; infinite where a value is not finite."""
    found, expected = found.double(), expected.double()
    difference = (found - expected).abs() / expected.abs().clamp(min=1)
    return float(difference.nan_to_num(nan=float("inf")).max())


@pytest.mark.parametrize("spec", [*SPECS, "pdelu(t=0.999)"])
def test_computes_what_the_module_computes_at_every_opset(spec: str) -> None:
    module, x = trained(spec), points().float()
    with torch.no_grad():
        expected = module(x)
    # A mean of values up to 1e4 is subtracted.
    tolerance = 1e-5 if spec == "abrelu" else 2e-6
    for opset in OPSETS:
        assert error(run(model_of(written(module, spec, opset), opset), x), expected) < tolerance, opset


@pytest.mark.parametrize("spec", SPECS)
def test_computes_it_in_double_precision(spec: str) -> None:
    module, x = trained(spec, torch.float64), points()
    with torch.no_grad():
        expected = module(x)
    # ONNX Runtime has the error function in single precision only; torch's softplus is x itself above 20.
    tolerance = 2e-7 if "gelu" in spec and spec not in ("gelu_tanh", "gelu_sigmoid") else 1e-8
    for opset in (9, 17, 22):
        assert error(run(model_of(written(module, spec, opset, DOUBLE), opset, DOUBLE), x), expected) < tolerance, opset


@pytest.mark.parametrize("spec", SPECS)
def test_computes_it_in_half_precision(spec: str) -> None:
    limit = 3.0 if spec == "polynorm" else 8.0  # the square of a third power leaves the range at 6
    module, x = trained(spec, torch.float16), points(8.5).clamp(-limit, limit).half()
    with torch.no_grad():
        expected = module(x)
    for opset in (11, 17, 20):
        assert error(run(model_of(written(module, spec, opset, HALF), opset, HALF), x), expected) < 6e-3, opset


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16_and_the_newest_opset_are_valid_onnx(spec: str) -> None:
    for opset, kind in ((13, BFLOAT16), (20, BFLOAT16), (28, FLOAT), (28, BFLOAT16)):
        emission = written(trained(spec, TYPES[kind]), spec, opset, kind)
        onnx.checker.check_model(model_of(emission, opset, kind), full_check=True)
        assert all(tensor.data_type == kind for tensor in emission.initialisers)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("opset", [9, 13, 20])
def test_what_was_written_is_found_again_as_what_it_is(spec: str, opset: int) -> None:
    module = new_module(activation(spec))
    for kind in (FLOAT, DOUBLE, HALF):
        found = find_activations(read_graph(model_of(written(module, spec, opset, kind), opset, kind, inner=True)))
        expected = READ_BACK.get(spec)
        if spec == "celu":  # with alpha 1 it is ELU where ONNX has no operator for it
            expected = "celu" if opset >= 12 and kind == FLOAT else "elu"
        if spec == "prelu" and kind == DOUBLE:
            expected = "leaky_relu(slope=0.25)"
        assert [pattern.kind for pattern in found] == ([] if expected is None else [expected])
        assert [(pattern.input, pattern.output) for pattern in found] == [("x", "y")] * len(found)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("spec", ["polynorm", "abrelu"])
def test_functions_of_several_values_follow_the_number_of_axes(spec: str, rank: int) -> None:
    module = trained(spec)
    x = torch.linspace(-2, 3, 120).reshape((2, 60) if rank == 2 else (2, 3, 20) if rank == 3 else (2, 3, 4, 5))
    with torch.no_grad():
        expected = module(x)
    for opset in (11, 18):
        assert error(run(model_of(written(module, spec, opset, rank=rank), opset, rank=rank), x), expected) < 1e-6


def test_learned_parameters_are_initialisers_with_the_trained_values() -> None:
    module = trained("pau")
    emission = written(module, "pau", 17)
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in emission.initialisers}
    assert set(tensors) == {"net/act.a", "net/act.b"}
    for name, parameter in module.named_parameters():
        assert np.array_equal(tensors[f"net/act.{name}"], parameter.detach().numpy())


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_the_slope_of_a_prelu_fits_any_number_of_axes(shape: tuple[int, ...]) -> None:
    module, x = trained("prelu"), torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    found = run(model_of(written(module, "prelu", 17), 17, rank=len(shape)), x)
    assert torch.equal(found, module(x).detach())


def test_names_are_unique_and_under_the_prefix() -> None:
    for spec in SPECS:
        emission = written(trained(spec), spec, 17)
        names = [node.name for node in emission.nodes]
        outputs = [name for node in emission.nodes for name in node.output]
        assert len({*names}) == len(names)
        assert len({*outputs}) == len(outputs)
        assert all(name.startswith("net/act/") for name in names)
        assert all(name == "y" or name.startswith("net/act/") for name in outputs)


def test_a_softplus_with_beta_and_threshold_is_written_as_torch_has_it() -> None:
    module, x = nn.Softplus(2.0, 5.0), points().float()
    found = run(model_of(written(module, "softplus(beta=2, threshold=5)", 17), 17), x)
    assert error(found, module(x)) < 1e-6


def test_all_of_the_catalogue_that_is_not_gated_can_be_written() -> None:
    assert set(FORMULAS) == {name for name, entry in CATALOGUE.items() if not entry.gated}


@pytest.mark.parametrize(
    ("spec", "opset", "kind", "rank", "message"),
    [
        ("swiglu", 17, FLOAT, 2, "can be written as ONNX"),
        ("polynorm", 17, FLOAT, None, "number of axes is known"),
        ("abrelu", 17, FLOAT, 1, "got 1"),
        ("gelu", 8, FLOAT, 2, "from opset 9 on"),
        ("gelu", 12, BFLOAT16, 2, "from opset 13 on"),
        ("gelu", 17, TensorProto.INT8, 2, "element type 3"),
    ],
)
def test_what_cannot_be_written_is_refused(spec: str, opset: int, kind: int, rank: int | None, message: str) -> None:
    with pytest.raises(SurgeryError, match=message):
        written(new_module(activation(spec)), spec, opset, kind, rank)
