"""Activations against closed forms, torch's own modules, automatic and finite differences."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from robustcheck.activations.catalogue import CATALOGUE, activation
from robustcheck.activations.cost import cost
from robustcheck.activations.curves import curve, evaluated, value_and_derivative
from robustcheck.activations.properties import properties
from robustcheck.errors import InvalidValueError, RobustcheckError, UnknownNameError, UsageError

INF = math.inf

# Published values at x = -2, -1, 0, 1, 2.
TABLE = {
    "sigmoid": (0.119203, 0.268941, 0.5, 0.731059, 0.880797),
    "tanh": (-0.964028, -0.761594, 0, 0.761594, 0.964028),
    "elliott": (0.166667, 0.25, 0.5, 0.75, 0.833333),
    "relu": (0, 0, 0, 1, 2),
    "leaky_relu": (-0.02, -0.01, 0, 1, 2),
    "prelu": (-0.5, -0.25, 0, 1, 2),
    "elu": (-0.864665, -0.632121, 0, 1, 2),
    "selu": (-1.520166, -1.111331, 0, 1.050701, 2.101402),
    "celu": (-0.864665, -0.632121, 0, 1, 2),
    "gelu": (-0.0455, -0.158655, 0, 0.841345, 1.9545),
    "softplus": (0.126928, 0.313262, 0.693147, 1.313262, 2.126928),
    "swish": (-0.238406, -0.268941, 0, 0.731059, 1.761594),
    "swish(beta=0.25)": (-0.755081, -0.437823, 0, 0.562177, 1.244919),
    "silu": (-0.238406, -0.268941, 0, 0.731059, 1.761594),
    "lisht": (1.928055, 0.761594, 0, 0.761594, 1.928055),
    "srs": (-1.292212, -0.836391, 0, 1.09107, 2.18958),
    "mish": (-0.252501, -0.303401, 0, 0.865098, 1.943959),
    "pau": (-0.018846, -0.009189, 0.033558, 1.000811, 2.001154),
    "pdelu": (-0.892626, -0.651322, 0, 1, 2),
    "aptx(beta=0.5)": (-0.238406, -0.268941, 0, 0.731059, 1.761594),
}

NUMPY = SimpleNamespace(
    exp=np.exp, log=np.log, tanh=np.tanh, abs=np.abs, where=np.where, erf=scipy.special.erf, clip=np.clip
)
TORCH = SimpleNamespace(
    exp=torch.exp, log=torch.log, tanh=torch.tanh, abs=torch.abs, where=torch.where, erf=torch.erf, clip=torch.clamp
)


def _gelu(x: Any, m: Any, s: float = 1.0) -> Any:
    return 0.5 * x * (1 + m.erf(s * x / math.sqrt(2)))


def _silu(x: Any, m: Any, beta: float = 1.0) -> Any:
    return x / (1 + m.exp(-beta * x))


def _relu(x: Any, m: Any) -> Any:
    return m.where(x > 0, x, 0 * x)


def _exponential(x: Any, m: Any, scale: float, rate: float) -> Any:
    return m.where(x > 0, x, scale * (m.exp(x / rate) - 1))


def _pdelu(x: Any, m: Any, alpha: float, t: float) -> Any:
    return m.where(x > 0, x, alpha * (m.clip(1 + (1 - t) * x, 0, None) ** (1 / (1 - t)) - 1))


def _pau(x: Any, m: Any) -> Any:
    a = (0.0335583603, 0.505000375, 1.65343934, 2.01001052, 0.931901999, 0.152424124)
    b = (3.30847488e-6, 3.98021568, 5.12471206e-7, 0.301830109)
    return sum(c * x**k for k, c in enumerate(a)) / (1 + sum(c * m.abs(x) ** k for k, c in enumerate(b, start=1)))


def _aptx(x: Any, m: Any, alpha: float = 1, beta: float = 1, gamma: float = 0.5) -> Any:
    return (alpha + m.tanh(beta * x)) * gamma * x


# Textbook formulas, written once for NumPy and torch, and the kinks near which differences say nothing.
FORMULAS: dict[str, tuple[Callable[[Any, Any], Any], tuple[float, ...]]] = {
    "sigmoid": (lambda x, m: 1 / (1 + m.exp(-x)), ()),
    "tanh": (lambda x, m: 1 - 2 / (m.exp(2 * x) + 1), ()),
    "elliott": (lambda x, m: 0.5 * x / (1 + m.abs(x)) + 0.5, (0,)),
    "relu": (_relu, (0,)),
    "leaky_relu": (lambda x, m: m.where(x > 0, x, 0.01 * x), (0,)),
    "leaky_relu(0.2)": (lambda x, m: m.where(x > 0, x, 0.2 * x), (0,)),
    "prelu": (lambda x, m: m.where(x > 0, x, 0.25 * x), (0,)),
    "elu": (lambda x, m: _exponential(x, m, 1, 1), (0,)),
    "elu(alpha=2)": (lambda x, m: _exponential(x, m, 2, 1), (0,)),
    "selu": (lambda x, m: 1.0507009873554805 * _exponential(x, m, 1.6732632423543772, 1), (0,)),
    "celu": (lambda x, m: _exponential(x, m, 1, 1), (0,)),
    "celu(alpha=2)": (lambda x, m: _exponential(x, m, 2, 2), (0,)),
    "gelu": (_gelu, ()),
    "softplus": (lambda x, m: m.log(1 + m.exp(x)), ()),
    "swish": (_silu, ()),
    "swish(beta=0.25)": (lambda x, m: _silu(x, m, 0.25), ()),
    "silu": (_silu, ()),
    "lisht": (lambda x, m: x * m.tanh(x), ()),
    "srs": (lambda x, m: x / (x / 5 + m.exp(-x / 3)), ()),
    "srs(p=4, q=2)": (lambda x, m: x / (x / 4 + m.exp(-x / 2)), ()),
    "mish": (lambda x, m: x * m.tanh(m.log(1 + m.exp(x))), ()),
    "pdelu": (lambda x, m: _pdelu(x, m, 1, 0.9), (0,)),
    "pdelu(alpha=0.5, t=0.5)": (lambda x, m: _pdelu(x, m, 0.5, 0.5), (0, -2)),
    "gelu_tanh": (lambda x, m: 0.5 * x * (1 + m.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), ()),
    "gelu_sigmoid": (lambda x, m: x / (1 + m.exp(-1.702 * x)), ()),
    "aptx": (_aptx, ()),
    "aptx(alpha=0.5, beta=2, gamma=1)": (lambda x, m: _aptx(x, m, 0.5, 2, 1), ()),
    "aptx_learned": (_aptx, ()),
    "relu6": (lambda x, m: m.clip(x, 0, 6), (0, 6)),
    "hardswish": (lambda x, m: x * m.clip(x + 3, 0, 6) / 6, (-3, 3)),
    "hardtanh": (lambda x, m: m.clip(x, -1, 1), (-1, 1)),
    "hardsigmoid": (lambda x, m: m.clip(x / 6 + 0.5, 0, 1), (-3, 3)),
    "softsign": (lambda x, m: x / (1 + m.abs(x)), (0,)),
    "pau": (_pau, ()),
    "polyrelu": (lambda x, m: sum(_relu(x, m) ** k for k in (1, 2, 3)) / 3, (0,)),
    "interpolate": (lambda x, m: 0.5 * _relu(x, m) + 0.5 * _gelu(x, m), (0,)),
    "interpolate(relu, gelu, i=0.25, s=2)": (lambda x, m: 0.75 * _relu(x, m) + 0.25 * _gelu(x, m, 2), (0,)),
    "interpolate(relu, silu, i=0.7)": (lambda x, m: 0.3 * _relu(x, m) + 0.7 * _silu(x, m), (0,)),
    "interpolate(relu, gelu, i=0.25, alpha=0.1)": (
        lambda x, m: 0.75 * m.where(x > 0, x, 0.1 * x) + 0.25 * _gelu(x, m),
        (0,),
    ),
}

TORCH_MODULES = {
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
    "leaky_relu(0.2)": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(),
    "elu(2)": nn.ELU(2),
    "selu": nn.SELU(),
    "celu(2)": nn.CELU(2),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "softplus": nn.Softplus(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "relu6": nn.ReLU6(),
    "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(),
    "hardsigmoid": nn.Hardsigmoid(),
    "softsign": nn.Softsign(),
    "interpolate(relu, gelu, i=0)": nn.ReLU(),
    "interpolate(relu, silu, i=0)": nn.ReLU(),
    "interpolate(relu, gelu, i=1)": nn.GELU(),
    "interpolate(relu, silu, i=1)": nn.SiLU(),
    "interpolate(relu, gelu, i=0, alpha=0.1)": nn.LeakyReLU(0.1),
}

NON_MONOTONE = {
    *("gelu", "swish", "silu", "mish", "lisht", "srs", "pau", "aptx", "gelu_tanh", "gelu_sigmoid", "hardswish")
}


def test_catalogue_has_every_function() -> None:
    mixing = {"abrelu", "polynorm", "reglu", "geglu", "swiglu"}
    assert {activation(spec).name for spec in FORMULAS} | mixing | {"surrogate"} == set(CATALOGUE)
    assert {name for name in CATALOGUE if not activation(name).elementwise} == mixing
    assert {name for name in CATALOGUE if activation(name).gated} == {"reglu", "geglu", "swiglu"}


@pytest.mark.parametrize("spec", TABLE)
def test_published_values(spec: str) -> None:
    value, _ = value_and_derivative(activation(spec), [-2, -1, 0, 1, 2])
    np.testing.assert_allclose(value, TABLE[spec], rtol=0, atol=6e-7)


@pytest.mark.parametrize("spec", FORMULAS)
def test_values_equal_the_textbook_formula(spec: str) -> None:
    x = np.linspace(-7, 7, 1401)
    value, _ = value_and_derivative(activation(spec), x.tolist())
    np.testing.assert_allclose(value, FORMULAS[spec][0](x, NUMPY), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("spec", FORMULAS)
def test_derivatives_equal_autograd_and_differences_of_the_textbook_formula(spec: str) -> None:
    formula, kinks = FORMULAS[spec]
    x = np.linspace(-7, 7, 1401) + 0.0037
    x = x[np.all([np.abs(x - kink) > 1e-3 for kink in kinks], axis=0)] if kinks else x
    _, derivative = value_and_derivative(activation(spec), x.tolist())
    point = torch.tensor(x, requires_grad=True)
    (expected,) = torch.autograd.grad(formula(point, TORCH).sum(), point)
    # torch's hard sigmoid has a slope of 1/6 in float32, whatever the dtype.
    np.testing.assert_allclose(derivative, expected.numpy(), rtol=1e-9, atol=1e-8 if spec == "hardsigmoid" else 1e-11)
    h = 1e-5
    differences = (formula(x + h, NUMPY) - formula(x - h, NUMPY)) / (2 * h)
    np.testing.assert_allclose(derivative, differences, rtol=1e-6, atol=1e-8)


def _inputs_for(name: str) -> torch.Tensor:
    shape = (3, 4, 2, 2) if name == "polynorm" else (3, 4)
    count = math.prod(shape)
    # Irregular, and away from all kinks.
    return torch.tensor([2.9 * math.sin(1.7 * k + 0.4) for k in range(count)], dtype=torch.float64).reshape(shape)


@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - {"surrogate"}))
def test_gradients_of_input_and_learned_parameters_equal_differences(name: str) -> None:
    module = activation(name).module(dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]

    def apply(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    # Moved off their starting values, some of which are 0 or next to the kink of an absolute value.
    inputs = [_inputs_for(name), *(p.detach() + 0.1 for p in module.parameters())]
    assert torch.autograd.gradcheck(apply, [tensor.requires_grad_(True) for tensor in inputs], atol=1e-7)


SURROGATES = (
    *(("relu", "gelu"), ("gelu", "relu"), ("softplus", "tanh"), ("leaky_relu", "hardsigmoid"), ("silu", "silu")),
    *(("relu", "leaky_relu(0.25)"), ("interpolate(relu, gelu, i=0.5)", "elu(2)")),
)


@pytest.mark.parametrize(("value", "derivative"), SURROGATES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_surrogate_has_the_value_of_one_and_the_derivative_of_the_other(value, derivative, dtype) -> None:
    x = torch.cat([torch.linspace(-9, 9, 1801, dtype=dtype), torch.tensor([0.0, 1e4, -1e4], dtype=dtype)])
    upstream = torch.linspace(-2, 2, len(x), dtype=dtype)
    module = activation(f"surrogate({value}, {derivative})").module().to(dtype)
    point, other = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    output = module(point)
    assert torch.equal(output, activation(value).module()(x))
    (gradient,) = torch.autograd.grad(output, point, upstream)
    (expected,) = torch.autograd.grad(activation(derivative).module()(other), other, upstream)
    assert torch.equal(gradient, expected)
    with torch.no_grad():
        assert torch.equal(module(x), output)


def test_without_gradients_a_surrogate_computes_its_value_alone() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    ran = []

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            ran.append(func.__name__.partition(".")[0])
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Listen():
        activation("surrogate(relu, gelu)").module()(torch.ones(2))
    assert "relu" in ran
    assert "gelu" not in ran


@pytest.mark.parametrize("spec", TORCH_MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bit_equal_to_torch(spec: str, dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-30, 30, 6001, dtype=dtype), torch.tensor([0.0, -0.0, INF], dtype=dtype)])
    outcomes = []
    for module in (activation(spec).module(), TORCH_MODULES[spec]):
        point = x.clone().requires_grad_(True)
        output = copy.deepcopy(module).to(dtype)(point)
        (gradient,) = torch.autograd.grad(output, point, torch.ones_like(output))
        outcomes.append((output.detach(), gradient))
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("name", "worst"), [("gelu_tanh", 4.732e-4), ("gelu_sigmoid", 2.0335e-2)])
def test_worst_error_of_the_gelu_approximations(name: str, worst: float) -> None:
    x = np.linspace(-10, 10, 200_001)
    value, _ = value_and_derivative(activation(name), x.tolist())
    assert np.abs(np.array(value) - x * scipy.special.ndtr(x)).max() == pytest.approx(worst, rel=2e-4)


def test_check_values_of_aptx_and_the_exact_ties() -> None:
    value, derivative = value_and_derivative(activation("aptx"), [1, -1])
    assert value == pytest.approx([0.880797, -0.119203], abs=6e-7)
    assert derivative[0] == pytest.approx(1.090784, abs=6e-7)
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for one, other in (("aptx(beta=0.5)", "silu"), ("elu(1)", "celu(1)")):
        for ours, theirs in zip(evaluated(activation(one), x), evaluated(activation(other), x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_check_values_of_the_polynomials() -> None:
    value, _ = value_and_derivative(activation("polyrelu"), [2, 0.5, -3])
    assert value == pytest.approx([14 / 3, 0.2916666667, 0])
    normed = activation("polynorm").module()(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert normed.tolist() == pytest.approx([0.166683, 0.461432, 0.941450, 1.663938], abs=2e-6)


def test_polynorm_normalises_the_channels_of_images_and_the_last_axis_otherwise() -> None:
    module = activation("polynorm").module(dtype=torch.float64)
    images = _inputs_for("polynorm")
    z = images.numpy()
    expected = sum(z**k / np.sqrt((z ** (2 * k)).mean(axis=1, keepdims=True) + 1e-6) / 3 for k in (1, 2, 3))
    np.testing.assert_allclose(module(images).detach().numpy(), expected, rtol=1e-12)
    channels_last = images.permute(0, 2, 3, 1)
    torch.testing.assert_close(
        module(images).permute(0, 2, 3, 1), module(channels_last.reshape(12, 4)).view(3, 2, 2, 4)
    )


def test_abrelu_takes_the_mean_of_each_sample() -> None:
    module = activation("abrelu").module()
    x = _inputs_for("polynorm")
    z = x.numpy()
    np.testing.assert_allclose(module(x), np.maximum(0, z - z.mean(axis=(1, 2, 3), keepdims=True)), atol=1e-15)
    assert torch.equal(module(x)[1:2], module(x[1:2]))
    assert module(torch.tensor([1.0, 2.0, 6.0])).tolist() == [0, 0, 3]


@pytest.mark.parametrize(("name", "act"), [("reglu", "relu"), ("geglu", "gelu"), ("swiglu", "silu")])
def test_gated_functions_multiply_the_activated_first_half_by_the_second(name: str, act: str) -> None:
    x = _inputs_for(name)
    expected = FORMULAS[act][0](x[:, :2], TORCH) * x[:, 2:]
    torch.testing.assert_close(activation(name).module()(x), expected)
    with pytest.raises(InvalidValueError, match="even width, got 3"):
        activation(name).module()(x[:, :3])


GATED_ENDS = {"reglu": "relu", "geglu": "gelu", "swiglu": "silu"}


@pytest.mark.parametrize("target", ["geglu", "swiglu"])
@pytest.mark.parametrize("values", ["i=0.25", "i=0.5, alpha=0.1", "i=1", "i=0"])
def test_a_gated_interpolation_multiplies_the_interpolated_first_half_by_the_second(target: str, values: str) -> None:
    found = activation(f"interpolate(reglu, {target}, {values})")
    inner = activation(f"interpolate(relu, {GATED_ENDS[target]}, {values})")
    assert (found.gated, found.elementwise, found.inner) == (True, False, inner)
    assert inner.inner is None
    x = _inputs_for("reglu")
    i, alpha = (dict(found.parameters)[name] for name in ("i", "alpha"))
    a, b = x.numpy()[:, :2], x.numpy()[:, 2:]
    ends = np.where(a > 0, a, alpha * a), FORMULAS[GATED_ENDS[target]][0](a, NUMPY)
    expected = (ends[0] + i * (ends[1] - ends[0])) * b
    module = found.module(dtype=torch.float64)
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(module, x.requires_grad_(True))
    if values in ("i=0", "i=1"):
        end = activation("reglu" if values == "i=0" else target).module()
        assert torch.equal(module(x), end(x))


def test_what_is_inside_of_a_gated_one() -> None:
    inside = {name: found.spec for name in CATALOGUE if (found := activation(name).inner) is not None}
    assert inside == GATED_ENDS


@pytest.mark.parametrize("i", [0, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("target", ["gelu", "silu"])
def test_the_jump_of_the_interpolation_is_what_is_left_of_relu(target: str, i: float) -> None:
    found = activation(f"interpolate(relu, {target}, i={i})")
    _, (left, at, right) = value_and_derivative(found, [-1e-9, 0, 1e-9])
    assert right - left == pytest.approx(1 - i, abs=1e-8)
    assert at == pytest.approx(i / 2, abs=1e-12)  # relu′(0) = 0


INTERPOLATIONS = (
    *("interpolate(relu, gelu, i=1, s=3)", "interpolate(relu, gelu, i=0.25, s=3)", "interpolate(relu, silu, i=0.5)"),
    *("interpolate(relu, silu, i=0.9, alpha=0.1)", "interpolate(reglu, geglu, i=0.25)"),
    "interpolate(reglu, swiglu, i=0.5)",
)


@pytest.mark.parametrize("spec", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_interpolations_are_finite_far_from_zero_in_half_precision(spec: str, dtype: torch.dtype) -> None:
    # The second half is 1, since a product of 1e4 and 1e4 leaves the range of float16 whatever the activation.
    point = torch.tensor(
        [[x, 1.0] for x in (-1e4, -89.0, -10.0, 0.0, 10.0, 89.0, 1e4)], dtype=dtype, requires_grad=True
    )
    output = activation(spec).module()(point)
    (gradient,) = torch.autograd.grad(output.sum(), point)
    assert torch.isfinite(output).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("spec", [*CATALOGUE, *INTERPOLATIONS, "pdelu(t=0)", "pdelu(t=0.999)"])
def test_finite_far_from_zero_in_float32(spec: str) -> None:
    module = activation(spec).module()
    ends = [0.0, 1e-30, 1.0, 9.999, 10.0, 10.001, 50.0, 88.0, 89.0, 104.0, 300.0, 1e3, 1e4]
    point = torch.tensor([[x, -x] for x in ends], requires_grad=True)
    output = module(point)
    gradients = torch.autograd.grad(output.sum(), [point, *module.parameters()])
    for tensor in (output, *gradients):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shape_and_dtype_stay(name: str, dtype: torch.dtype) -> None:
    found = activation(name)
    module = found.module().to(dtype)
    shapes = [(2,), (0,), (0, 4), (3, 4), (2, 3, 4), (2, 3, 4, 4), (2, 0, 4, 4)]
    for shape in shapes if found.gated else [*shapes, (), (3, 0)]:
        x = torch.full(shape, -0.75, dtype=dtype)
        output = module(x)
        assert output.dtype == dtype
        assert output.shape == ((*shape[:-1], shape[-1] // 2) if found.gated else shape)
        assert torch.equal(x, torch.full(shape, -0.75, dtype=dtype)), "the input was written to"


@pytest.mark.parametrize("name", CATALOGUE)
def test_modules_are_fresh_copyable_saveable_and_draw_no_random_numbers(name: str) -> None:
    found = activation(name)
    before = torch.get_rng_state()
    module = found.module()
    assert torch.equal(torch.get_rng_state(), before)
    assert tuple(key for key, _ in module.named_parameters()) == found.learned
    assert found.module() is not module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.125
    x = _inputs_for(name).float()
    twin, restored = copy.deepcopy(module), found.module()
    restored.load_state_dict(load(save(module.state_dict())))
    assert torch.equal(twin(x), module(x))
    assert torch.equal(restored(x), module(x))
    if found.learned:
        assert not torch.equal(found.module()(x), module(x))


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("leaky_relu(0.05)", "leaky_relu(slope=0.05)"),
        ("leaky_relu(slope=0.01)", "leaky_relu"),
        (" ReLU ( ) ", "relu"),
        ("aptx(gamma=.25,beta=5e-1)", "aptx(beta=0.5, gamma=0.25)"),
        ("aptx(alpha=-0.0)", "aptx(alpha=0)"),
        ("elu(+2)", "elu(alpha=2)"),
        ("interpolate", "interpolate(relu, gelu, i=0.5)"),
        ("interpolate(relu, gelu, i=0.25, s=1)", "interpolate(relu, gelu, i=0.25)"),
        ("interpolate(target=silu, i=1)", "interpolate(relu, silu, i=1)"),
        ("interpolate(relu,gelu,0.1,2)", "interpolate(relu, gelu, i=0.1, s=2)"),
        ("interpolate(relu, silu, alpha=0.01, i=1e-3)", "interpolate(relu, silu, i=0.001, alpha=0.01)"),
        ("interpolate(reglu,geglu,0.1,2)", "interpolate(reglu, geglu, i=0.1, s=2)"),
        ("interpolate(reglu, swiglu, s=1)", "interpolate(reglu, swiglu, i=0.5)"),
        ("surrogate", "surrogate(relu, gelu)"),
        ("Surrogate(derivative=relu, value=tanh)", "surrogate(tanh, relu)"),
        ("surrogate(relu(),leaky_relu( .25 ))", "surrogate(relu, leaky_relu(slope=0.25))"),
        (
            "surrogate(derivative=interpolate(relu, silu, 0.25), value=elu(1))",
            "surrogate(elu, interpolate(relu, silu, i=0.25))",
        ),
    ],
)
def test_canonical_spelling(spec: str, canonical: str) -> None:
    assert activation(spec).spec == canonical
    assert activation(spec) == activation(canonical)
    assert hash(activation(spec)) == hash(activation(canonical))


def test_modules_that_torch_does_not_have_say_what_they_are() -> None:
    for spec in ("aptx(beta=0.5)", "aptx_learned", "interpolate(relu, silu, i=0.2)", "polynorm"):
        assert copy.deepcopy(activation(spec).module()).activation_spec == spec
    gated = activation("interpolate(reglu, swiglu, i=0.2)").module()
    assert copy.deepcopy(gated).inner.activation_spec == "interpolate(relu, silu, i=0.2)"


@st.composite
def _specs(draw: st.DrawFn) -> str:
    entry = CATALOGUE[draw(st.sampled_from(sorted(CATALOGUE)))]
    said = []
    for parameter in entry.parameters:
        if draw(st.booleans()):
            value: object
            if parameter.function:
                value = draw(st.sampled_from(["tanh", "elu(2)", "leaky_relu(0.1)", "interpolate(relu, gelu, i=0.25)"]))
            elif parameter.choices:
                value = draw(st.sampled_from(parameter.choices))
            else:
                value = draw(st.floats(parameter.low, parameter.high, exclude_max=parameter.high_open))
            said.append(f"{parameter.name}={value}")
    return f"{entry.name}({', '.join(draw(st.permutations(said)))})"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_specs())
def test_the_canonical_spelling_is_read_back(spec: str) -> None:
    try:
        found = activation(spec)
    except InvalidValueError as error:
        if not any(reason in str(error) for reason in ("pole", "steepness", "both ends are gated")):
            raise
        return
    assert activation(found.spec) == found
    assert activation(found.spec).spec == found.spec


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(st.text(), st.text("aelursg_()=,.0123456789einf -", max_size=40), st.just("relu" + "(" * 1000)))
def test_any_text_is_read_or_refused_clearly(spec: str) -> None:
    try:
        found = activation(spec)
    except UsageError:
        return
    assert activation(found.spec) == found


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("gleu", UnknownNameError, "did you mean 'gelu'"),
        ("", InvalidValueError, "leaky_relu"),
        ("relu(", InvalidValueError, "NAME"),
        ("relu()()", InvalidValueError, "NAME"),
        ("relu(1)", InvalidValueError, "at most 0 parameters"),
        ("elu(alfa=2)", InvalidValueError, "expected alpha, got 'alfa'"),
        ("elu(alpha=2, alpha=3)", InvalidValueError, "one value"),
        ("elu(2, alpha=3)", InvalidValueError, "one value"),
        ("elu(2,)", InvalidValueError, "argument 2"),
        ("aptx(beta=1, 2)", InvalidValueError, "after the first NAME=VALUE"),
        ("elu(alpha=gelu)", InvalidValueError, "a number"),
        ("elu(alpha=True)", InvalidValueError, "a number"),
        ("elu(alpha=0)", InvalidValueError, "0.001 <= alpha <= 1000"),
        ("elu(nan)", InvalidValueError, "a number"),
        ("elu(inf)", InvalidValueError, "a number"),
        ("elu(1e999)", InvalidValueError, "alpha <= 1000, got inf"),
        ("elu(1_0)", InvalidValueError, "a number"),
        ("leaky_relu(1)", InvalidValueError, "slope < 1"),
        ("leaky_relu(64)", InvalidValueError, "slope < 1"),
        ("pdelu(t=1)", InvalidValueError, "t < 1"),
        ("srs(p=1, q=2.72)", InvalidValueError, "q < e·p"),
        ("interpolate(gelu, relu)", InvalidValueError, "expected relu or reglu, got 'gelu'"),
        ("interpolate(relu, mish)", InvalidValueError, "gelu or silu"),
        ("interpolate(relu, 3)", InvalidValueError, "gelu or silu"),
        ("interpolate(relu, gelu, i=1.5)", InvalidValueError, "i <= 1"),
        ("interpolate(relu, silu, s=2)", InvalidValueError, "only gelu and geglu have a steepness"),
        ("interpolate(reglu, swiglu, s=2)", InvalidValueError, "expected no s with swiglu, got 2"),
        ("interpolate(reglu, gelu)", InvalidValueError, "geglu or swiglu from reglu, got 'gelu'; both ends are gated"),
        ("interpolate(relu, swiglu)", InvalidValueError, "gelu or silu from relu, got 'swiglu'"),
        ("interpolate(relu, gelu, alpha=1)", InvalidValueError, "alpha < 1"),
        ("surrogate(prelu, gelu)", InvalidValueError, "got 'prelu'"),
        ("surrogate(relu, geglu)", InvalidValueError, "got 'geglu'"),
        ("surrogate(0.5)", InvalidValueError, "got '0.5'"),
        (
            "surrogate(surrogate, relu)",
            InvalidValueError,
            "value: expected an elementwise activation that learns nothing",
        ),
        ("surrogate(relu, abrelu)", InvalidValueError, "elementwise activation that learns nothing, got 'abrelu'"),
        ("surrogate(relu, foo(1))", UnknownNameError, "unknown activation 'foo'"),
        ("surrogate(relu, elu(0))", InvalidValueError, "0.001 <= alpha <= 1000, got 0"),
        ("surrogate(relu, leaky_relu(0.2)x)", InvalidValueError, "argument 2"),
        ("surrogate(relu)(gelu)", InvalidValueError, "argument 1"),
        ("surrogate(relu, (gelu))", InvalidValueError, "argument 2"),
        ("elu(elu(2))", InvalidValueError, "a number, 0.001 <= alpha <= 1000, got 'elu(2)'"),
    ],
)
def test_what_cannot_be_read(spec: str, error: type[RobustcheckError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        activation(spec)


def test_computed_monotony() -> None:
    found = {name for name in CATALOGUE if properties(activation(name)).monotone is False}
    assert found == NON_MONOTONE | {"aptx_learned", "interpolate"}
    assert properties(activation("swish(beta=1000)")).monotone is False
    assert properties(activation("interpolate(relu, gelu, i=0)")).monotone is True


def test_computed_smoothness() -> None:
    kinked = {"relu", "leaky_relu", "prelu", "selu", "relu6", "hardswish", "hardtanh", "hardsigmoid", "polyrelu"}
    once = {"elliott", "elu", "celu", "pdelu", "softsign"}
    for name in CATALOGUE:
        if activation(name).elementwise:
            expected = "C0" if name in kinked | {"interpolate", "surrogate"} else "C1" if name in once else "smooth"
            assert properties(activation(name)).smoothness == expected, name
    for spec, smoothness in {
        "elu(2)": "C0",
        "celu(2)": "C1",
        "leaky_relu(0.9995)": "smooth",  # its derivative jumps by 5e-4, less than what counts
        "leaky_relu(0.998)": "C0",
        "swish(1000)": "smooth",
        "interpolate(relu, gelu, i=1)": "smooth",
        "interpolate(relu, silu, i=0.99)": "C0",
        "surrogate(relu, gelu)": "C0",  # that of its values, whatever it follows backwards
        "surrogate(gelu, relu)": "smooth",
    }.items():
        assert properties(activation(spec)).smoothness == smoothness, spec


def test_computed_range() -> None:
    silu_lowest = -scipy.special.lambertw(1 / math.e).real
    fine = np.linspace(-4, 0, 4_000_001)
    for spec, bounds in {
        "sigmoid": (0, 1),
        "tanh": (-1, 1),
        "elliott": (0, 1),
        "relu": (0, INF),
        "leaky_relu": (-INF, INF),
        "elu(2)": (-2, INF),
        "selu": (-1.0507009874 * 1.6732632423, INF),
        "silu": (silu_lowest, INF),
        "swish(1000)": (silu_lowest / 1000, INF),
        "swish(0.001)": (silu_lowest * 1000, INF),
        "gelu": ((fine * scipy.special.ndtr(fine)).min(), INF),
        "mish": ((fine * np.tanh(np.log1p(np.exp(fine)))).min(), INF),
        "srs": (((fine * 2) / (fine * 2 / 5 + np.exp(-fine * 2 / 3))).min(), 5),
        "pdelu": (-1, INF),
        "relu6": (0, 6),
        "hardswish": (-0.375, INF),
        "softsign": (-1, 1),
        "pau": (-INF, INF),
        "lisht": (0, INF),
        "aptx(alpha=-3)": (-INF, INF),
    }.items():
        assert properties(activation(spec)).range == pytest.approx(bounds, abs=1e-6), spec


def test_counted_parameters_and_what_has_no_properties() -> None:
    counts = {name: properties(activation(name)).learned for name in CATALOGUE}
    learned = {"prelu": 1, "swish": 1, "srs": 2, "pdelu": 1, "aptx_learned": 3, "pau": 10, "polyrelu": 4, "polynorm": 4}
    assert counts == {name: learned.get(name, 0) for name in CATALOGUE}
    assert properties(activation("abrelu")).range is None
    assert properties(activation("interpolate(reglu, geglu)")).range is None
    for name in ("abrelu", "polynorm", "geglu", "interpolate(reglu, geglu)"):
        with pytest.raises(InvalidValueError, match="elementwise") as caught:
            value_and_derivative(activation(name), [1.0])
        inside = activation(name).inner
        assert (f"inside it is {inside.spec}, which has" if inside else "no value at a point") in str(caught.value)


def test_points_and_curves() -> None:
    assert value_and_derivative(activation("relu"), []) == ([], [])
    for bad in (math.nan, INF):
        with pytest.raises(InvalidValueError, match="finite"):
            value_and_derivative(activation("relu"), [bad])
    drawn = curve(activation("leaky_relu(0.2)"), -2, 2, 5)
    assert drawn.name == "leaky_relu(slope=0.2)"
    assert drawn.x == (-2, -1, 0, 1, 2)
    assert drawn.value == pytest.approx((-0.4, -0.2, 0, 1, 2))
    assert drawn.derivative == pytest.approx((0.2, 0.2, 0.2, 1, 1))
    with pytest.raises(InvalidValueError, match="low < high"):
        curve(activation("relu"), 1, 1)


def test_cost_is_timed_beside_relu_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    for spec in ("pau", "geglu", "polynorm"):
        timed = cost(activation(spec), elements=2**13, repeats=3)
        assert min(timed.forward_ns, timed.backward_ns, timed.relu_forward_ns, timed.relu_backward_ns) > 0
    pau = cost(activation("pau"), elements=2**14, repeats=5)
    assert pau.forward_ns > 2 * pau.relu_forward_ns  # some twenty passes over the tensor against one
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("scale", "bits"), [(1, 6.326), (2, 5.326)])
def test_gradient_bits_near_zero(scale, bits):
    # facts: log2(1 / (G_s'(1/64) − G_s'(0)))
    _, slopes = value_and_derivative(activation(f"interpolate(relu, gelu, i=1, s={scale})"), [0.0, 1 / 64])
    assert math.log2(1 / (slopes[1] - slopes[0])) == pytest.approx(bits, abs=5e-4)
