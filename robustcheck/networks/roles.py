"""What a call in a traced graph is for: an activation function, a gate, or the network's output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import fx, nn

from robustcheck.networks.kinds import (
    SQUASHING,
    canonical,
    function_kind,
    function_name,
    kind_name,
    module_kind,
    overwrites_input,
)
from robustcheck.networks.tracing import Place, Trace, overwriting

Role = Literal["activation", "gate", "output", "inner"]

_ARITHMETIC: Final = frozenset({"add", "radd", "sub", "rsub", "mul", "truediv", "div", "rtruediv", "neg", "iadd"})
_ALIASES: Final = frozenset(
    [
        "view",
        "reshape",
        "expand",
        "expand_as",
        "unsqueeze",
        "squeeze",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "contiguous",
        "getitem",
        "chunk",
        "split",
        "unbind",
        "narrow",
        "select",
        "movedim",
        "swapaxes",
        "view_as",
        "reshape_as",
        "to",
        "type_as",
        "detach",
        "dropout",
        "dropout2d",
        "identity",
    ]
)
_CARRIERS: Final = _ALIASES | frozenset(
    ["clone", "float", "half", "type", "repeat", "interpolate", "softmax", "log_softmax", "cat"]
)
_CARRYING_MODULES: Final = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.Softmax, nn.LogSoftmax)
_PRODUCTS: Final = frozenset({"mul", "matmul", "bmm", "einsum", "lerp", "addcmul"})
_OUTPUTS: Final = SQUASHING | {"softplus"}


@dataclass(frozen=True)
class Use:
    """One call of an activation function in the code.

    `argument` is the position of the input among the call's arguments; `overwrites` is true where the result is
    written into the input and later code reads it there; `is_module` tells a module's call (`place.name` is its path).
    """

    place: Place
    kind: str
    role: Role
    is_module: bool
    argument: int = 0
    overwrites: bool = False
    last_line: int = 0

    @property
    def lines(self) -> range:
        """The lines that the call may stand on; source that was only read gives a span."""
        return range(self.place.line, max(self.place.line, self.last_line) + 1)


def uses(trace: Trace, *, whole: bool) -> list[Use]:
    """Every call of an activation function in the graph, in the order of the calls.

    Args:
        trace: of a network or a part of it.
        whole: whether it is the whole network; a part's inputs may be read later by code that was not traced.
    """
    return _Reading(trace, whole).uses()


class _Reading:
    def __init__(self, trace: Trace, whole: bool) -> None:
        self.trace, self.whole = trace, whole
        self.order = {node: number for number, node in enumerate(trace.graph.nodes)}
        self.from_input = _reached([node for node in trace.graph.nodes if node.op == "placeholder"])
        self.kinds = {node: kind for node in trace.graph.nodes if (kind := self._kind(node)) is not None}

    def uses(self) -> list[Use]:
        found: list[tuple[int, Use]] = []
        inner: set[fx.Node] = set()
        for node, kind in self.kinds.items():
            itself = self._self_gated(node, kind)
            if itself is not None:
                product, argument, whole_kind, parts = itself
                inner.update(parts)
                overwrites = _raw_name(product) in ("mul_", "imul") and argument == 0
                found.append((self.order[product], self._use(product, whole_kind, "activation", argument, overwrites)))
        for node, kind in self.kinds.items():
            role = "inner" if node in inner else self._role(node, kind)
            found.append((self.order[node], self._use(node, kind, role, 0, self._in_place(node))))
        return [use for _, use in sorted(found, key=lambda pair: pair[0])]

    def _use(self, node: fx.Node, kind: str, role: Role, argument: int, overwrites: bool) -> Use:
        overwrites = overwrites and self._read_later(node, argument)
        return Use(self.trace.places[node], kind, role, node.op == "call_module", argument, overwrites)

    def _kind(self, node: fx.Node) -> str | None:
        if node.op == "call_module":
            return module_kind(self._module(node))
        if node.op in ("call_function", "call_method"):
            return function_kind(function_name(_raw_name(node)), node.args, node.kwargs)
        return None

    def _module(self, node: fx.Node) -> nn.Module:
        return self.trace.modules[self.trace.places[node].name]

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return overwriting(self._module(node))
        return overwrites_input(_raw_name(node), node.args, node.kwargs)

    def _role(self, node: fx.Node, kind: str) -> Role:
        name = kind_name(kind)
        if name in SQUASHING and node not in self.from_input:
            return "gate"  # it bounds a learned table, such as the position bias of an attention
        ends = list(self._ends(node)) if name in _OUTPUTS or name == "relu6" else []
        if any(end.op == "output" for end in ends) and name in _OUTPUTS:
            return "output"
        gates = name in SQUASHING or (name == "relu6" and _is_shifted(node))
        return "gate" if gates and any(end.op != "output" for end in ends) else "activation"

    def _ends(self, node: fx.Node, seen: set[fx.Node] | None = None) -> Iterator[fx.Node]:
        """The products of tensors, functions unknown to us, and the output, reached with no layer in between."""
        seen = set() if seen is None else seen
        for user in node.users:
            if user in seen:
                continue
            seen.add(user)
            if user.op == "output" or self._is_product(user) or _is_foreign(user):
                yield user
            elif self._carries(user):
                yield from self._ends(user, seen)

    def _is_product(self, node: fx.Node) -> bool:
        called = node.op in ("call_function", "call_method") and self.trace.places[node].name in _PRODUCTS
        return called and len(node.all_input_nodes) > 1

    def _carries(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._module(node), _CARRYING_MODULES)
        if node.op not in ("call_function", "call_method"):
            return False
        name = self.trace.places[node].name
        return name in _CARRIERS or (name in _ARITHMETIC and len(node.all_input_nodes) == 1)

    def _self_gated(self, node: fx.Node, kind: str) -> tuple[fx.Node, int, str, list[fx.Node]] | None:
        """The product of x and a function of x alone, as (product, position of x, its kind, what it is made of)."""
        if kind_name(kind) not in ("sigmoid", "hardsigmoid", "tanh", "relu6") or not node.args:
            return None
        gate, parts, source = node, [node], node.args[0]
        if kind == "relu6":
            if not _is_shifted(node) or len(node.users) != 1:
                return None
            gate = next(iter(node.users))
            if self._scalar(gate, "truediv", "div") not in (6, 6.0):
                return None
            source = source.args[0] if isinstance(source, fx.Node) else source
        if len(gate.users) != 1 or not isinstance(source, fx.Node):
            return None
        product = next(iter(gate.users))
        if not self._is_product(product) or self.trace.places[product].name != "mul":
            return None
        others = [(i, arg) for i, arg in enumerate(product.args) if arg is not gate]
        if len(others) != 1 or not isinstance(others[0][1], fx.Node):
            return None
        argument, x = others[0]
        whole = self._whole_kind(kind, x, source, parts)
        return None if whole is None else (product, argument, whole, parts)

    def _whole_kind(self, kind: str, x: Any, source: fx.Node, parts: list[fx.Node]) -> str | None:
        if x is source:
            return {"sigmoid": "silu", "hardsigmoid": "hardswish", "relu6": "hardswish", "tanh": "lisht"}[kind]
        if kind == "tanh" and self.kinds.get(source) == "softplus" and source.args[0] is x and len(source.users) == 1:
            parts.append(source)
            return "mish"
        factor = self._scalar(source, "mul")
        if kind == "sigmoid" and factor is not None and source.all_input_nodes == [x]:
            return "gelu_sigmoid" if factor == 1.702 else canonical(f"swish(beta={float(factor)!r})")
        return None

    def _scalar(self, node: fx.Node, *names: str) -> float | None:
        """The number that a node multiplies or divides one tensor by."""
        if node.op == "output" or self.trace.places.get(node, Place("", "", "", 0, 0)).name not in names:
            return None
        numbers = [arg for arg in node.args if isinstance(arg, int | float)]
        return numbers[0] if len(numbers) == 1 and len(node.args) == 2 else None

    def _read_later(self, node: fx.Node, argument: int) -> bool:
        value = node.args[argument] if len(node.args) > argument else None
        while isinstance(value, fx.Node):
            if self._used_after(value, node):
                return True
            if value.op == "placeholder":
                return not self.whole
            if not self._aliases(value):
                return False
            value = value.args[0]
        return True

    def _used_after(self, value: fx.Node, node: fx.Node) -> bool:
        return any(
            user is not node
            and (self.order[user] > self.order[node] or (self._aliases(user) and self._used_after(user, node)))
            for user in value.users
        )

    def _aliases(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._module(node), _CARRYING_MODULES)
        return node.op in ("call_function", "call_method") and self.trace.places[node].name in _ALIASES


def _reached(nodes: list[fx.Node]) -> set[fx.Node]:
    """The nodes whose values depend on these."""
    reached, waiting = set(nodes), list(nodes)
    while waiting:
        new = [user for user in waiting.pop().users if user not in reached]
        reached.update(new)
        waiting += new
    return reached


def _raw_name(node: fx.Node) -> str:
    name: str = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.partition(".")[0]  # operators of torch.ops end in their overload, such as mul.Tensor


def _is_foreign(node: fx.Node) -> bool:
    """Whether the node calls a function that is neither torch's nor Python's, and that was not traced."""
    module = getattr(node.target, "__module__", None) or "torch"
    return node.op == "call_function" and module.split(".")[0] not in ("torch", "_operator", "builtins", "math")


def _is_shifted(node: fx.Node) -> bool:
    """Whether the input is x + 3, the first step of a hard sigmoid written out."""
    source = node.args[0] if node.args else None
    return isinstance(source, fx.Node) and source.op != "placeholder" and 3 in source.args
