"""Gated feed-forward blocks: their inner activation is found and swapped, be they code, timm's or the catalogue's."""

import copy
import pickle

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx_builder import Builder
from torch import nn

from robustcheck.activations.catalogue import activation
from robustcheck.activations.gated import INNER, Gated
from robustcheck.errors import InvalidValueError, SurgeryError
from robustcheck.networks.onnx.module import OnnxNetwork
from robustcheck.networks.onnx.reading import read_onnx
from robustcheck.networks.onnx.writing import write_onnx
from robustcheck.networks.surgery import Site, find_sites, swap_activation
from robustcheck.sensing.random import torch_seed


def images(*shape):
    with torch_seed(5):
        return torch.randn(*shape)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


class Block(nn.Module):
    """act(a)·b in each of the ways it is written."""

    def __init__(self, act=F.relu, order=0):
        super().__init__()
        self.act, self.order = act, order
        with torch_seed(1):
            self.up, self.down = nn.Linear(4, 12), nn.Linear(6, 4)

    def forward(self, x):
        a, b = self.up(x).chunk(2, dim=-1)
        x = self.act(a) * b if self.order == 0 else b * self.act(a) if self.order == 1 else b.mul(self.act(a))
        return self.down(x)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("act", "kind"), [(F.relu, "relu"), (F.gelu, "gelu"), (F.silu, "silu")])
def test_blocks_written_out(act, kind, order):
    network, x = Block(act, order), images(3, 4)
    assert find_sites(network) == (Site(kind, kind, "function", 1),)
    same(swap_activation(network, "mish").network(x), Block(F.mish, order)(x))
    same(swap_activation(network, kind).network(x), network(x))


def test_the_gate_of_a_glu_is_no_site():
    with pytest.raises(SurgeryError, match="got none"):
        swap_activation(Block(torch.sigmoid), "gelu")


def test_timm_s_gated_blocks():
    layers = pytest.importorskip("timm.layers")
    x = images(2, 5, 8)
    for build in (layers.GluMlp, layers.SwiGLU):
        with torch_seed(2):
            network = build(8, 12, act_layer=nn.GELU) if build is layers.GluMlp else build(8, 12)
            reference = copy.deepcopy(network)
        reference.act = nn.Mish()
        assert [site.path for site in find_sites(network)] == ["act"]
        same(swap_activation(network, "mish").network(x), reference(x))


def gated(spec):
    with torch_seed(1):
        return nn.Sequential(nn.Linear(4, 12), activation(spec).module(), nn.Linear(6, 4)).eval()


@pytest.mark.parametrize(("spec", "inner"), INNER.items())
def test_gated_modules_show_their_inner_activation(spec, inner):
    network, x = gated(spec), images(3, 4)
    assert find_sites(network) == (Site("1.inner", inner, "module", 1),)
    same(swap_activation(network, inner).network(x), network(x))
    same(swap_activation(network, spec).network(x), network(x))
    for other, act in (("reglu", F.relu), ("geglu", F.gelu), ("swiglu", F.silu)):
        swap = swap_activation(network, INNER[other])
        same(swap.network(x), gated(other)(x))
        # Where all sites are gated, the name of the gated whole means the same.
        by_name = swap_activation(network, other)
        assert by_name.activation == swap.activation == INNER[other]
        same(by_name.network(x), swap.network(x))
        a, b = network[0](x).chunk(2, dim=-1)
        same(swap.network(x), network[2](act(a) * b))


INTERPOLATED = {
    "interpolate(reglu, geglu, i=0.25)": lambda a: 0.75 * F.relu(a) + 0.25 * F.gelu(a),
    "interpolate(reglu, geglu, i=0.5, s=2)": lambda a: 0.5 * F.relu(a) + 0.25 * F.gelu(2 * a),
    "interpolate(reglu, swiglu, i=0.4, alpha=0.1)": lambda a: 0.6 * F.leaky_relu(a, 0.1) + 0.4 * F.silu(a),
}


@pytest.mark.parametrize(("spec", "act"), INTERPOLATED.items())
def test_an_interpolation_goes_inside_a_gated_block(spec, act):
    network, x = gated("reglu"), images(3, 4)
    swap = swap_activation(network, spec)
    assert swap.activation == activation(spec).inner.spec
    assert find_sites(swap.network) == (Site("1.inner", swap.activation, "module", 1),)
    a, b = network[0](x).chunk(2, dim=-1)
    torch.testing.assert_close(swap.network(x), network[2](act(a) * b))
    for again in (gated(spec), swap_activation(network, swap.activation).network, copy.deepcopy(swap.network)):
        same(again(x), swap.network(x))
    back = swap_activation(swap.network, "reglu").network
    same(back(x), network(x))
    with pytest.raises(SurgeryError, match=r"relu \(relu\); it halves .*the inner one, interpolate\(relu, "):
        swap_activation(Block(), spec)


def gated_file(path):
    """The network `gated("reglu")` as nodes."""
    network, file = gated("reglu"), Builder(["n", 4], opset=18)
    with torch.no_grad():
        weights = [(file.tensor(f"w{k}", network[k].weight.T.numpy()), network[k].bias.numpy()) for k in (0, 2)]
    up = file.add("Add", file.add("MatMul", "x", weights[0][0]), file.tensor("b0", weights[0][1]))
    a, b = file.add("Split", up, outputs=2, axis=1, num_outputs=2)
    product = file.add("Mul", file.add("Relu", a), b)
    down = file.add("Add", file.add("MatMul", product, weights[1][0]), file.tensor("b2", weights[1][1]))
    return file.save(path, down, ["n", 4])


def test_interpolations_go_inside_a_gated_block_of_an_onnx_file(tmp_path):
    network, x = OnnxNetwork(read_onnx(gated_file(tmp_path / "net.onnx"))).eval(), images(3, 4)
    assert [site.kind for site in find_sites(network)] == ["relu"]
    for spec in INTERPOLATED:
        inner, expected = activation(spec).inner.spec, swap_activation(gated("reglu"), spec).network(x)
        with pytest.raises(SurgeryError) as caught:
            swap_activation(network, spec)
        assert str(caught.value).endswith(f"for a gated block that is written out the inner one, {inner}")
        swapped = swap_activation(network, inner).network
        torch.testing.assert_close(swapped(x), expected)
        write_onnx(swapped, tmp_path / "out.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
        torch.testing.assert_close(torch.tensor(session.run(None, {"x": x.numpy()})[0]), expected)
        assert "Relu" not in [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]


def test_any_activation_fits_inside_and_learns():
    network = swap_activation(gated("reglu"), "prelu").network
    assert [name for name, _ in network.named_parameters() if "inner" in name] == ["1.inner.weight"]
    network(images(3, 4)).sum().backward()
    assert network[1].inner.weight.grad.abs() > 0
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        same(again(images(3, 4)), network(images(3, 4)))
    back = swap_activation(network, "reglu").network
    same(back(images(3, 4)), gated("reglu")(images(3, 4)))


def test_a_gated_name_is_refused_where_a_site_is_plain():
    mixed = nn.Sequential(*gated("reglu"), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(SurgeryError, match=r"got plain activations at 3 \(relu\).*the inner one, silu"):
        swap_activation(mixed, "swiglu")
    swapped = swap_activation(mixed, "swiglu", where="1.*")
    assert [site.path for site in swapped.replaced] == ["1.inner"]
    with pytest.raises(SurgeryError, match=r"relu \(relu\).*the inner one, gelu"):
        swap_activation(Block(), "geglu")
    assert {site.kind for site in swap_activation(mixed, "gelu").replaced} == {"relu"}


def test_an_odd_width_is_an_error():
    with pytest.raises(InvalidValueError, match=r"gated activation, last axis.*even width, got 3"):
        Gated(nn.ReLU())(images(2, 3))
