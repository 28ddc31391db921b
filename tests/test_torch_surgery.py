"""Swapping activations, against the same networks written with the other activation, and against the operators run."""

import copy
import pickle
import warnings
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from robustcheck.errors import InvalidValueError, SurgeryError, UnknownNameError
from robustcheck.networks.surgery import Site, current_activation, find_sites, swap_activation
from robustcheck.sensing.random import torch_seed

ACTIVATIONS = {
    "relu",
    "relu6",
    "leaky_relu",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardsigmoid",
    "elu",
    "tanh",
    "sigmoid",
}
MODULES = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Operators(TorchDispatchMode):
    """Counts the operators that really run, whoever calls them."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.overloadpacket.__name__.rstrip("_")] += 1
        return func(*args, **(kwargs or {}))


def operators(network, x):
    with Operators() as counted, torch.no_grad():
        network(x)
    return Counter({name: n for name, n in counted.seen.items() if name in ACTIVATIONS})


def made(build, *args, **kwargs):
    with torch_seed(3):
        return build(*args, **kwargs).eval()


def images(*shape):
    with torch_seed(5):
        return torch.randn(*shape)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def grown(network, x, *, training=False):
    """Output and gradients of all parameters."""
    network = network.train(training)
    network.zero_grad()
    with torch_seed(7):
        out = network(x)
    out.square().sum().backward()
    return out.detach(), [p.grad for p in network.parameters() if p.grad is not None]


class Functional(nn.Module):
    """The classic of tutorials: functional calls, and dropout that obeys the mode."""

    def __init__(self, act=F.relu):
        super().__init__()
        self.act = act
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.fc1, self.fc2 = nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.act(F.max_pool2d(self.conv1(x), 2))
        x = torch.flatten(self.act(self.conv2(x)), 1)
        x = F.dropout(self.act(self.fc1(x)), training=self.training)
        return self.fc2(x)


class Named(nn.Module):
    """Every way to call ReLU as a function."""

    def __init__(self, act=None):
        super().__init__()
        self.act = act
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        act = self.act
        x = act(self.a(x)) if act else F.relu(self.a(x))
        x = act(self.b(x)) if act else torch.relu(self.b(x))
        x = act(self.c(x)) if act else self.c(x).relu()
        x = act(self.a(x)) if act else self.a(x).clamp(min=0)
        x = act(self.b(x)) if act else torch.clamp(self.b(x), 0)
        x = act(self.c(x)) if act else torch.clamp_min(self.c(x), 0)
        x = act(self.a(x)) if act else F.threshold(self.a(x), 0, 0)
        x = act(self.b(x)) if act else F.relu_(self.b(x))
        x = act(self.c(x)) if act else torch.relu_(self.c(x))
        x = act(self.a(x)) if act else self.a(x).relu_()
        x = act(self.b(x)) + act(self.c(x)) if act else F.relu(self.b(x)) + F.relu(self.c(x), inplace=True)
        return self.c(x)


class Overwriting(nn.Module):
    """Relies on in-place calls: a discarded result, and a skip connection that sees the activated tensor."""

    def __init__(self, act=None):
        super().__init__()
        self.act = act
        self.a, self.b, self.c, self.relu = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.a(x)
        if self.act is None:
            F.relu_(x)
        else:
            x = self.act(x)
        x = self.b(x)
        if self.act is None:
            return x + self.c(self.relu(x))
        x = self.act(x)
        return x + self.c(x)


def helper(x, act):
    return act(x) if act else F.relu(x)


class Untraceable(nn.Module):
    """Control flow on values, loops, helpers: torch.fx gives up at each level."""

    def __init__(self, act=None):
        super().__init__()
        self.act = act
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU() if act is None else MODULES["gelu"](), nn.Linear(6, 6))
        self.inner = Branch(act)

    def forward(self, x):
        for layer in self.layers:
            x = helper(layer(x), self.act)
        if x.sum() > -1e9:
            x = self.act(self.block(x)) if self.act else self.block(x).relu()
        return self.inner(x)


class Branch(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        self.act = act
        self.a = nn.Linear(6, 6)

    def forward(self, x):
        if bool((x > 1e9).any()):
            return x
        return self.a(helper(self.a(x), self.act))


class Block(nn.Module):
    def __init__(self, relu):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(6, 6), nn.Linear(6, 6), relu

    def forward(self, x):
        return self.relu(x + self.b(self.relu(self.a(x))))


class SharedByAll(nn.Module):
    """One activation module for all blocks, and for the parent between them."""

    def __init__(self, relu=None, separate=None):
        super().__init__()
        self.relu = relu or nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList(Block(self.relu) for _ in range(2))
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        x = self.relu(self.fc(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.relu(self.fc(x)))


@pytest.mark.parametrize("build", [Functional, Named, Overwriting, Untraceable])
@pytest.mark.parametrize("training", [False, True])
def test_a_swapped_network_equals_the_one_written_with_the_other_activation(build, training):
    x = images(4, 1, 10, 10) if build is Functional else images(4, 6)
    network, reference = made(build), made(build, F.gelu)
    swap = swap_activation(network, "gelu")
    out, gradients = grown(swap.network, x, training=training)
    expected, expected_gradients = grown(reference, x, training=training)
    same(out, expected)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)
    assert not operators(swap.network, x) - operators(reference, x)
    assert {site.kind for site in swap.replaced} == {"relu"}


@pytest.mark.parametrize("build", [Functional, Named, Overwriting, Untraceable, SharedByAll])
def test_the_original_is_untouched_and_copies_work(build):
    x = images(4, 1, 10, 10) if build is Functional else images(4, 6)
    network = made(build)
    before, names = network(x), list(network.state_dict())
    swapped = swap_activation(network, "gelu").network
    same(network(x), before)
    assert "gelu" not in operators(network, x)
    assert list(network.state_dict()) == names == list(swapped.state_dict())
    assert not torch.equal(swapped(x), before)
    for copied in (copy.deepcopy(swapped), pickle.loads(pickle.dumps(swapped))):
        same(copied(x), swapped(x))
        for parameter in copied.parameters():
            parameter.data.zero_()
        assert not torch.equal(copied(x), swapped(x))


@pytest.mark.parametrize("build", [Functional, Named, Overwriting, Untraceable, SharedByAll])
@pytest.mark.parametrize("training", [False, True])
def test_identity_swap_is_bit_equal(build, training):
    x = images(4, 1, 10, 10) if build is Functional else images(4, 6)
    network = made(build)
    swap = swap_activation(network, "relu")
    assert swap.replaced == find_sites(network)
    for a, b in zip(grown(swap.network, x, training=training), grown(network, x, training=training), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_there_and_back_again_is_bit_equal():
    for build in (Functional, Named, Overwriting, Untraceable, SharedByAll):
        x = images(4, 1, 10, 10) if build is Functional else images(4, 6)
        network = made(build)
        away = swap_activation(network, "gelu").network
        assert {site.kind for site in find_sites(away)} == {"gelu"}
        back = swap_activation(away, "relu").network
        same(back(x), network(x))


def test_sites_of_functional_calls():
    network = made(Functional)
    assert find_sites(network) == tuple(Site(path, "relu", "function", 1) for path in ("relu", "relu_1", "relu_2"))
    assert [site.kind for site in find_sites(made(Named))] == ["relu"] * 12
    swapped = swap_activation(network, "silu", where="relu_1").network
    assert [(site.path, site.kind, site.found) for site in find_sites(swapped)] == [
        ("relu", "relu", "function"),
        ("relu_1", "silu", "module"),
        ("relu_2", "relu", "function"),
    ]
    assert operators(swapped, images(2, 1, 10, 10)) == {"relu": 2, "silu": 1}


def test_dropout_and_batch_norm_keep_obeying_the_mode():
    swapped = swap_activation(made(Functional), "gelu").network
    x = images(8, 1, 10, 10)
    swapped.eval()
    same(swapped(x), swapped(x))
    swapped.train()
    assert not torch.equal(swapped(x), swapped(x))


class TwoOnALine(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return F.relu(self.a(x)) - 2 * F.relu(self.b(x))


def test_calls_on_one_line_are_told_apart_even_after_a_partial_swap():
    network, x = made(TwoOnALine), images(4, 6)
    first = swap_activation(network, "gelu", where="relu").network
    same(first(x), F.gelu(network.a(x)) - 2 * F.relu(network.b(x)))
    both = swap_activation(first, "silu", where="relu_1").network
    same(both(x), F.gelu(network.a(x)) - 2 * F.silu(network.b(x)))


def test_a_learned_activation_gets_an_instance_a_call():
    network, x = made(SharedByAll), images(5, 6)
    assert find_sites(network) == (Site("relu", "relu", "module", 6),)
    swapped = swap_activation(network, "prelu").network
    slopes = [name for name, _ in swapped.named_parameters() if "relu" in name]
    assert slopes == [f"relu.{i}.weight" for i in range(6)]
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    state = swapped.state_dict()
    assert [name for name in state if name.startswith("relu.")] == slopes
    # Called: in the parent, twice in each block, in the parent again.
    for name, value in zip(["relu.0", "relu.2", "relu.3", "relu.4", "relu.5", "relu.1"], values, strict=True):
        swapped.get_submodule(name).weight.data.fill_(value)
    fc, (one, two) = network.fc, network.blocks

    def act(x, slope):
        return F.leaky_relu(x, slope)

    y = act(fc(x), 0.1)
    y = act(y + one.b(act(one.a(y), 0.2)), 0.3)
    y = act(y + two.b(act(two.a(y), 0.4)), 0.5)
    expected = fc(act(fc(y), 0.6))
    torch.testing.assert_close(swapped(x), expected)
    torch.testing.assert_close(swapped(x), expected)  # the count starts anew in every pass
    _, gradients = grown(swapped, x)
    assert all(bool(g.abs().sum() > 0) for g in gradients)
    same(copy.deepcopy(swapped)(x), swapped(x))


def test_a_learned_activation_at_functional_calls_and_in_a_trained_network_learns():
    network = swap_activation(made(Functional), "aptx_learned").network
    learned = {name for name, _ in network.named_parameters()} - {name for name, _ in Functional().named_parameters()}
    assert learned == {f"relu{i}.{p}" for i in ("", "_1", "_2") for p in ("alpha", "beta", "gamma")}
    _, gradients = grown(network, images(4, 1, 10, 10))
    assert len(gradients) == 8 + 9
    trained = copy.deepcopy(network)
    for parameter in trained.parameters():
        parameter.data += 0.1
    kept = swap_activation(trained, "aptx_learned").network
    same(kept(images(2, 1, 10, 10)), trained(images(2, 1, 10, 10)))


def test_one_module_in_several_places_stays_one_when_nothing_is_learned():
    swapped = swap_activation(made(SharedByAll), "gelu").network
    assert len([m for m in swapped.modules() if isinstance(m, nn.GELU)]) == 1
    assert swapped.blocks[1].relu is swapped.relu


def test_a_sequence_that_calls_one_learned_module_twice():
    relu = nn.ReLU()
    network = made(lambda: nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2)))
    swapped = swap_activation(network, "prelu").network
    instances = [m for m in swapped.modules() if isinstance(m, nn.PReLU)]
    assert len(instances) == 2
    instances[0].weight.data.fill_(0.9)
    x = images(3, 4)
    a, b, c = network[0], network[2], network[4]
    torch.testing.assert_close(swapped(x), c(F.leaky_relu(b(F.leaky_relu(a(x), 0.9)), 0.25)))


class Gates(nn.Module):
    """Sigmoids and tanhs that are no activation functions, and one each that is."""

    def __init__(self):
        super().__init__()
        self.conv, self.squeeze = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.hard, self.fc, self.lstm = nn.Hardsigmoid(), nn.Linear(4, 6), nn.LSTM(4, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.hidden, self.out = nn.Tanh(), nn.Linear(3, 3)

    def forward(self, x):
        x = x * self.gate(x)
        x = self.conv(x) * self.hard(self.squeeze(x.mean((2, 3), keepdim=True))).expand_as(x)
        x = torch.tanh(self.conv(x)) * torch.sigmoid(self.squeeze(x))
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x)[0]
        x = torch.softmax(x, -1) @ x.transpose(1, 2) @ x
        x = self.lstm(x)[0].mean(1)
        a, b = self.fc(x).chunk(2, dim=-1)
        x = F.glu(torch.cat([a * b.sigmoid(), b], -1), -1)
        x = torch.sigmoid(self.out(self.hidden(self.out(x))))
        return torch.sigmoid(self.out(x)).softmax(-1)


def test_gates_outputs_and_recurrent_layers_are_no_sites():
    assert find_sites(made(Gates)) == (Site("hidden", "tanh", "module", 1), Site("sigmoid", "sigmoid", "function", 1))
    with pytest.raises(SurgeryError, match=r"of kind 'relu', got none; the network has hidden \(tanh\), sigmoid"):
        swap_activation(made(Gates), "gelu", only="relu")


class WrittenOut(nn.Module):
    """Activations as products: SiLU, quick GELU, Mish, Hardswish."""

    def __init__(self, acts=None):
        super().__init__()
        self.acts, self.fc, self.sigmoid = acts, nn.Linear(6, 6), nn.Sigmoid()

    def forward(self, x):
        if self.acts:
            for act in self.acts:
                x = self.fc(act(x))
            return x
        x = self.fc(x * torch.sigmoid(x))
        x = self.fc(self.sigmoid(x) * x)
        x = self.fc(x * torch.sigmoid(1.702 * x))
        x = self.fc(x * torch.tanh(F.softplus(x)))
        x = self.fc(x * (F.relu6(x + 3) / 6))
        return self.fc(x.mul(x.sigmoid()))


def test_activations_written_as_products_are_found_and_swapped_as_a_whole():
    network, x = made(WrittenOut), images(4, 6)
    kinds = [site.kind for site in find_sites(network)]
    assert kinds == ["silu", "silu", "gelu_sigmoid", "mish", "hardswish", "silu"]
    same(swap_activation(network, "relu").network(x), made(WrittenOut, [F.relu] * 6)(x))
    one = swap_activation(network, "relu", only="mish").network
    acts = [F.silu, F.silu, lambda x: x * torch.sigmoid(1.702 * x), F.relu, F.hardswish, F.silu]
    torch.testing.assert_close(one(x), made(WrittenOut, acts)(x))


@pytest.mark.parametrize("activation", ["relu", "gelu", nn.GELU(), nn.LeakyReLU()])
def test_transformer_layers_cannot_bypass_the_new_activation(activation):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
    network = made(lambda: nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten()))
    sites = find_sites(network)
    assert [site.path for site in sites] == ["0.layers.0.activation", "0.layers.1.activation"]
    swapped, x = swap_activation(network, "silu").network, images(3, 5, 8)
    with torch.no_grad():
        assert operators(swapped, x) == {"silu": 2}
        reference = made(lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=F.silu, batch_first=True))
        twice = nn.Sequential(nn.TransformerEncoder(reference, 2, enable_nested_tensor=False), nn.Flatten()).eval()
        twice.load_state_dict(network.state_dict())
        torch.testing.assert_close(swapped(x), twice(x))
    same(swap_activation(network, sites[0].kind).network(x), network(x))


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.LeakyReLU(0.2), "leaky_relu(slope=0.2)"),
        (nn.PReLU(3), "prelu"),
        (nn.ELU(0.5), "elu(alpha=0.5)"),
        (nn.SELU(), "selu"),
        (nn.CELU(), "celu"),
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.SiLU(), "silu"),
        (nn.Mish(), "mish"),
        (nn.Hardswish(), "hardswish"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.Hardtanh(0, 6), "relu6"),
        (nn.Hardsigmoid(), "hardsigmoid"),
        (nn.Softplus(), "softplus"),
        (nn.Softplus(2), "softplus(beta=2)"),
        (nn.Softsign(), "softsign"),
        (nn.Tanh(), "tanh"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.RReLU(), "rrelu"),
    ],
)
def test_each_kind_of_module_is_found_and_kept_when_it_is_what_is_asked_for(module, kind):
    network = made(lambda: nn.Sequential(nn.Linear(3, 3), module, nn.Linear(3, 3)))
    assert find_sites(network) == (Site("1", kind, "module", 1),)
    wanted = "gelu" if kind != "gelu" else "mish"
    swapped = swap_activation(network, wanted).network
    assert find_sites(swapped) == (Site("1", wanted, "module", 1),)
    x = images(4, 3)
    act = F.gelu if wanted == "gelu" else F.mish
    same(swapped(x), network[2](act(network[0](x))))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: F.leaky_relu(x, 0.2), "leaky_relu(slope=0.2)"),
        (lambda x: F.elu(x, alpha=0.5), "elu(alpha=0.5)"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
        (F.silu, "silu"),
        (F.mish, "mish"),
        (F.hardswish, "hardswish"),
        (F.selu, "selu"),
        (torch.tanh, "tanh"),
        (lambda x: x.sigmoid(), "sigmoid"),
        (lambda x: x.clamp(0, 6), "relu6"),
        (F.softplus, "softplus"),
        (F.hardtanh, "hardtanh"),
    ],
)
def test_each_kind_of_function_is_found(function, kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.b(function(self.a(x)))

    network, x = made(Net), images(4, 3)
    (site,) = find_sites(network)
    assert (site.kind, site.found) == (kind, "function")
    same(swap_activation(network, "relu").network(x), network.b(F.relu(network.a(x))))


def test_a_clamp_that_is_no_relu_is_left_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            return self.a(F.relu(self.a(x.clamp(0, 1)))).clamp(min=-5).clamp(max=0)

    assert [site.kind for site in find_sites(made(Net))] == ["relu"]


@pytest.mark.parametrize(
    "spec", ["aptx", "swish", "polynorm", "pau", "interpolate(relu,gelu,i=0.5)", "leaky_relu(0.3)"]
)
def test_modules_of_the_catalogue_are_recognised_again(spec):
    network = made(lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)))
    swap = swap_activation(network, spec)
    assert [site.kind for site in find_sites(swap.network)] == [swap.activation]
    same(swap_activation(swap.network, spec).network(images(2, 3)), swap.network(images(2, 3)))


REAL = {
    "resnet18": ({"relu": 9}, {"relu": 17}, 33),
    "mobilenet_v3_small": ({"relu": 14, "hardswish": 19}, {"relu": 14, "hardswish": 19, "hardsigmoid": 9}, 33),
    "squeezenet1_1": ({"relu": 26}, {"relu": 26}, 33),
    "efficientnet_b0": ({"silu": 49}, {"silu": 65 - 16, "sigmoid": 16}, 33),
    "densenet121": ({"relu": 121}, {"relu": 121}, 33),
}


@pytest.mark.parametrize("name", REAL)
def test_real_networks_keep_their_gates_and_lose_their_old_activation(name):
    sites, before, size = REAL[name]
    with torch_seed(1):
        network = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    x = images(2, 3, size, size)
    assert Counter(site.kind for site in find_sites(network)) == sites
    assert operators(network, x) == before
    swap = swap_activation(network, "gelu")
    gates = {kind: n for kind, n in before.items() if kind not in sites}
    calls = sum(site.calls for site in swap.replaced)
    assert operators(swap.network, x) == {"gelu": calls, **gates}
    assert calls == sum(before.values()) - sum(gates.values())
    with torch.no_grad():
        assert not torch.equal(swap.network(x), network(x))
        for kind in sites:
            same(swap_activation(network, kind, only=kind).network(x), network(x))
    assert list(swap.network.state_dict()) == list(network.state_dict())


def test_a_rerouted_network_can_be_exported():
    swapped, x = swap_activation(made(Functional), "gelu").network, images(4, 1, 10, 10)
    program = torch.export.export(swapped, (x,))
    called = Counter(node.target.__name__ for node in program.graph.nodes if node.op == "call_function")
    assert (called["gelu.default"], called["relu.default"]) == (3, 0)
    same(program.module()(x), swapped(x))


class Conditional(nn.Module):
    """Has a branch for training only, and a part whose input the untraceable parent reads again."""

    def __init__(self, act=None):
        super().__init__()
        self.act, self.a, self.b = act, nn.Linear(6, 6), nn.Linear(6, 6)
        self.part = nn.Sequential(nn.ReLU(inplace=True) if act is None else nn.GELU(), nn.Linear(6, 6))

    def forward(self, x):
        if x.isnan().any():
            return x
        x = self.a(x)
        if self.act is None:
            y = self.part(x)
        else:
            x = self.act(x)
            y = self.part[1](x)
        x = x + y
        if self.training:
            x = self.act(self.b(x)) if self.act else F.relu(self.b(x))
        return self.b(x)


class TrainingOnly(nn.Module):
    def __init__(self, act=F.relu):
        super().__init__()
        self.act, self.a, self.b, self.c = act, nn.Linear(6, 6), nn.Linear(6, 6), nn.ELU()

    def forward(self, x):
        x = self.a(x)
        if self.training:
            return self.b(self.act(x))
        return self.b(self.act(self.a(x)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("build", [Conditional, TrainingOnly])
def test_both_modes_are_swapped(build, training):
    network, x = made(build), images(4, 6)
    swapped = swap_activation(network, "gelu").network
    out, gradients = grown(swapped, x, training=training)
    expected, wanted = grown(made(build, F.gelu), x, training=training)
    same(out, expected)
    assert len(gradients) == len(wanted)
    for a, b in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_bounded_bias_is_no_site():
    # Swin V2 passes 16·sigmoid(bias) to its attention function.
    with torch_seed(1):
        network = torchvision.models.SwinTransformer(
            [2, 2], 8, [2], [1], [4, 4], num_classes=3, block=torchvision.models.swin_transformer.SwinTransformerBlockV2
        ).eval()
    x = images(1, 3, 16, 16)
    assert operators(network, x) == {"relu": 2, "sigmoid": 2, "gelu": 2}
    swapped = swap_activation(network, "silu").network
    assert operators(swapped, x) == {"silu": 4, "sigmoid": 2}


def test_a_vision_transformer():
    with torch_seed(1):
        network = torchvision.models.VisionTransformer(8, 4, 2, 2, 16, 32, num_classes=5).eval()
    x = images(2, 3, 8, 8)
    assert [(site.kind, site.calls) for site in find_sites(network)] == [("gelu", 1)] * 2
    swapped = swap_activation(network, "relu").network
    nn.init.normal_(network.heads.head.weight), swapped.load_state_dict(network.state_dict())
    assert operators(swapped, x) == {"relu": 2}
    assert not torch.equal(swapped(x), network(x))


def test_only_and_where():
    network = made(
        lambda: nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2), nn.Linear(2, 2), nn.LeakyReLU(), nn.GELU())
    )
    paths = {"leaky_relu": ["1", "3"], "leaky_relu(0.2)": ["1"], "leaky_relu(slope=0.01)": ["3"], "GELU": ["4"]}
    for only, wanted in paths.items():
        assert [site.path for site in swap_activation(network, "relu", only=only).replaced] == wanted
    assert [site.path for site in swap_activation(network, "relu", where="[34]").replaced] == ["3", "4"]
    with pytest.raises(SurgeryError, match=r"at 'features.*', got none; the network has 1 \(leaky_relu"):
        swap_activation(network, "relu", where="features.*")


def test_current_activation_is_the_one_called_most():
    assert current_activation(find_sites(made(SharedByAll))) == "relu"
    assert current_activation(find_sites(nn.Sequential(nn.Linear(2, 2)))) is None
    assert current_activation(find_sites(nn.Sequential(nn.Linear(2, 2), nn.ELU(), nn.Linear(2, 2), nn.ReLU()))) == "elu"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_new_modules_have_the_network_s_dtype_and_mode(dtype):
    network = made(lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))).to(dtype).train()
    swapped = swap_activation(network, "pau").network
    assert {p.dtype for p in swapped.parameters()} == {dtype}
    assert swapped[1].training
    assert swapped(images(2, 3).to(dtype)).dtype == dtype


def test_training_moves_the_swapped_network_and_not_the_original():
    network = made(Functional)
    swapped = swap_activation(network, "swish").network
    optimiser = torch.optim.SGD(swapped.parameters(), 0.1)
    before, beta = network.fc1.weight.clone(), swapped.relu.beta.item()
    grown(swapped, images(4, 1, 10, 10), training=True)
    optimiser.step()
    same(network.fc1.weight, before)
    assert not torch.equal(swapped.fc1.weight, before)
    assert swapped.relu.beta.item() != beta


def test_the_network_keeps_its_global_random_state():
    state = torch.get_rng_state()
    swap_activation(made(Untraceable), "prelu")
    assert torch.equal(torch.get_rng_state(), state)


class Hidden(nn.Module):
    """Calls ReLU by a name that neither a trace nor the source shows."""

    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(3, 3), nn.ELU()

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.a(getattr(F, "re" + "lu")(self.act(self.a(x))))


def test_a_call_that_no_analysis_can_see_is_an_error_and_not_silence():
    swapped = swap_activation(made(Hidden), "gelu").network
    with pytest.raises(SurgeryError, match=r"test_torch_surgery.py, line \d+: expected only .* got a call of relu"):
        swapped(images(2, 3))


class ModuleAndCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(6, 6), nn.ELU()

    def forward(self, x):
        return self.a(F.relu(self.a(self.act(self.a(x)))))


def test_a_network_whose_train_returns_nothing_is_swapped():
    class Network(TwoOnALine):
        def train(self, mode=True):
            super().train(mode)

    network, x = Network(), images(4, 6)
    same(swap_activation(network, "gelu").network(x), F.gelu(network.a(x)) - 2 * F.gelu(network.b(x)))


def test_a_forward_called_by_name_counts_once():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

        def forward(self, x):
            return self.part.forward(x)

    assert find_sites(made(Network)) == (Site("part.1", "relu", "module", 1),)
    learned = swap_activation(made(Network), "prelu").network
    assert [name for name, _ in learned.named_parameters() if "part.1" in name] == ["part.1.weight"]


def test_a_squashed_table_of_parameters_is_no_site():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.table = nn.Linear(6, 6), nn.Sequential(nn.Linear(2, 6), nn.Tanh())
            self.register_buffer("places", torch.rand(6, 2))

        def forward(self, x):
            return self.a(torch.tanh(self.a(x)) + self.table(self.places))

    assert [(site.path, site.kind) for site in find_sites(made(Network))] == [("tanh", "tanh")]


def test_a_graph_of_fx_swaps_its_modules_and_refuses_what_its_copies_would_lose():
    graph, x = torch.fx.symbolic_trace(made(ModuleAndCall)), images(3, 6)
    swapped = swap_activation(graph, "gelu", only="elu").network
    same(copy.deepcopy(swapped)(x), swapped(x))
    with pytest.raises(SurgeryError, match=r"torch\.fx graph: .*load the network that it was traced from"):
        swap_activation(graph, "gelu")


def test_gated_activations_are_refused_with_a_reason():
    with pytest.raises(SurgeryError, match=r"expected a gated feed-forward block, got plain activations at 1 \(relu\)"):
        swap_activation(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "geglu")


def test_bad_requests():
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(UnknownNameError, match="did you mean 'gelu'"):
        swap_activation(plain, "gleu")
    with pytest.raises(InvalidValueError):
        swap_activation(plain, "leaky_relu(x)")
    with pytest.raises(SurgeryError, match="expected at least one activation function in the network, got none"):
        swap_activation(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "relu")
    with pytest.raises(SurgeryError, match="layers with activations between"):
        swap_activation(nn.ReLU(), "gelu")
    holding = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    holding.cache = holding(torch.ones(1, 2))
    with pytest.raises(SurgeryError, match="can be copied"):
        swap_activation(holding, "gelu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is giving TorchScript up
        scripted = torch.jit.script(plain)
    with pytest.raises(SurgeryError, match=r"TorchScript.*package.module:factory"):
        find_sites(scripted)
