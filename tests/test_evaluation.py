"""Evaluation: batched draws against a plain loop, to the bit, and the draws that a precision takes."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from synthetic_report import unpacked
from torch import nn

from robustcheck import Study, channel, evaluate, load_data, load_model, run_study
from robustcheck.analysis.intervals import sample_interval
from robustcheck.cli.main import main
from robustcheck.data.datasets import Split
from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.random import torch_seed
from robustcheck.study import cells, evaluation, precision
from robustcheck.study.cells import load_study, ranking_cells, tuning_cells
from robustcheck.study.evaluation import CHUNK, evaluate_network
from robustcheck.study.precision import draw_error, draws_for
from robustcheck.study.runner import one_thread


def plain_loop(noisy, split, sensed, draws, scales=None):
    """One chunk, one draw, one call of everything at a time."""
    samples = len(split.labels)
    predicted, probability = np.empty((draws, samples), np.int32), np.empty((draws, samples), np.float32)
    noisy.eval()
    with torch.no_grad():
        for start in range(0, samples, CHUNK):
            kept = min(CHUNK, samples - start)
            rows = torch.tensor([min(start + row, samples - 1) for row in range(CHUNK)])
            for draw in range(draws):
                logits = noisy(split.physical(rows), split.sample_ids[rows], draw, sensed, scales)[:kept]
                best = torch.softmax(logits, 1).max(1)
                predicted[draw, start : start + kept] = best.indices
                probability[draw, start : start + kept] = best.values
    return predicted, probability


def odd_network():
    """Widths at which a library's result for a row depends on where the row stands in the batch."""
    with torch_seed(3):
        return nn.Sequential(
            nn.Conv2d(3, 17, 3, padding=1), nn.GELU(), nn.Conv2d(17, 33, 3, stride=2), nn.SiLU(),
            nn.Flatten(), nn.Linear(33 * 9, 33), nn.ReLU(), nn.Linear(33, 10),
        )  # fmt: skip


def colours(samples):
    generator = torch.Generator().manual_seed(samples)
    return Split(
        torch.rand(samples, 3, 8, 8, generator=generator), torch.arange(samples) % 10, torch.arange(samples) * 7 + 2
    )


@pytest.mark.parametrize("placement", ["sensor", "network"])
@pytest.mark.parametrize("samples", [40, 200])
def test_batched_draws_give_the_bits_of_a_plain_loop(placement, samples, monkeypatch):
    noisy = NoisyNetwork(odd_network(), lambda images: (images - 0.4) / 0.3, placement)
    sensed, split = channel("adc-3bit", ep=0.6, seed=4, placement=placement), colours(samples)
    with one_thread():
        expected = plain_loop(noisy, split, sensed, 5)
        for at_once in (evaluation.NOISED_AT_ONCE, 2 * CHUNK * 3 * 8 * 8, 1):
            monkeypatch.setattr(evaluation, "NOISED_AT_ONCE", at_once)
            found = evaluate_network(noisy, split, sensed, draws=5)
            assert found.predicted.tobytes() == expected[0].tobytes()
            assert found.probability.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("placement", ["sensor", "network"])
def test_the_shipped_model_gives_the_bits_of_a_plain_loop(placement):
    # Digits have one channel, whose strides look like either memory format: they decide how a convolution sums.
    model, data = load_model("digits-convnet"), load_data("digits")
    sensed = channel("adc-4bit", ep=0.5, placement=placement)
    noisy = NoisyNetwork(model.network, model.input.normalise, placement)
    with one_thread():
        scales = evaluation.ranges(noisy, data, sensed)
        expected = plain_loop(noisy, data.test, sensed, 3, scales)
        found = evaluate_network(noisy, data.test, sensed, draws=3, scales=scales)
        still = evaluate_network(noisy, data.test, sensed.at(None), draws=3, scales=scales)
        assert still.predicted.tobytes() == plain_loop(noisy, data.test, sensed.at(None), 1, scales)[0].tobytes()
    assert found.predicted.tobytes() == expected[0].tobytes()
    assert found.probability.tobytes() == expected[1].tobytes()


def test_every_pass_has_128_rows_and_a_sample_keeps_its_row():
    seen, network, split = [], odd_network(), colours(200)
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    sensed = channel("adc-3bit", ep=0.6)
    evaluate_network(NoisyNetwork(network, lambda images: images, "sensor"), split, sensed, draws=3)
    for start in (0, CHUNK):
        rows = torch.tensor([min(start + row, 199) for row in range(CHUNK)])
        for draw in range(3):
            assert torch.equal(seen.pop(0), sensed(split.physical(rows), split.sample_ids[rows], draw))
    assert not seen


def test_what_is_noised_at_once_is_bounded_whatever_the_draws(monkeypatch):
    sizes, call = [], Channel.__call__
    monkeypatch.setattr(
        Channel, "__call__", lambda self, images, *rest: (sizes.append(images.numel()), call(self, images, *rest))[1]
    )
    chunk = CHUNK * 3 * 8 * 8
    monkeypatch.setattr(evaluation, "NOISED_AT_ONCE", 4 * chunk)
    evaluate_network(
        NoisyNetwork(odd_network(), lambda x: x, "sensor"), colours(130), channel("adc-3bit", ep=0.5), draws=9
    )
    assert sizes == [4 * chunk, 4 * chunk, chunk] * 2


def test_the_weights_are_noised_once_a_draw():
    seen, network = [], odd_network()
    network[0].register_forward_pre_hook(lambda layer, _: seen.append(layer.weight))
    sensed = channel("adc-3bit", ep=0.5, placement="network")
    evaluate_network(NoisyNetwork(network, lambda images: images, "network"), colours(300), sensed, draws=2)
    first, second = seen[:3], seen[3:]
    assert [each is first[0] for each in first] == [each is second[0] for each in second] == [True] * 3
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], network[0].weight)


def test_a_precision_takes_the_draws_that_steins_rule_says():
    model, data = load_model("digits-convnet"), load_data("digits")
    sensed = channel("adc-2bit", ep=0.6)
    found = evaluate(model, data, sensed, draws=6, precision=0.003)
    first = found.correct[:6].mean(1)
    wanted = math.ceil((stats.t.ppf(0.975, 5) * first.std(ddof=1) / 0.003) ** 2)
    assert len(found.predicted) == max(6, wanted) > 6
    assert found.draw_error == pytest.approx(stats.t.ppf(0.975, 5) * first.std(ddof=1) / len(found.predicted) ** 0.5)
    assert found.draw_error <= 0.003
    # They are the draws that a number asks for, and no others.
    assert np.array_equal(found.predicted, evaluate(model, data, sensed, draws=wanted).predicted)
    for still in (None, sensed.at(None)):
        clean = evaluate(model, data, still, precision=0.003)
        assert (len(clean.predicted), clean.draw_error) == (1, None)


def test_draws_that_are_all_alike_may_hide_one_sample():
    # One sample of 50 is two points; five draws that agree say that it changes in three of five draws at most.
    alike = np.full(5, 0.9)
    assert draws_for(alike, 0.005, 50) == math.ceil((stats.t.ppf(0.975, 4) * 0.02 / 0.005) ** 2)
    assert draws_for(alike, 0.005, 5000) == 5
    assert draw_error(alike, 5, 5000) == pytest.approx(stats.t.ppf(0.975, 4) / 5000 / 5**0.5)


def test_a_precision_that_is_out_of_reach_stops_at_the_cap(monkeypatch):
    spread = np.array([0.7, 0.8, 0.9, 0.8, 0.7, 0.9])
    assert draws_for(spread, 1e-4, 1) == precision.MOST_DRAWS
    assert draws_for(spread, 1e-3, 10_000) == precision.MOST_PREDICTIONS // 10_000
    assert draws_for(spread, 1e-3, 10**9) == 6, "as many as were asked for are taken"
    monkeypatch.setattr(precision, "MOST_PREDICTIONS", 20 * 40)
    noisy = NoisyNetwork(odd_network(), lambda x: x, "network")
    sensed = channel("adc-2bit", ep=0.9, placement="network")
    found = evaluate_network(noisy, colours(40), sensed, draws=5, precision=1e-4)
    assert found.predicted.shape == (20, 40)
    assert found.draw_error > 1e-4


@pytest.mark.parametrize(("draws", "share"), [(4, 0.005), (5, 0.0), (5, 0.5), (5, -0.1), (5, 5e-5), (5, math.nan)])
def test_a_precision_that_cannot_be_is_refused(draws, share):
    with pytest.raises(
        InvalidValueError, match="draws: expected at least 5" if draws < 5 else r"0\.0001 <= precision < 0\.5"
    ):
        evaluate(
            load_model("digits-convnet"), load_data("digits"), channel("adc-2bit", ep=0.5), draws=draws, precision=share
        )


def few_change(rng, studies, draws, samples):
    """Five samples are wrong in one draw of ten; all others never change."""
    return 1 - rng.binomial(5, 0.1, (studies, draws)) / samples, 1 - 0.5 / samples


def independent(rng, studies, draws, samples):
    """Each sample has luck of its own."""
    share = rng.beta(0.6, 0.2, samples)
    return np.stack([(rng.random((studies, draws)) < each) for each in share]).mean(0), share.mean()


def shared(rng, studies, draws, samples):
    """Noise that all samples of a draw share moves them together."""
    return rng.binomial(samples, rng.normal(0.8, 0.03, (studies, draws))) / samples, 0.8


@pytest.mark.parametrize(
    ("world", "samples", "asked"), [(few_change, 360, 0.0005), (independent, 60, 0.01), (shared, 2000, 0.01)]
)
def test_the_interval_over_draws_holds_as_often_as_it_says(world, samples, asked):
    studies, most, first = 4000, 400, 5
    accuracy, truth = world(np.random.default_rng(8), studies, most, samples)
    holds = within = naive = 0
    for draws in accuracy:
        count = min(draws_for(draws[:first], asked, samples), most)
        error = abs(draws[:count].mean() - truth)
        holds += error <= draw_error(draws[:first], count, samples)
        within += error <= asked
        # What it stands in for: look after every draw, and stop where the interval is narrow.
        n = np.arange(first, most + 1)
        mean, square = np.cumsum(draws)[first - 1 :] / n, np.cumsum(draws**2)[first - 1 :] / n
        spread = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
        narrow = stats.t.ppf(0.975, n - 1) * spread <= asked
        naive += abs(mean[narrow.argmax() if narrow.any() else -1] - truth) <= asked
    chance = 3 * math.sqrt(0.95 * 0.05 / studies)
    assert holds / studies >= 0.95 - chance
    assert within / studies >= 0.95 - chance
    if world is few_change:
        assert naive / studies < 0.9


def small(**changes):
    return Study.create(
        models=[{"spec": "digits-convnet"}],
        data={"spec": "digits", "max_samples": 300},
        sensors=[{"spec": "adc-3bit", "placement": "network"}],
        **{"eps": [0.5], "activations": ["gelu"], "seeds": 2, "precision": 0.02}
        | {"training": {"mode": "finetune", "epochs": 1, "learning_rates": [1e-3]}}
        | changes,
    )


@pytest.fixture(scope="module")
def precise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precise")
    return run_study(small(), folder), folder


def test_a_report_counts_networks_alike_whatever_their_draws(precise):
    report, _ = precise
    (point,) = report.results[0].points
    samples = report.data.counts["test"]
    cells_of = {}
    for cell in report.training:
        cells_of.setdefault(cell.activation, []).append(cell.cell)
    packed = {each.cell: each for each in report.predictions if each.point == "ep=0.5"}
    counts = {each.draws for each in packed.values()}
    assert len(counts) > 1, "networks with unequal draws are what this is about"
    for row in point.comparison.rows:
        correct = [unpacked(packed[cell], samples) for cell in cells_of[row.activation]]
        assert row.precision.draws == tuple(map(len, correct))
        assert row.per_seed == tuple(each.mean() for each in correct)
        assert row.accuracy == pytest.approx(np.mean([each.mean() for each in correct]))
        errors = [draw_error(each[:5].mean(1), len(each), samples) for each in correct]
        assert row.precision.draw_error == max(errors)
        assert row.precision.reached
        assert 0 < row.precision.draw_error <= 0.02 < row.precision.sample_error
        interval = sample_interval(correct, draws_are_clusters=True)
        assert (row.samples.lower, row.samples.upper) == interval
        assert interval[0] < row.accuracy < interval[1]
    assert {each.draws for each in report.predictions if each.point != "ep=0.5"} == {1}
    assert report.results[0].area is None


def test_a_precise_study_goes_on_where_it_stopped_and_is_another_study(precise, capsys):
    report, folder = precise
    seen = []
    again = run_study(small(), folder, progress=seen.append)
    assert seen == []
    assert again.results == report.results
    with pytest.raises(UsageError, match=r"another study.*\n.*precision: 0.02 → 0.01"):
        run_study(small(precision=0.01), folder)


def test_only_a_precision_that_is_asked_for_is_in_a_hash_and_in_a_report(monkeypatch):
    documents, content_hash = [], cells.content_hash
    monkeypatch.setattr(cells, "content_hash", lambda document: (documents.append(document), content_hash(document))[1])
    rates = {"training": {"mode": "finetune", "epochs": 1, "learning_rates": [1e-3, 3e-3]}}
    for asked in (None, 0.02):
        loaded = load_study(small(precision=asked, **rates))
        (*tuned, ranked) = [loaded.hash(cell) for cell in (*tuning_cells(loaded)[:2], ranking_cells(loaded, {})[0])]
        assert len({*tuned, ranked}) == 3
    assert [document.get("precision", "absent") for document in documents] == ["absent"] * 5 + [0.02]
    plain = run_study(small(kind="audit", activations=[], seeds=1, training={"mode": "none"}, precision=None))
    assert '"precision"' not in plain.to_json()


@pytest.mark.parametrize(("text", "share"), [("0.7%", 0.007), ("0.007", 0.007), ("12.5%", 0.125)])
def test_a_precision_is_a_percentage_or_a_fraction(text, share, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "robustcheck.cli.audit.run_and_report", lambda params, study: asked.append(study.precision) or 0
    )
    assert main(["audit", "digits-convnet", "--precision", text]) == 0
    assert asked == [share]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "5"), "expected a share from 0.01 % to below 50 %, such as 0.5% or 0.005, got '5'"),
        (("--precision", "-1%"), "got '-1%'"),
        (("--precision", "abc"), "got 'abc'"),
        (("--precision", "nan"), "got 'nan'"),
        (("--precision", "50%"), "got '50%'"),
        (("--precision", "0.5%", "--draws", "4"), "draws: expected at least 5 with a precision"),
    ],
)
def test_a_wrong_precision_is_a_sentence(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "digits-convnet", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_left_in_the_mode_it_was_in(training):
    model, data = load_model("digits-convnet"), load_data("digits", max_samples=200)
    model.network.train(training)
    evaluate(model, data, draws=1)
    assert all(module.training == training for module in model.network.modules())
