"""One pass through a network with its gradients: what went into each activation, and the gradients of what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustcheck.activations.catalogue import CATALOGUE, activation
from robustcheck.errors import SurgeryError
from robustcheck.networks.kinds import kind_name, new_module
from robustcheck.networks.rerouting import WrittenBack
from robustcheck.networks.surgery import find_sites, swap_sites
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.analog_layer import Scales
from robustcheck.sensing.channel import Channel


@dataclass(frozen=True)
class Batch:
    """Physical images (n, c, h, w) in [0, 1], their sample ids (n,) and labels (n,)."""

    images: Tensor
    ids: Tensor
    labels: Tensor


@dataclass
class Call:
    """One call of a site's module: its input, and the gradient of its output from each backward pass."""

    path: str
    module: nn.Module
    input: Tensor
    gradients: list[Tensor] = field(default_factory=list)

    def derivative(self) -> Tensor:
        """f′ at the input, elementwise and as training would use it; shaped like the input."""
        with torch.enable_grad():
            point = self.input.clone().requires_grad_()
            # The second clone is for modules that overwrite their input.
            (slope,) = torch.autograd.grad(self.module(point.clone()).sum(), point)
        return slope


def with_modules(network: nn.Module) -> nn.Module:
    """The network itself or, where it calls activations as functions, a copy that calls modules in their places.

    Raises:
        SurgeryError: a call that no module can stand for: of a function with learned values, or in no catalogue.

    >>> with_modules(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))[1]
    ReLU()
    """
    calls = [site for site in find_sites(network) if site.found == "function"]
    for site in calls:
        if kind_name(site.kind) not in CATALOGUE or activation(site.kind).learned:
            raise SurgeryError(
                f"{site.path}: expected an activation that a module can stand for, got a call of {site.kind}; "
                "make it a module (nn.Module) in the network's code"
            )
    # Only a swap makes modules of calls, and it leaves alone what is there already: swap for another, then put back.
    for other in ("silu", "gelu"):
        paths = [site.path for site in calls if (site.kind == "silu") == (other == "gelu")]
        if paths:
            network = swap_sites(network, activation(other), paths)
    for site in calls:
        owner, _, name = site.path.rpartition(".")
        own = new_module(activation(site.kind)).train(network.training)
        there = network.get_submodule(site.path)
        if isinstance(there, WrittenBack):
            there.activation = own
        else:
            setattr(network.get_submodule(owner), name, own)
    return network


def site_modules(network: nn.Module) -> dict[str, nn.Module]:
    """The modules at the activation sites by their paths; one that has an instance for each call is as many sites.

    Raises:
        SurgeryError: there are none, or one is not elementwise and so has no derivative at a point.

    >>> list(site_modules(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))))
    ['1']
    """
    found: dict[str, nn.Module] = {}
    for site in find_sites(network):
        if kind_name(site.kind) in CATALOGUE and not activation(site.kind).elementwise:
            raise SurgeryError(
                f"{site.path}: expected an elementwise activation, got {site.kind}, which has no derivative at a point"
            )
        owner = site.path.rpartition(".")[0]
        # What a swap put around the activation has the site's own path.
        path = owner if isinstance(network.get_submodule(owner), WrittenBack) else site.path
        found[path] = network.get_submodule(site.path)
    if not found:
        raise SurgeryError(
            "expected a network with activation sites, got none; robustcheck models show MODEL lists what is found"
        )
    return found


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[list[Call]]:
    """The calls of the modules within, in order; a path has #1, #2 … for further calls."""
    calls: list[Call] = []
    counts: Counter[str] = Counter()

    def before(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            name = f"{path}#{counts[path]}" if counts[path] else path
            counts[path] += 1
            calls.append(Call(name, module, arguments[0].detach().clone()))

        return note

    def after(_module: nn.Module, _arguments: tuple[Tensor, ...], output: Tensor) -> None:
        call = calls[-1]

        def keep(gradient: Tensor) -> None:
            call.gradients.append(gradient.detach())

        output.register_hook(keep)  # type: ignore[no-untyped-call]

    handles = []
    try:
        for path, module in modules.items():
            handles += [module.register_forward_pre_hook(before(path)), module.register_forward_hook(after)]
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def gradient_pass(
    noisy: NoisyNetwork,
    modules: dict[str, nn.Module],
    batch: Batch,
    draw: int,
    channel: Channel | None,
    scales: Scales,
    at_logits: Tensor | None = None,
) -> tuple[Tensor, list[Call]]:
    """One pass with the gradients of the cross-entropy, added over samples: no sample's gradient depends on others.

    Parameters take no gradient from it.

    Args:
        noisy: in evaluation mode.
        modules: whose calls are recorded, modules of `noisy.network`.
        batch: n samples.
        draw: number of the draw.
        channel: None for a clean pass.
        scales: of the sites, from `NoisyNetwork.calibrate`.
        at_logits: (n, classes), a gradient that is sent back from the logits in a second backward pass.

    Returns:
        The gradient of the loss with respect to the logits, (n, classes), and the calls in the order of the backward
        pass, with one gradient or, with `at_logits`, two.
    """
    images = batch.images.detach().clone().requires_grad_()
    with torch.enable_grad():
        with _recorded(modules) as calls:
            logits = noisy(images, batch.ids, draw, channel, scales)
        loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
        (own,) = torch.autograd.grad(loss, logits, retain_graph=True)
        sent = [own] if at_logits is None else [own, at_logits]
        for number, gradient in enumerate(sent):
            logits.backward(gradient, inputs=[images], retain_graph=number + 1 < len(sent))
    # What does not lead to the logits has no gradient.
    return own, [call for call in reversed(calls) if call.gradients]
