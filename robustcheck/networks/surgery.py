"""Finding and swapping the activation functions of a network: the verbs that all kinds of network share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.errors import SurgeryError
from robustcheck.networks import torch_surgery
from robustcheck.networks.kinds import canonical, kind_name
from robustcheck.networks.site import KnowsItsSites, Site

if TYPE_CHECKING:
    from robustcheck.networks.loading import Model

__all__ = ["Site", "Swap", "current_activation", "find_sites", "swap_activation"]


@dataclass(frozen=True)
class Swap:
    """A swapped copy of a network, the canonical spec of its new activation, and the sites that have it now."""

    network: nn.Module
    activation: str
    replaced: tuple[Site, ...]


def find_sites(network: nn.Module | Model) -> tuple[Site, ...]:
    """Every activation site of a network, in the order of the calls.

    Found are modules and calls of functions (`F.relu`, `torch.relu`, `Tensor.relu_`, `clamp(min=0)`, `x * sigmoid(x)`).
    Not sites are the sigmoid or tanh of a gate, those that make the network's output, a softmax, and what happens
    inside a recurrent layer.

    Raises:
        SurgeryError: the network is TorchScript.

    >>> find_sites(nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2)))
    (Site(path='1', kind='leaky_relu(slope=0.2)', found='module', calls=1),)
    """
    found = _network_of(network)
    return found.current_sites() if isinstance(found, KnowsItsSites) else torch_surgery.find(found)


def swap_activation(
    network: nn.Module | Model, activation: str, *, only: str | None = None, where: str | None = None
) -> Swap:
    """Replace activation functions in a copy of a network; the network itself is not changed.

    In a gated block (`a * gelu(b)` in the code, or a gated activation of the catalogue) it is the inner activation that
    is found and replaced; there, and only in the catalogue's, `geglu` stands for an inner `gelu`, and so on.

    A site that has this activation already keeps its module, learned values included, so that the outputs are
    bit-equal. A learned activation gets an instance of its own for each call.

    Args:
        network: any torch module that takes images, or a loaded `Model`.
        activation: a spec of the catalogue such as `gelu` or `leaky_relu(0.05)`.
        only: replace this kind alone: a name (`relu`) or a whole spec (`leaky_relu(slope=0.2)`).
        where: replace at these paths alone: a pattern such as `features.*`.

    Raises:
        InvalidValueError, UnknownNameError: the spec cannot be read, or names no activation.
        SurgeryError: no site matches (the message lists what was seen), or the activation does not fit the network.

    >>> swap = swap_activation(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "gelu")
    >>> swap.replaced
    (Site(path='1', kind='relu', found='module', calls=1),)
    >>> swap.network[1]
    GELU(approximate='none')
    """
    wanted = read_activation(activation)
    sites = find_sites(network)
    chosen = tuple(site for site in sites if _matches(site, only, where))
    if not chosen:
        raise SurgeryError(_nothing_matched(sites, only, where))
    if wanted.inner is not None:
        plain = tuple(site for site in chosen if not torch_surgery.is_gated(_network_of(network), site))
        if plain:
            raise SurgeryError(_no_gated_block(wanted, wanted.inner, plain))
        wanted = wanted.inner
    return Swap(swap_sites(_network_of(network), wanted, [site.path for site in chosen]), wanted.spec, chosen)


def swap_sites(network: nn.Module, wanted: Activation, paths: Iterable[str]) -> nn.Module:
    """A copy of a network with an activation that is not gated at the sites of these paths; see `swap_activation`."""
    if isinstance(network, KnowsItsSites):
        return network.with_activation(wanted, frozenset(paths))
    return torch_surgery.swap(network, wanted, frozenset(paths))


def current_activation(sites: Iterable[Site]) -> str | None:
    """The kind that is called most often in one forward pass, the first of several; None where there are no sites.

    >>> net = nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2), nn.GELU())
    >>> current_activation(find_sites(net))
    'gelu'
    """
    counts: Counter[str] = Counter()
    for site in sites:
        counts[site.kind] += max(site.calls, 1)
    return counts.most_common(1)[0][0] if counts else None


def _network_of(network: nn.Module | Model) -> nn.Module:
    return network if isinstance(network, nn.Module) else network.network


def _matches(site: Site, only: str | None, where: str | None) -> bool:
    kind_fits = only is None or only.strip().lower() == kind_name(site.kind) or canonical(only) == site.kind
    return kind_fits and (where is None or fnmatchcase(site.path, where))


def _nothing_matched(sites: tuple[Site, ...], only: str | None, where: str | None) -> str:
    asked = " and ".join(
        [*([f"of kind {only!r}"] if only is not None else []), *([f"at {where!r}"] if where is not None else [])]
    )
    seen = ", ".join(f"{site.path} ({site.kind})" for site in sites[:12]) + (", …" if len(sites) > 12 else "")
    if not sites:
        return (
            "activations: expected at least one activation function in the network, got none; gates, outputs and "
            "recurrent layers do not count, and an activation of your own must be a module or a function of torch's, "
            "or ONNX nodes that compute a known one"
        )
    return f"activations: expected at least one site {asked}, got none; the network has {seen}"


def _no_gated_block(wanted: Activation, inner: Activation, chosen: tuple[Site, ...]) -> str:
    seen = ", ".join(f"{site.path} ({site.kind})" for site in chosen[:5])
    return (
        f"{wanted.spec}: expected a gated feed-forward block, got plain activations at {seen}; it halves the width of "
        "what it is given, so the layers around would no longer fit; choose an elementwise activation "
        f"(robustcheck activations list), for a gated block that is written out the inner one, {inner.spec}"
    )
