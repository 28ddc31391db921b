"""Which modules and which functions of torch are activation functions, and how the catalogue spells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from torch import nn

from robustcheck.activations.catalogue import Activation, activation
from robustcheck.activations.gated import Gated
from robustcheck.errors import UsageError


@dataclass(frozen=True)
class Rule:
    """One activation function as torch has it.

    `arguments` are the function's own arguments after the input, in torch's order; `parameters` says which of them (and
    which attributes of the module) are parameters of the spec, as (torch's name, the spec's name, the default).
    """

    name: str
    module: type[nn.Module]
    arguments: tuple[str, ...] = ("inplace",)
    parameters: tuple[tuple[str, str, float], ...] = ()


RULES: Final = (
    Rule("relu", nn.ReLU),
    Rule("relu6", nn.ReLU6),
    Rule("leaky_relu", nn.LeakyReLU, ("negative_slope", "inplace"), (("negative_slope", "slope", 0.01),)),
    Rule("prelu", nn.PReLU, ("weight",)),
    Rule(
        "rrelu",
        nn.RReLU,
        ("lower", "upper", "training", "inplace"),
        (("lower", "lower", 1 / 8), ("upper", "upper", 1 / 3)),
    ),
    Rule("elu", nn.ELU, ("alpha", "inplace"), (("alpha", "alpha", 1.0),)),
    Rule("selu", nn.SELU),
    Rule("celu", nn.CELU, ("alpha", "inplace"), (("alpha", "alpha", 1.0),)),
    Rule("gelu", nn.GELU, ("approximate",)),
    Rule("silu", nn.SiLU),
    Rule("mish", nn.Mish),
    Rule("hardswish", nn.Hardswish),
    Rule(
        "hardtanh", nn.Hardtanh, ("min_val", "max_val", "inplace"), (("min_val", "min", -1.0), ("max_val", "max", 1.0))
    ),
    Rule("hardsigmoid", nn.Hardsigmoid),
    Rule("softplus", nn.Softplus, ("beta", "threshold"), (("beta", "beta", 1.0), ("threshold", "threshold", 20.0))),
    Rule("softsign", nn.Softsign, ()),
    Rule("tanh", nn.Tanh, ()),
    Rule("sigmoid", nn.Sigmoid, ()),
    Rule("threshold", nn.Threshold, ("threshold", "value", "inplace")),
)
_TIMM: Final = {
    **dict.fromkeys(("Swish", "SwishMe"), "silu"),
    **dict.fromkeys(("Mish", "MishMe"), "mish"),
    **dict.fromkeys(("HardSwish", "HardSwishMe"), "hardswish"),
    **dict.fromkeys(("HardSigmoid", "HardSigmoidMe"), "hardsigmoid"),
    **dict.fromkeys(("HardMish", "HardMishMe"), "hard_mish"),
    "GELU": "gelu",
    "GELUTanh": "gelu_tanh",
    "QuickGELU": "gelu_sigmoid",
    "PReLU": "prelu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
"""The classes in `timm.layers.activations` and `activations_me`, whose functions are torch's."""
_BY_NAME: Final = {rule.name: rule for rule in RULES}
_CLAMPS: Final = {"clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",)}
_PRODUCTS: Final = {"mul": "mul", "multiply": "mul", "rmul": "mul", "imul": "mul"}

SQUASHING: Final = frozenset({"sigmoid", "hardsigmoid", "tanh", "softsign", "hardtanh"})
"""Kinds that gates and outputs use; whether one is an activation function shows only in what becomes of its result."""

FUNCTIONS: Final = frozenset({*_BY_NAME, *_CLAMPS})
"""Names of the functions that may be activation functions, without the underscore of the in-place forms."""


def kind_name(kind: str) -> str:
    """The name in a spec, without parameters.

    >>> kind_name("leaky_relu(slope=0.2)")
    'leaky_relu'
    """
    return kind.partition("(")[0]


def canonical(spec: str) -> str:
    """The catalogue's spelling where the catalogue has this function, else the spec as it is."""
    try:
        return activation(spec).spec
    except UsageError:
        return spec


def new_module(wanted: Activation) -> nn.Module:
    """A fresh module that `module_kind` recognises, whatever the catalogue builds it from."""
    module = wanted.module()
    module.activation_spec = wanted.spec  # type: ignore[assignment]
    return module


def module_kind(module: nn.Module) -> str | None:
    """The canonical spec of an activation module, or None where it is something else.

    >>> module_kind(nn.LeakyReLU(0.2)), module_kind(nn.GELU("tanh")), module_kind(nn.Linear(1, 1))
    ('leaky_relu(slope=0.2)', 'gelu_tanh', None)
    """
    spec = getattr(module, "activation_spec", None)
    if isinstance(spec, str):
        return spec
    for rule in RULES:
        # A subclass with a forward of its own may compute anything.
        if isinstance(module, rule.module) and type(module).forward is rule.module.forward:
            values = {name: getattr(module, name) for name in rule.arguments if hasattr(module, name)}
            return _kind(rule, values)
    if type(module).__module__ in ("timm.layers.activations", "timm.layers.activations_me"):
        return _TIMM.get(type(module).__name__)
    if type(module).__module__.startswith("robustcheck.activations") and not isinstance(module, Gated):
        return module.extra_repr().partition(",")[0]
    return None


@lru_cache(maxsize=4096)
def function_name(raw: str) -> str:
    """The name that all forms of a function share.

    >>> function_name("relu_"), function_name("__imul__"), function_name("_threshold"), function_name("relu_.default")
    ('relu', 'mul', 'threshold', 'relu')
    """
    bare = raw.partition(".")[0].strip("_")
    return _PRODUCTS.get(bare, bare)


def function_kind(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The canonical spec of an activation that is called as a function, or None where the call is something else.

    Args:
        name: as `function_name` gives it.
        args: positional arguments, the input first.
        kwargs: arguments by name.

    >>> function_kind("clamp", ("x", 0), {}), function_kind("clamp", ("x", 0, 1), {})
    ('relu', None)
    """
    if name in _CLAMPS:
        bounds = dict(zip(_CLAMPS[name], args[1:], strict=False)) | dict(kwargs)
        low, high = bounds.get("min"), bounds.get("max")
        if not _is_number(low) or low != 0:
            return None
        return "relu" if high is None else "relu6" if _is_number(high) and high == 6 else None
    if name not in _BY_NAME:
        return None
    # torch.ops.aten.elu has two scales more.
    scales = (*args[2:], kwargs.get("scale"), kwargs.get("input_scale"))
    if name == "elu" and any(_is_number(scale) and scale != 1 for scale in scales):
        return None
    rule = _BY_NAME[name]
    return _kind(rule, dict(zip(rule.arguments, args[1:], strict=False)) | dict(kwargs))


def overwrites_input(raw: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of a function writes its result into its input.

    >>> overwrites_input("relu_", ("x",), {}), overwrites_input("relu", ("x", True), {})
    (True, True)
    """
    raw = raw.partition(".")[0]
    if (raw.endswith("_") and not raw.endswith("__")) or raw in ("imul", "__imul__"):
        return True
    rule = _BY_NAME.get(function_name(raw))
    values = dict(zip(rule.arguments, args[1:], strict=False)) | dict(kwargs) if rule else {}
    return values.get("inplace") is True


def named_function(function: Callable[..., Any]) -> str | None:
    """The kind of a plain function of torch such as `F.relu`, called with its defaults; None for any other."""
    if not (getattr(function, "__module__", None) or "torch").startswith("torch"):
        return None
    return function_kind(function_name(getattr(function, "__name__", "")), (None,), {})


def _kind(rule: Rule, values: Mapping[str, Any]) -> str | None:
    if rule.name == "threshold":
        return "relu" if (values.get("threshold"), values.get("value")) == (0, 0) else None
    if rule.name == "gelu":
        return "gelu_tanh" if values.get("approximate") == "tanh" else "gelu"
    if rule.name == "hardtanh" and (values.get("min_val"), values.get("max_val")) == (0, 6):
        return "relu6"
    said = [
        f"{spec}={float(values[name])!r}".removesuffix(".0")
        for name, spec, default in rule.parameters
        if _is_number(values.get(name)) and values[name] != default
    ]
    return canonical(f"{rule.name}({', '.join(said)})" if said else rule.name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
