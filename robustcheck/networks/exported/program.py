"""The program of a `.pt2` file as checked, plain records: its inputs, its steps in order, its output."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from robustcheck.errors import ModelError
from robustcheck.networks.exported.archive import Json, dtype_of


@dataclass(frozen=True)
class Ref:
    """Stands for a value that an earlier step made."""

    name: str


_MEMORY_FORMATS: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_LAYOUTS: Final = {7: torch.strided}
TRANSPOSES: Final = ("t", "permute")
DEVICE: Final = Ref("(the input's device)")


@dataclass(frozen=True)
class Step:
    """One call: the function by its name in the file, its arguments, and the names of what it returns.

    `outputs` holds one name, or with `several` one for each part of what is returned (None where it is not used).
    `scope` is the path of the module whose forward made the call, `scope_type` that module's class.
    """

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[str | None, ...]
    several: bool
    scope: str
    scope_type: str

    @property
    def name(self) -> str:
        """The function's name alone, such as `relu_` or `conv2d`."""
        return self.target.split(".")[-2] if self.target.startswith("torch.ops.") else self.target.split(".")[-1]


@dataclass(frozen=True)
class Program:
    """A checked program of one image tensor in and one tensor out.

    `sizes` are the input's (None where free). `parameters` and `buffers` map the names of values to those of tensors;
    `persistent` are the buffers that belong to the state. `ranks` has the number of axes of every tensor value. `read`
    counts the readers of each value; `transposed` maps a transposed matrix to the parameter that it was made from.
    """

    input: str
    sizes: tuple[int | None, ...]
    parameters: Mapping[str, str]
    buffers: Mapping[str, str]
    persistent: frozenset[str]
    ranks: Mapping[str, int]
    steps: tuple[Step, ...]
    output: str
    read: Mapping[str, int]
    transposed: Mapping[str, Ref]


def read_program(document: Json, where: str) -> Program:
    """Check and convert torch's JSON.

    Raises:
        ModelError: a newer major version of the format; other inputs or outputs than one tensor; functions that are
            not torch's own operators, control flow, objects (all are listed at once); something malformed.
    """
    try:
        version = document["schema_version"]["major"]
        if version != _MAJOR:
            raise ModelError(f"{where}: expected version {_MAJOR} of torch's format, got {version}; {_AGAIN}")
        return _read(document["graph_module"], where)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, StopIteration) as error:
        raise ModelError(f"{where}: not a valid program: {type(error).__name__}: {error}; {_AGAIN}") from error


def function_of(target: str) -> Callable[..., Any] | None:
    """The function of this name, or None where it is not among those that a program may call.

    >>> function_of("torch.ops.aten.relu.default")(torch.tensor(-1.0)).item()
    0.0
    >>> function_of("torch.hub.load"), function_of("torch.ops.aten.from_file.default")
    (None, None)
    """
    if target in _PLAIN:
        return _PLAIN[target]
    match = _ATEN.fullmatch(target)
    if match is None or match[1] in _FORBIDDEN or match[1].startswith(("_cuda", "_mps", "_debug")):
        return None
    packet = getattr(torch.ops.aten, match[1], None)
    if not isinstance(packet, torch._ops.OpOverloadPacket) or match[2] not in packet.overloads():  # type: ignore[no-untyped-call]
        return None
    function: Callable[..., Any] = getattr(packet, match[2])
    return function


def references(value: Any) -> Iterator[Ref]:
    """Every reference inside an argument."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from references(part)


def _read(module: Json, where: str) -> Program:
    graph, signature = module["graph"], module["signature"]
    parameters: dict[str, str] = {}
    buffers: dict[str, str] = {}
    persistent: set[str] = set()
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, value),) = spec.items()
        if kind == "parameter":
            parameters[value["arg"]["name"]] = value["parameter_name"]
        elif kind in ("buffer", "tensor_constant"):
            buffers[value["arg"]["name"]] = value["buffer_name" if kind == "buffer" else "tensor_constant_name"]
            if value.get("persistent") is True:
                persistent.add(value["arg"]["name"])
        elif kind == "user_input" and "as_tensor" in value["arg"]:
            inputs.append(value["arg"]["as_tensor"]["name"])
        elif kind == "constant_input" and "as_none" in value["value"]:
            continue
        else:
            raise ModelError(f"{where}: expected one image tensor as input, got also {kind}; {_ONE_EACH}")
    outputs = [next(iter(spec.items())) for spec in signature["output_specs"]]
    if any(kind != "user_output" for kind, _ in outputs):
        raise ModelError(f"{where}: expected a program that only computes, got one that writes state; {_IN_EVAL}")
    if len(inputs) != 1 or len(outputs) != 1 or "as_tensor" not in outputs[0][1]["arg"]:
        raise ModelError(
            f"{where}: expected one image tensor in and one tensor of logits out, got {len(inputs)} in and "
            f"{len(outputs)} out; {_ONE_EACH}"
        )
    steps = tuple(_steps(graph["nodes"], where))
    _check_order(steps, {*inputs, *parameters, *buffers}, outputs[0][1]["arg"]["as_tensor"]["name"])
    values = graph["tensor_values"]
    sizes = tuple(size.get("as_int") for size in values[inputs[0]]["sizes"])
    ranks = {name: len(meta["sizes"]) for name, meta in values.items()}
    return Program(
        input=inputs[0],
        sizes=sizes,
        parameters=parameters,
        buffers=buffers,
        persistent=frozenset(persistent),
        ranks=ranks,
        steps=steps,
        output=outputs[0][1]["arg"]["as_tensor"]["name"],
        read=Counter(ref.name for step in steps for ref in references([*step.args, *step.kwargs.values()])),
        transposed={
            str(step.outputs[0]): step.args[0]
            for step in steps
            if step.name in TRANSPOSES and step.args[0] in map(Ref, parameters) and step.args[1:] in ((), ([1, 0],))
        },
    )


def _steps(nodes: list[Json], where: str) -> Iterator[Step]:
    unknown: dict[str, None] = {}
    for node in nodes:
        target = node["target"]
        if _CHECKS.fullmatch(target):
            continue
        try:
            if function_of(target) is None:
                raise ValueError(target)
            yield _step(node)
        except _UnsupportedError as error:
            unknown[f"{target} ({error})"] = None
        except ValueError:
            unknown[str(target)] = None
    if unknown:
        shown = ", ".join([*unknown][:12]) + (f" and {len(unknown) - 12} more" if len(unknown) > 12 else "")
        raise ModelError(f"{where}: expected torch's own operators only, got {shown}; {_BY_FACTORY}")


class _UnsupportedError(Exception):
    """An argument that only control flow and objects need."""


def _step(node: Json) -> Step:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in node["inputs"]:
        if argument.get("kind") == 2:
            kwargs[str(argument["name"])] = _argument(argument["arg"])
        else:
            args.append(_argument(argument["arg"]))
    outputs, several = _outputs(node["outputs"])
    scope, scope_type = _scope(node.get("metadata", {}).get("nn_module_stack", ""))
    return Step(node["target"], tuple(args), kwargs, outputs, several, scope, scope_type)


def _argument(argument: Json) -> Any:
    ((kind, value),) = argument.items()
    if kind not in _ARGUMENTS:
        raise _UnsupportedError(kind.removeprefix("as_").replace("_", " "))
    return _ARGUMENTS[kind](value)


def _ref(value: Json) -> Ref:
    return Ref(_text(value["name"]))


def _symbolic(value: Json) -> Any:
    ((kind, content),) = value.items()
    return Ref(_text(content)) if kind == "as_name" else _ARGUMENTS[kind](content)


def _number(value: Any) -> float:
    # JSON has no infinities; torch writes them as text.
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not an integer")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _list_of(convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [convert(value) for value in values]


_ARGUMENTS: Final[dict[str, Callable[[Any], Any]]] = {
    "as_none": lambda _: None,
    "as_tensor": _ref,
    "as_tensors": _list_of(_ref),
    "as_optional_tensor": _argument,
    "as_optional_tensors": _list_of(_argument),
    "as_int": _integer,
    "as_ints": _list_of(_integer),
    "as_float": _number,
    "as_floats": _list_of(_number),
    "as_bool": _truth,
    "as_bools": _list_of(_truth),
    "as_string": _text,
    "as_sym_int": _symbolic,
    "as_sym_ints": _list_of(_symbolic),
    "as_sym_float": _symbolic,
    "as_sym_floats": _list_of(_symbolic),
    "as_sym_bool": _symbolic,
    "as_scalar_type": dtype_of,
    "as_memory_format": lambda number: _MEMORY_FORMATS[number],
    "as_layout": lambda number: _LAYOUTS[number],
    # Where the program was exported does not say where it is to run.
    "as_device": lambda _: DEVICE,
}


def _outputs(outputs: list[Json]) -> tuple[tuple[str | None, ...], bool]:
    names: list[str | None] = []
    several = len(outputs) != 1
    for output in outputs:
        ((kind, value),) = output.items()
        if kind == "as_tensors":
            names += [_text(part["name"]) for part in value]
            several = True
        elif kind == "as_tensor":
            names.append(_text(value["name"]))
        elif kind == "as_none":
            names.append(None)
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in value:
            names.append(_text(value["as_name"]))
        else:
            raise _UnsupportedError(kind.removeprefix("as_").replace("_", " "))
    return tuple(names), several


def _scope(stack: str) -> tuple[str, str]:
    """The innermost module of torch's `key,path,class;key,path,class`."""
    parts = stack.split(";")[-1].split(",") if isinstance(stack, str) else []
    if len(parts) != 3 or not _PATH.fullmatch(parts[1]):
        return "", ""
    return parts[1], parts[2]


def _check_order(steps: tuple[Step, ...], known: set[str], output: str) -> None:
    known.add(DEVICE.name)
    for step in steps:
        for ref in references([*step.args, *step.kwargs.values()]):
            if ref.name not in known:
                raise ValueError(f"{step.target} reads {ref.name!r} before it is made")
        known.update(name for name in step.outputs if name is not None)
    if output not in known:
        raise ValueError(f"the output {output!r} is never made")


_MAJOR: Final = 8
_ATEN: Final = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_CHECKS: Final = re.compile(r"torch\.ops\.aten\.(_assert\w*|sym_constrain_range\w*)\.\w+")
_PATH: Final = re.compile(r"|[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
# These reach for files, foreign memory or autograd's own state.
_FORBIDDEN: Final = frozenset(
    [
        *("from_file", "set", "set_", "set_data", "set_source_Tensor", "record_stream", "pin_memory", "_pin_memory"),
        *("resize", "resize_", "resize_as", "resize_as_", "_resize_output", "_resize_output_"),
        *("requires_grad_", "retain_grad", "backward", "_backward"),
    ]
)
_PLAIN: Final[dict[str, Callable[..., Any]]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_max", "sym_min", "sym_int", "sym_float", "sym_not")},
}
_AGAIN = "make it again with torch.export.save"
_ONE_EACH = "export the classifier alone"
_IN_EVAL = "call .eval() on the network before torch.export.export"
_BY_FACTORY = "load the network that it was made from, package.module:factory with --weights FILE.safetensors"
