"""An ONNX graph as a torch module: it runs, trains, and takes other activations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from robustcheck.activations.catalogue import Activation
from robustcheck.errors import ModelError, SurgeryError
from robustcheck.networks.kinds import module_kind, new_module
from robustcheck.networks.onnx.graph import Graph, torch_dtype
from robustcheck.networks.onnx.layers import BatchNorm
from robustcheck.networks.onnx.lowering import lower
from robustcheck.networks.onnx.matching import matches
from robustcheck.networks.onnx.patterns import Pattern, find_activations
from robustcheck.networks.onnx.places import node_paths
from robustcheck.networks.onnx.plan import Watch, execute, start
from robustcheck.networks.onnx.reading import OnnxFile
from robustcheck.networks.onnx.untying import untie
from robustcheck.networks.onnx.weights import untrained, weight_names
from robustcheck.networks.site import Site

_VIEWS: Final = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze"})
_HALF: Final = (torch.float16, torch.bfloat16)


class Constants(nn.Module):
    """Tensors of the graph that never change; they move with the network, and are no part of its state."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.attributes = {name: f"c{number}" for number, name in enumerate(tensors)}
        for name, attribute in self.attributes.items():
            self.register_buffer(attribute, tensors[name], persistent=False)

    def by_name(self) -> dict[str, Tensor]:
        """The tensors by the names of their values."""
        return {name: self._buffers[attribute] for name, attribute in self.attributes.items()}  # type: ignore[misc]


class OnnxNetwork(nn.Module):
    """Runs the graph of an ONNX file; the file's weights are its parameters.

    Nodes with weights, and activations, are modules at paths that follow the exporter's names; everything else is a
    function. Half-precision files are computed and trained in float32, and rounded when they are written.

    Args:
        file: from `read_onnx`; kept, since writing puts the weights back into it.
        logits: leave a softmax at the very end away, so that outputs are logits, as training needs them.

    Attributes:
        file: the file.
        graph: what is run: the file's graph, with a tensor of its own for each layer (see `untie`).
        ties: which of these tensors are one in the file.
        untrained: float tensors of the file that were not taken for weights.
        sites: the activations of the file by the path of their module.
        stored: for each weight of the file the path and the attribute of the module that holds it.
        batch: the size that the file fixes its batch to, None where it is free.
        softmax: whether a softmax was left away.

    Raises:
        ModelError: the graph has operators that cannot be run (all are listed), or no inputs.
    """

    def __init__(self, file: OnnxFile, *, logits: bool = False) -> None:
        super().__init__()
        graph = file.graph
        if not graph.inputs or not graph.outputs:
            raise ModelError(f"{file.path}: expected a graph with inputs and outputs, got {len(graph.inputs)} inputs")
        try:
            graph, ties = untie(graph)
            found = matches(graph)
            patterns, paths = find_activations(graph, found), node_paths(graph, found)
            weights = weight_names(graph)
            lowered = lower(graph, patterns, paths, weights)
        except ModelError as error:
            raise ModelError(f"{file.path}: {error}") from error
        self.file = file
        self.graph = graph
        self.ties = ties
        self.untrained = untrained(graph, weights)
        self.sites: dict[str, Pattern] = lowered.sites
        self.stored = lowered.stored
        self.plan = lowered.plan
        read = {name: lowered.constants[name] for name in lowered.plan.constants.values() if name in lowered.constants}
        self.constants = Constants(read)
        self.paths = tuple(lowered.modules)
        for path, module in lowered.modules.items():
            _put(self, path, module)
        self.batch = fixed_batch(graph)
        self.softmax = False
        self.final_softmax: nn.Module = nn.Identity()
        if logits:
            self._leave_softmax_away()

    def forward(self, *inputs: Tensor) -> Any:
        """The graph's output, or a tuple of its outputs; (n, …) for inputs of (n, …).

        A file whose batch is fixed is run piece by piece, its batch normalisations with the statistics that they have.
        """
        if self.batch is None or len(inputs) != 1 or inputs[0].shape[0] == self.batch:
            return self.run(inputs)
        (x,) = inputs
        # Statistics of pieces, the last one filled up, would not be those of the batch.
        learning = [module for module in self.modules() if isinstance(module, BatchNorm) and module.training]
        for module in learning:
            module.eval()
        try:
            return self._in_pieces(x, self.batch)
        finally:
            for module in learning:
                module.train()

    def _in_pieces(self, x: Tensor, batch: int) -> Any:
        short = -x.shape[0] % batch
        pieces = torch.split(torch.cat([x, x[-1:].expand(short, *x.shape[1:])]), batch)
        results = [self.run((piece,)) for piece in pieces]
        if isinstance(results[0], tuple):
            return tuple(torch.cat(column)[: x.shape[0]] for column in zip(*results, strict=True))
        return torch.cat(results)[: x.shape[0]]

    def run(self, inputs: Iterable[Tensor], watch: Watch | None = None) -> Any:
        """One pass over the whole batch; `watch` is told every value of the main graph."""
        given = tuple(self._cast(x, position) for position, x in enumerate(inputs))
        if len(given) != len(self.plan.inputs):
            names = ", ".join(value.name for value in self.graph.inputs)
            raise ModelError(f"{self.file.path}: expected {len(self.plan.inputs)} inputs ({names}), got {len(given)}")
        modules = {path: self.get_submodule(path) for path in self.paths}
        weights = {
            name: getattr(modules[self.stored[name][0]], self.stored[name][1])
            for name in self.plan.constants.values()
            if name not in self.constants.attributes
        }
        values = start(self.plan, given, {**self.constants.by_name(), **weights})
        outputs = execute(self.plan, values, modules, watch, given[0].device.type)
        return outputs[0] if len(outputs) == 1 else outputs

    def current_sites(self) -> tuple[Site, ...]:
        """The activation sites, with what stands there now."""
        found = []
        for path, pattern in self.sites.items():
            kind = module_kind(self.get_submodule(path)) or pattern.kind
            nodes = tuple(node.name or node.outputs[0] for node in pattern.nodes)
            found.append(Site(path, kind, "nodes", 1, nodes, pattern.shape))
        return tuple(found)

    def with_activation(self, wanted: Activation, paths: Set[str]) -> OnnxNetwork:
        """A copy with another activation at these paths; one that is there already stays, learned values included."""
        swapped = copy.deepcopy(self)
        for path in paths:
            if module_kind(self.get_submodule(path)) != wanted.spec:
                parent, _, name = path.rpartition(".")
                setattr(swapped.get_submodule(parent), name, new_module(wanted))
        after = {site.path for site in swapped.current_sites() if site.kind == wanted.spec}
        if not paths <= after:
            raise SurgeryError(f"expected {wanted.spec} at {len(paths)} sites after the swap, got {len(paths & after)}")
        return swapped

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        for fixed in (self.file, self.graph, self.ties, self.sites, self.stored, self.plan):
            memo[id(fixed)] = fixed
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def extra_repr(self) -> str:
        """The file's hash and its batch, so that the hash of the network covers the graph."""
        return f"sha256={self.file.sha256}, logits={self.softmax}"

    def _cast(self, x: Tensor, position: int) -> Tensor:
        element_type = self.graph.inputs[position].element_type
        try:
            dtype = torch_dtype(element_type)
        except KeyError:
            return x
        return x.to(torch.float32 if dtype in _HALF else dtype)

    def _leave_softmax_away(self) -> None:
        """Make the Softmax or LogSoftmax that the only output comes from, its layout changed or not, do nothing."""
        if len(self.graph.outputs) != 1:
            return
        output = self.graph.outputs[0]
        node = self.graph.producer(output.name)
        while node is not None and node.op in _VIEWS:
            node = self.graph.producer(node.inputs[0])
        if node is None or node.op not in ("Softmax", "LogSoftmax") or output.shape is None or len(output.shape) != 2:
            return
        value = self.graph.values.get(node.inputs[0])
        rank = len(value.shape) if value is not None and value.shape is not None else 2
        axis = node.attributes.get("axis", 1 if self.graph.opset < 13 else -1)
        steps = [step for step in self.plan.steps if step.names[:1] == node.outputs[:1] and step.module is None]
        if len(steps) != 1 or axis % rank != 1 or len(self.graph.consumers(node.outputs[0])) > 1:
            return
        kept = tuple(replace(step, function=_unchanged) if step is steps[0] else step for step in self.plan.steps)
        self.plan = replace(self.plan, steps=kept)
        self.final_softmax = nn.Softmax(1) if node.op == "Softmax" else nn.LogSoftmax(1)
        self.softmax = True


def _unchanged(x: Tensor, *_: Any) -> Tensor:
    return x


def fixed_batch(graph: Graph) -> int | None:
    """The first dimension of the first input and output where the file fixes it; None where it is free."""
    shapes = [value.shape for value in (graph.inputs[0], graph.outputs[0])]
    if len(graph.inputs) != 1 or not all(shapes) or shapes[0] is None:
        return None
    first = shapes[0][0]
    return first if isinstance(first, int) and first > 0 else None


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
