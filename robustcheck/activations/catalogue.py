"""Activation functions by name: a spec such as `leaky_relu(0.05)` becomes an `Activation`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from robustcheck.activations import elementwise, gated, interpolation, polynomial, rational, surrogate
from robustcheck.activations.entry import Entry, Formula, Parameter, Value
from robustcheck.activations.gated import Gated
from robustcheck.errors import InvalidValueError, UnknownNameError

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for module in (elementwise, rational, polynomial, gated, interpolation, surrogate)
    for entry in module.ENTRIES
}
"""Every activation function that robustcheck knows, by name, in the order they are listed in."""

_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPEC = re.compile(rf"\s*({_NAME})\s*(?:\((.*)\)\s*)?", re.DOTALL)
_ARGUMENT = re.compile(rf"\s*(?:({_NAME})\s*=\s*)?([^=\s()]+|{_NAME}\s*\(.*\))\s*", re.DOTALL)
_COMMA = re.compile(r",(?![^()]*\))")
"""Between arguments, not between those of an argument."""
_LONGEST_SPEC = 300


@dataclass(frozen=True)
class Activation:
    """An activation function with its parameters' values; make one with `activation`, which checks them.

    Two that are equal have one canonical `spec`. `parameters` has every parameter, in declared order.
    """

    name: str
    parameters: tuple[tuple[str, Value], ...] = ()

    @property
    def spec(self) -> str:
        """The canonical spelling, which `activation` reads back: defaults left out, parameters in declared order."""
        entry, values = CATALOGUE[self.name], dict(self.parameters)
        said = [_spelled(p, values[p.name]) for p in entry.parameters if p.always or values[p.name] != p.default]
        return f"{self.name}({', '.join(said)})" if said else self.name

    @property
    def family(self) -> str:
        """elementwise, per-sample, rational, polynomial, gated, interpolation or surrogate."""
        return CATALOGUE[self.name].family

    @property
    def formula(self) -> str:
        """The formula as one line of text."""
        return CATALOGUE[self.name].formula

    @property
    def source(self) -> str:
        """Where the formula is from."""
        return CATALOGUE[self.name].source

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the module's learned parameters; empty where nothing is learned."""
        return CATALOGUE[self.name].learned

    @property
    def elementwise(self) -> bool:
        """Whether each output depends on one input alone."""
        return CATALOGUE[self.name].elementwise and not self.gated

    @property
    def inner(self) -> Activation | None:
        """The activation inside a gated one, which is not gated itself; None where this one is not gated.

        >>> activation("interpolate(reglu, geglu, i=0.25)").inner.spec
        'interpolate(relu, gelu, i=0.25)'
        """
        inside = CATALOGUE[self.name].inner
        spec = None if inside is None else inside(dict(self.parameters))
        return None if spec is None else activation(spec)

    @property
    def gated(self) -> bool:
        """Whether the last axis is halved, so that it fits a gated feed-forward block only."""
        return self.inner is not None

    def module(self, *, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A fresh module for float tensors; learned parameters have `dtype` and always start at the same values."""
        module, inner = CATALOGUE[self.name].build(dict(self.parameters), dtype), self.inner
        if isinstance(module, Formula):
            module.activation_spec = (inner or self).spec
        return module if inner is None else Gated(module)


def activation(spec: str) -> Activation:
    """Read a spec: a name, and in parentheses its parameters by position or by name.

    Raises UnknownNameError for a name that is not in the catalogue and InvalidValueError for a spec that cannot be
    read and for a parameter that is unknown, given twice, of the wrong type, not finite or out of range.

    >>> activation("leaky_relu(0.05)").spec, activation("leaky_relu(slope=0.01)").spec
    ('leaky_relu(slope=0.05)', 'leaky_relu')
    >>> activation("interpolate(relu, gelu, i=0.25, s=1)").spec
    'interpolate(relu, gelu, i=0.25)'
    >>> activation("gelu").module()(torch.tensor(1.0)).item()
    0.8413447...
    """
    match = _SPEC.fullmatch(spec) if len(spec) <= _LONGEST_SPEC else None
    if match is None:
        raise InvalidValueError(
            "activation",
            expected="NAME or NAME(VALUE, NAME=VALUE)",
            got=spec[:_LONGEST_SPEC],
            remedy="write it like 'leaky_relu(0.05)' or 'aptx(beta=0.5)'",
        )
    name, arguments = match[1].lower(), match[2] or ""
    if name not in CATALOGUE:
        raise UnknownNameError("activation", name, CATALOGUE, remedy="(all: robustcheck activations list)")
    entry = CATALOGUE[name]
    values: dict[str, Value] = {parameter.name: parameter.default for parameter in entry.parameters}
    values.update(_arguments(entry, arguments))
    if entry.check is not None:
        entry.check(values)
    return Activation(name, tuple(values.items()))


def _arguments(entry: Entry, text: str) -> dict[str, Value]:
    """The checked values in the parentheses of a spec, by parameter name."""
    declared = {parameter.name: parameter for parameter in entry.parameters}
    remedy = f"{entry.name} takes {', '.join(declared) or 'no parameters'}"
    values: dict[str, Value] = {}
    by_name = False
    for position, argument in enumerate(_COMMA.split(text) if text.strip() else []):
        match = _ARGUMENT.fullmatch(argument)
        if match is None:
            raise InvalidValueError(
                f"{entry.name}, argument {position + 1}",
                expected="VALUE or NAME=VALUE",
                got=argument.strip(),
                remedy=remedy,
            )
        by_name = by_name or match[1] is not None
        if by_name and match[1] is None:
            raise InvalidValueError(
                f"{entry.name}, argument {position + 1}",
                expected="NAME=VALUE after the first NAME=VALUE",
                got=argument.strip(),
                remedy=remedy,
            )
        if match[1] is None and position >= len(declared):
            raise InvalidValueError(entry.name, expected=f"at most {len(declared)} parameters", got=text, remedy=remedy)
        name = match[1] or list(declared)[position]
        if name not in declared:
            raise InvalidValueError(
                f"{entry.name}, parameter name",
                expected=" or ".join(declared) or "no parameters",
                got=name,
                remedy=remedy,
            )
        if name in values:
            raise InvalidValueError(
                f"{entry.name}, parameter {name}", expected="one value", got=text, remedy="give it once"
            )
        value = float(match[2]) if _NUMBER.fullmatch(match[2]) else match[2]
        takes = declared[name]
        values[name] = _function(entry, takes, match[2]) if takes.function else takes.check(entry.name, value)
    return values


def _function(entry: Entry, parameter: Parameter, spec: str) -> str:
    """The canonical spec of an activation that stands in another one's parameters."""
    found = activation(spec)
    if found.name == entry.name or found.learned or not found.elementwise:
        raise InvalidValueError(
            f"{entry.name}, parameter {parameter.name}",
            expected=parameter.expected,
            got=found.spec,
            remedy=f"leave it out for the default, {parameter.default}",
        )
    return found.spec


def _spelled(parameter: Parameter, value: Value) -> str:
    if isinstance(value, str):
        return value
    return f"{parameter.name}={repr(value).removesuffix('.0')}"
