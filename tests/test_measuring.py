"""The benchmark's own instruments: memory against arithmetic, ratios against NumPy, contestants that do equal work."""

import copy
from pathlib import Path

import growth_speed
import numpy as np
import pytest
import run
import step_speed
import torch
from contestants import EP, SIGMA, STEPS, PlainLayer, analogvnn_network, paper_network, plain_network
from measuring import Spread, bytes_of, paired, peak_bytes, ratio, spread
from study_speed import CellTime, gaps
from table import Bound, Row, at_least, at_most, machine, markdown, put
from torch import nn

from robustcheck import load_data
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.converter import Converter
from robustcheck.sensing.operating_point import OperatingPoint
from robustcheck.sensing.random import stream_key, torch_seed
from robustcheck.sensing.sensor import sensor
from robustcheck.study.plan import Study

N, WIDE = 64, 256  # rows and features of the networks whose memory is known by hand
SMALL = 1024  # bytes for losses and other single numbers


def wide_network(layers):
    return nn.Sequential(*(module for _ in range(layers) for module in (nn.Linear(WIDE, WIDE), nn.GELU())))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_without_gradients_two_values_are_alive(layers):
    network, x = wide_network(layers), torch.zeros(N, WIDE)
    with torch.no_grad():
        peak = peak_bytes(lambda: network(x))
    assert peak == 2 * 4 * N * WIDE


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_autograd_keeps_every_value(layers):
    network, x = wide_network(layers), torch.zeros(N, WIDE)
    assert peak_bytes(lambda: network(x)) == 2 * layers * 4 * N * WIDE


def test_backward_of_linear_and_gelu():
    # Few rows: the peak is at the linear layer's backward, where the gradient of its output (N·WIDE), of its weight
    # (WIDE·WIDE) and of its bias (WIDE) are alive, and what GELU had kept is gone.
    network, x = wide_network(1), torch.zeros(N, WIDE)
    peak = peak_bytes(lambda: network(x).sum().backward(), network.parameters())
    parameters = 4 * (WIDE * WIDE + WIDE)
    assert 0 <= peak - (parameters + 4 * N * WIDE + 4 * WIDE * WIDE) <= 4 * WIDE + SMALL
    assert bytes_of(network.parameters()) == parameters


def test_what_was_there_before_is_not_counted_and_views_share():
    x = torch.zeros(1000)
    assert peak_bytes(lambda: x.add_(1)) == 0
    assert peak_bytes(lambda: x[10:].reshape(2, -1)) == 0
    assert peak_bytes(lambda: x[10:], [x, x[:5]]) == 4000
    assert peak_bytes(lambda: [(x + 1)[:10] for _ in range(3)]) == 3 * 4000


def test_what_is_freed_is_counted_off():
    x = torch.zeros(1000)

    def one_after_the_other():
        for _ in range(5):
            torch.exp(x)

    assert peak_bytes(one_after_the_other) == 4000


def test_the_kernel_is_seen():
    convert = Converter("aod", STEPS, SIGMA, signed=True)
    x, ids, key = torch.zeros(16, 4096), torch.arange(16), stream_key(0, "bench")
    convert(x, key, ids, 0)
    with torch.no_grad():
        assert 0 <= peak_bytes(lambda: convert(x, key, ids, 0)) - 4 * x.numel() <= x.numel() + SMALL
    x.requires_grad_()
    kept = peak_bytes(lambda: convert(x, key, ids, 0)) - 4 * x.numel()
    assert x.numel() / 8 <= kept <= x.numel() + SMALL  # a mask of at most one byte an element


def test_spread_and_ratio():
    values = np.random.default_rng(0).exponential(size=31)
    found = spread(values.tolist())
    assert [found.low, found.median, found.high] == pytest.approx(np.percentile(values, [25, 50, 75]))
    # The median of the ratios of a round, not the ratio of the medians.
    times = {"a": [1.0, 10.0, 100.0], "b": [1.0, 2.0, 500.0]}
    assert ratio(times, "a", "b").median == 1.0
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0, 1)


def test_contestants_take_turns():
    calls = []
    ticks = iter(range(100))
    times = paired({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, lambda: float(next(ticks)))
    assert "".join(calls) == "ab" + "ababab"
    assert times == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_gaps_between_cells():
    rng = np.random.default_rng(0)
    cells, expected = [], 0.0
    for _ in range(2):
        now = float(rng.uniform())
        for cell in range(12):
            gap = float(rng.uniform(0.01, 0.05)) if cell else 0.0
            expected += gap
            length = float(rng.uniform(1, 2))
            cells.append(CellTime(now + gap, now + gap + length))
            now += gap + length
    found = gaps(cells)
    assert len(found) == 22
    assert sum(found) == pytest.approx(expected)
    # A process that starts late, when another has finished a cell, follows none.
    assert gaps([CellTime(0, 1), CellTime(1.01, 3), CellTime(1.5, 4)]) == pytest.approx([0.01])


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (3.9, at_least(4, 8), "**missed**"),
        (4.0, at_least(4, 8), "floor met"),
        (8.0, at_least(4, 8), "goal met"),
        (1.36, at_most(1.35, 1.1), "**missed**"),
        (1.2, at_most(1.35, 1.1), "floor met"),
        (3.5, (Bound(low=3.6, high=4.2), None), "**missed**"),
        (4.3, (Bound(low=3.6, high=4.2), None), "**missed**"),
        (4.0, (Bound(low=3.6, high=4.2), None), "met"),
        (1.0, (None, None), ""),
    ],
)
def test_verdicts(value, bounds, verdict):
    row = Row("it", Spread(value, value, value, 5), "×", *bounds)
    assert row.verdict == verdict
    assert f"| {verdict} |" in markdown([row])


def test_the_document_has_a_place_for_the_tables(tmp_path):
    rows = [Row("x", Spread(3.9, 3.8, 4.0, 3), "×", *at_least(4))]
    text, figures = run.measured(["kernel"], {"kernel": run.Part("Heading", "Note.", lambda: rows)})
    document = run.DOCUMENT.read_text(encoding="utf-8")
    written = put(document, "table", text)
    assert machine(0.0).split(", ")[0] in written
    assert "| x | 3.9 × | 3.8 to 4 | 3 | ≥ 4 × |  | **missed** |" in written
    assert put(written, "table", "") == put(document, "table", "")
    assert figures["kernel"][0]["verdict"] == "**missed**"
    with pytest.raises(ValueError, match="expected <!-- table -->"):
        put("no markers", "table", text)


def test_the_papers_network():
    network = paper_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_172_410
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def images(count):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network():
    with torch_seed(0):
        return paper_network().eval()


def test_analogvnn_noises_every_site_and_weight(network):
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise
    from analogvnn.parameter.PseudoParameter import PseudoParameter

    model = analogvnn_network(network).eval()
    transformations = [each._transformation for each in model.modules() if isinstance(each, PseudoParameter)]
    assert len(transformations) == 18
    inside = {id(noise) for each in transformations for noise in each.modules()}
    sites = [each for each in model.modules() if isinstance(each, GaussianNoise) and id(each) not in inside]
    assert len(sites) == 18
    added = {}
    for index, site in enumerate(sites):
        site.register_forward_hook(lambda _, given, out, index=index: added.update({index: out - given[0]}))
    with torch.no_grad():
        model(images(128))
    assert len(added) == 18
    for index, noise in added.items():
        assert noise.std().item() == pytest.approx(SIGMA, rel=0.1), index
        assert torch.equal(noise, noise.clamp(-7 * SIGMA, 7 * SIGMA))
    layers = [layer for layer in model.children() if getattr(layer, "weight", None) is not None]
    assert len(layers) == 9
    for layer in layers:
        for name in ("weight", "bias"):
            stored = layer.parametrizations[name].original.detach()
            rounded = torch.sign(stored) * torch.ceil((stored * STEPS).abs() - 0.5) / STEPS
            first, second = (getattr(layer, name).detach().clone() for _ in range(2))
            assert not torch.equal(first, second)
            if stored.numel() > 1000:
                assert (first - rounded).std().item() == pytest.approx(SIGMA, rel=0.1)


def test_plain_torch_noises_every_site_and_weight(network):
    plain = plain_network(network).eval()
    layers = [layer for layer in plain if isinstance(layer, PlainLayer)]
    assert len(layers) == 9
    with torch.no_grad():
        for layer in layers:
            shape = (
                (4, layer.layer.in_channels, 8, 8)
                if isinstance(layer.layer, nn.Conv2d)
                else (64, layer.layer.in_features)
            )
            seen = []
            hook = layer.layer.register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0]))
            codes = [layer(torch.zeros(shape)) * STEPS for _ in range(2)]
            hook.remove()
            assert seen[0].std().item() == pytest.approx(SIGMA, rel=0.1)
            assert not torch.allclose(seen[0] * STEPS, (seen[0] * STEPS).round(), atol=0.1)
            assert not torch.equal(*codes)
            assert torch.allclose(codes[0], codes[0].round(), atol=1e-4)


def test_without_noise_all_contestants_compute_the_same(network):
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise

    # A large gain keeps 8 bits from rounding the weights away, and the logits apart.
    loud, steps, x = copy.deepcopy(network), 255, images(16)
    with torch.no_grad():
        for parameter in loud.parameters():
            parameter.mul_(2)
    analogvnn = analogvnn_network(loud, steps).eval()
    for module in analogvnn.modules():
        if isinstance(module, GaussianNoise):
            module.std.data.zero_()
    channel = Channel(sensor("adc-4bit", steps=steps, placement="network", range="unit"), None)
    with torch.no_grad():
        ours = NoisyNetwork(loud, lambda images: images, "network")(x, torch.arange(len(x)), 0, channel)
        others = {"AnalogVNN": analogvnn(x.clone()), "plain": plain_network(loud, steps, 0.0)(x)}
        clean = loud(x)
    assert ours.std() > 10 / steps
    for name, other in others.items():
        # GELU's last bits differ, so a value may fall to the next code.
        assert (ours - other).abs().max() <= 2.5 / steps, name
    assert (ours - clean.clamp(-1, 1)).abs().max() > 2.5 / steps  # a test that sees whether anything is quantised


def test_a_step_trains_every_parameter():
    for name, contestant in step_speed.contestants(8).items():
        before = [(tensor, tensor.detach().clone()) for tensor in contestant.held() if tensor.requires_grad]
        contestant.step()
        assert len(before) == (36 if name == "AnalogVNN" else 18)  # it has a second, transformed copy of each
        assert all(not torch.equal(tensor.detach(), old) for tensor, old in before), name


def test_grown_studies_have_four_times_the_work(tmp_path):
    few, many = (load_data(growth_speed.images_file(tmp_path / f"{n}.npz", 5 * n, n)) for n in (640, 2560))
    assert [len(split) for split in few.splits.values()] == [2560, 640, 640]
    assert [len(split) for split in many.splits.values()] == [4 * 2560, 4 * 640, 4 * 640]
    for kind in growth_speed.GROWN:
        small, large = (Study.create(**fields) for fields in growth_speed.growth_pair(kind, tmp_path, 1))
        sizes = [
            {
                "samples": len(load_data(study.data.spec).test),
                "EPs": len(study.eps),
                "draws": study.draws,
                "cells": study.seeds,
            }
            for study in (small, large)
        ]
        assert {name: sizes[1][name] / sizes[0][name] for name in sizes[0]} == {
            name: 4 if name == kind else 1 for name in sizes[0]
        }


def test_ep_of_the_contestants():
    assert 0 < SIGMA == Channel(sensor("adc-4bit", steps=STEPS), OperatingPoint("ep", EP)).sigma


def test_every_part_has_a_heading():
    assert list(run.parts()) == ["kernel", "step", "study", "growth", "onnx", "camera", "lidar", "start"]
    assert Path(run.DOCUMENT).name == "performance.md"
