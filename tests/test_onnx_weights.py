"""What trains in an ONNX graph, what does not, and what exporters stored once for several layers."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_builder import Builder, normal
from torch import nn

from robustcheck.networks.loading import initialise, load_model
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import read_onnx
from robustcheck.networks.onnx.writing import write_onnx


def export(network, path, exporter, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "legacy":
            torch.onnx.export(network.eval(), (x,), str(path), dynamo=False, opset_version=17, **options)
        else:
            torch.onnx.export(network.eval(), (x,), str(path), external_data=False, verbose=False, opset_version=18)
    return path


def load(path):
    return OnnxNetwork(read_onnx(path, trial=True)).eval()


class Normalised(nn.Module):
    """Fresh: all its norms have scales of one and offsets of zero, which exporters store once."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.scale = nn.Parameter(torch.full((6,), 0.1))
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        for norm in self.norms:
            x = x + self.scale * torch.relu(self.linear(norm(x)))
        return x


@pytest.mark.parametrize("exporter", ["legacy", "default"])
def test_layers_that_were_stored_as_one_train_apart(tmp_path, exporter):
    torch.manual_seed(0)
    source = Normalised()
    network = load(export(source, tmp_path / "net.onnx", exporter, torch.rand(2, 6)))
    assert sum(p.numel() for p in network.parameters()) >= sum(p.numel() for p in source.parameters())
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert len({id(norm.weight) for norm in norms}) == 3
    write_onnx(network, tmp_path / "same.onnx")
    assert onnx.load(tmp_path / "same.onnx") == onnx.load(tmp_path / "net.onnx")
    x = torch.rand(2, 6)
    for one, other in ((source, network),):
        for each in (one, other):
            optimizer = torch.optim.SGD(
                [p for m in each.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()], lr=0.5
            )
            for _ in range(5):
                optimizer.zero_grad()
                each(x).square().sum().backward()
                optimizer.step()
    torch.testing.assert_close(network(x), source(x), atol=1e-5, rtol=1e-5)
    assert write_onnx(network, tmp_path / "trained.onnx").difference < 1e-5
    again = load(tmp_path / "trained.onnx")
    torch.testing.assert_close(again(x), network(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("exporter", ["legacy", "default"])
def test_batch_norm_that_cannot_be_folded_trains_when_fresh(tmp_path, exporter):
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU())
    network = load(export(source, tmp_path / "net.onnx", exporter, torch.rand(2, 3, 8, 8)))
    x = torch.rand(6, 3, 8, 8)
    network.batch = None
    for each in (source, network):
        each.train()
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            each(x).square().mean().backward()
            optimizer.step()
        each.eval()
    torch.testing.assert_close(network(x), source(x), atol=1e-5, rtol=1e-5)
    assert write_onnx(network, tmp_path / "out.onnx").difference < 1e-5
    # What was a scale is one still; the running statistics that the exporter stored with it have other names.
    nodes = onnx.load(tmp_path / "out.onnx").graph.node
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    tensors |= {node.output[0]: tensors[node.input[0]] for node in nodes if node.op_type == "Identity"}
    assert len({name for node in norms for name in node.input[1:]}) == 8
    for node in norms:
        assert np.abs(tensors[node.input[1]] - 1).max() < 0.2
    assert load_model(str(tmp_path / "out.onnx")).network.untrained == ()


def test_a_layer_that_is_used_twice_stays_one(tmp_path):
    b = Builder(["n", 5])
    weight, bias = b.tensor("w", normal(5, 5)), b.tensor("b", np.zeros(5, np.float32))
    x = b.add("Gemm", "x", weight, bias)
    x = b.add("Gemm", b.add("Relu", x), weight, bias)
    network = load(b.save(tmp_path / "net.onnx", x, ["n", 5]))
    assert sum(p.numel() for p in network.parameters()) == 30


class Unaffine(nn.Module):
    """Norms without parameters, a filter that is a buffer, a group norm with parameters, a lone learned number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.group = nn.GroupNorm(2, 8)
        self.plain = nn.GroupNorm(2, 8, affine=False)
        self.instance = nn.InstanceNorm2d(8, affine=False)
        self.temperature = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("blur", torch.rand(8, 1, 3, 3))

    def forward(self, x):
        x = self.instance(self.plain(self.group(self.conv(x))))
        return torch.conv2d(x, self.blur, groups=8).mean((2, 3)) / self.temperature


@pytest.mark.parametrize("exporter", ["legacy", "default"])
def test_norms_without_parameters_and_buffers_do_not_train(tmp_path, exporter):
    torch.manual_seed(0)
    source = Unaffine()
    network = load(export(source, tmp_path / "net.onnx", exporter, torch.rand(2, 3, 12, 12)))
    found = sum(p.numel() for p in network.parameters())
    wanted = sum(p.numel() for p in source.parameters())
    # The default exporter writes a group norm without parameters with ones and zeros, just as a fresh one. The legacy
    # exporter does not say which tensors are buffers, and a convolution reads this one.
    assert found == wanted + {"default": 16, "legacy": source.blur.numel()}[exporter]


def test_weights_made_of_weights_train(tmp_path):
    b = Builder(["n", 4])
    whole = b.tensor("packed", normal(8, 6))
    parts = b.add("Split", whole, outputs=2, axis=0, num_outputs=2)
    standard = b.add("Div", parts[0], b.add("ReduceMax", b.add("Abs", parts[0]), keepdims=1))
    x = b.add("MatMul", "x", b.add("Add", standard, parts[1]))
    network = load(b.save(tmp_path / "net.onnx", x, ["n", 6]))
    network(torch.rand(3, 4)).square().sum().backward()
    assert [p.numel() for p in network.parameters()] == [48]
    assert bool((next(network.parameters()).grad.abs() > 0).all())


def test_what_is_not_trained_is_said(tmp_path):
    b = Builder(["n", 3, 4, 4])
    x = b.add("Sub", "x", b.tensor("mean", normal(1, 3, 1, 1)))
    x = b.add("GlobalAveragePool", b.add("Conv", x, b.tensor("w", normal(5, 3, 1, 1))))
    path = b.save(tmp_path / "net.onnx", b.add("Flatten", x), ["n", 5])
    assert "not taken for weights, so not trained: mean" in " ".join(load_model(str(path)).notes)


@pytest.mark.parametrize("exporter", ["legacy", "default"])
def test_norms_that_are_written_out_start_at_one_and_zero(tmp_path, exporter):
    torch.manual_seed(1)
    source = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    path = export(source, tmp_path / "net.onnx", exporter, torch.rand(2, 3, 8, 8))
    fresh = initialise(load_model(str(path)), 0).network
    free = [p.detach().reshape(-1) for p in fresh.parameters() if p.numel() == 8 and p.unique().numel() == 1]
    assert sorted(float(p[0]) for p in free) == [0.0, 1.0]


def test_a_number_that_half_precision_cannot_hold_is_named(tmp_path):
    from robustcheck.errors import ModelError

    b = Builder(["n", 4], element_type=onnx.TensorProto.FLOAT16)
    x = b.add("MatMul", "x", b.tensor("w", normal(4, 3).astype(np.float16)))
    network = load(b.save(tmp_path / "net.onnx", x, ["n", 3]))
    for scale, message in ((1e6, "expected numbers that float16 can hold"), (float("nan"), "expected finite numbers")):
        with torch.no_grad():
            next(network.parameters()).fill_(scale)
        with pytest.raises(ModelError, match=message):
            write_onnx(network, tmp_path / "out.onnx")


def test_sparse_weights_become_dense_when_they_train(tmp_path):
    b = Builder(["n", 4])
    path = b.save(tmp_path / "net.onnx", b.add("MatMul", "x", b.tensor("w", normal(4, 3))), ["n", 3])
    model = onnx.load(path)
    dense = numpy_helper.to_array(model.graph.initializer.pop())
    values = numpy_helper.from_array(dense.reshape(-1)[:6].copy(), "w")
    indices = numpy_helper.from_array(np.arange(6), "w_indices")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4, 3]))
    onnx.save(model, path)
    network = load(path)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert write_onnx(network, tmp_path / "out.onnx").difference < 1e-6


def test_weights_that_are_standardised_by_a_batch_norm_train(tmp_path):
    b = Builder(["n", 3, 6, 6])
    weight = b.tensor("w", normal(4, 3, 3, 3))
    flat = b.add("Reshape", weight, b.tensor("flat", np.array([1, 4, 27])))
    axes = b.tensor("axes", np.array([0, 2]))
    mean = b.add("ReduceMean", flat, axes, keepdims=0)
    centred = b.add("Sub", flat, b.add("Reshape", mean, b.tensor("wide", np.array([1, 4, 1]))))
    variance = b.add("ReduceMean", b.add("Mul", centred, centred), axes, keepdims=0)
    one, zero = b.tensor("one", np.ones(4, np.float32)), b.tensor("zero", np.zeros(4, np.float32))
    norm = b.add("BatchNormalization", flat, one, zero, mean, variance)
    x = b.add("Conv", "x", b.add("Reshape", norm, b.tensor("shape", np.array([4, 3, 3, 3]))))
    network = load(b.save(tmp_path / "net.onnx", b.add("Flatten", b.add("GlobalAveragePool", x)), ["n", 4]))
    held = network.stored["w"]
    again = torch.from_numpy(normal(4, 3, 3, 3)).requires_grad_()
    flat = again.reshape(4, -1)
    standard = (flat - flat.mean(1, keepdim=True)) * torch.rsqrt(flat.var(1, correction=0, keepdim=True) + 1e-5)
    x = torch.rand(2, 3, 6, 6)
    network(x).square().sum().backward()
    torch.conv2d(x, standard.reshape(4, 3, 3, 3)).mean((2, 3)).square().sum().backward()
    found = getattr(network.get_submodule(held[0]), held[1]).grad
    torch.testing.assert_close(found, again.grad, atol=1e-5, rtol=1e-4)
