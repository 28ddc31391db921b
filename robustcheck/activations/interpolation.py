"""The path from ReLU to a smooth activation function, which shows what smoothness buys (arXiv 2402.02593)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcheck.activations.entry import Entry, Formula, Parameter, fraction, positive
from robustcheck.activations.gated import INNER
from robustcheck.errors import InvalidValueError

TARGETS: Final = {"relu": ("gelu", "silu"), "reglu": ("geglu", "swiglu")}
"""What each source can be interpolated to: a plain activation to a plain one, a gated one to a gated one."""


def steep_gelu(x: Tensor, s: float) -> Tensor:
    """½x(1 + erf(s·x/√2)), which nears ReLU as the steepness s grows; s = 1 is GELU, to the bit.

    >>> steep_gelu(torch.tensor(1.0), 1.0) == F.gelu(torch.tensor(1.0))
    tensor(True)
    """
    return F.gelu(s * x) / s


def interpolate(x: Tensor, target: str, i: float, s: float = 1.0, alpha: float = 0.0) -> Tensor:
    """R(x) + i(T(x) − R(x)), R = max(αx, x), T = `steep_gelu` or silu, elementwise (arXiv 2402.02593).

    `x` has any shape and float dtype, which the result has too. R′(0) = α, 0 for ReLU as in the paper's eq. 2. i = 0
    is R and i = 1 the target, to the bit.

    >>> [round(interpolate(torch.tensor(-1.0), "silu", 0.5, alpha=alpha).item(), 6) for alpha in (0, 0.1)]
    [-0.134471, -0.184471]
    """
    if i == 1:
        return _target(x, target, s)
    source = F.leaky_relu(x, alpha) if alpha else F.relu(x)
    return source if i == 0 else torch.lerp(source, _target(x, target, s), i)


def _target(x: Tensor, target: str, s: float) -> Tensor:
    return F.silu(x) if target == "silu" else steep_gelu(x, s)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `interpolate` takes; for gated functions, what goes on inside the gate."""
    named = {name: values[name] for name in ("target", "i", "s", "alpha")}
    return named | {"target": INNER.get(named["target"], named["target"])}


def _inner(values: Mapping[str, Any]) -> str | None:
    """The spec of what is inside the gate; None where both ends are plain."""
    if values["source"] not in INNER:
        return None
    ends = f"{INNER[values['source']]}, {INNER[values['target']]}"
    return f"interpolate({ends}, i={values['i']}, s={values['s']}, alpha={values['alpha']})"


def _ends_fit(values: Mapping[str, Any]) -> None:
    source, target = values["source"], values["target"]
    if target not in TARGETS[source]:
        raise InvalidValueError(
            "interpolate, parameter target",
            expected=f"{' or '.join(TARGETS[source])} from {source}",
            got=target,
            remedy="both ends are gated, or neither is",
        )
    if _plain(values)["target"] == "silu" and values["s"] != 1:
        raise InvalidValueError(
            "interpolate, parameter s",
            expected=f"no s with {target}",
            got=values["s"],
            remedy="only gelu and geglu have a steepness",
        )


ENTRIES = (
    Entry(
        name="interpolate",
        family="interpolation",
        formula="R + i(T − R), R = max(αx, x), T = ½x(1 + erf(sx/√2)) or silu(x); reglu to geglu or swiglu: inside",
        source="arXiv 2402.02593",
        build=lambda p, _: Formula(interpolate, _plain(p)),
        parameters=(
            Parameter("source", "relu", choices=tuple(TARGETS), always=True),
            Parameter(
                "target", "gelu", choices=tuple(name for names in TARGETS.values() for name in names), always=True
            ),
            Parameter("i", 0.5, 0.0, 1.0, always=True),
            positive("s", 1.0),
            fraction("alpha", 0.0),
        ),
        inner=_inner,
        check=_ends_fit,
    ),
)
