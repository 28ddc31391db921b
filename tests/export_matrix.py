"""What must hold for each file of the export matrix, as functions that give a verdict with figures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import export_networks as networks
import onnx
import torch
from activation_trace import traced_activations
from exports import expected_weights, opset_of, relative, runtime
from graph_difference import difference, group_error, groups, result_of
from onnx import numpy_helper
from torch import nn

from robustcheck.networks.loading import Model, load_model
from robustcheck.networks.onnx.writing import write_onnx
from robustcheck.networks.surgery import find_sites, swap_activation


@dataclass(frozen=True)
class Check:
    """Whether something holds; `detail` has the figures, or what is wrong."""

    passed: bool
    detail: str


class Subject:
    """One file, the network that it was made from, and the folder for what the checks write.

    Attributes:
        source: the torch network.
        traced: the kinds that a run of it was seen to apply, in order.
    """

    def __init__(self, name: str, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.source = networks.build(name)
        self.traced = [kind for kind, _ in traced_activations(self.source, networks.inputs(2))]
        self.proto = onnx.load(path)
        self.recurrent = name == "lstm"

    @cached_property
    def model(self) -> Model:
        """The file, loaded."""
        return load_model(str(self.path))

    @cached_property
    def retrained(self) -> tuple[nn.Module, list[float], Path]:
        """The network with GELU everywhere after a few steps of Adam, the losses, and the file written from it."""
        swapped = swap_activation(self.model, "gelu").network
        losses = train(swapped)
        written = self.folder / f"{self.path.stem}-gelu.onnx"
        write_onnx(swapped, written)  # type: ignore[arg-type]
        return swapped, losses, written


def loads(subject: Subject) -> Check:
    """The file passes ONNX's checker and loads, in evaluation mode."""
    onnx.checker.check_model(str(subject.path), full_check=True)
    return Check(not subject.model.network.training, f"{len(subject.proto.graph.node)} nodes")


def sites(subject: Subject) -> Check:
    """The sites are what the run-time trace saw, in its order."""
    found = [site.kind for site in find_sites(subject.model)]
    missing = [kind for kind in subject.traced if kind not in found]
    extra = [kind for kind in found if kind not in subject.traced]
    same = found == subject.traced
    what = "" if same else f": missing {missing}, besides {extra}" if missing or extra else f": in the order {found}"
    return Check(same, f"{len(found)}/{len(subject.traced)}{what}")


def agrees(subject: Subject) -> Check:
    """The interpreter gives what ONNX Runtime gives, at batch sizes that the exporter did not see."""
    worst = max(
        relative(subject.model.network(x).detach(), runtime(subject.path, x))
        for x in (networks.inputs(1, 1), networks.inputs(5, 2))
    )
    return Check(worst <= 1e-5, f"{worst:.1e}")


def trainable(subject: Subject) -> Check:
    """Every weight of the source that the file still holds is a parameter with a gradient, and nothing else is."""
    parameters = dict(subject.model.network.named_parameters())
    count = sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)
    expected = expected_weights(subject.source, subject.proto)
    x = networks.inputs(4, 3)
    direction = torch.randn(subject.source(x).shape, generator=torch.Generator().manual_seed(3))
    subject.model.network.zero_grad()
    (subject.model.network(x) * direction).sum().backward()
    (subject.source(x) * direction).sum().backward()
    dead = [name for name, each in parameters.items() if each.grad is None or not each.grad.abs().max() > 0]
    worst, compared = _gradient_error(subject.source, list(parameters.values()))
    subject.model.network.zero_grad()
    subject.source.zero_grad()
    detail = f"{count}/{expected}" + (f", no gradient: {dead}" if dead else "")
    detail += f", {compared} gradients to {worst:.0e} of torch's"
    return Check(count == expected and not dead and compared > 0 and worst <= 1e-3, detail)


def identity(subject: Subject) -> Check:
    """A swap of each kind to itself, and of all but PReLU to GELU and back, leaves outputs and file bit-equal."""
    x = networks.inputs(3, 4)
    network = subject.model.network
    before = network(x)
    for kind in dict.fromkeys(site.kind for site in find_sites(network)):
        if not _in_catalogue(kind):
            continue
        network = swap_activation(network, kind, only=kind).network
        if kind not in ("prelu", "gelu"):
            for path in [site.path for site in find_sites(network) if site.kind == kind]:
                there = swap_activation(network, "gelu", where=path).network
                back = swap_activation(there, kind, where=path).network
                if not torch.equal(back(x), before) or torch.equal(there(x), before):
                    return Check(False, f"{kind} to GELU and back")
    if not torch.equal(network(x), before):
        return Check(False, f"up to {(network(x) - before).abs().max():.1e}")
    written = subject.folder / f"{subject.path.stem}-same.onnx"
    write_onnx(network, written)  # type: ignore[arg-type]
    changes = difference(subject.proto, onnx.load(written))
    count = len(changes.removed) + len(changes.added) + len(changes.weights) + len(changes.beyond)
    return Check(count == 0, "bit-equal" if count == 0 else f"the file differs: {changes.beyond or count}")


def swaps(subject: Subject) -> Check:
    """With GELU everywhere nothing else is applied, training lowers the loss, and ONNX Runtime runs what is written."""
    swap = swap_activation(subject.model, "gelu")
    x = networks.inputs(3, 5)
    seen = [kind for kind, _ in traced_activations(swap.network, x)]
    others = sorted({kind for kind in seen if kind != "gelu" and not (subject.recurrent and kind == "tanh")})
    changed = not torch.allclose(swap.network(x), subject.model.network(x), atol=1e-3)
    network, losses, written = subject.retrained
    error = relative(runtime(written, x), network(x).detach())
    detail = f"{len(swap.replaced)} sites, loss {losses[0]:.2f} → {losses[-1]:.2f}, {error:.1e}"
    detail += f", still {others}" if others else "" if changed else ", outputs as before"
    complete = len(swap.replaced) == len(subject.traced) and not others and changed
    return Check(complete and losses[-1] < losses[0] and error <= 1e-4, detail)


def writes(subject: Subject) -> Check:
    """A diff of the graphs shows exchanged activations, each tried by itself, and other weights alone."""
    network, _, written = subject.retrained
    onnx.checker.check_model(str(written), full_check=True)
    after = onnx.load(written)
    changes = difference(subject.proto, after)
    if changes.beyond:
        return Check(False, "; ".join(changes.beyond[:3]))
    old = {result_of(group): group for group in groups(changes.removed)}
    new = {result_of(group): group for group in groups(changes.added)}
    kinds = [kind for kind in subject.traced if kind != "gelu"]
    if set(old) != set(new) or len(old) != len(kinds):
        return Check(False, f"{len(old)} groups of nodes gone, {len(new)} new, for {len(kinds)} activations")
    was = max(group_error(group, subject.proto, kind) for group, kind in zip(old.values(), kinds, strict=True))
    now = max(group_error(group, after, "gelu") for group in new.values())
    trained = sum(each.numel() for each in network.parameters()) + _statistics(subject.proto)
    values = {tensor.name: tensor for tensor in after.graph.initializer}
    changed = sum(numpy_helper.to_array(values[name]).size for name in changes.weights)
    detail = f"opset {opset_of(after)}, {len(changes.removed)} → {len(changes.added)} nodes, {changed}/{trained} values"
    return Check(was <= 1e-5 and now <= 1e-5 and changed == trained, detail)


def reloads(subject: Subject) -> Check:
    """The written file loads, and has GELU at every site."""
    again = load_model(str(subject.retrained[2]))
    kinds = [site.kind for site in find_sites(again)]
    x = networks.inputs(2, 6)
    error = relative(again.network(x).detach(), subject.retrained[0](x).detach())
    return Check(kinds == ["gelu"] * len(subject.traced) and error <= 1e-5, f"{kinds.count('gelu')} GELU, {error:.1e}")


CHECKS: Final[dict[str, Callable[[Subject], Check]]] = {
    "loads": loads,
    "sites": sites,
    "agrees": agrees,
    "trainable": trainable,
    "identity": identity,
    "swaps": swaps,
    "writes": writes,
    "reloads": reloads,
}
"""In the order in which they make sense: where the first fails, the others cannot run."""


def checked(subject: Subject) -> Iterator[tuple[str, Check]]:
    """All checks of one file; what raises counts as failed, with its last line."""
    for name, check in CHECKS.items():
        try:
            yield name, check(subject)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip() or "no message"
            yield name, Check(False, f"{type(error).__name__}: {text[:300]} ({place.name}:{place.lineno})")
            if name == "loads":
                return


def train(network: nn.Module, steps: int = 6) -> list[float]:
    """A few steps of Adam on one batch towards random targets, in training mode; the losses before each and after."""
    x = networks.inputs(8, 8)
    with torch.no_grad():
        shape = network(x).shape
    targets = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    network.train()
    for step in range(steps + 1):
        loss = (network(x) - targets).square().mean()
        losses.append(loss.item())
        if step < steps:
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.eval()
    return losses


def _statistics(proto: onnx.ModelProto) -> int:
    """How many running means and variances a file has, which change in training though they are no parameters."""
    sizes = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if tensor.dims}
    return sum(2 * sizes[node.input[3]] for node in proto.graph.node if node.op_type == "BatchNormalization")


def _gradient_error(source: nn.Module, parameters: list[nn.Parameter]) -> tuple[float, int]:
    """The largest relative error of gradients, and of how many tensors: those whose values the file has as they were.

    Exporters transpose and rename; sorted values find the same weights again, in the same order.
    """
    own = {tuple(each.detach().reshape(-1).sort().values.tolist()): each for each in parameters}
    worst, compared = 0.0, 0
    for parameter in source.parameters():
        values, order = parameter.detach().reshape(-1).sort()
        twin = own.get(tuple(values.tolist()))
        if twin is None or twin.grad is None or parameter.grad is None or len(values.unique()) < len(values):
            continue
        got = twin.grad.reshape(-1)[twin.detach().reshape(-1).argsort()]
        expected = parameter.grad.reshape(-1)[order]
        worst = max(worst, float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-3)))
        compared += 1
    return worst, compared


def _in_catalogue(kind: str) -> bool:
    """Softplus with a rate of its own has no spelling there, so it cannot be asked for."""
    return not kind.startswith("softplus(")
