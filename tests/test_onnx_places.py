"""Nodes are named by the modules that they came from, from what each exporter left behind."""

import io
import logging
import re
import warnings
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcheck.networks.onnx.graph import Graph, Node, read_graph
from robustcheck.networks.onnx.patterns import find_activations
from robustcheck.networks.onnx.places import node_paths


class Block(nn.Module):
    """A residual block whose activation is called twice, with a functional one between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu, self.conv2 = nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + x)  # type: ignore[no-any-return]


class Net(nn.Module):
    """Nested modules, functional activations, a recurrent layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer1 = nn.Conv2d(3, 4, 3), nn.Sequential(Block(), nn.Sequential(Block(), nn.SiLU()))
        self.mish, self.ln, self.prelu = nn.Mish(), nn.LayerNorm(4), nn.PReLU()
        self.lstm, self.attention = nn.LSTM(4, 4, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(F.gelu(self.mish(self.layer1(F.silu(self.stem(x))))))
        x, _ = self.lstm(self.ln(self.prelu(x.mean(2).transpose(1, 2))))
        x = self.attention(x, x, x)[0]
        x = x + self.embed(torch.zeros(1, 6, dtype=torch.long) + x[:, :, 0].long().clamp(0, 6))
        return self.head(x)  # type: ignore[no-any-return]


SITES = [
    *("silu", "layer1.0.relu", "layer1.0.gelu", "layer1.0.relu_1", "layer1.1.0.relu", "layer1.1.0.gelu"),
    *("layer1.1.0.relu_1", "layer1.1.1", "mish", "gelu", "gelu_1", "prelu"),
]
WEIGHTED = {
    *("stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.0.conv1", "layer1.1.0.conv2", "ln", "lstm", "attention"),
    *("attention.out_proj", "embed", "head"),
}


@pytest.fixture(scope="session")
def exports() -> dict[str, Graph]:
    """One network as each of torch's exporters writes it."""
    torch.manual_seed(0)
    network, x, file = Net().eval(), torch.randn(1, 3, 8, 8), io.BytesIO()
    legacy: dict[str, Any] = {"f": file}
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network, (x,), dynamo=True, opset_version=18, external_data=False, verbose=False
            )
            torch.onnx.export(network, (x,), dynamo=False, opset_version=17, **legacy)
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None
    return {"default": read_graph(program.model_proto), "legacy": read_graph(onnx.load_from_string(file.getvalue()))}


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_activations_have_the_paths_of_their_modules(exports: dict[str, Graph], exporter: str) -> None:
    assert [pattern.path for pattern in find_activations(exports[exporter])] == SITES


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_layers_have_the_paths_of_their_modules(exports: dict[str, Graph], exporter: str) -> None:
    graph = exports[exporter]
    paths = node_paths(graph)
    layers = ("Conv", "Gemm", "LayerNormalization", "LSTM", "MatMul", "Gather")
    found = {paths[node.index] for node in graph.nodes if node.op in layers}
    assert found >= WEIGHTED
    named = {node.inputs[1].removesuffix(".weight"): paths[node.index] for node in graph.nodes if node.op == "Conv"}
    assert all(owner == path for owner, path in named.items() if "::" not in owner)


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_paths_are_unique_and_can_be_attributes_of_modules(exports: dict[str, Graph], exporter: str) -> None:
    graph = exports[exporter]
    paths = node_paths(graph)
    assert list(paths) == [node.index for node in graph.nodes]
    assert len(set(paths.values())) == len(paths)
    network = nn.Module()
    for path in sorted(paths.values()):
        assert re.fullmatch(r"\w+(\.\w+)*", path, re.ASCII)
        owner = network
        for part in path.split("."):
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)


def graph_of(*nodes: Node, initialisers: dict[str, Tensor] | None = None) -> Graph:
    arrays = {name: tensor.numpy() for name, tensor in (initialisers or {}).items()}
    return Graph("g", nodes, (), (), arrays, {}, 17)


def scoped(index: int, op: str, inputs: tuple[str, ...], scopes: list[str], name: str = "") -> Node:
    return Node(index, op, name, inputs, (f"v{index}",), {}, {"pkg.torch.onnx.name_scopes": repr(scopes)})


def test_the_name_of_a_weight_beats_the_scope_that_a_folded_batch_norm_left() -> None:
    conv = scoped(0, "Conv", ("x", "layer1.0.conv1.weight"), ["", "layer1", "layer1.0", "layer1.0.bn1", "batch_norm"])
    assert node_paths(graph_of(conv, initialisers={"layer1.0.conv1.weight": torch.ones(2, 2, 1, 1)})) == {
        0: "layer1.0.conv1"
    }


def test_two_layers_with_one_weight_have_two_paths() -> None:
    convs = [Node(i, "Conv", "", ("x", "conv.weight"), (f"v{i}",)) for i in range(2)]
    assert node_paths(graph_of(*convs, initialisers={"conv.weight": torch.ones(1)})) == {0: "conv", 1: "conv_1"}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/layer1/layer1.0/relu/Relu", "layer1.0.relu"),
        ("/features/features.1/features.1.0/block/block.0/block.0.2/Relu", "features.1.0.block.0.2"),
        ("model/dense_1/Relu", "model.dense_1"),
        ("Relu_7", "Relu_7"),
        ("p2o.Relu.0", "p2o.Relu.0"),
        ("a b:0", "a_b_0"),
        ("..", "node"),
        ("", "relu"),
        ("/forward/training/Relu", "forward_.training_"),
        ("/weight/Relu", "weight_"),
    ],
)
def test_names_of_nodes_become_paths(name: str, path: str) -> None:
    assert node_paths(graph_of(Node(0, "Relu", name, ("x",), ("y",)))) == {0: path}


def test_calls_of_the_network_itself_are_numbered() -> None:
    nodes = [
        Node(0, "Relu", "/Relu", ("x",), ("a",)),
        Node(1, "Add", "/Add_1", ("a", "x"), ("b",)),
        Node(2, "Relu", "/Relu_1", ("b",), ("c",)),
    ]
    assert node_paths(graph_of(*nodes)) == {0: "relu", 1: "add_1", 2: "relu_1"}


def test_a_node_without_a_name_is_named_by_operator_and_output() -> None:
    assert node_paths(graph_of(Node(0, "Add", "", ("x", "x"), ("hidden/out:0",)))) == {0: "add_hidden_out_0"}


def test_parts_of_one_activation_share_its_module() -> None:
    nodes = [
        Node(0, "Softplus", "/act/Softplus", ("x",), ("a",)),
        Node(1, "Tanh", "/act/Tanh", ("a",), ("b",)),
        Node(2, "Mul", "/act/Mul", ("x", "b"), ("y",)),
    ]
    graph = graph_of(*nodes)
    assert node_paths(graph) == {0: "act.softplus", 1: "act.tanh", 2: "act"}
    assert [pattern.path for pattern in find_activations(graph)] == ["act"]


def test_hostile_metadata_is_no_error() -> None:
    for text in ("[" * 5000, "not a list", "['', 1, None]", "['', '']", "['', '...', '..']"):
        node = Node(0, "Relu", "", ("x",), ("y",), {}, {"pkg.torch.onnx.name_scopes": text})
        (path,) = node_paths(graph_of(node)).values()
        assert re.fullmatch(r"\w+(\.\w+)*", path)
