"""Gradients inside a network: against plain autograd with the activations written out, for every kind of site."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from robustcheck import channel, load_data, load_model
from robustcheck.activations.catalogue import activation
from robustcheck.analysis.gradient_growth import LOGITS, _estimated, gradient_growth
from robustcheck.errors import InvalidValueError, SurgeryError
from robustcheck.networks.surgery import swap_activation
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.random import torch_seed
from robustcheck.study.evaluation import ranges

SAMPLES, DRAWS = 150, 3
NOISE = channel("adc-2bit", ep=0.6)


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def shipped():
    return load_model("digits-convnet")


class Written(nn.Module):
    """One module called twice, a call of a function in place, and one whose result overwrites its input."""

    def __init__(self):
        super().__init__()
        with torch_seed(0):
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((64, 24), (24, 20), (20, 20), (20, 16), (16, 10)))
        self.act = nn.ELU(inplace=True)

    def forward(self, x):
        x = self.act(self.layers[0](x.flatten(1)))
        x = F.silu(self.layers[1](x))
        x = self.layers[2](x)
        x.relu_()
        x = self.act(self.layers[3](x))
        return self.layers[4](x)


PATHS = ["act#1", "relu", "silu", "act"]
"""Of `Written`, backwards."""


def with_network(model, network):
    return dataclasses.replace(model, network=network.eval(), runtime=None)


@pytest.fixture(scope="module")
def written(shipped):
    return with_network(shipped, Written())


def by_hand(network, model, images, labels, slopes, sent=None):
    """Inputs, derivatives and gradients of the four sites of `Written`, backwards, and the gradient at the logits."""
    functions = [F.elu, F.silu, F.relu, F.elu]
    x, inputs = model.input.normalise(images).flatten(1), []
    for layer, function in zip(network.layers, functions, strict=False):
        inputs.append(layer(x).detach().requires_grad_() if not inputs else layer(x))
        inputs[-1].retain_grad()
        x = function(inputs[-1])
    logits = network.layers[-1](x)
    logits.retain_grad()
    if sent is None:
        F.cross_entropy(logits, labels, reduction="sum").backward()
    else:
        logits.backward(sent)
    network.zero_grad()
    derivatives = [slope(each.detach()) for slope, each in zip(slopes, inputs, strict=True)]
    return logits.grad, [(derivatives[at], inputs[at].grad) for at in (3, 2, 1, 0)]


def relu_slope(x):
    return (x > 0).float()


def elu_slope(x):
    return torch.where(x > 0, torch.ones(()), torch.exp(x))


def silu_slope(x):
    y = torch.sigmoid(x)
    return y + x * y * (1 - y)


def norm(tensors):
    return float(sum((each.double() ** 2).sum() for each in tensors)) ** 0.5


def test_every_number_is_that_of_plain_autograd(written, data):
    slopes = [elu_slope, silu_slope, relu_slope, elu_slope]
    rows = torch.arange(SAMPLES)
    images, labels, ids = data.test.physical(rows), data.test.labels[rows], data.test.sample_ids[rows]
    first, clean = by_hand(written.network, written, images, labels, slopes)
    runs = [
        (
            by_hand(written.network, written, NOISE(images, ids, draw), labels, slopes),
            by_hand(written.network, written, NOISE(images, ids, draw), labels, slopes, sent=first),
        )
        for draw in range(DRAWS)
    ]
    (found,) = gradient_growth(written, data, NOISE, samples=SAMPLES, draws=DRAWS)
    assert found.activation is None
    assert [site.path for site in found.sites] == [LOGITS, *PATHS]
    assert [site.elements for site in found.sites] == [10, 16, 20, 20, 24]
    often = DRAWS**0.5
    errors = [norm(noisy[0] - first for noisy, _ in runs) / norm([first]) / often]
    assert found.sites[0].gradient.value == pytest.approx(errors[0], rel=1e-4)
    assert found.sites[0].derivative is None
    for at, site in enumerate(found.sites[1:]):
        slope, gradient = clean[at]
        changes = [noisy[1][at][0] - slope for noisy, _ in runs]
        errors.append(norm(noisy[1][at][1] - gradient for noisy, _ in runs) / norm([gradient]) / often)
        carried = norm(sent[1][at][1] - gradient for _, sent in runs) / norm([gradient]) / often
        # The gradient of the site's output, where its derivative lets it be told.
        output = torch.where(slope == 0, torch.zeros(()), gradient / slope)
        assert site.derivative.value == pytest.approx(float(torch.stack(changes).abs().mean()), rel=1e-4)
        assert site.largest == pytest.approx(max(float(each.abs().max()) for each in changes), rel=1e-4)
        assert site.flipped.value == pytest.approx(float((torch.stack(changes).abs() > 0.5).float().mean()), rel=1e-4)
        assert site.gradient.value == pytest.approx(errors[-1], rel=1e-4)
        assert site.carried.value == pytest.approx(carried, rel=1e-4)
        assert site.amplification.value == pytest.approx(errors[-1] / errors[-2], rel=1e-4)
        together = torch.stack([noisy[1][at][1] for noisy, _ in runs]).flatten()
        cosine = F.cosine_similarity(together.double(), gradient.repeat(DRAWS, 1, 1).flatten().double(), dim=0)
        assert site.cosine.value == pytest.approx(float(cosine), rel=1e-4)
        if site.path == "silu":
            own = norm(each * output for each in changes) / norm([gradient]) / often
            assert site.own.value == pytest.approx(own, rel=1e-3)
        for each in (site.derivative, site.own, site.gradient, site.carried, site.cosine, site.amplification):
            assert each.lower < each.value < each.upper


@pytest.fixture(scope="module")
def both(shipped, data):
    return gradient_growth(shipped, data, NOISE, ["gelu"], samples=130, draws=2)


def test_behind_clean_layers_only_the_derivative_errs(both):
    # With noise at the sensor alone, the layers between the last site and the logits are clean.
    for each in both:
        last = each.sites[1]
        assert last.carried.value == pytest.approx(last.own.value, rel=1e-6)


def test_a_derivative_of_relu_changes_by_one_or_not_at_all(both):
    own, gelu = both
    assert (own.activation, gelu.activation) == (None, "gelu")
    for site in own.sites[1:]:
        assert site.largest == 1
        assert site.flipped == site.derivative
    assert all(site.flipped.value < site.derivative.value for site in gelu.sites[1:])


def test_an_activation_is_put_in_with_the_same_weights(shipped, data, both):
    swapped = with_network(shipped, swap_activation(shipped, "gelu").network)
    (found,) = gradient_growth(swapped, data, NOISE, samples=130, draws=2)
    assert found.sites == both[1].sites


def test_noise_in_the_network(shipped, data):
    noise = channel("adc-4bit", ep=0.5, placement="network")
    (found,) = gradient_growth(shipped, data, noise, samples=64, draws=3)
    noisy = NoisyNetwork(shipped.network, shipped.input.normalise, "network")
    rows = torch.arange(64)
    images, labels, ids = data.test.physical(rows), data.test.labels[rows], data.test.sample_ids[rows]
    scales = ranges(noisy, data, noise)
    one_hot = F.one_hot(labels, 10)
    with torch.no_grad():
        clean = noisy(images, ids, 0, None).softmax(1) - one_hot
        noised = [noisy(images, ids, draw, noise, scales).softmax(1) - one_hot for draw in range(3)]
    expected = norm(each - clean for each in noised) / norm([clean]) / 3**0.5
    assert found.sites[0].gradient.value == pytest.approx(expected, rel=1e-4)
    assert [site.path for site in found.sites] == [LOGITS, "linear1_act", "act3", "act2", "act1"]
    assert found.sites[1].carried.value > found.sites[1].own.value


def test_an_onnx_file(data):
    model = load_model(str(Path(__file__).parent / "sample_repository" / "net.onnx"))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    own, gelu = gradient_growth(model, data, NOISE, ["gelu"], samples=20, draws=2)
    assert len(own.sites) == len(gelu.sites) > 1
    assert own.sites[-1].largest == 1
    assert gelu.sites[-1].gradient.value > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", ["written", "shipped"])
def test_the_model_stays_as_it_is(which, training, data, request):
    model = request.getfixturevalue(which)
    network = model.network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradient_growth(model, data, NOISE, samples=8, draws=2)
    assert all(module.training == training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    network.eval()


def test_each_instance_of_a_learned_activation_is_a_site(written, data):
    _, prelu = gradient_growth(written, data, NOISE, ["prelu"], samples=8, draws=2)
    assert [site.path for site in prelu.sites] == [LOGITS, "act.1", "relu", "silu", "act.0"]
    assert prelu.sites[1].largest == pytest.approx(0.75)


def test_a_site_that_no_gradient_reaches(shipped, data):
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.act, self.side = nn.Linear(64, 4), nn.Linear(4, 10), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            x = self.first(x.flatten(1))
            return self.last(self.act(x) + 0 * self.side(x))

    (found,) = gradient_growth(with_network(shipped, Dead()), data, NOISE, samples=8, draws=2)
    dead = next(site for site in found.sites if site.path == "side")
    assert (dead.own, dead.gradient, dead.carried, dead.cosine, dead.amplification) == (None,) * 5
    assert dead.derivative.value >= 0


def test_dropout_is_off(shipped, data):
    with torch_seed(0):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10))
    (off,) = gradient_growth(with_network(shipped, layers), data, NOISE, samples=8, draws=2)
    model = with_network(shipped, layers)
    layers.train()
    (on,) = gradient_growth(model, data, NOISE, samples=8, draws=2)
    assert on == off


def test_progress_counts_passes(shipped, data):
    seen = []
    gradient_growth(shipped, data, NOISE, ["gelu"], samples=130, draws=2, progress=lambda *done: seen.append(done))
    assert seen == [(done, 8) for done in range(1, 9)]


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(size=(1, 1, 12))
    sums = np.concatenate([values, np.ones_like(values)])
    found = _estimated(lambda total: total[0] / total[1], sums, False)
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values.ravel()))
    assert (found.lower, found.upper) == pytest.approx(expected)


def test_draws_that_share_noise_are_clusters():
    rng = np.random.default_rng(0)
    values = 5 + rng.normal(size=(1, 4, 1)) + 0.01 * rng.normal(size=(1, 4, 50))
    sums = np.concatenate([values, np.ones_like(values)])

    def found(clusters):
        return _estimated(lambda total: np.log(total[0] / total[1]) - 5, sums, clusters)

    means = values.mean(axis=2).ravel()
    alone, clustered = found(False), found(True)
    assert alone.upper - alone.lower < 0.01
    # On the scale of the mean, Student's t over four draws; both are linear enough here.
    expected = stats.t.isf(0.025, 3) * stats.sem(means) / means.mean()
    assert (clustered.upper - clustered.lower) / 2 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spread", [0.0, 1e-9, 0.05])
def test_the_interval_of_a_cosine_stays_within_one(sign, spread):
    # Of a correlation near 1 a symmetrical interval would go beyond it.
    values = 1 - spread * np.random.default_rng(0).exponential(size=(1, 2, 6))
    sums = np.concatenate([sign * values, np.ones_like(values)])
    found = _estimated(lambda total: total[0] / total[1], sums, True, correlation=True)
    assert -1 <= found.lower <= found.value <= found.upper <= 1
    if spread == 0.05:
        assert found.upper - found.lower > spread / 2


def test_few_samples_give_no_cosine_beyond_one(shipped, data):
    (found,) = gradient_growth(shipped, data, channel("adc-4bit", ep=0.5), samples=4, draws=2)
    assert all(site.cosine.upper <= 1 for site in found.sites)


def test_the_interval_of_a_cosine_is_fishers():
    values = 0.6 + 0.001 * np.random.default_rng(0).normal(size=(1, 1, 40))
    sums = np.concatenate([values, np.ones_like(values)])
    found = _estimated(lambda total: total[0] / total[1], sums, False, correlation=True)
    margin = stats.t.isf(0.025, 39) * stats.sem(values.ravel()) / (1 - values.mean() ** 2)
    assert np.arctanh([found.lower, found.upper]) - np.arctanh(values.mean()) == pytest.approx(
        [-margin, margin], rel=1e-3
    )


def test_a_gated_activation_is_what_stands_inside_the_gate(shipped, data):
    with torch_seed(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation("reglu").module(), nn.Linear(8, 10))
    gated = with_network(shipped, network)
    swapped = ["geglu", "interpolate(reglu, geglu, i=.25)", "gelu"]
    found = gradient_growth(gated, data, NOISE, swapped, samples=8, draws=2)
    assert [each.activation for each in found] == [None, "gelu", "interpolate(relu, gelu, i=0.25)"]
    assert found[0].sites[1].largest == 1 > found[1].sites[1].largest
    with pytest.raises(SurgeryError, match="the inner one, gelu"):
        gradient_growth(shipped, data, NOISE, ["geglu"], samples=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channel": channel("adc-4bit")}, "with noise"),
        ({"draws": 1}, "draws"),
        ({"samples": 1}, "samples"),
        ({"activations": ["abrelu"]}, "elementwise"),
    ],
)
def test_what_cannot_be_measured(shipped, data, arguments, message):
    with pytest.raises(InvalidValueError, match=message):
        gradient_growth(**{"model": shipped, "data": data, "channel": NOISE, **arguments})


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 8), nn.Linear(8, 10), function
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x):
        x = self.first(x.flatten(1))
        return self.last(F.prelu(x, self.slope) if self.function == "prelu" else F.rrelu(x))


@pytest.mark.parametrize("function", ["prelu", "rrelu"])
def test_calls_that_no_module_stands_for(function, shipped, data):
    with pytest.raises(SurgeryError, match=f"a call of {function}"):
        gradient_growth(with_network(shipped, Calls(function)), data, NOISE, samples=4)


def test_networks_without_a_derivative_to_look_at(shipped, data):
    abrelu = swap_activation(shipped, "abrelu").network
    with pytest.raises(SurgeryError, match="elementwise"):
        gradient_growth(with_network(shipped, abrelu), data, NOISE, samples=4)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(SurgeryError, match="got none"):
        gradient_growth(with_network(shipped, linear), data, NOISE, samples=4)
