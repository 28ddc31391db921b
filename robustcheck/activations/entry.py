"""What the catalogue knows about one activation function, and the module that binds a formula to its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustcheck.errors import InvalidValueError

Value = float | str
Builder = Callable[[Mapping[str, Any], torch.dtype], nn.Module]


@dataclass(frozen=True)
class Parameter:
    """A parameter of an activation's spec: a number within bounds or, where `choices` is given, one of those names.

    `high_open` leaves `high` itself out. `always` keeps the parameter in the canonical spelling at its default too.
    `function` takes the spec of another activation instead, which the catalogue checks.
    """

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    high_open: bool = False
    choices: tuple[str, ...] = ()
    always: bool = False
    function: bool = False

    @property
    def expected(self) -> str:
        """What is allowed, in words.

        >>> Parameter("slope", 0.01, 0, 1, high_open=True).expected
        'a number, 0 <= slope < 1'
        """
        if self.function:
            return "an elementwise activation that learns nothing"
        if self.choices:
            return " or ".join(self.choices)
        return f"a number, {self.low:g} <= {self.name} {'<' if self.high_open else '<='} {self.high:g}"

    def check(self, owner: str, value: Value) -> Value:
        """The value as it is stored (a float, a name); raises InvalidValueError for any that is not allowed."""
        allowed: bool
        if isinstance(value, str):
            allowed = value in self.choices
        else:
            value = float(value) + 0.0  # -0.0 and 0.0 are one value, so they must be one spelling
            below = value < self.high if self.high_open else value <= self.high
            allowed = not self.choices and self.low <= value and below
        if not allowed:
            raise InvalidValueError(
                f"{owner}, parameter {self.name}",
                expected=self.expected,
                got=value,
                remedy=f"leave it out for the default, {self.default}",
            )
        return value


def positive(name: str, default: float) -> Parameter:
    """A scale or rate; the bounds keep results finite for every input that a network sees."""
    return Parameter(name, default, 1e-3, 1e3)


def fraction(name: str, default: float) -> Parameter:
    """A number in [0, 1): at 1 a slope would make the function the identity."""
    return Parameter(name, default, 0.0, 1.0, high_open=True)


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: what is fixed about an activation, whatever its parameters.

    `build` makes the module from the values of `parameters` and a dtype; `learned` names that module's parameters.
    `elementwise` is False where an output depends on several inputs. Where the values make a gated function, `inner`
    gives the spec of the activation inside, and `build` makes that one. `check` raises where values that are each
    allowed do not go together.
    """

    name: str
    family: str
    formula: str
    source: str
    build: Builder
    parameters: tuple[Parameter, ...] = ()
    learned: tuple[str, ...] = ()
    elementwise: bool = True
    inner: Callable[[Mapping[str, Any]], str | None] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def gated(self) -> bool:
        """Whether the last axis is halved, the parameters at their defaults."""
        return self.inner is not None and self.inner({each.name: each.default for each in self.parameters}) is not None


class Formula(nn.Module):
    """Binds a function of a tensor to its constants and its learned parameters, which start at the values given.

    A learned number is a scalar parameter, a learned sequence a vector; a scalar takes part in any float dtype
    without promoting the tensor.

    >>> half = Formula(lambda x, slope: x * slope, learned={"slope": 0.5})
    >>> half(torch.tensor([2.0])).tolist(), [name for name, _ in half.named_parameters()]
    ([1.0], ['slope'])
    """

    activation_spec: str | None = None
    """The spec that the module was made from, by which it is recognised in a network."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        constants: Mapping[str, Value] | None = None,
        learned: Mapping[str, float | Sequence[float]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.function = function
        self.constants = dict(constants or {})
        self.learned = tuple(learned or ())
        for name, start in (learned or {}).items():
            self.register_parameter(name, nn.Parameter(torch.tensor(start, dtype=dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """The function of x; shape and dtype stay, but for gated functions, which halve the last axis."""
        return self.function(x, **self.constants, **{name: getattr(self, name) for name in self.learned})

    def extra_repr(self) -> str:
        """The function and its constants; learned values live in the state."""
        return ", ".join(
            [
                getattr(self.function, "__name__", "function"),
                *(f"{name}={value}" for name, value in self.constants.items()),
                *self.learned,
            ]
        )
