"""One architecture of the sweep through the default exporter: the sites in its file, and what a swap does there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import architectures
import onnx
import torch
from exports import export_network, opset_of, relative, runtime
from torch import Tensor, nn

from robustcheck.networks.loading import Model, load_model
from robustcheck.networks.surgery import find_sites, swap_activation


def exported(name: str, folder: Path) -> dict[str, Any]:
    """What was found, with `problems`; or `exporter cannot` with the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(':', '-')}.onnx"
    network, x = architectures.build(name)
    try:
        fixed = _export(network, x, path)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return {"exporter cannot": f"{type(error).__name__}: {lines[0][:200]}"}
    try:
        proto = onnx.load(path)
        row: dict[str, Any] = {"nodes": len(proto.graph.node), "opset": opset_of(proto), "fixed batch": fixed}
        row["problems"] = []
        return row | _checked(network, x, path, row["problems"])
    except Exception as error:
        return {"problems": [f"{type(error).__name__}: {str(error).replace(f'{folder}/', '')[:300]}"]}
    finally:
        path.unlink(missing_ok=True)


def _export(network: nn.Module, x: Tensor, path: Path) -> bool:
    """Export with an open batch size, and where that cannot be done with a fixed one; whether it is fixed."""
    try:
        export_network(network, x, path, exporter="default")
    except Exception:
        export_network(network, x, path, exporter="default", dynamic=False)
        return True
    return False


def _checked(network: nn.Module, x: Tensor, path: Path, problems: list[str]) -> dict[str, Any]:
    traced, _ = architectures.activations(network, x)
    expected = Counter(kind for _, kind in traced.elements())
    model = load_model(str(path))
    found = find_sites(model)
    kinds = Counter(site.kind.partition("(")[0] for site in found)
    if kinds != expected:
        problems.append(f"expected {dict(expected)}, found {dict(kinds)}")
    before = _outputs(model, x)
    expected_outputs = runtime(path, x)
    # Freshly drawn networks may have outputs far below 1, so that only a comparison with their own size says anything.
    largest = expected_outputs.abs().max()
    difference = relative(before / largest, expected_outputs / largest)
    if not difference <= 1e-4:
        problems.append(f"{difference:.1e} from ONNX Runtime")
    _swaps(model, x, before, sorted({site.kind for site in found}), problems)
    return {"sites": len(found), "difference": difference}


def _swaps(model: Model, x: Tensor, before: Tensor, kinds: list[str], problems: list[str]) -> None:
    for kind in kinds:
        if not torch.equal(_outputs(swap_activation(model, kind, only=kind), x), before):
            problems.append(f"identity swap of {kind} changes the outputs")
    wanted = next(spec for spec in ("gelu", "silu", "mish") if spec not in kinds)
    swapped = swap_activation(model, wanted)
    left = {site.kind for site in find_sites(swapped.network)} - {wanted}
    seen = {kind for _, kind in architectures.activations(swapped.network, x)[0]} - {wanted}
    if left or seen:
        problems.append(f"after the swap to {wanted} there are {sorted(left | seen)}")
    if torch.equal(_outputs(swapped, x), before):
        problems.append(f"the swap to {wanted} changes nothing")


def _outputs(holder: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        result = holder.network(x)
    return result[0] if isinstance(result, tuple) else result
