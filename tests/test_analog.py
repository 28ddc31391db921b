"""Placement `network` against a layer written by hand from the facts, forward and backward."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustcheck.errors import InvalidValueError, PlacementError
from robustcheck.sensing.analog import NoisyNetwork, uncovered_layers
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.converter import Converter
from robustcheck.sensing.deviates import deviates
from robustcheck.sensing.error_probability import noise_sigma
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.random import random_words, stream_key, torch_seed
from robustcheck.sensing.sensor import sensor

STEPS, EP, SEED, DRAW = 7, 0.5, 5, 3
IDS = torch.tensor([4, 9, 2**33])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.GELU()
        self.head = nn.Linear(3 * 16, 4)

    def forward(self, x):
        return self.head(self.act(self.norm(self.conv(x))).flatten(1))


def make(seed=0):
    with torch_seed(seed):
        return Net(), torch.rand(3, 1, 4, 4)


def normalise(x):
    return (x - 0.3) / 0.4


def channel(**settings):
    return Channel(sensor("adc-3bit", placement="network", **settings), OperatingPoint("ep", EP), SEED, "train")


class StraightThrough(torch.autograd.Function):
    """`value` forward; `mask · gradient` backward to x."""

    @staticmethod
    def forward(ctx, x, value, mask):
        ctx.save_for_backward(mask)
        return value

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


def noise(site, port, x, *, shared):
    key = stream_key(SEED, "train", site, port)
    ids = torch.zeros(1, dtype=torch.int64) if shared else IDS
    sigma = noise_sigma(EP, STEPS)
    return (deviates(random_words(key, ids, DRAW, x.numel() // len(ids))) * sigma).reshape(x.shape)


def reduce(x):
    return torch.sign(x) * torch.ceil((x * STEPS).abs() - 0.5) / STEPS


def doa(x, site, port, scale=1.0):
    value = x.detach() / scale
    out = (reduce(value.clamp(-1, 1)) + noise(site, port, x, shared=False)) * scale
    return StraightThrough.apply(x, out, (value.abs() <= 1).float())


def aod(x, site, port, scale=1.0):
    noisy = x.detach() / scale + noise(site, port, x, shared=False)
    return StraightThrough.apply(x, reduce(noisy.clamp(-1, 1)) * scale, (noisy.abs() <= 1).float())


def weight(w, site, port, scale=1.0):
    out = (reduce((w.detach() / scale).clamp(-1, 1)) + noise(site, port, w, shared=True)) * scale
    return StraightThrough.apply(w, out, torch.ones_like(w))


def by_hand(net, images, scales, aod=aod):
    def at(site, port):
        return scales.get(f"{site}:{port}", 1.0)

    def parameters(layer, site):
        return [weight(getattr(layer, p), site, p, at(site, p)) for p in ("weight", "bias")]

    x = normalise(doa(images, "input", "doa"))
    x = F.conv2d(x, *parameters(net.conv, "conv"), padding=1)
    x = net.act(net.norm(aod(x, "conv", "output", at("conv", "output")))).flatten(1)
    x = F.linear(doa(x, "head", "input", at("head", "input")), *parameters(net.head, "head"))
    return aod(x, "head", "output", at("head", "output"))


def nothing(x, *_):
    return x


@pytest.mark.parametrize("form", ["aod", "doa"])
@pytest.mark.parametrize("ranges", ["unit", "calibrated"])
def test_forward_and_gradients_agree_with_a_layer_by_hand(ranges, form):
    net, images = make()
    with torch.no_grad():
        net.head.weight *= 12  # some weights lie beyond the range: their gradient passes all the same
    twin = copy.deepcopy(net)
    noisy = NoisyNetwork(net, normalise, "network")
    scales = noisy.calibrate([images]) if ranges == "calibrated" else {}
    if ranges == "unit":
        assert noisy.calibrate([]) == {}
    noisy.train()
    twin.train()
    ours = noisy(images, IDS, DRAW, channel(range=ranges, form=form), scales)
    theirs = by_hand(twin, images, scales, aod if form == "aod" else nothing)
    assert net.head.weight.abs().max() > 1
    assert torch.allclose(ours, theirs, atol=1e-4)
    target = torch.linspace(-1, 1, ours.numel()).reshape(ours.shape)
    (ours * target).sum().backward()
    (theirs * target).sum().backward()
    for (name, mine), (_, other) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        assert mine.grad is not None, name
        assert torch.allclose(mine.grad, other.grad, atol=1e-4), name
    assert all(torch.allclose(a, b) for a, b in zip(net.buffers(), twin.buffers(), strict=True))


def test_without_an_aod_each_site_is_noised_by_its_doa_and_weights_alone():
    with torch_seed(3):
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.GELU(), nn.Linear(9, 4))
    with torch.no_grad():
        net[3].weight *= 12
    noisy, (_, images) = NoisyNetwork(net, normalise, "network"), make()
    at = channel(range="unit", form="doa")
    clean = noisy(images, IDS, DRAW, None)
    assert clean.abs().max() > 1
    found = {}
    for site in noisy.sites:
        with noisy.noise_only(site):
            found[site] = noisy(images, IDS, DRAW, at)
    image = doa(images, "input", "doa")
    inside = net[2](F.linear(normalise(images).flatten(1), *(weight(p, "1", n) for n, p in net[1].named_parameters())))
    last = F.linear(
        doa(net[2](net[1](normalise(images).flatten(1))), "3", "input"),
        *(weight(p, "3", n) for n, p in net[3].named_parameters()),
    )
    assert torch.allclose(found["image"], net(normalise(image)), atol=1e-5)
    assert torch.allclose(found["1"], net[3](inside), atol=1e-5)
    assert torch.allclose(found["3"], last, atol=1e-5)
    assert last.abs().max() > 1  # no clamp
    assert set(noisy.calibrate([images])) >= {"1:input", "1:weight", "1:bias", "3:input", "3:weight", "3:bias"}


def test_calibrated_ranges_are_percentiles_of_the_clean_network():
    net, images = make()
    noisy = NoisyNetwork(net, normalise, "network")
    scales = noisy.calibrate([images[:2], images[2:]])
    net.eval()
    out = net.conv(normalise(images))
    assert scales["conv:output"] == pytest.approx(max(out[:2].abs().max().item(), out[2:].abs().max().item()), rel=0.05)
    assert scales["head:weight"] == net.head.weight.abs().max().item()
    assert set(scales) == {f"{s}:{p}" for s in ("conv", "head") for p in ("input", "output", "weight", "bias")}


def test_the_given_network_is_not_changed_but_shares_its_weights():
    net, images = make()
    names = [name for name, _ in net.named_modules()]
    noisy = NoisyNetwork(net, normalise, "network")
    assert [name for name, _ in net.named_modules()] == names
    assert {id(p) for p in noisy.parameters()} == {id(p) for p in net.parameters()}
    net.eval()
    noisy.eval()
    assert torch.equal(noisy(images, IDS, 0, None), net(normalise(images)))


def test_a_bias_of_zero_takes_the_range_of_its_weight():
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.bias)
    scales = NoisyNetwork(layer, lambda x: x, "network").calibrate([torch.rand(8, 4)])
    assert scales["network:bias"] == scales["network:weight"] == layer.weight.abs().max().item()


def test_all_layers_that_read_the_image_take_it_as_it_is():
    class TwoStems(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            for layer in (self.one, self.two):
                nn.init.eye_(layer.weight)

        def forward(self, x):
            return torch.stack([self.one(x.view(-1, 6)), self.two(x)], 1)

    noisy = NoisyNetwork(TwoStems(), lambda x: (x - 0.5) / 0.25, "network")
    image = torch.full((3, 6), 0.9)
    quiet = Channel(sensor("adc-16bit", placement="network", range="unit"), None)
    # Standardised 0.9 is 1.6: a second DOA would cut it to 1 before the layer; the AOD cuts both alike after it.
    seen = []
    for layer in (noisy.network.one, noisy.network.two):
        layer.layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].max().item()))
    noisy(image, IDS, 0, quiet)
    assert seen == pytest.approx([1.6, 1.6], abs=1e-3)


def test_a_weight_that_is_read_outside_its_layer_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return F.linear(self.layer(x), self.layer.weight)

    noisy = NoisyNetwork(Tied(), lambda x: x, "network")
    with pytest.raises(PlacementError, match=r"reads layer\.weight outside"):
        noisy(torch.rand(3, 4), IDS, 0, channel(range="unit"))


def test_rows_that_belong_to_no_sample_are_refused():
    noisy = NoisyNetwork(nn.Linear(4, 2), lambda x: x, "network")
    with pytest.raises(InvalidValueError, match="a multiple of the 3 samples"):
        noisy(torch.rand(4, 4), IDS, 0, channel(range="unit"))


def nodes_of(out):
    nodes, seen = [out.grad_fn], {}
    while nodes:
        node = nodes.pop()
        if node is not None and id(node) not in seen:
            seen[id(node)] = node
            nodes += [following for following, _ in node.next_functions]
    return [type(node).__name__ for node in seen.values()]


def test_weights_and_linear_layers_are_one_node_of_the_graph_each():
    net, images = make()
    out = NoisyNetwork(net, normalise, "network")(images, IDS, DRAW, channel(range="unit"))
    names = nodes_of(out)
    # The convolution: its weights and its AOD; the image is not followed. The linear layer: all in one.
    assert [names.count(name) for name in ("_UnchangedBackward", "_StraightThroughBackward", "_LinearBackward")] == [
        1,
        1,
        1,
    ]
    assert not any("Addmm" in name for name in names)


def deep():
    with torch_seed(1):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.GELU(), nn.Linear(9, 7, bias=False), nn.Linear(7, 4))


@pytest.mark.parametrize("frozen", [(), ("1.weight",), ("3.weight", "4.bias"), ("1.weight", "1.bias", "3.weight")])
def test_a_fused_linear_layer_equals_torchs_own_to_the_bit(frozen):
    images, found = make()[1], []
    for fused in (True, False):
        net = deep()
        for name, value in net.named_parameters():
            value.requires_grad_(name not in frozen)
        noisy = NoisyNetwork(net, normalise, "network")
        if not fused:
            for module in noisy.network.modules():
                if isinstance(module, nn.Linear):
                    module.register_forward_hook(lambda *_: None)
        out = noisy(images, IDS, DRAW, channel(range="unit"))
        assert ("_LinearBackward" in nodes_of(out)) == fused
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in net.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4)])
def test_a_fused_layer_takes_matrices_only(shape):
    noisy = NoisyNetwork(nn.Linear(4, 2), lambda x: x, "network")
    out = noisy(torch.rand(shape), IDS, DRAW, channel(range="unit"))
    assert out.shape == (*shape[:-1], 2)
    assert ("_LinearBackward" in nodes_of(out)) == (len(shape) == 2)


def test_a_frozen_weight_is_noised_and_gets_no_gradient():
    net, images = make()
    net.conv.weight.requires_grad_(False)
    NoisyNetwork(net, normalise, "network")(images, IDS, DRAW, channel(range="unit")).sum().backward()
    assert net.conv.weight.grad is None
    assert net.conv.bias.grad is not None


def test_a_layer_that_the_network_does_not_call_gets_no_gradient():
    class Unused(Net):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(2, 2)

    net, images = Unused(), make()[1]
    NoisyNetwork(net, normalise, "network")(images, IDS, DRAW, channel(range="unit")).sum().backward()
    assert net.spare.weight.grad is None


def test_weights_may_be_drawn_once_for_several_passes(monkeypatch):
    net, images = make()
    noisy, at = NoisyNetwork(net.eval(), normalise, "network"), channel(range="unit")
    with torch.no_grad():
        expected = [noisy(images, IDS, draw, at) for draw in (DRAW, DRAW + 1)]
        converted = []
        run = Converter.run
        monkeypatch.setattr(Converter, "run", lambda *args, **named: converted.append(args[1]) or run(*args, **named))
        with noisy.weights_drawn(at, None, DRAW):
            weights = len(converted)
            found = [noisy(images, IDS, draw, at) for draw in (DRAW, DRAW, DRAW + 1)]
        after = len(converted)
        noisy(images, IDS, DRAW, at)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[0])
    assert torch.equal(found[2], expected[1])
    passed = len(converted) - after  # of one pass with its weights
    assert weights == 4
    assert after == 4 + 3 * (passed - 4) + 4


def trained(network, images=None):
    """Logits and gradients of one pass."""
    noisy = NoisyNetwork(network, lambda x: x.flatten(1), "network")
    out = noisy(torch.rand(3, 4, generator=torch.Generator().manual_seed(2)), IDS, DRAW, channel(range="unit"))
    out.square().sum().backward()
    return out, nodes_of(out)


class Squashed(nn.Linear):
    """Its backward needs what it returned."""

    def forward(self, x):
        return super().forward(x).tanh()


def test_layers_that_are_not_plain_are_neither_fused_nor_written_over():
    with torch_seed(0):
        networks = [nn.Sequential(nn.Linear(4, 4), layer(4, 2)) for layer in (nn.Linear, Squashed, nn.Linear)]
    networks[2][1].forward = lambda x: F.linear(x, networks[2][1].weight) * 3
    for network, fused in zip(networks, (2, 1, 1), strict=True):
        out, nodes = trained(network)
        assert nodes.count("_LinearBackward") == fused
        with torch.no_grad():
            again = NoisyNetwork(network, lambda x: x, "network")(
                torch.rand(3, 4, generator=torch.Generator().manual_seed(2)), IDS, DRAW, channel(range="unit")
            )
        assert torch.equal(out, again)


def test_autocast_and_compiled_graphs_take_the_layer_itself():
    network, images = nn.Linear(4, 2), torch.rand(3, 4)
    noisy, at = NoisyNetwork(network, lambda x: x, "network"), channel(range="unit")
    with torch.autocast("cpu", torch.bfloat16):
        out = noisy(images, IDS, DRAW, at)
    assert out.dtype == torch.bfloat16
    assert "_LinearBackward" not in nodes_of(out)
    torch._dynamo.reset()
    compiled = torch.compile(noisy, backend="aot_eager")(images, IDS, DRAW, at)
    assert torch.equal(compiled, noisy(images, IDS, DRAW, at))


def test_hooks_see_what_the_layer_returned():
    seen = []
    network = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(1, 1, 1))
    network[1].register_full_backward_hook(lambda *_: seen.append("backward"))
    network[0].register_forward_hook(lambda _, __, y: seen.append(y))
    noisy = NoisyNetwork(nn.Sequential(network[0], nn.Unflatten(1, (1, 4)), network[1]), lambda x: x, "network")
    noisy(torch.rand(3, 4), IDS, DRAW, channel(range="unit")).sum().backward()
    assert seen[1] == "backward"
    assert (seen[0] * STEPS != (seen[0] * STEPS).round()).any()  # not what the AOD made of it


def test_a_layer_that_returns_its_input_leaves_the_image_as_it_is():
    class Same(nn.Linear):
        def forward(self, x):
            return x

    image = torch.rand(3, 4)
    kept = image.clone()
    NoisyNetwork(Same(4, 4), lambda x: x, "network").network(image)
    noisy = NoisyNetwork(Same(4, 4), lambda _: image, "network")
    noisy(image, IDS, DRAW, channel(range="unit"))
    assert torch.equal(image, kept)


def test_second_derivatives_are_right_or_refused():
    convert, x = Converter("aod", STEPS, 0.05, signed=True), torch.linspace(-1, 1, 24).reshape(3, 8).requires_grad_()
    key = stream_key(0, "x")
    (first,) = torch.autograd.grad((convert(x.sin(), key, IDS, 0) ** 2).sum() / 2, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    out = convert(x.sin(), key, IDS, 0).detach()
    (mask,) = torch.autograd.grad(convert(y := x.sin(), key, IDS, 0).sum(), y)
    assert torch.allclose(second, (mask * (x.cos() ** 2) - out * mask * x.sin()).detach(), atol=1e-6)
    layer = nn.Linear(8, 2)
    noisy = NoisyNetwork(layer, lambda x: x, "network")
    loss = noisy(x, IDS, DRAW, channel(range="unit")).square().sum()
    (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.square().sum().backward()


def test_scales_that_change_are_seen():
    net, images = make()
    noisy, at, scales = NoisyNetwork(net.eval(), normalise, "network"), channel(range="unit"), {}
    with torch.no_grad():
        one = noisy(images, IDS, DRAW, at, scales)
        scales["head:weight"] = 0.1
        other = noisy(images, IDS, DRAW, at, scales)
        with noisy.weights_drawn(at, None, DRAW):
            assert torch.equal(noisy(images, IDS, DRAW, at, scales), other)
            with noisy.weights_drawn(at, scales, DRAW):
                assert torch.equal(noisy(images, IDS, DRAW, at, scales), other)
            assert torch.equal(noisy(images, IDS, DRAW, at), one)
    assert not torch.equal(one, other)


def test_a_draw_for_each_row_is_refused_where_weights_are_noised():
    noisy = NoisyNetwork(nn.Linear(4, 2), lambda x: x, "network")
    with pytest.raises(InvalidValueError, match="one number with placement network"):
        noisy(torch.rand(3, 4), IDS, torch.arange(3), channel(range="unit"))


def test_weight_noise_is_one_realisation_for_all_samples_of_a_draw():
    layer = nn.Linear(4, 2)
    noisy = NoisyNetwork(layer, lambda x: x, "network")
    same = torch.full((2, 4), 0.5)
    quiet = Channel(sensor("adc-16bit", placement="network", range="unit"), OperatingPoint("ep", 0.9), SEED, "train")
    # The same sample id twice sees the same noise everywhere; another draw sees another.
    one, two = noisy(same, torch.tensor([1, 1]), 0, quiet)
    assert torch.equal(one, two)
    assert not torch.equal(noisy(same, torch.tensor([1, 1]), 1, quiet)[0], one)


def test_a_layer_used_twice_gets_fresh_noise_each_time():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)
            nn.init.zeros_(self.layer.weight)

        def forward(self, x):
            return torch.stack([self.layer(x), self.layer(x)])

    noisy = NoisyNetwork(Twice(), lambda x: x, "network")
    first, second = noisy(torch.zeros(3, 6), IDS, DRAW, channel(range="unit"))
    assert not torch.equal(first, second)


def test_swapping_an_activation_leaves_the_noise_as_it_is():
    net, images = make()
    other = copy.deepcopy(net)
    other.act = nn.ReLU()
    seen = []
    for network in (net, other):
        noisy = NoisyNetwork(network, normalise, "network").eval()
        noisy.network.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        noisy(images, IDS, DRAW, channel(range="unit"))
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.LSTM(4, 4), "weight_ih_l0"),
        (nn.MultiheadAttention(4, 2), "in_proj_weight"),
        (nn.Embedding(4, 4), "Embedding"),
    ],
)
def test_layers_that_are_not_covered_are_listed(layer, named):
    network = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(PlacementError, match=named):
        NoisyNetwork(network, normalise, "network")
    assert uncovered_layers(network)[0].startswith("1 (")
    NoisyNetwork(network, normalise, "sensor")


def test_a_network_without_weights_cannot_be_placed():
    with pytest.raises(PlacementError, match="at least one linear or convolution"):
        NoisyNetwork(nn.Sequential(nn.ReLU()), normalise, "network")
