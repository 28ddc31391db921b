"""ONNX graphs as torch modules: what trains, what runs, what is refused."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_builder import Builder, normal
from torch import nn

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.agreement import agreement
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import read_onnx
from robustcheck.networks.onnx.weights import weight_names


def load(path, **options):
    file = read_onnx(path, trial=True)
    network = OnnxNetwork(file, **options).eval()
    agreement(network, file.trial, path)
    return network


def in_runtime(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


@pytest.fixture
def convolutional(tmp_path):
    """Normalised input, convolution, batch norm, relu, mean, product, bias; a mask and a half among its constants."""
    b = Builder(["n", 3, 8, 8])
    x = b.add("Sub", "x", b.tensor("mean", normal(1, 3, 1, 1)))
    x = b.add("Conv", x, b.tensor("conv.weight", normal(4, 3, 3, 3, scale=0.3)), b.tensor("conv.bias", normal(4)))
    statistics = [
        b.tensor(f"bn.{n}", np.abs(normal(4, seed=k)) + 0.5) for k, n in enumerate(("weight", "bias", "m", "v"))
    ]
    x = b.add("BatchNormalization", x, *statistics, momentum=0.8)
    x = b.add("Relu", x, name="/act/Relu")
    x = b.add("GlobalAveragePool", x)
    x = b.add("Flatten", x)
    x = b.add("MatMul", x, b.tensor("fc.weight", normal(4, 5)))
    x = b.add("Add", b.tensor("fc.bias", normal(5)), x)
    x = b.add("Mul", x, b.tensor("half", np.float32(0.5)))
    x = b.add("Mul", x, b.tensor("scale", normal(5)))
    x = b.add("Add", x, b.tensor("mask", np.array([0, 0, -1e9, 0, 0], np.float32)))
    return b.save(tmp_path / "net.onnx", x, ["n", 5])


def test_weights_are_told_from_constants(convolutional):
    names = weight_names(read_onnx(convolutional).graph)
    assert names == {"conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias", "scale"}


def test_weights_seen_through_views_and_half_constants_not(tmp_path):
    b = Builder(["n", 4])
    turned = b.add("Transpose", b.tensor("w", normal(5, 4)), perm=[1, 0])
    x = b.add("MatMul", "x", turned)
    token = b.add("Expand", b.tensor("token", normal(1, 5)), b.tensor("shape", np.array([2, 5])))
    x = b.add("Concat", x, token, axis=0)
    x = b.add("Clip", x, b.tensor("low", np.float32(-1)), b.tensor("high", np.float32(1)))
    path = b.save(tmp_path / "net.onnx", x, ["m", 5])
    assert weight_names(read_onnx(path).graph) == {"w", "token"}
    network = load(path)
    network(torch.ones(1, 4)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_every_weight_has_a_gradient_and_constants_do_not_move(convolutional):
    network = load(convolutional)
    assert sum(p.numel() for p in network.parameters()) == 4 * 27 + 4 + 8 + 20 + 5 + 5
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_layers_are_torch_s_own_kinds_so_that_noise_reaches_them(convolutional):
    kinds = {
        type(module).__mro__[2] for module in load(convolutional).modules() if list(module.parameters(recurse=False))
    }
    assert nn.Conv2d in kinds
    network = load(convolutional)
    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 1


def test_batch_norm_trains_like_torch_s(convolutional):
    network = load(convolutional)
    (layer,) = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    twin = nn.BatchNorm2d(4, momentum=0.2)
    twin.load_state_dict({**layer.state_dict(), "num_batches_tracked": torch.tensor(0)})
    x = torch.rand(5, 4, 3, 3)
    assert torch.equal(layer.train()(x), twin.train()(x))
    assert torch.equal(layer.running_mean, twin.running_mean)
    assert torch.equal(layer.running_var, twin.running_var)


def test_dropout_obeys_the_mode(tmp_path):
    b = Builder(["n", 4])
    x = b.add("Dropout", "x", b.tensor("ratio", np.float32(0.5)))
    network = load(b.save(tmp_path / "net.onnx", b.add("Neg", x), ["n", 4]))
    x = torch.ones(64, 4)
    assert torch.equal(network(x), -x)
    dropped = network.train()(x)
    assert set(dropped.unique().tolist()) == {-2.0, 0.0}


def test_a_fixed_batch_runs_in_pieces(tmp_path):
    b = Builder([2, 4])
    x = b.add("MatMul", "x", b.tensor("w", normal(4, 3)))
    x = b.add("Reshape", x, b.tensor("shape", np.array([2, 3])))
    path = b.save(tmp_path / "net.onnx", x, [2, 3])
    network = load(path)
    x = torch.from_numpy(normal(5, 4))
    expected = np.concatenate([in_runtime(path, x.numpy()[rows])[0] for rows in ([0, 1], [2, 3], [4, 4])])[:5]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_final_softmax_is_left_away_for_training_only(tmp_path, op):
    b = Builder(["n", 4])
    x = b.add("MatMul", "x", b.tensor("w", normal(4, 3)))
    path = b.save(tmp_path / "net.onnx", b.add(op, x, axis=-1), ["n", 3])
    x = torch.from_numpy(normal(5, 4))
    whole, logits = load(path), load(path, logits=True)
    assert logits.softmax
    assert not whole.softmax
    torch.testing.assert_close(logits(x).log_softmax(1), whole(x) if op == "LogSoftmax" else whole(x).log())


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(tmp_path, kind):
    element_type = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[kind]
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    b = Builder(["n", 4], element_type=TensorProto.FLOAT)
    x = b.add("Cast", "x", to=element_type)
    x = b.add("MatMul", x, b.tensor("w", normal(4, 3).astype(dtype)))
    x = b.add("Add", x, b.tensor("b", normal(3).astype(dtype)))
    x = b.add("Cast", x, to=TensorProto.FLOAT)
    file = read_onnx(b.save(tmp_path / "net.onnx", x, ["n", 3]))
    network = OnnxNetwork(file).eval()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    x = torch.from_numpy(normal(5, 4))
    weight, bias = (numpy_helper.to_array(t).astype(np.float32) for t in file.proto.graph.initializer)
    np.testing.assert_allclose(network(x).detach(), x.numpy() @ weight + bias, atol=1e-6)


def test_activations_in_both_branches_run_and_swap(tmp_path):
    def branch(name, op):
        node = helper.make_node(op, ["h"], [name], name=f"/{name}/{op}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    b = Builder(["n", 4])
    b.nodes.append(helper.make_node("MatMul", ["x", b.tensor("w", normal(4, 3))], ["h"]))
    total = b.add("ReduceSum", "h", keepdims=0)
    condition = b.add("Greater", total, b.tensor("zero", np.float32(0)))
    x = b.add("If", condition, then_branch=branch("a", "Relu"), else_branch=branch("b", "Elu"))
    path = b.save(tmp_path / "net.onnx", b.add("Neg", x), ["n", 3])
    network = load(path)
    assert {site.kind for site in network.current_sites()} == {"relu", "elu"}
    for sign in (1, -1):
        x = torch.from_numpy(np.abs(normal(2, 4))) * sign
        np.testing.assert_allclose(network(x).detach(), in_runtime(path, x.numpy())[0], atol=1e-6)
    network(torch.ones(1, 4)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_all_that_is_not_supported_is_listed_at_once(tmp_path):
    b = Builder(["n", 4])
    x = b.add("RandomNormalLike", "x", name="noise_a")
    x = b.add("Bernoulli", x, name="coin")
    x = b.add("RandomNormalLike", x, name="noise_b")
    path = b.save(tmp_path / "net.onnx", b.add("Neg", x), ["n", 4])
    with pytest.raises(ModelError, match=r"RandomNormalLike: noise_a, noise_b; Bernoulli: coin"):
        OnnxNetwork(read_onnx(path))


def test_a_difference_from_onnx_runtime_names_the_first_node(convolutional):
    file = read_onnx(convolutional, trial=True)
    network = OnnxNetwork(file).eval()
    with torch.no_grad():
        next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight.mul_(1.5)
    with pytest.raises(ModelError, match="first node that differs is Conv"):
        agreement(network, file.trial, convolutional)


def test_a_copy_shares_nothing_that_trains(convolutional):
    network = load(convolutional)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(next(twin.parameters()), next(network.parameters()))
    assert torch.equal(copy.deepcopy(network)(torch.ones(1, 3, 8, 8)), network(torch.ones(1, 3, 8, 8)))


def test_a_node_that_cannot_run_is_named(convolutional):
    with pytest.raises(ModelError, match="Sub 'sub_0': expected values that the operator takes"):
        load(convolutional)(torch.ones(1, 5, 8, 8))


def test_batch_norm_keeps_its_statistics_where_the_batch_is_fixed(tmp_path):
    b = Builder([2, 4, 3, 3])
    statistics = [b.tensor(n, np.abs(normal(4, seed=k)) + 0.5) for k, n in enumerate(("scale", "bias", "m", "v"))]
    x = b.add("Neg", b.add("BatchNormalization", "x", *statistics))
    network = load(b.save(tmp_path / "net.onnx", x, [2, 4, 3, 3]))
    (layer,) = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    before, x = layer.running_mean.clone(), torch.rand(5, 4, 3, 3)
    expected = network(x)
    torch.testing.assert_close(network.train()(x), expected)
    assert layer.training
    assert torch.equal(layer.running_mean, before)


def test_a_softmax_over_other_than_the_classes_stays(tmp_path):
    b = Builder(["n", 4])
    x = b.add("Softmax", b.add("MatMul", "x", b.tensor("w", normal(4, 3))), axis=0)
    assert not load(b.save(tmp_path / "net.onnx", x, ["n", 3]), logits=True).softmax


def test_a_softmax_whose_layout_is_changed_afterwards_is_left_away(tmp_path):
    b = Builder(["n", 4, 1, 1])
    x = b.add("Conv", "x", b.tensor("w", normal(3, 4, 1, 1)))
    path = b.save(tmp_path / "net.onnx", b.add("Flatten", b.add("Softmax", x, axis=1)), ["n", 3])
    network = load(path, logits=True)
    assert network.softmax
    x = torch.from_numpy(normal(5, 4, 1, 1))
    torch.testing.assert_close(network(x).softmax(1), torch.from_numpy(in_runtime(path, x.numpy())[0]))
