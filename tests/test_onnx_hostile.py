"""Damaged and hostile ONNX files: each is read, or is one of our errors, in bounded time and memory."""

import io
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import nn

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.agreement import agreement
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import OnnxFile, read_many
from robustcheck.networks.onnx.trial import Request

SEED = 20240211
DATA = "weights.bin"
MEMORY = 3 * 2**29
SECONDS = 2.0


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.GELU()
        )
        self.head = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 4), nn.Hardswish())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True)
        self.head = nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.lstm(x)[0][:, -1]))


def exported(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.zeros(shape),), file, dynamo=False, opset_version=17)
    return file.getvalue()


def controlled() -> bytes:
    """A loop that adds, inside of it a choice, and a local function after it."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    floats = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))  # noqa: E731
    then = helper.make_graph([helper.make_node("Relu", ["total"], ["a"])], "then", [], [floats("a", 2, 3)])
    other = helper.make_graph([helper.make_node("Tanh", ["total"], ["b"])], "other", [], [floats("b", 2, 3)])
    nodes = [
        helper.make_node("Cast", ["step"], ["odd"], to=TensorProto.BOOL),
        helper.make_node("If", ["odd"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["chosen", "one"], ["next"]),
        helper.make_node("Identity", ["going"], ["go"]),
    ]
    truth = lambda name: helper.make_tensor_value_info(name, TensorProto.BOOL, [])  # noqa: E731
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    body = helper.make_graph(
        nodes, "body", [step, truth("going"), floats("total", 2, 3)], [truth("go"), floats("next", 2, 3)]
    )
    times = helper.make_tensor("times", TensorProto.INT64, [], [3])
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["times", "always", "x"], ["looped"], body=body),
            helper.make_node("Twice", ["looped"], ["y"], domain="local"),
        ],
        "controlled",
        [floats("x", 2, 3)],
        [floats("y", 2, 3)],
        [one, times, always],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    twice = helper.make_function(
        "local", "Twice", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])], opsets[:1]
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9).SerializeToString()


def moved_out(data: bytes) -> tuple[bytes, bytes]:
    """A model with its weights in another file, and that file."""
    model, held = ModelProto.FromString(data), b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        if raw:
            entries = {"location": DATA, "offset": len(held), "length": len(raw)}
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in entries.items())
            held += raw
    return model.SerializeToString(), held


@cache
def sources() -> tuple[dict[str, bytes], bytes]:
    """Small sound files by name, and the external data of one of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutional = exported(Convolutional(), (2, 3, 8, 8))
        recurrent = exported(Recurrent(), (2, 6, 5))
    outside, held = moved_out(convolutional)
    return {"cnn": convolutional, "lstm": recurrent, "external": outside, "control": controlled()}, held


# Changes of bytes.


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_structure(rng: random.Random, data: bytes) -> bytes:
    """Flips among the bytes that are no weights, where it hurts."""
    small = ModelProto.FromString(data)
    small.graph.ClearField("initializer")
    part = small.SerializeToString()[8:200]
    start = max(data.find(part[40:60]), 0)
    changed = bytearray(data)
    changed[min(start + rng.randrange(2000), len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 2, 16, 300))) + data[place:]


def delete(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice((1, 2, 16, 300)) :]


def overwrite(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    fill = rng.choice((b"\0", b"\xff", b"\x80")) * rng.choice((1, 4, 40))
    return data[:place] + fill + data[place + len(fill) :]


def nest(rng: random.Random, data: bytes) -> bytes:
    """Choices within choices, deeper than protobuf's own limit too; a second graph in a message adds to the first."""
    model = ModelProto.FromString(data)
    output = onnx.ValueInfoProto(name="deep", type=model.graph.input[0].type).SerializeToString()
    first = model.graph.input[0].name.encode()
    leaf = part(1, part(1, first) + part(2, b"deep") + part(4, b"Identity")) + part(2, b"leaf") + part(12, output)
    inner = leaf
    for _ in range(rng.choice((5, 12, 30, 1000))):
        then = part(5, part(1, b"then_branch") + part(6, inner) + b"\xa0\x01\x05")
        other = part(5, part(1, b"else_branch") + part(6, leaf) + b"\xa0\x01\x05")
        node = part(1, part(1, b"truth") + part(2, b"deep") + part(4, b"If") + then + other)
        inner = part(2, b"nested") + node + part(12, output)
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True]).SerializeToString()
    return data + part(7, node + part(5, truth))


def part(field: int, payload: bytes) -> bytes:
    """A field of a protobuf message."""
    head, length = bytes([field << 3 | 2]), len(payload)
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + payload


# Changes of fields.

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 3, 2**16, 2**31, 2**40, 2**62, 2**63 - 1)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def any_graph(rng: random.Random, model: ModelProto) -> GraphProto:
    return rng.choice([graph for graph in graphs(model.graph) if graph.node])


def dims(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    else:
        tensor.dims.extend([rng.choice(NUMBERS)] * rng.choice((1, 2, 80)))


def cycle(rng: random.Random, model: ModelProto) -> None:
    graph = any_graph(rng, model)
    later = rng.randrange(len(graph.node))
    earlier = graph.node[rng.randrange(later + 1)]
    earlier.input[:] = [*earlier.input[:-1], graph.node[later].output[0]]


def swap_names(rng: random.Random, model: ModelProto) -> None:
    graph = any_graph(rng, model)
    one, other = rng.choice(list(graph.node)), rng.choice(list(graph.node))
    for which in rng.choice((("input",), ("output",), ("input", "output"))):
        first, second = list(getattr(one, which)), list(getattr(other, which))
        getattr(one, which)[:], getattr(other, which)[:] = second, first


def attribute(rng: random.Random, model: ModelProto) -> None:
    nodes = [node for graph in graphs(model.graph) for node in graph.node if node.attribute]
    chosen = rng.choice(list(rng.choice(nodes).attribute))
    if chosen.type == onnx.AttributeProto.INTS:
        chosen.ints[:] = [rng.choice(NUMBERS) for _ in range(rng.choice((len(chosen.ints), 0, 1, 9)))]
    elif chosen.type == onnx.AttributeProto.INT:
        chosen.i = rng.choice(NUMBERS)
    elif chosen.type == onnx.AttributeProto.FLOAT:
        chosen.f = rng.choice((float("nan"), float("inf"), -1e38, 0.0))
    elif chosen.type == onnx.AttributeProto.TENSOR and chosen.t.raw_data:
        chosen.t.raw_data = rng.randbytes(len(chosen.t.raw_data))
    else:
        chosen.type = rng.randrange(15)


def input_shape(rng: random.Random, model: ModelProto) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    if rng.random() < 0.8:
        shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(NUMBERS)
    else:
        shape.dim.extend([shape.dim[0]] * rng.choice((1, 70)))


def giant(rng: random.Random, model: ModelProto) -> None:
    """A node of a few bytes that asks for up to exabytes."""
    graph, name = model.graph, model.graph.input[0].name
    size = rng.choice((2**20, 2**28, 2**31, 2**34, 2**40, 2**62))
    rank = len(graph.input[0].type.tensor_type.shape.dim)
    op = rng.choice(("ConstantOfShape", "Tile", "Expand", "Range"))
    graph.initializer.append(helper.make_tensor("giant_shape", TensorProto.INT64, [rank], [1] * (rank - 1) + [size]))
    graph.initializer.extend(helper.make_tensor(f"giant_{n}", TensorProto.INT64, [], [n * size]) for n in (0, 1))
    graph.initializer.append(helper.make_tensor("giant_step", TensorProto.INT64, [], [1]))
    if op == "Range":
        node = helper.make_node(op, ["giant_0", "giant_1", "giant_step"], ["giant"])
    else:
        node = helper.make_node(op, ["giant_shape"] if op == "ConstantOfShape" else [name, "giant_shape"], ["giant"])
    nodes = [node, helper.make_node("ReduceSum", ["giant"], ["giant_sum"], keepdims=0), *graph.node]
    kind = TensorProto.INT64 if op == "Range" else TensorProto.FLOAT
    graph.output.append(helper.make_tensor_value_info("giant_sum", kind, []))
    del graph.node[:]
    graph.node.extend(nodes)


def duplicate(rng: random.Random, model: ModelProto) -> None:
    graph = any_graph(rng, model)
    graph.node.append(rng.choice(list(graph.node)))


def remove(rng: random.Random, model: ModelProto) -> None:
    graph = any_graph(rng, model)
    del graph.node[rng.randrange(len(graph.node))]


def operator(rng: random.Random, model: ModelProto) -> None:
    ops = ("Conv", "Gather", "Reshape", "LSTM", "Scan", "Softmax", "TopK", "QLinearConv", "Split", "Nothing", "", "Pad")
    node = rng.choice(list(any_graph(rng, model).node))
    node.op_type = rng.choice(ops)
    if rng.random() < 0.2:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "nowhere", "ai.onnx"))


def element_type(rng: random.Random, model: ModelProto) -> None:
    rng.choice(list(model.graph.initializer)).data_type = rng.choice(
        (0, 3, 6, 7, 8, 11, 14, 16, 17, 22, 26, 28, 99, -1)
    )


def versions(rng: random.Random, model: ModelProto) -> None:
    if rng.random() < 0.3:
        model.ir_version = rng.choice((-1, 0, 1, 3, 14, 15, 2**60))
    else:
        model.opset_import[0].version = rng.choice((-1, 0, 1, 8, 9, 12, 15, 19, 24, 28, 29, 2**60))


def outside(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    places = (
        "../secret",
        "/etc/passwd",
        "a/../../b",
        "C:\\x",
        "\\\\host\\x",
        ".",
        "",
        DATA,
        "*/_ORT_MEM_ADDR_/*",
        "a\0b",
    )
    entries = {
        "location": rng.choice(places),
        "offset": str(rng.choice((*NUMBERS, "x", "1e9"))),
        "length": str(rng.choice((*NUMBERS, "", " 4"))),
    }
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())


def raw_data(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    tensor.raw_data = rng.randbytes(rng.choice((0, 1, 4, 4096)))


def sparse(rng: random.Random, model: ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("places", TensorProto.INT64, [2], [rng.choice(NUMBERS), 5])
    shape = rng.choice(([10], [2**20, 2**20], [2**31], [2**27], [-1], [2**62] * 4))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, shape))


def functions(rng: random.Random, model: ModelProto) -> None:
    """Functions that call one another: themselves, or the next one twice, sixty deep."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    depth = rng.choice((1, 4, 60))
    last = [helper.make_node("F0" if depth == 1 else "Relu", ["v"], ["w"], domain="f" if depth == 1 else "")]
    for level in range(depth):
        call = f"F{level + 1}"
        pair = [helper.make_node(call, ["v"], ["u"], domain="f"), helper.make_node(call, ["u"], ["w"], domain="f")]
        made = helper.make_function("f", f"F{level}", ["v"], ["w"], last if level == depth - 1 else pair, opsets)
        model.functions.append(made)
    model.opset_import.append(opsets[1])
    model.graph.node.append(helper.make_node("F0", [model.graph.input[0].name], ["called"], domain="f"))
    model.graph.output.append(onnx.ValueInfoProto(name="called", type=model.graph.input[0].type))


def endless(rng: random.Random, model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "times":
            tensor.int64_data[:] = [rng.choice((0, 2**16, 2**62))]


def names(rng: random.Random, model: ModelProto) -> None:
    node = rng.choice(list(model.graph.node))
    name = rng.choice(("", "x" * 100_000, "\U0001f4a3", "a\nb", "../../a", model.graph.input[0].name))
    rng.choice((lambda: setattr(node, "name", name), lambda: node.output.__setitem__(0, name)))()


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    cut,
    flip,
    flip_structure,
    insert,
    delete,
    overwrite,
    nest,
)
FIELDS: tuple[Callable[[random.Random, ModelProto], None], ...] = (
    dims,
    cycle,
    swap_names,
    attribute,
    input_shape,
    giant,
    duplicate,
    remove,
    operator,
    element_type,
    versions,
    outside,
    raw_data,
    sparse,
    functions,
    names,
)


def mutants(seed: int, each: int = 6) -> Iterator[tuple[str, bytes]]:
    """Damaged files with names that say what was done; the same for the same seed.

    Args:
        seed: of what is done.
        each: how many of a kind for each source.
    """
    for source, data in sources()[0].items():
        for kind in (*BYTES, *FIELDS, *((endless,) if source == "control" else ())):
            for number in range(3 if kind is endless else each):
                rng = random.Random(f"{seed} {source} {kind.__name__} {number}")
                name = f"{source}-{kind.__name__}-{number}"
                if kind in BYTES:
                    yield name, kind(rng, data)
                    continue
                model = ModelProto.FromString(data)
                try:
                    kind(rng, model)
                    yield name, model.SerializeToString()
                except (ValueError, TypeError):
                    continue  # what protobuf itself does not hold


def folder_of(mutated: Iterator[tuple[str, bytes]], folder: Path) -> list[Path]:
    """Write files into a folder, external data beside them."""
    (folder / DATA).write_bytes(sources()[1])
    paths = []
    for name, data in mutated:
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(data)
    return paths


def read_all(paths: list[Path]) -> list[OnnxFile | ModelError]:
    return read_many([Request(path, run=True, memory=MEMORY, seconds=SECONDS) for path in paths])


def test_the_sources_are_sound(tmp_path: Path) -> None:
    results = read_all(folder_of(iter(sources()[0].items()), tmp_path))
    assert [type(result) for result in results] == [OnnxFile] * len(results), results


def agrees(file: OnnxFile) -> str:
    """Whether the interpreter gives what ONNX Runtime gave; anything but an error of ours fails the test."""
    try:
        agreement(OnnxNetwork(file).eval(), file.trial, file.path)
    except ModelError:
        return "error"
    return "agrees"


@pytest.mark.skipif(sys.platform == "win32", reason="no fork, no limits")
def test_each_mutant_is_read_or_refused(tmp_path: Path) -> None:
    import resource

    folder = tmp_path / "corpus"
    folder.mkdir()
    paths = folder_of(mutants(SEED), folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    results = read_all(paths)
    assert len(results) == len(paths) >= 500
    assert time.monotonic() - started < 50 + SECONDS * sum("longer" in str(result) for result in results)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20  # in KiB: a GiB
    outcomes = Counter(type(result).__name__ for result in results)
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, OnnxFile):
            assert result.trial is not None, path
            assert result.trial.outputs or not result.graph.outputs, path
            outcomes[agrees(result)] += 1
        else:
            assert isinstance(result, ModelError), path
            assert str(path) in str(result), path
            assert len(str(result)) < 1500 + len(str(path)), path
    assert outcomes["OnnxFile"] > 50 < outcomes["ModelError"], outcomes
    # What ONNX Runtime runs, the interpreter runs to the same result, or says why not.
    assert outcomes["agrees"] > 50, outcomes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_mutants_are_the_same_for_a_seed() -> None:
    assert list(mutants(3, each=1)) == list(mutants(3, each=1)) != list(mutants(4, each=1))
