"""From a graph to what runs it: layers for nodes with weights, modules for activations, functions for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from torch import Tensor, nn

from robustcheck.activations.catalogue import activation
from robustcheck.errors import ModelError, UsageError
from robustcheck.networks.kinds import new_module
from robustcheck.networks.onnx import layers
from robustcheck.networks.onnx.assembly import add_layer
from robustcheck.networks.onnx.graph import Graph, Node
from robustcheck.networks.onnx.lowered import Lowered, Shared
from robustcheck.networks.onnx.operators import OPERATORS
from robustcheck.networks.onnx.operators.call import Call, UnsupportedError
from robustcheck.networks.onnx.operators.sequences import GIVES_SEQUENCE
from robustcheck.networks.onnx.patterns import Pattern
from robustcheck.networks.onnx.plan import ABSENT, Bodies, Body, Plan, Step, execute, start
from robustcheck.networks.onnx.weights import fan_in, norm_role

_HALF_TYPES: Final = (10, 16)
_FLOAT_TYPE: Final = 1
_MAX_FOLDED: Final = 2**28
_VIEWS: Final = frozenset({"Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"})
_NEVER_FOLDED: Final = frozenset({"If", "Loop", "Scan", "Dropout"})


def lower(graph: Graph, patterns: Iterable[Pattern], paths: Mapping[int, str], weights: frozenset[str]) -> Lowered:
    """Lower the main graph.

    Args:
        graph: the main graph.
        patterns: from `find_activations`; their paths are where their modules go.
        paths: from `node_paths`.
        weights: from `weight_names`.

    Raises:
        ModelError: operators, or forms of them, that cannot be run; all of them are listed.
    """
    last = {pattern.nodes[-1]: pattern for pattern in patterns}
    shared = Shared(graph, last, paths, weights, graph.is_half)
    plan = Lowering(graph, shared).plan()
    if shared.problems:
        listed = "; ".join(
            f"{what}: {', '.join(where[:8])}{' …' if len(where) > 8 else ''}" for what, where in shared.problems.items()
        )
        raise ModelError(
            f"expected operators that robustcheck runs (docs/onnx.md lists them), got {listed}; export the network "
            "without these, or load the network that the file was made from (package.module:factory)"
        )
    free = layers.Weights()
    for name in dict.fromkeys(plan.constants.values()):
        if name in weights and name not in shared.stored:
            free.add(name, shared.parameter(name), constant=norm_role(graph, name), fan_in=fan_in(graph, name))
    if free.names:
        shared.store("weights", free, **{attribute: name for name, attribute in free.names.items()})
    return Lowered(plan, shared.modules, shared.constants, shared.stored, shared.sites)


class Lowering:
    """Lowers one graph, or a stretch of its nodes."""

    def __init__(self, graph: Graph, shared: Shared) -> None:
        self.graph = graph
        self.shared = shared
        self.slots: dict[str, int] = {"": ABSENT}
        self.steps: list[Step] = []
        self.named: dict[int, str] = {}
        self.outer: dict[int, str] = {}
        self.skipped: set[Node] = {node for pattern in shared.patterns.values() for node in pattern.nodes[:-1]}

    def plan(self) -> Plan:
        """The whole graph as a plan."""
        inputs = tuple(self._new(value.name) for value in self.graph.inputs)
        self._lower(self.graph.nodes)
        return self._finished(inputs, tuple(self._slot(value.name) for value in self.graph.outputs))

    def stretch(self, nodes: Iterable[Node], source: str, target: str) -> Plan:
        """A few nodes as a plan of their own, from one value to another."""
        inputs = (self._new(source),)
        self._lower(nodes)
        return self._finished(inputs, (self._slot(target),))

    def _finished(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Plan:
        live = set(outputs)
        used: list[Step] = []
        for step in reversed(self.steps):
            if live.intersection(step.outputs):
                used.append(step)
                live.update(step.inputs)
        self.steps = used[::-1]
        self.named = {slot: name for slot, name in self.named.items() if slot in live}
        self.outer = {slot: name for slot, name in self.outer.items() if slot in live}
        kept = {*outputs, *inputs, *self.named, *self.outer, ABSENT}
        last = {slot: index for index, step in enumerate(self.steps) for slot in (*step.inputs, *step.outputs)}
        dead: dict[int, list[int]] = {}
        for slot, index in last.items():
            if slot not in kept:
                dead.setdefault(index, []).append(slot)
        steps = tuple(replace(step, dead=tuple(dead.get(index, ()))) for index, step in enumerate(self.steps))
        return Plan(len(self.slots), steps, inputs, outputs, dict(self.named), dict(self.outer))

    def _new(self, name: str) -> int:
        return self.slots.setdefault(name, len(self.slots))

    def _slot(self, name: str) -> int:
        """The slot of a value that is read; a constant, a weight or an outer value gets one when it is first read."""
        if name in self.slots:
            return self.slots[name]
        slot = self._new(name)
        if name in self.graph.outer_names:
            self.outer[slot] = name
            return slot
        if name not in self.shared.weights:
            self._constant(name)
        self.named[slot] = name
        return slot

    def _constant(self, name: str) -> Tensor | None:
        """The tensor of a value that never changes; None for all else, weights included."""
        if name in self.shared.constants:
            return self.shared.constants[name]
        if not name or name in self.shared.weights or self.graph.constant(name) is None:
            return None
        try:
            self.shared.constants[name] = self.shared.tensor(self.graph, name)
        except TypeError as error:
            self.shared.problems.setdefault(str(error), []).append(repr(name))
            return None
        return self.shared.constants[name]

    def _lower(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.op == "Constant" or node in self.skipped:
                continue
            pattern = self.shared.patterns.get(node)
            if pattern is not None:
                self._site(pattern)
            elif not self._fold(node) and not (self.graph is self.shared.root and add_layer(self, node)):
                self._function(node)

    def _site(self, pattern: Pattern) -> None:
        module, held = self._site_module(pattern)
        if module is None:
            for node in pattern.nodes:
                if not self._fold(node):
                    self._function(node)
            return
        path = self.shared.store(pattern.path, module, **held)
        self.shared.sites[path] = pattern
        self._step(pattern.nodes[-1], (self._slot(pattern.input),), pattern.nodes[-1].outputs[:1], module=path)

    def _site_module(self, pattern: Pattern) -> tuple[nn.Module | None, dict[str, str]]:
        """The module of an activation and the weights it holds; None where it needs what only the graph has."""
        if pattern.slope is not None and (slope := self._slope(pattern.slope)) is not None:
            name, shape = slope
            return layers.PRelu(self.shared.parameter(name), shape), {"weight": name}
        try:
            known = activation(pattern.kind)
        except UsageError:
            known = None
        if known is not None and not known.learned:
            return new_module(known), {}
        inner = Lowering(self.graph, replace(self.shared, patterns={}))
        plan = inner.stretch(pattern.nodes, pattern.input, pattern.output)
        constants = {name: self.shared.constants.get(name) for name in plan.constants.values()}
        whole = {name: value for name, value in constants.items() if value is not None}
        if plan.outer or len(whole) < len(constants):
            return None, {}
        return layers.Original(pattern.kind, plan, whole), {}

    def _slope(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """The weight that a PRelu's slope is a view of, and the shape that it is seen in."""
        value = self.graph.values.get(name)
        shape = None if value is None else value.shape
        while (node := self.graph.producer(name)) is not None and node.op in _VIEWS:
            name = node.inputs[0]
        if name not in self.shared.weights:
            return None
        shape = tuple(self.shared.parameter(name).shape) if shape is None else shape
        sizes = tuple(size for size in shape if isinstance(size, int))
        return (name, sizes) if len(sizes) == len(shape) else None

    def _fold(self, node: Node) -> bool:
        """Compute a node of constants once and for all."""
        constants = [self._constant(name) for name in node.inputs if name]
        if node.op in _NEVER_FOLDED or not node.inputs or any(constant is None for constant in constants):
            return False
        before = len(self.steps)
        self._function(node)
        if len(self.steps) == before:
            return True
        step = self.steps.pop()
        lone = Plan(
            len(self.slots),
            (step,),
            (),
            step.outputs,
            {slot: name for slot, name in self.named.items() if slot in step.inputs},
        )
        results = execute(lone, start(lone, (), self.shared.constants), {})
        if not all(isinstance(result, Tensor) and result.numel() <= _MAX_FOLDED for result in results):
            self.steps.append(step)
            return True
        for name, slot, result in zip(step.names, step.outputs, results, strict=True):
            self.shared.constants[name] = result
            self.named[slot] = name
        return True

    def weight(self, node: Node, position: int) -> str:
        """The weight that an input of a node is, '' where it is absent or anything else."""
        name = self._original(node, position)
        return name if name in self.shared.weights else ""

    def _original(self, node: Node, position: int) -> str:
        """An input's name, or what it is the very same as: exporters share equal weights through Identity nodes."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        while name and (producer := self.graph.producer(name)) is not None and producer.op == "Identity":
            name = producer.inputs[0]
        return name

    def parameter(self, name: str) -> nn.Parameter | None:
        """The parameter of a weight; None for ''."""
        return self.shared.parameter(name) if name else None

    def statistic(self, node: Node, position: int) -> tuple[str, Tensor] | None:
        """A constant input of the file itself, with its name."""
        name = self._original(node, position)
        known = self.graph.constant(name) is not None
        tensor = self._constant(name) if known else None
        return None if tensor is None else (name, tensor)

    def reads_only_first_output(self, node: Node) -> bool:
        """Whether nobody reads a node's further outputs."""
        return not any(name and (self.graph.consumers(name) or self.graph.is_output(name)) for name in node.outputs[1:])

    def add_layer(
        self, node: Node, module: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...], **held: str
    ) -> None:
        """Make a step of a layer; `held` says which weights of the file its attributes hold."""
        path = self.shared.store(self.shared.paths[node.index], module, **held)
        self._step(node, tuple(self._slot(name) for name in inputs), outputs, module=path)

    def _call(self, node: Node, bodies: Bodies | None = None) -> Call:
        attributes = dict(node.attributes)
        if self.shared.promote:
            for name in ("to", "dtype"):
                if attributes.get(name) in _HALF_TYPES:
                    attributes[name] = _FLOAT_TYPE
            for name, value in attributes.items():
                if getattr(getattr(value, "dtype", None), "name", "") in ("float16", "bfloat16"):
                    attributes[name] = value.astype("float32")
        constants = {
            position: constant
            for position, name in enumerate(node.inputs)
            if (constant := self._constant(name)) is not None
        }
        present = tuple(bool(name) for name in node.inputs)
        return Call(node.op, self.graph.opset, attributes, present, constants, len(node.outputs), bodies)

    def operator(self, node: Node, bodies: Bodies | None = None) -> Any:
        """The function of a node, or None where there is none, which is noted."""
        builder = OPERATORS.get(node.op)
        try:
            if builder is not None:
                return builder(self._call(node, bodies))
            problem = node.op
        except UnsupportedError as error:
            problem = f"{node.op} with {error}"
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError) as error:
            problem = f"{node.op} ({error})"
        where = self.shared.problems.setdefault(problem, [])
        where.extend({node.name or node.outputs[0]} - set(where))
        return None

    def _function(self, node: Node) -> None:
        bodies = Bodies() if node.subgraphs else None
        function = self.operator(node, bodies)
        if function is None:
            for name in node.outputs:
                self._new(name)
            return
        captured = tuple(sorted({name for body in node.subgraphs for name in body.outer_names}))
        if bodies is not None:
            for graph in node.subgraphs:
                inner = Lowering(graph, self.shared)
                plan = inner.plan()
                own = {
                    name: self.shared.constants[name]
                    for name in plan.constants.values()
                    if name in self.shared.constants
                }
                bodies.by_graph[graph] = Body(plan, own)
        inputs = tuple(self._slot(name) for name in (*node.inputs, *captured))
        self._step(
            node,
            inputs,
            node.outputs,
            function=function,
            captured=captured,
            bodies=tuple(bodies.by_graph.values()) if bodies else (),
        )

    def _step(self, node: Node, inputs: tuple[int, ...], outputs: tuple[str, ...], **rest: Any) -> None:
        while outputs and not outputs[-1]:
            outputs = outputs[:-1]
        # An unused output in the middle goes to a slot of its own.
        names = tuple(name or f"{node.outputs[0]}#{position}" for position, name in enumerate(outputs))
        slots = tuple(self._new(name) for name in names)
        self.steps.append(Step(node.label, inputs, slots, names, gives_sequence=node.op in GIVES_SEQUENCE, **rest))
