"""What differs between two ONNX files, told node by node, and what a group of nodes computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """What a file has that the other has not.

    `weights` are the names of initialisers that both have, with other values. `beyond` says in words all that is
    neither an exchanged group of nodes with their initialisers and value infos, nor another value of a float weight.
    """

    removed: tuple[NodeProto, ...]
    added: tuple[NodeProto, ...]
    weights: tuple[str, ...]
    beyond: tuple[str, ...]


def difference(before: onnx.ModelProto, after: onnx.ModelProto) -> Difference:
    """Compare two models; local functions and everything outside of the graph must be the same byte for byte."""
    removed, added, in_order = _nodes(before.graph, after.graph)
    beyond = [] if in_order else ["the nodes that both have stand in another order"]
    if _frame(before) != _frame(after):
        beyond.append("something besides nodes, initialisers and value infos differs")
    weights = _initialisers(before.graph, after.graph, added, beyond)
    _value_infos(before.graph, after.graph, removed, added, beyond)
    return Difference(tuple(removed), tuple(added), tuple(weights), tuple(beyond))


def groups(nodes: tuple[NodeProto, ...]) -> list[list[NodeProto]]:
    """Nodes that hand values to one another, in the order in which they were given."""
    owner: dict[int, int] = {index: index for index in range(len(nodes))}

    def root(index: int) -> int:
        while owner[index] != index:
            index = owner[index]
        return index

    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    for index, node in enumerate(nodes):
        for name in node.input:
            if name in makers:
                a, b = sorted((root(index), root(makers[name])))
                owner[b] = a
    found: dict[int, list[NodeProto]] = {}
    for index, node in enumerate(nodes):
        found.setdefault(root(index), []).append(node)
    return list(found.values())


def result_of(group: list[NodeProto]) -> str:
    """The one value of a group that the group itself does not read; raises ValueError where there are more or none."""
    read = {name for node in group for name in node.input}
    (name,) = (name for node in group for name in node.output if name not in read)
    return name


def group_error(group: list[NodeProto], model: onnx.ModelProto, kind: str) -> float:
    """How far a group of nodes, run by itself in ONNX Runtime, is from torch's activation: max |a − b| / max(1, |b|).

    Raises:
        ValueError: the group reads more than one value that is computed.
    """
    made = {name for node in group for name in node.output}
    read = list(dict.fromkeys(name for node in group for name in node.input if name and name not in made))
    given = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in read}
    constants = [node for node in model.graph.node if node.op_type == "Constant" and node.output[0] in read]
    (computed,) = set(read) - set(given) - {node.output[0] for node in constants}
    slopes = [numpy_helper.to_array(given[node.input[1]]) for node in group if node.op_type == "PRelu"]
    shape = (2, *(3 if size == 1 else size for size in slopes[0].shape)) if slopes else (4001,)
    graph = helper.make_graph(
        [*constants, *group],
        "group",
        [helper.make_tensor_value_info(computed, TensorProto.FLOAT, [None] * len(shape))],
        [helper.make_tensor_value_info(result_of(group), TensorProto.FLOAT, None)],
        list(given.values()),
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(7))
    got = session(alone.SerializeToString()).run(None, {computed: x.numpy()})[0]
    expected = _activation(kind, torch.from_numpy(np.array(slopes[0])) if slopes else None)(x.double())
    return float(((torch.from_numpy(got) - expected).abs() / expected.abs().clamp(min=1)).max())


def session(model: str | bytes) -> Any:
    """ONNX Runtime on the CPU with one thread, errors alone on its log."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _activation(kind: str, slopes: Tensor | None) -> Callable[[Tensor], Tensor]:
    """torch's own function for a spec of the catalogue, at its precision in float64."""
    name, _, rest = kind.partition("(")
    number = float(rest.rstrip(")").partition("=")[2] or "nan")
    if name == "prelu":
        return lambda x: torch.where(x > 0, x, slopes * x)
    if number == number:
        return {
            "leaky_relu": lambda x: F.leaky_relu(x, number),
            "elu": lambda x: F.elu(x, number),
            "celu": lambda x: F.celu(x, number),
            "softplus": lambda x: F.softplus(x, number),
        }[name]
    return _PLAIN[name]


_PLAIN: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "tanh": torch.tanh,
}


def _nodes(before: onnx.GraphProto, after: onnx.GraphProto) -> tuple[list[NodeProto], list[NodeProto], bool]:
    first = [node.SerializeToString(deterministic=True) for node in before.node]
    second = [node.SerializeToString(deterministic=True) for node in after.node]
    common = Counter(first) & Counter(second)
    removed, kept_first = _split(list(before.node), first, Counter(common))
    added, kept_second = _split(list(after.node), second, Counter(common))
    return removed, added, kept_first == kept_second


def _split(nodes: list[NodeProto], keys: list[bytes], common: Counter[bytes]) -> tuple[list[NodeProto], list[bytes]]:
    only, kept = [], []
    for node, key in zip(nodes, keys, strict=True):
        if common[key] > 0:
            common[key] -= 1
            kept.append(key)
        else:
            only.append(node)
    return only, kept


def _frame(model: onnx.ModelProto) -> bytes:
    """The model without what `difference` compares one by one."""
    frame = onnx.ModelProto()
    frame.CopyFrom(model)
    del frame.graph.node[:], frame.graph.initializer[:], frame.graph.value_info[:]
    return frame.SerializeToString(deterministic=True)


def _initialisers(
    before: onnx.GraphProto, after: onnx.GraphProto, added: list[NodeProto], beyond: list[str]
) -> list[str]:
    first = {tensor.name: tensor for tensor in before.initializer}
    second = {tensor.name: tensor for tensor in after.initializer}
    still_read = {name for node in after.node for name in node.input}
    read_by_added = {name for node in added for name in node.input}
    beyond += [f"initialiser {name} is gone" for name in first if name not in second and name in still_read]
    beyond += [f"initialiser {name} is new" for name in second if name not in first and name not in read_by_added]
    shared = [name for name in first if name in second]
    if shared != [name for name in second if name in first]:
        beyond.append("the initialisers that both have stand in another order")
    changed = []
    for name in shared:
        a, b = numpy_helper.to_array(first[name]), numpy_helper.to_array(second[name])
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            beyond.append(f"initialiser {name} has another shape or type")
        elif a.tobytes() != b.tobytes():
            changed.append(name)
            if a.dtype.kind != "f":
                beyond.append(f"initialiser {name} is no weight, and changed")
    return changed


def _value_infos(
    before: onnx.GraphProto,
    after: onnx.GraphProto,
    removed: list[NodeProto],
    added: list[NodeProto],
    beyond: list[str],
) -> None:
    first = {info.name: info.SerializeToString(deterministic=True) for info in before.value_info}
    second = {info.name: info.SerializeToString(deterministic=True) for info in after.value_info}
    may_go = {name for node in removed for name in (*node.output, *node.input)}
    may_come = {name for node in added for name in (*node.output, *node.input)}
    beyond += [f"value info {name} is gone" for name in first if name not in second and name not in may_go]
    beyond += [f"value info {name} is new" for name in second if name not in first and name not in may_come]
    beyond += [f"value info {name} differs" for name in first if name in second and first[name] != second[name]]
    if [name for name in first if name in second] != [name for name in second if name in first]:
        beyond.append("the value infos that both have stand in another order")
