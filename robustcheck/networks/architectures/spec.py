"""Architecture specs: `vit(depth=4, classes=100)` becomes a network of that name with those options."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from robustcheck.errors import InvalidValueError, UnknownNameError
from robustcheck.networks.architectures import ARCHITECTURES, EXAMPLES, build

_LONGEST: Final = 500


@dataclass(frozen=True)
class Architecture:
    """A network's name and the options that differ from its builder's own; make one with `read_architecture`."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> nn.Module:
        """A network, initialised from torch's global generator."""
        return build(self.name, dict(self.options))

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of an image, where the builder takes them as `in_channels` and `image_size`."""
        values = {name: each.default for name, each in _parameters(self.name).items()} | dict(self.options)
        channels, size = values.get("in_channels"), values.get("image_size")
        return (channels, size, size) if isinstance(channels, int) and isinstance(size, int) else None

    def with_classes(self, classes: int | None) -> Architecture:
        """For so many classes, where the spec does not say how many and the builder takes them."""
        if classes is None or "classes" in dict(self.options) or "classes" not in _parameters(self.name):
            return self
        return Architecture(self.name, (*self.options, ("classes", classes)))


def read_architecture(spec: str) -> Architecture:
    """Read NAME or NAME(OPTION=VALUE, …); a value is a number, a word, true, false, or a list [a, b].

    Raises:
        UnknownNameError: no architecture has this name.
        InvalidValueError: the text is no such spec, or the builder has no such option.

    >>> read_architecture("mlp(in_channels=1, image_size=8, classes=10, hidden=[16, 16], activation=gelu)").options[3]
    ('hidden', [16, 16])
    """
    name, bracket, rest = spec.partition("(")
    if name not in ARCHITECTURES:
        raise UnknownNameError("architecture", name[:_LONGEST], ARCHITECTURES)
    values = _values(name, f"({rest}") if bracket else {}
    known = _parameters(name)
    for option in values:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    return Architecture(name, tuple(values.items()))


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    builder: Callable[..., nn.Module] = ARCHITECTURES[name]
    return inspect.signature(builder).parameters


def _values(name: str, text: str) -> dict[str, Any]:
    wrong = InvalidValueError(
        f"architecture {name}",
        expected="NAME(OPTION=VALUE, …)",
        got=f"{name}{text}"[:_LONGEST],
        remedy=f"write it like '{EXAMPLES[name]}'",
    )
    if len(text) > _LONGEST:
        raise wrong
    try:
        call = ast.parse(f"_{text}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise wrong
        return {keyword.arg or "": _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise wrong from error


def _value(node: ast.expr) -> Any:
    """A literal, or a bare word as text; ValueError for anything else."""
    if isinstance(node, ast.Name):
        if node.id.lower() in ("nan", "inf", "infinity"):
            return float(node.id)  # which every builder refuses
        return {"true": True, "false": False}.get(node.id.lower(), node.id)
    if isinstance(node, ast.Call):  # an activation with parameters, such as leaky_relu(0.05)
        return ast.unparse(node)
    value = ast.literal_eval(node)
    kinds = (int, float, str)
    if isinstance(value, list) and all(isinstance(each, kinds) for each in value):
        return value
    if isinstance(value, kinds):
        return value
    raise ValueError(value)
