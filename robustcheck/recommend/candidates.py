"""Which activations can be put into a model: all drop-in ones that the network and the target can run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from robustcheck.activations.catalogue import CATALOGUE, Activation, activation
from robustcheck.errors import RobustcheckError, UsageError
from robustcheck.networks.kinds import new_module
from robustcheck.networks.loading import InputSpec, Model
from robustcheck.networks.saving import swapped_model
from robustcheck.networks.site import KnowsItsSites
from robustcheck.networks.surgery import current_activation, find_sites, swap_activation

Target = Literal["onnx", "torch"]

_SAME = 1e-9
_PROBED = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)


@dataclass(frozen=True)
class LeftOut:
    """An activation that does not take part, and why."""

    activation: str
    reason: str


@dataclass(frozen=True)
class Candidates:
    """The activations that take part, the model's own first, and those that do not."""

    current: str
    activations: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def default_target(model: Model) -> Target:
    """Where a model is expected to run: an ONNX file in ONNX Runtime, another one in torch."""
    return "onnx" if isinstance(model.network, KnowsItsSites) else "torch"


def candidates(model: Model, target: Target, named: Sequence[str] = ()) -> Candidates:
    """The activations to race.

    Args:
        model: from `load_model`; unchanged.
        target: what must be able to run the swapped model.
        named: specs to take instead of the catalogue's elementwise ones.

    Raises:
        SurgeryError: the model has no activation that could be swapped.
        UsageError: nothing but the model's own activation is left.

    >>> from robustcheck import load_model
    >>> found = candidates(load_model("digits-convnet"), "torch", named=["gelu", "swiglu"])
    >>> found.activations, found.left_out[0].activation
    (('relu', 'gelu'), 'swiglu')
    """
    current = current_activation(find_sites(model.network))
    if current is None:
        swap_activation(model.network, "relu")
    assert current is not None
    specs = [_put(model, spec) for spec in named] or list(CATALOGUE)
    left_out: list[LeftOut] = []
    taken: list[str] = []
    kept: dict[str, torch.Tensor] = {}
    for spec in dict.fromkeys((current, *specs)):
        reason = "" if spec == current or named else _not_drop_in(spec) or _twin(spec, kept)
        reason = reason or _cannot_run(model, spec, target)
        if reason:
            left_out.append(LeftOut(spec, reason))
            continue
        taken.append(spec)
        values = _values(activation(spec))
        if values is not None:
            kept[spec] = values
    if not taken or taken == [current]:
        why = "; ".join(f"{each.activation}: {each.reason}" for each in left_out)
        raise UsageError(
            f"candidates: expected an activation beside {current} that the model and {target} can run, got none"
            + (f" ({why})" if named else "")
            + "; name others with -a"
        )
    if taken[0] != current:
        (problem,) = (each for each in left_out if each.activation == current)
        raise UsageError(
            f"{current}: expected the model's own activation to run in {target}, got: {problem.reason}; "
            "choose another --target"
        )
    return Candidates(current, tuple(taken), tuple(left_out))


def _put(model: Model, spec: str) -> str:
    """What a swap puts into the model: the inner activation of a gated one where that fits, else the spec itself."""
    wanted = activation(spec)
    try:
        return wanted.spec if wanted.inner is None else swap_activation(model, wanted.spec).activation
    except RobustcheckError:
        return wanted.spec


def _not_drop_in(spec: str) -> str:
    entry = CATALOGUE[spec]
    if entry.gated:
        return "halves the width of what it is given, so that it is no drop-in replacement"
    if not entry.elementwise:
        return "depends on more than one value at a time, so that it is no drop-in replacement"
    if any(parameter.always for parameter in entry.parameters):
        return "stands for a family of functions; name one of them"
    return ""


def _values(wanted: Activation) -> torch.Tensor | None:
    """What the function gives over [−8, 8]; None where it is learned, and so becomes another one."""
    if wanted.learned or wanted.gated or not wanted.elementwise:
        return None
    with torch.no_grad():
        values: torch.Tensor = wanted.module(dtype=torch.float64)(_PROBED)
    return values


def _twin(spec: str, kept: dict[str, torch.Tensor]) -> str:
    """Why an activation that computes what an earlier one does is left out; empty where none does."""
    values = _values(activation(spec))
    if values is None:
        return ""
    twins = (name for name, other in kept.items() if bool((values - other).abs().max() < _SAME))
    return next((f"computes what {name} does" for name in twins), "")


def _cannot_run(model: Model, spec: str, target: Target) -> str:
    """What the network or the target says against it; empty where both can run it."""
    try:
        swapped = swapped_model(model, swap_activation(model, spec))
        if target == "onnx":
            _check_onnx(swapped, activation(spec))
    except RobustcheckError as error:
        return str(error)
    return ""


def _check_onnx(swapped: Model, wanted: Activation) -> None:
    """Raise what writing the swapped model as ONNX raises; of a torch model, the activation alone is exported."""
    from robustcheck.networks.onnx.exporting import export_onnx
    from robustcheck.networks.onnx.module import OnnxNetwork
    from robustcheck.networks.onnx.writing import written

    if isinstance(swapped.network, OnnxNetwork):
        written(swapped.network)
        return
    alone = replace(swapped, network=nn.Sequential(new_module(wanted), nn.Flatten()), input=InputSpec((1, 4, 4)))
    with tempfile.TemporaryDirectory(prefix="robustcheck-") as folder:
        export_onnx(alone, Path(folder) / "activation.onnx")


def parameters_of(model: Model, specs: Iterable[str]) -> dict[str, int]:
    """How many parameters the model has with each of the activations.

    >>> from robustcheck import load_model
    >>> found = parameters_of(load_model("digits-convnet"), ["relu", "prelu"])
    >>> found["prelu"] - found["relu"]
    4
    """
    networks = {spec: swap_activation(model.network, spec).network for spec in specs}
    return {spec: sum(each.numel() for each in network.parameters()) for spec, network in networks.items()}
