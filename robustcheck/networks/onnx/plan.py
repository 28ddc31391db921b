"""A graph as a list of steps over numbered slots, and running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from robustcheck.errors import ModelError, RobustcheckError
from robustcheck.networks.onnx.graph import Graph
from robustcheck.networks.onnx.operators.call import Function

Watch = Callable[[str, Any], None]
"""Is told the name and the tensor of each value as it is made."""

ABSENT = 0
"""The slot of inputs that are not given."""


@dataclass(frozen=True, eq=False)
class Step:
    """A function, or the module at a path, with the slots that it reads and writes, and those nobody reads later.

    `bodies` are the sub-graphs of If, Loop and Scan; `captured` names the outer values that these read, whose slots
    follow those of the node's own inputs. `gives_sequence` says that a tuple is one output: a sequence of tensors.
    """

    label: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: tuple[str, ...]
    function: Function | None = None
    module: str | None = None
    bodies: tuple[Body, ...] = ()
    captured: tuple[str, ...] = ()
    gives_sequence: bool = False
    dead: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps, and where their inputs come from; slots of constants and weights are filled before the first step."""

    slots: int
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, str]
    outer: Mapping[int, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self


class Body:
    """A sub-graph that can be run; what it reads from outside is set before each run of its node."""

    def __init__(self, plan: Plan, constants: Mapping[str, Tensor]) -> None:
        self.plan = plan
        self.constants = constants
        self.outer: Mapping[str, Any] = {}
        self.modules: Mapping[str, nn.Module] = {}

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """The sub-graph's outputs."""
        values = start(self.plan, inputs, {**self.constants, **self.outer})
        return execute(self.plan, values, self.modules)


class Bodies:
    """Runs the sub-graphs of one node; what `Call.run` is."""

    def __init__(self) -> None:
        self.by_graph: dict[Graph, Body] = {}

    def __call__(self, graph: Graph, *inputs: Any) -> tuple[Any, ...]:
        """The outputs of one of the node's sub-graphs."""
        return self.by_graph[graph](*inputs)


def start(plan: Plan, inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """The slots before the first step: inputs, constants and outer values by name."""
    values: list[Any] = [None] * plan.slots
    for slot, value in zip(plan.inputs, inputs, strict=True):
        values[slot] = value
    for slots in (plan.constants, plan.outer):
        for slot, name in slots.items():
            values[slot] = named[name]
    return values


def execute(
    plan: Plan, values: list[Any], modules: Mapping[str, nn.Module], watch: Watch | None = None, device: str = "cpu"
) -> tuple[Any, ...]:
    """Run every step, and give the outputs.

    Args:
        plan: what to run.
        values: from `start`; overwritten.
        modules: the network's own, by path.
        watch: called for every value of the plan itself.
        device: type of the device; off the CPU, shapes (which are computed on the CPU) are moved where they meet data.

    Raises:
        ModelError: a node cannot be run on what it is given; names the node.
    """
    step = None
    try:
        for step in plan.steps:
            arguments = [values[slot] for slot in step.inputs]
            if device != "cpu":
                arguments = _together(arguments)
            if step.bodies:
                own = len(arguments) - len(step.captured)
                outer = dict(zip(step.captured, arguments[own:], strict=True))
                for body in step.bodies:
                    body.outer, body.modules = outer, modules
                del arguments[own:]
            result = step.function(*arguments) if step.module is None else modules[step.module](*arguments)  # type: ignore[misc]
            if isinstance(result, tuple) and not step.gives_sequence:
                for slot, value in zip(step.outputs, result, strict=False):
                    values[slot] = value
            else:
                values[step.outputs[0]] = result
            if watch is not None:
                for slot, name in zip(step.outputs, step.names, strict=True):
                    watch(name, values[slot])
            for slot in step.dead:
                values[slot] = None
    except RobustcheckError:
        raise
    except Exception as error:
        label = "the graph" if step is None else step.label
        raise ModelError(
            f"{label}: expected values that the operator takes, got {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
    return tuple(values[slot] for slot in plan.outputs)


def _together(arguments: list[Any]) -> list[Any]:
    devices = {value.device for value in arguments if isinstance(value, Tensor)}
    if len(devices) < 2:
        return arguments
    device = next(device for device in devices if device.type != "cpu")
    return [value.to(device) if isinstance(value, Tensor) else value for value in arguments]
