"""Finds and swaps activation functions in torch modules: those that are modules and those that are calls."""

from __future__ import annotations

import torch
from torch import nn

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.gated import Gated
from robustcheck.errors import SurgeryError
from robustcheck.networks.finding import Analysis, Target, analyse, targets_of
from robustcheck.networks.kinds import new_module
from robustcheck.networks.rerouting import PerCall, Route, WrittenBack, reroute
from robustcheck.networks.site import Site
from robustcheck.networks.tracing import copied


def find(network: nn.Module) -> tuple[Site, ...]:
    """Every activation site; see `robustcheck.networks.surgery.find_sites`."""
    return tuple(target.site for target in targets_of(network, analyse(network)))


def is_gated(network: nn.Module, site: Site) -> bool:
    """Whether the site is the inner activation of a gated one of the catalogue."""
    owner, _, name = site.path.rpartition(".")
    return site.found == "module" and name == "inner" and isinstance(network.get_submodule(owner), Gated)


def swap(network: nn.Module, wanted: Activation, paths: frozenset[str]) -> nn.Module:
    """A copy of the network with the wanted activation at the sites of these paths.

    Raises:
        SurgeryError: the network cannot be copied, or is itself nothing but an activation.
    """
    analysis = analyse(network)
    targets = targets_of(network, analysis)
    result = copied(network)
    like = next((p for p in result.parameters() if p.is_floating_point()), torch.zeros(()))
    chosen = [target for target in targets if target.site.path in paths and target.site.kind != wanted.spec]
    for target in chosen:
        count = _instances(target) if wanted.learned else 1
        fresh = [_fresh(wanted, target, like, result.training) for _ in range(count)]
        if target.site.found == "module":
            _replace_module(result, target, fresh)
        elif target.uses[0].place.name == "attribute":
            _set(result, target.site.path, fresh[0])
        else:
            owner, _, name = target.site.path.rpartition(".")
            result.get_submodule(owner).add_module(name, fresh[0])
    if chosen:
        _route_calls(result, analysis, chosen)
    return result


def _instances(target: Target) -> int:
    return len({(use.place.owner, use.place.ordinal) for use in target.uses}) if target.site.calls else 1


def _fresh(wanted: Activation, target: Target, like: torch.Tensor, training: bool) -> nn.Module:
    module = new_module(wanted)
    if any(use.overwrites for use in target.uses):
        module = WrittenBack(module)
    return module.to(device=like.device, dtype=like.dtype if like.is_floating_point() else None).train(training)


def _replace_module(network: nn.Module, target: Target, fresh: list[nn.Module]) -> None:
    old = network.get_submodule(target.site.path)
    if old is network:
        raise SurgeryError("network: expected layers with activations between them, got an activation alone")
    new: nn.Module
    if len(fresh) == 1:
        new = fresh[0]
    else:
        new = PerCall(fresh)
        for owner, first in _first_calls(target).items():
            reroute(network.get_submodule(owner)).first_calls.append((new, first))
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if module is old:
            _set(network, path, new)


def _first_calls(target: Target) -> dict[str, int]:
    """Which instance each owner's first call takes; the calls of one owner follow one another."""
    counts: dict[str, set[int]] = {}
    for use in target.uses:
        counts.setdefault(use.place.owner, set()).add(use.place.ordinal)
    first, total = {}, 0
    for owner, ordinals in counts.items():
        first[owner] = total
        total += len(ordinals)
    return first


def _set(network: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, module)
    _forbid_fast_path(network.get_submodule(owner))


def _forbid_fast_path(owner: nn.Module) -> None:
    """Keep torch's fused encoder layer, which knows only ReLU and GELU, from bypassing the module."""
    if hasattr(owner, "activation_relu_or_gelu"):
        owner.__dict__["activation_relu_or_gelu"] = 0


def _route_calls(network: nn.Module, analysis: Analysis, chosen: list[Target]) -> None:
    replaced = {use: target.site.path.rpartition(".")[2] for target in chosen for use in target.uses}
    owners = {use.place.owner for use in replaced if not use.is_module and use.place.name != "attribute"}
    owners.update(analysis.opaque)
    for path in owners:
        reroute(network.get_submodule(path)).intercepts = True
    for use in analysis.uses:
        if use.is_module or use.place.owner not in owners or use.place.name == "attribute":
            continue
        routes = reroute(network.get_submodule(use.place.owner)).routes
        for line in use.lines:
            key = (use.place.file, line, use.place.name, use.place.ordinal)
            routes.setdefault(key, Route(None))
            if use in replaced:
                routes[key] = Route(replaced[use], use.argument)
