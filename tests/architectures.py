"""Architectures of timm and torchvision, what really runs in them, and the sweep that swaps their activations.

`sweep()` builds each network with random weights, swaps, and compares what our finder says with a run-time trace that
shares no code with it: every function that torch is handed, with the module whose forward was running and the values
that went in.

The rule for what is an activation, as the documentation states it: the sigmoid, hard sigmoid, tanh or softsign whose
value, moved, reshaped, resized or scaled by numbers but through no layer, is multiplied by another tensor or leaves the
network, is a gate or an output squasher, and so is one of a value that does not depend on the images. Multiplied by
its own input it is one activation (SiLU and the like).
"""

import sys
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.sensing.random import torch_seed

QUICK = (
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:mobilenet_v3_small",
    "timm:resnet10t",
    "timm:test_vit",
    "timm:eva02_tiny_patch14_224",
    "timm:convnextv2_atto",
)

ARCHITECTURES = {
    # name: (height and width, options of the builder)
    "torchvision:alexnet": (64, {}),
    "torchvision:convnext_tiny": (32, {}),
    "torchvision:densenet121": (32, {}),
    "torchvision:efficientnet_b0": (32, {}),
    "torchvision:efficientnet_v2_s": (32, {}),
    "torchvision:googlenet": (32, {"aux_logits": False, "init_weights": False}),
    "torchvision:inception_v3": (75, {"aux_logits": False, "init_weights": False}),
    "torchvision:maxvit_t": (224, {}),
    "torchvision:mnasnet0_5": (32, {}),
    "torchvision:mobilenet_v2": (32, {}),
    "torchvision:mobilenet_v3_small": (32, {}),
    "torchvision:regnet_x_400mf": (32, {}),
    "torchvision:regnet_y_400mf": (32, {}),
    "torchvision:resnet18": (32, {}),
    "torchvision:resnext50_32x4d": (32, {}),
    "torchvision:shufflenet_v2_x0_5": (32, {}),
    "torchvision:squeezenet1_1": (32, {}),
    "torchvision:swin_t": (32, {}),
    "torchvision:swin_v2_t": (32, {}),
    "torchvision:vgg11_bn": (32, {}),
    "torchvision:vit_b_16": (32, {"image_size": 32}),
    "torchvision:wide_resnet50_2": (32, {}),
    "timm:beit_base_patch16_224": (32, {"img_size": 32}),
    "timm:botnet26t_256": (256, {}),
    "timm:cait_xxs24_224": (32, {"img_size": 32}),
    "timm:coat_lite_tiny": (64, {"img_size": 64}),
    "timm:convmixer_768_32": (32, {}),
    "timm:convnextv2_atto": (32, {}),
    "timm:crossvit_9_240": (240, {}),
    "timm:cspdarknet53": (32, {}),
    "timm:deit_tiny_patch16_224": (32, {"img_size": 32}),
    "timm:dla46_c": (32, {}),
    "timm:dpn48b": (32, {}),
    "timm:eca_nfnet_l0": (32, {}),
    "timm:edgenext_xx_small": (64, {}),
    "timm:efficientformer_l1": (224, {}),
    "timm:efficientformerv2_s0": (224, {}),
    "timm:efficientnet_b0": (32, {"act_layer": "mish"}),
    "timm:efficientvit_b0": (64, {}),
    "timm:eva02_tiny_patch14_224": (28, {"img_size": 28}),
    "timm:fastvit_t8": (64, {}),
    "timm:focalnet_tiny_srf": (64, {}),
    "timm:gcvit_xxtiny": (224, {}),
    "timm:ghostnet_050": (32, {}),
    "timm:gmlp_ti16_224": (224, {}),
    "timm:halonet26t": (256, {}),
    "timm:hardcorenas_a": (32, {}),
    "timm:hgnetv2_b0": (32, {}),
    "timm:hrnet_w18_small": (32, {}),
    "timm:inception_next_atto": (32, {}),
    "timm:levit_128s": (224, {}),
    "timm:mambaout_femto": (32, {}),
    "timm:mixer_s32_224": (224, {}),
    "timm:mobilevit_xxs": (64, {}),
    "timm:mobilevitv2_050": (64, {}),
    "timm:mvitv2_tiny": (224, {}),
    "timm:nest_tiny": (224, {}),
    "timm:pit_ti_224": (224, {}),
    "timm:poolformer_s12": (32, {}),
    "timm:pvt_v2_b0": (64, {}),
    "timm:regnety_002": (32, {}),
    "timm:repvgg_a0": (32, {}),
    "timm:resmlp_12_224": (224, {}),
    "timm:resnest14d": (32, {}),
    "timm:resnet10t": (32, {}),
    "timm:resnetv2_50x1_bit": (32, {}),
    "timm:res2net50_14w_8s": (32, {}),
    "timm:rexnet_100": (32, {}),
    "timm:selecsls42": (32, {}),
    "timm:sequencer2d_s": (224, {}),
    "timm:skresnet18": (32, {}),
    "timm:starnet_s1": (32, {}),
    "timm:swin_tiny_patch4_window7_224": (56, {"img_size": 56}),
    "timm:swinv2_tiny_window8_256": (64, {"img_size": 64}),
    "timm:test_byobnet": (32, {}),
    "timm:test_efficientnet": (32, {}),
    "timm:test_vit": (160, {}),
    "timm:tiny_vit_5m_224": (224, {}),
    "timm:tinynet_e": (32, {}),
    "timm:tnt_s_patch16_224": (224, {}),
    "timm:twins_svt_small": (224, {}),
    "timm:visformer_tiny": (224, {}),
    "timm:vit_tiny_patch16_224": (32, {"img_size": 32}),
    "timm:volo_d1_224": (224, {}),
    "timm:xception41": (71, {}),
    "timm:xcit_nano_12_p16_224": (32, {"img_size": 32}),
}

SQUASHERS = {"sigmoid", "hardsigmoid", "tanh", "softsign"}
PLAIN = {
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "prelu": "prelu",
    "elu": "elu",
    "selu": "selu",
    "celu": "celu",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "hardswish": "hardswish",
    "softplus": "softplus",
    "clamp_min": "relu",
}
LIKE = {"expand_as", "view_as", "reshape_as", "type_as"}
PRODUCTS = {"mul", "rmul", "imul", "matmul", "bmm", "einsum", "addcmul", "lerp"}
MOVES = {
    *("view", "reshape", "expand", "unsqueeze", "squeeze", "flatten", "permute", "transpose", "contiguous", "getitem"),
    *("chunk", "split", "unbind", "narrow", "select", "to", "clone", "float", "repeat", "interpolate", "softmax"),
    *("cat", "dropout", "add", "sub", "mul", "div", "neg", "truediv", "rsub", "radd", "rmul", *LIKE),
}


@dataclass
class Call:
    """One function that torch was handed: its name, the module that was running, and whose results went in."""

    name: str
    module: str
    sources: list
    kwargs: dict
    numbers: list
    from_input: bool
    users: list = field(default_factory=list)


class Recorder(TorchFunctionMode):
    """Records every function call of a forward pass of `x` as a graph of values."""

    def __init__(self, x):
        super().__init__()
        self.x, self.calls, self.producer, self.keep, self.stack = x, [], {}, [], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in _flat((args, tuple(kwargs.values()))) if isinstance(x, torch.Tensor)]
        out = func(*args, **kwargs)
        produced = [x for x in _flat((out,)) if isinstance(x, torch.Tensor)]
        if produced:
            sources = [self.producer.get(id(x), ("given", id(x))) for x in tensors]
            numbers = [x for x in args if isinstance(x, int | float) and not isinstance(x, bool)]
            known = [source == ("given", id(self.x)) or self._depends(source) for source in sources]
            running = self.stack[-1] if self.stack else ""
            call = Call(func.__name__.strip("_"), running, sources, kwargs, numbers, any(known))
            for source in sources:
                if not isinstance(source, tuple):
                    self.calls[source].users.append(len(self.calls))
            for x in produced:
                self.producer[id(x)] = len(self.calls)
            self.keep += produced
            self.calls.append(call)
        return out

    def _depends(self, source):
        return not isinstance(source, tuple) and self.calls[source].from_input


def _flat(values):
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


@contextmanager
def recording(network, x):
    recorder, hooks = Recorder(x), []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda m, a, path=path: recorder.stack.append(path)))
        hooks.append(module.register_forward_hook(lambda m, a, o: recorder.stack.pop() and None))
    try:
        with recorder, torch.no_grad():
            yield recorder
    finally:
        for hook in hooks:
            hook.remove()


def activations(network, x):
    """What runs in one forward pass: how often each activation is applied, by kind and by the module that was running.

    Returns (sites, others): Counters of (module path, kind) for activations, and of the kind for gates and outputs.
    """
    with recording(network, x) as recorder:
        network(x)
    calls, sites, others = recorder.calls, Counter(), Counter()
    for number, call in enumerate(calls):
        kind = _kind(call)
        if kind is None:
            continue
        if kind == "relu6" and _shifted(calls, call):
            kind = "hardsigmoid"
        if kind == "softplus" and _is_mish(calls, number):
            continue
        if kind not in SQUASHERS:
            sites[call.module, kind] += 1
            continue
        role = _role(calls, number)
        if role in ("gate", "output"):
            others[kind] += 1
        else:
            sites[call.module, role or kind] += 1
    return sites, others


def _kind(call):
    if call.name in ("clamp", "clip", "hardtanh"):
        bounds = [*call.numbers, *(call.kwargs.get(name) for name in ("min", "min_val") if name in call.kwargs)]
        top = call.kwargs.get("max", call.kwargs.get("max_val"))
        low = bounds[0] if bounds else None
        high = top if top is not None else bounds[1] if len(bounds) > 1 else None
        return {(0, None): "relu", (0, 6): "relu6"}.get((low, high))
    if call.name == "gelu":
        return "gelu_tanh" if call.kwargs.get("approximate") == "tanh" else "gelu"
    return call.name if call.name in SQUASHERS else PLAIN.get(call.name)


def _shifted(calls, call):
    source = call.sources[0]
    return not isinstance(source, tuple) and calls[source].name == "add" and 3 in calls[source].numbers


def _is_mish(calls, number):
    users = [calls[user] for user in calls[number].users]
    return [user.name for user in users] == ["tanh"]


def _role(calls, number):
    """gate, output, the kind of the whole product where a squasher gates its own input, None for an activation."""
    call = calls[number]
    own = call.sources[0]
    if call.name == "relu6":
        own = calls[own].sources[0]
    if not call.from_input:
        return "gate"
    names = {"sigmoid": "silu", "hardsigmoid": "hardswish", "relu6": "hardswish", "tanh": "lisht"}
    waiting, seen = [number], set()
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        if not calls[here].users:
            return "output"
        for user in calls[here].users:
            then = calls[user]
            if then.name in PRODUCTS and len(then.sources) > 1:
                others = [source for source in then.sources if source != here]
                if others == [own]:
                    return names[call.name]
                scaled = (
                    not isinstance(own, tuple) and calls[own].name in ("mul", "rmul") and len(calls[own].sources) == 1
                )
                if scaled and others == calls[own].sources:
                    return "gelu_sigmoid" if 1.702 in calls[own].numbers else "swish"
                if call.name == "tanh" and not isinstance(own, tuple) and calls[own].name == "softplus":
                    return "mish" if others == calls[own].sources else "gate"
                return "gate"
            like = then.name in LIKE and then.sources[0] == here
            if like or then.name == "cat" or (then.name in MOVES and set(then.sources) == {here}):
                waiting.append(user)
    return None


def build(name):
    """The network of a name, its weights random and none of them zero or nearly so, and a batch for it."""
    library, _, rest = name.partition(":")
    size, options = ARCHITECTURES[name]
    with torch_seed(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm":
            import timm

            network = timm.create_model(rest, pretrained=False, num_classes=7, **options)
        else:
            import torchvision

            network = torchvision.models.get_model(rest, weights=None, num_classes=7, **options)
        for parameter in network.parameters():
            if parameter.abs().max() < 1e-2:
                nn.init.uniform_(parameter, -0.3, 0.3)
        return network.eval(), torch.randn(2, 3, size, size)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was found, and what was wrong (empty where all is right)."""

    name: str
    sites: int
    calls: int
    kinds: tuple[str, ...]
    problems: tuple[str, ...]
    seconds: float


def check(name):
    """Sites against the run-time trace, identity swap, and the swap to another activation, for one architecture."""
    start = time.perf_counter()
    network, x = build(name)
    traced, others = activations(network, x)
    found = find_sites(network)
    problems = list(_differences(traced, found))
    with torch.no_grad():
        before = network(x)
    if not bool(before.isfinite().all()):
        problems.append("outputs are not finite, so nothing can be compared")
    kinds = sorted({site.kind for site in found})
    for kind in kinds:
        with torch.no_grad():
            if not torch.equal(swap_activation(network, kind, only=kind).network(x), before):
                problems.append(f"identity swap of {kind} changes the outputs")
    wanted = next(spec for spec in ("gelu", "silu", "mish") if spec not in kinds)
    swapped = swap_activation(network, wanted).network
    after, gates = activations(swapped, x)
    left = {kind for _, kind in after} - {wanted}
    if left or after.total() != traced.total():
        problems.append(f"after the swap to {wanted}: {dict(Counter(kind for _, kind in after.elements()))}")
    if gates != others:
        problems.append(f"gates and outputs were {dict(others)}, and are {dict(gates)}")
    with torch.no_grad():
        if torch.equal(swapped(x), before):
            problems.append(f"the swap to {wanted} changes nothing")
    return Row(name, len(found), traced.total(), tuple(kinds), tuple(problems), time.perf_counter() - start)


def _differences(traced, found):
    modules = {site.path: site for site in found if site.found == "module"}
    functions = Counter((site.path.rpartition(".")[0], _name(site)) for site in found if site.found == "function")
    for (path, kind), count in traced.items():
        if path in modules:
            site = modules.pop(path)
            if _name(site) != kind or site.calls not in (0, count):
                yield f"{path}: expected {count} {kind}, found {site.calls} {_name(site)}"
        elif functions.pop((path, kind), None) != count:
            yield f"{path}: {count} {kind} called as functions were not all found"
    for path in modules:
        yield f"{path}: found, but it is not called"
    for path, kind in functions:
        yield f"{path}: {kind} found, but it is not called"


def _name(site):
    return site.kind.partition("(")[0]


def sweep(names=None):
    """One row for each architecture, all of them by default."""
    return [check(name) for name in names or ARCHITECTURES]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ARCHITECTURES:
        try:
            print(check(chosen), flush=True)
        except Exception as error:
            print(chosen, "FAILED", type(error).__name__, str(error)[:300], flush=True)
