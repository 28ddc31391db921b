"""Compares a network's outputs with ONNX Runtime's, and names the first node that differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.graph import to_tensor
from robustcheck.networks.onnx.trial import Trial, run_trial

if TYPE_CHECKING:
    from robustcheck.networks.onnx.module import OnnxNetwork

FLOAT_TOLERANCE: Final = 1e-4
HALF_TOLERANCE: Final = 2e-2
_FLOOR: Final = 0.1
_SMALLEST: Final = 1e-30


@dataclass(frozen=True)
class Agreement:
    """How far the network's outputs are from ONNX Runtime's on the same inputs.

    Attributes:
        difference: largest |a − b| / max(0.1, |b|, median |b|); of logarithms where the outputs are probabilities.
        tolerance: what was allowed.
        runtime: version of ONNX Runtime.
        optimisation: its level of graph optimisation.
    """

    difference: float
    tolerance: float
    runtime: str
    optimisation: str


def agreement(network: OnnxNetwork, trial: Trial, path: Path) -> Agreement:
    """Run the network on a trial's inputs, and compare.

    Args:
        network: in evaluation mode.
        trial: of the same file.
        path: of that file; it is run again, value by value, where the two differ.

    Raises:
        ModelError: they differ by more than the tolerance; names the first node that does.
    """
    tolerance = _tolerance(network)
    own: dict[str, Any] = {}
    try:
        given = _run(network, trial.inputs, own)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    names = [value.name for value in network.graph.outputs]
    outputs = [trial.outputs[name] for name in names]
    for name, output in zip(names, outputs, strict=True):
        if output.size and output.dtype.kind == "f" and not np.isfinite(output.astype(np.float64)).any():
            raise ModelError(f"{path}: expected numbers in {name!r} for random inputs, got NaN or infinity alone")
    if network.softmax and isinstance(network.final_softmax, nn.Softmax):
        # Probabilities of many classes are all small: what tells networks apart are their logarithms.
        given = [torch.log(given[0].double().clamp(min=_SMALLEST))]
        outputs = [np.log(np.maximum(outputs[0].astype(np.float64), _SMALLEST))]
    difference = max(_difference(result, output) for output, result in zip(outputs, given, strict=True))
    if not difference <= tolerance:
        raise ModelError(
            f"{path}: expected the outputs of ONNX Runtime {trial.version} within {tolerance:g}, got a difference of "
            f"{difference:.3g}; {_first(network, trial, path, tolerance)}"
        )
    return Agreement(difference, tolerance, trial.version, trial.optimisation)


def written_agreement(network: OnnxNetwork, path: Path, trial: Trial | None) -> Agreement:
    """Run a file that was just written on the inputs of a trial, and compare it with the network that it is of."""
    before = trial or network.file.trial
    made = run_trial(path, inputs=None if before is None else before.inputs)
    return agreement(network, made, path)


def exported_agreement(network: nn.Module, path: Path) -> Agreement:
    """Run a file that was just exported, and compare it with the torch network that it is of.

    Raises:
        ModelError: the two differ by more than the tolerance.
    """
    trial = run_trial(path)
    (given,) = trial.inputs.values()
    (expected,) = trial.outputs.values()
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            difference = _difference(network(to_tensor(given).to(device)), expected)
    finally:
        for module in training:
            module.training = True
    if not difference <= FLOAT_TOLERANCE:
        raise ModelError(
            f"{path.name}: expected ONNX Runtime {trial.version} to give the network's outputs within "
            f"{FLOAT_TOLERANCE:g}, got a difference of {difference:.3g}; torch's exporter wrote something else "
            "than the network does, so the file was not kept"
        )
    return Agreement(difference, FLOAT_TOLERANCE, trial.version, trial.optimisation)


def image_agreement(network: OnnxNetwork, runtime: nn.Module, images: Tensor) -> float:
    """How far a network is from ONNX Runtime on images that it was made for.

    Args:
        network: takes normalised images.
        runtime: has ONNX Runtime run the same file.
        images: (n, …) as the network takes them.

    Raises:
        ModelError: they differ by more than the tolerance.
    """
    tolerance = _tolerance(network)
    with torch.no_grad():
        own, other = network(images), runtime(images).cpu()
    if network.softmax:
        lowest = float(np.log(_SMALLEST))
        own, other = own.log_softmax(1).clamp(min=lowest), other.clamp(min=lowest)
    difference = _difference(own, other.numpy())
    if not difference <= tolerance:
        raise ModelError(
            f"expected ONNX Runtime's outputs on {len(images)} images of the data within {tolerance:g}, got a "
            f"difference of {difference:.3g}; check --mean, --std and --input-range: values far beyond what the "
            "network was trained on grow differences that rounding makes"
        )
    return difference


def _tolerance(network: OnnxNetwork) -> float:
    return HALF_TOLERANCE if network.graph.is_half else FLOAT_TOLERANCE


def _run(network: OnnxNetwork, inputs: Mapping[str, Any], values: dict[str, Any]) -> list[Any]:
    """All outputs, those behind a softmax that was left away too."""
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    given = [to_tensor(inputs[value.name]).to(device) for value in network.graph.inputs]
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.no_grad():
            result = network.run(given, values.__setitem__)
    finally:
        for module in training:
            module.training = True
    if network.softmax:
        result = network.final_softmax(result)
    return list(result) if isinstance(result, tuple) else [result]


def _difference(own: Any, other: Any) -> float:
    if not isinstance(own, Tensor) or tuple(own.shape) != tuple(np.shape(other)):
        return float("inf")
    if other.size == 0:
        return 0.0
    a = own.detach().cpu().double().numpy()
    b = np.asarray(other).astype(np.float64)
    # Where both are infinite or both not a number they agree.
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if bool(same.all()):
        return 0.0
    # A mask's huge numbers must not excuse the others, nor a zero among large numbers be held to its own size.
    finite = np.abs(b[np.isfinite(b)])
    typical = float(np.median(finite)) if finite.size else 0.0
    difference = float((np.abs(a - b)[~same] / np.maximum(np.abs(b)[~same], max(_FLOOR, typical))).max())
    return difference if np.isfinite(difference) else float("inf")


def _first(network: OnnxNetwork, trial: Trial, path: Path, tolerance: float) -> str:
    """Which node is the first whose value differs, by running the file once more with all its values."""
    try:
        values = run_trial(path, inputs=trial.inputs, values=True, optimisation="disabled").values
    except ModelError as error:
        return f"which node differs first could not be found out ({error})"
    own: dict[str, Any] = {}
    _run(network, trial.inputs, own)
    for node in network.graph.nodes:
        for name in node.outputs:
            if name in own and name in values and not _difference(own[name], values[name]) <= tolerance:
                difference = _difference(own[name], values[name])
                return f"the first node that differs is {node.label}, by {difference:.3g}"
    return "no single node differs by as much: small differences grow along the network; give inputs like real ones"
