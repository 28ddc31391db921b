"""Finds every use of an activation function in a torch module, and the sites that can be swapped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from robustcheck.errors import SurgeryError
from robustcheck.networks.call_sites import ANY_CALL
from robustcheck.networks.kinds import SQUASHING, kind_name, module_kind, named_function
from robustcheck.networks.rerouting import Rerouted, WrittenBack
from robustcheck.networks.roles import Use, uses
from robustcheck.networks.site import Site
from robustcheck.networks.source_scan import scan
from robustcheck.networks.tracing import Place, has_forward, is_scripted, is_torch_leaf, overwriting, trace


@dataclass(frozen=True)
class Target:
    """A site with the calls in the code that it stands for."""

    site: Site
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Analysis:
    """Every use of an activation function, whatever its role, and the modules whose code could not be traced."""

    uses: tuple[Use, ...]
    opaque: tuple[str, ...]


def analyse(network: nn.Module) -> Analysis:
    """Trace the network in both modes, part by part where it must be, and read the source of what cannot be traced.

    Raises SurgeryError for TorchScript.
    """
    if is_scripted(network):
        raise SurgeryError(
            "TorchScript: expected Python modules, got compiled code that cannot be changed; load the network that the "
            "script was made from (package.module:factory with --weights)"
        )
    first_path = {id(module): path for path, module in reversed(list(network.named_modules(remove_duplicate=False)))}
    opaque_types: set[type[nn.Module]] = set()
    found: dict[tuple[Place, bool], Use] = {}
    opaque: dict[str, None] = {}
    covered = _routed_modules(network)
    traced_uses: list[Use] = []
    leaves = [path for path, part in network.named_modules() if path and is_torch_leaf(part) and has_forward(part)]
    complete = False

    def full(prefix: str, path: str) -> str:
        joined = ".".join(part for part in (prefix, path) if part)
        return str(first_path[id(network.get_submodule(joined))])

    for path, module in network.named_modules():
        if is_torch_leaf(module):
            for use in _function_held(module, path):
                _merge(found, use)
        if path in covered or is_torch_leaf(module) or not has_forward(module):
            continue
        if path and complete and not any(path.startswith(f"{leaf}.") for leaf in leaves):
            continue
        for training in (False, True):
            traced = trace(module, training=training, opaque_types=opaque_types)
            covered.update(full(path, inner) for inner in traced.covered)
            opaque.update(dict.fromkeys(full(path, inner) for inner in traced.opaque))
            for use in uses(traced, whole=path == ""):
                place = replace(use.place, owner=full(path, use.place.owner))
                if use.is_module:
                    place = replace(place, name=full(path, place.name))
                traced_uses.append(replace(use, place=place))
                _merge(found, _as_routed(network, traced_uses[-1]))
        # What a whole trace does not come by is never called, or by its forward alone, as part of its caller's.
        complete = complete or (path == "" and not opaque)
    for path in opaque:
        for use in _scanned_uses(network.get_submodule(path), path, traced_uses):
            _merge(found, _as_routed(network, use))
    called = {use.place.name for use in found.values() if use.is_module} | covered
    for path, _ in network.named_modules():
        if path not in called and (uncalled := _uncalled(network, path)) is not None:
            _merge(found, uncalled)
    return Analysis(tuple(found.values()), tuple(opaque))


def _merge(found: dict[tuple[Place, bool], Use], use: Use) -> None:
    """Add a use; one that is a gate in any mode is a gate, one whose input is read later in any mode stays so."""
    known = found.setdefault((use.place, use.is_module), use)
    role = known.role if known.role != "activation" else use.role
    found[use.place, use.is_module] = replace(known, role=role, overwrites=known.overwrites or use.overwrites)


def _function_held(module: nn.Module, path: str) -> Iterable[Use]:
    """The function that a transformer layer of torch's holds; no trace looks into those."""
    function = module.__dict__.get("activation")
    if module_kind(module) is None and callable(function):
        kind = named_function(function) or str(getattr(function, "__name__", "function"))
        yield Use(Place(path, "attribute", "", 0, 0), kind, "activation", False)


def _uncalled(network: nn.Module, path: str) -> Use | None:
    """A module that untraced code calls, or none; what it is for is plain unless it squashes."""
    module = network.get_submodule(path)
    kind = module_kind(module)
    if kind is None or kind_name(kind) in SQUASHING:
        return None
    return Use(Place("", path, "", 0, ANY_CALL), kind, "activation", True, overwrites=overwriting(module))


def _scanned_uses(module: nn.Module, path: str, traced: Iterable[Use]) -> list[Use]:
    """What the source shows beyond the traces."""
    known = {(use.place.file, use.place.line, use.place.name) for use in traced if use.place.owner == path}
    return [
        use
        for use in scan(module, path)
        if not any((use.place.file, line, use.place.name) in known for line in use.lines)
    ]


def _routed_modules(network: nn.Module) -> set[str]:
    """Modules that stand in for calls of functions; their calls are seen where the functions are."""
    routed: set[str] = set()
    for path, module in network.named_modules():
        if isinstance(forward := module.__dict__.get("forward"), Rerouted):
            routed.update(
                f"{path}.{route.submodule}".lstrip(".") for route in forward.routes.values() if route.submodule
            )
    return routed


def _as_routed(network: nn.Module, use: Use) -> Use:
    """A call that an earlier swap has routed to a module, as that module's call."""
    owner = network.get_submodule(use.place.owner)
    forward = owner.__dict__.get("forward")
    if use.is_module or not isinstance(forward, Rerouted):
        return use
    keys = [(use.place.file, line, use.place.name, use.place.ordinal) for line in use.lines]
    name = next((route.submodule for key in keys if (route := forward.routes.get(key)) and route.submodule), None)
    if name is None:
        return use
    if isinstance(owner.get_submodule(name), WrittenBack):
        name = f"{name}.activation"
    path = f"{use.place.owner}.{name}" if use.place.owner else name
    kind = module_kind(owner.get_submodule(name)) or use.kind
    return Use(Place(use.place.owner, path, "", 0, 0), kind, "activation", True)


def targets_of(network: nn.Module, analysis: Analysis) -> list[Target]:
    """The sites, in the order of the calls."""
    by_module: dict[str, list[Use]] = {}
    targets: dict[str, Target | None] = {}
    taken: set[str] = set()
    for use in analysis.uses:
        if use.is_module:
            by_module.setdefault(use.place.name, []).append(use)
            targets.setdefault(use.place.name, None)
        elif use.role == "activation":
            path = _function_path(network, use, taken)
            targets[path] = Target(Site(path, use.kind, "function", 1), (use,))
    for path, calls in by_module.items():
        if all(use.role == "activation" for use in calls):
            count = sum(use.place.ordinal != ANY_CALL for use in calls)
            targets[path] = Target(Site(path, calls[0].kind, "module", count), tuple(calls))
    return [target for target in targets.values() if target is not None]


def _function_path(network: nn.Module, use: Use, taken: set[str]) -> str:
    owner = network.get_submodule(use.place.owner)
    if use.place.name == "attribute":
        return f"{use.place.owner}.activation" if use.place.owner else "activation"
    base, number = kind_name(use.kind), 0
    while True:
        name = base if number == 0 else f"{base}_{number}"
        path = f"{use.place.owner}.{name}" if use.place.owner else name
        if path not in taken and not hasattr(owner, name):
            taken.add(path)
            return path
        number += 1
