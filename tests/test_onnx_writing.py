"""Networks written back into their files: only weights and activations change, and ONNX Runtime agrees."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robustcheck.activations.catalogue import activation
from robustcheck.errors import ModelError
from robustcheck.networks.kinds import new_module
from robustcheck.networks.onnx import writing
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import read_onnx
from robustcheck.networks.onnx.writing import write_onnx, written


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).numpy()


def model(opset=18, element_type=TensorProto.FLOAT, width=5):
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    constants = {
        "w1": normal(6, width),
        "b1": normal(width),
        "w2": normal(width, 3),
        "root": np.sqrt(2),
        "one": 1.0,
        "half": 0.5,
    }
    nodes = [
        ("MatMul", ["x", "w1"], "a"),
        ("Add", ["a", "b1"], "b"),
        ("Div", ["b", "root"], "c"),
        ("Erf", ["c"], "d"),
        ("Add", ["d", "one"], "e"),
        ("Mul", ["b", "e"], "f"),
        ("Mul", ["f", "half"], "g"),
        ("MatMul", ["g", "w2"], "h"),
        ("Relu", ["h"], "i"),
        ("Mul", ["i", "half"], "y"),
    ]
    made = [helper.make_node(op, inputs, [out], name=f"/{out}/{op}") for op, inputs, out in nodes]
    info = [helper.make_tensor_value_info(name, element_type, ["n", width]) for name in "cdef"]
    graph = helper.make_graph(
        made,
        "the graph",
        [helper.make_tensor_value_info("x", element_type, ["n", 6])],
        [helper.make_tensor_value_info("y", element_type, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value, dtype), name) for name, value in constants.items()],
        doc_string="kept",
        value_info=info,
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="me")
    helper.set_model_props(found, {"labels": "cat,dog"})
    return found


@pytest.fixture
def path(tmp_path):
    onnx.save(model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def load(path):
    return OnnxNetwork(read_onnx(path, trial=True)).eval()


def put(network, path, spec):
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, new_module(activation(spec)))


def kinds(path):
    return [site.kind for site in load(path).current_sites()]


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def test_an_unchanged_network_is_written_byte_for_byte(path, tmp_path):
    write_onnx(load(path), tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(path)


def test_training_changes_weights_and_nothing_else(path, tmp_path):
    network = load(path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    found = write_onnx(network, tmp_path / "out.onnx")
    assert found.difference <= 1e-5
    before, after = onnx.load(path), onnx.load(tmp_path / "out.onnx")
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        scale = 1.1 if old.name in ("w1", "b1", "w2") else 1.0
        np.testing.assert_allclose(numpy_helper.to_array(new), numpy_helper.to_array(old) * scale, rtol=1e-6)
        new.CopyFrom(old)
    assert before == after


def test_a_swap_replaces_the_pattern_and_drops_what_only_it_needed(path, tmp_path):
    network = load(path)
    assert [site.kind for site in network.current_sites()] == ["gelu", "relu"]
    put(network, network.current_sites()[0].path, "silu")
    write_onnx(network, tmp_path / "out.onnx")
    proto = onnx.load(tmp_path / "out.onnx")
    assert operators(proto) == ["MatMul", "Add", "Sigmoid", "Mul", "MatMul", "Relu", "Mul"]
    # ½ is read by another node too, √2 and 1 were the activation's own.
    assert [tensor.name for tensor in proto.graph.initializer] == ["w1", "b1", "w2", "half"]
    assert [info.name for info in proto.graph.value_info] == []
    assert (proto.producer_name, proto.metadata_props[0].value, proto.graph.doc_string) == ("me", "cat,dog", "kept")
    assert kinds(tmp_path / "out.onnx") == ["silu", "relu"]


@pytest.mark.parametrize("spec", ["swish", "pau", "prelu", "aptx_learned", "srs"])
def test_learned_parameters_become_initialisers(path, tmp_path, spec):
    network = load(path)
    for site in network.current_sites():
        put(network, site.path, spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.05)
    assert write_onnx(network, tmp_path / "out.onnx").difference <= 1e-4
    added = {t.name for t in onnx.load(tmp_path / "out.onnx").graph.initializer} - {"w1", "b1", "w2", "half"}
    learned = sum(len(list(network.get_submodule(site.path).parameters())) for site in network.current_sites())
    assert len(added) >= learned


def test_every_elementwise_activation_of_the_catalogue_is_written(path, tmp_path):
    from robustcheck.activations.catalogue import CATALOGUE

    for name in (name for name, entry in CATALOGUE.items() if entry.elementwise and not entry.gated):
        spec = "interpolate(relu, gelu, i=0.5)" if name == "interpolate" else name
        network = load(path)
        for site in network.current_sites():
            put(network, site.path, spec)
        assert write_onnx(network, tmp_path / "out.onnx").difference <= 1e-4, name


def test_the_file_s_opset_stays(tmp_path):
    onnx.save(model(opset=9), tmp_path / "net.onnx")
    network = load(tmp_path / "net.onnx")
    for site in network.current_sites():
        put(network, site.path, "mish")
    write_onnx(network, tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == 9
    assert kinds(tmp_path / "out.onnx") == ["mish", "mish"]


def test_external_data_stay_external_and_beside_the_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.onnx.data").write_bytes(b"of another file in the current folder")
    folder = tmp_path / "in"
    folder.mkdir()
    onnx.save_model(
        model(width=300), folder / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    network = load(folder / "net.onnx")
    with torch.no_grad():
        next(network.parameters()).add_(1)
    out = tmp_path / "out"
    out.mkdir()
    write_onnx(network, out / "new.onnx")
    assert sorted(each.name for each in out.iterdir()) == ["new.onnx", "new.onnx.data"]
    write_onnx(network, out / "new.onnx")
    assert (out / "new.onnx.data").stat().st_mode == (out / "new.onnx").stat().st_mode
    again = load(out / "new.onnx")
    x = torch.ones(2, 6)
    assert torch.equal(again(x), network(x))


def test_half_precision_is_rounded_to_nearest(tmp_path):
    onnx.save(model(element_type=TensorProto.FLOAT16), tmp_path / "net.onnx")
    network = load(tmp_path / "net.onnx")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 2**-12)
    for site in network.current_sites():
        put(network, site.path, "gelu_tanh")
    write_onnx(network, tmp_path / "out.onnx")
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert tensors["w1"].dtype == np.float16
    held = network.stored["w1"]
    expected = getattr(network.get_submodule(held[0]), held[1]).detach().numpy().astype(np.float16)
    assert np.array_equal(tensors["w1"], expected)


def test_a_swap_inside_a_branch(tmp_path):
    def branch(name, op):
        node = helper.make_node(op, ["h"], [name], name=f"/{name}/{op}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["h"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["i"], then_branch=branch("a", "Relu"), else_branch=branch("b", "Elu")),
        helper.make_node("Neg", ["i"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(normal(4, 3), "w"), numpy_helper.from_array(np.float32(0), "zero")]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "net.onnx"
    )
    network = load(tmp_path / "net.onnx")
    for site in network.current_sites():
        if site.kind == "elu":
            put(network, site.path, "swish")
    write_onnx(network, tmp_path / "out.onnx")
    bodies = [a.g for n in onnx.load(tmp_path / "out.onnx").graph.node if n.op_type == "If" for a in n.attribute]
    assert {tuple(n.op_type for n in body.node if n.op_type != "Constant") for body in bodies} == {
        ("Relu",),
        ("Mul", "Sigmoid", "Mul"),
    }
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    for x in (np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)):
        np.testing.assert_allclose(network(torch.from_numpy(x)).detach(), session.run(None, {"x": x})[0], atol=1e-6)


def test_a_file_that_computes_something_else_is_not_written(path, tmp_path, monkeypatch):
    network = load(path)

    def wrong(network):
        proto = written(network)
        proto.graph.node[-1].op_type = "Add"
        return proto

    monkeypatch.setattr(writing, "written", wrong)
    (tmp_path / "out.onnx").write_bytes(b"older")
    with pytest.raises(ModelError, match="expected the outputs of ONNX Runtime"):
        write_onnx(network, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == b"older"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]


def test_a_folder_that_is_not_there(path, tmp_path):
    with pytest.raises(ModelError, match="expected a folder that can be written"):
        write_onnx(load(path), tmp_path / "nowhere" / "out.onnx")
