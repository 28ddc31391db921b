"""Candidates, latency and choice of a recommendation, on made-up races."""

import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from exports import export_network
from scipy import stats
from synthetic_recommendation import recommendation
from torch import nn, zeros

from robustcheck.activations.catalogue import CATALOGUE
from robustcheck.analysis.racing import look
from robustcheck.analysis.ranking import rank
from robustcheck.cli.audit import audit
from robustcheck.cli.recommend import _audit_command, _study
from robustcheck.cli.recommend import recommend as command
from robustcheck.cli.study_options import base_study
from robustcheck.errors import SurgeryError, UsageError
from robustcheck.networks.loading import Model, load_model
from robustcheck.recommend import latency
from robustcheck.recommend.candidates import candidates, default_target, parameters_of
from robustcheck.recommend.choice import choose
from robustcheck.recommend.delivery import remove_stale
from robustcheck.recommend.estimate import ALPHA
from robustcheck.recommend.latency import Latency, measure
from robustcheck.recommend.markdown import render_recommendation
from robustcheck.recommend.race import Race, Steps, Stop, _margin
from robustcheck.recommend.words import headline, options_table, paragraph
from robustcheck.study.plan import Study


@pytest.fixture(scope="module")
def model():
    return load_model("digits-convnet")


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SELU(), nn.Flatten(), nn.Linear(144, 10))
    export_network(network, zeros(2, 1, 8, 8), path, exporter="legacy", opset=17)
    return load_model(str(path))


def test_every_activation_is_a_candidate_or_left_out_with_a_reason(model):
    found = candidates(model, "torch")
    assert found.activations[0] == found.current == "relu"
    left_out = {each.activation: each.reason for each in found.left_out}
    assert {*found.activations, *left_out} == set(CATALOGUE)
    assert {"prelu", "swish", "pau", "aptx_learned"} <= set(found.activations)
    assert "no drop-in" in left_out["swiglu"]
    assert "more than one value" in left_out["abrelu"]
    assert left_out["celu"] == "computes what elu does"
    assert "family" in left_out["interpolate"]


def test_onnx_files_take_what_can_be_written(onnx_model):
    assert (default_target(onnx_model), default_target(load_model("digits-convnet"))) == ("onnx", "torch")
    found = candidates(onnx_model, "onnx")
    assert found.current == "selu"
    assert {"gelu", "pau", "srs"} <= set(found.activations)


def test_what_a_target_cannot_run_is_left_out(onnx_model, monkeypatch):
    def refuse(network):
        if any(kind == "gelu" for kind in (site.kind for site in network.current_sites())):
            raise SurgeryError("no gelu at opset 17")
        return

    monkeypatch.setattr("robustcheck.networks.onnx.writing.written", refuse)
    found = candidates(onnx_model, "onnx", ["gelu", "silu"])
    assert found.activations == ("selu", "silu")
    assert [(each.activation, each.reason) for each in found.left_out] == [("gelu", "no gelu at opset 17")]


def test_named_candidates_replace_the_catalogue_s(model):
    found = candidates(model, "torch", ["celu", "relu", "leaky_relu(0.2)", "geglu"])
    assert found.activations == ("relu", "celu", "leaky_relu(slope=0.2)")
    assert [each.activation for each in found.left_out] == ["geglu"]


def test_a_torch_model_for_onnx_is_tried_by_exporting(model, monkeypatch):
    def refuse(exported, path, **_):
        if isinstance(exported.network[0], nn.Mish):
            raise SurgeryError("not exported")

    monkeypatch.setattr("robustcheck.networks.onnx.exporting.export_onnx", refuse)
    assert candidates(model, "onnx", ["mish", "gelu"]).activations == ("relu", "gelu")
    assert candidates(model, "torch", ["mish", "gelu"]).activations == ("relu", "mish", "gelu")


def test_no_candidates(model):
    with pytest.raises(UsageError, match="beside relu"):
        candidates(model, "torch", ["swiglu"])
    blank = Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), model.input, None, "none", "0")
    with pytest.raises(SurgeryError, match="at least one activation"):
        candidates(blank, "torch")


def test_latencies_are_quartiles_of_rounds_that_take_turns(model, monkeypatch):
    turns = []

    class Run:
        batch = 4

        def __init__(self, name):
            self.name, self.times = name, iter([5e-6, 1e-6, 3e-6, 2e-6, 9e-6])

        def seconds(self):
            turns.append(self.name)
            return next(self.times)

    monkeypatch.setattr(latency, "_prepared", lambda swapped, shape: Run(swapped.swaps[-1].activation))
    found = measure(model, ["relu", "pau"], (1, 8, 8), rounds=5)
    assert turns == ["relu", "pau"] * 5
    expected = np.percentile([5.0, 1.0, 3.0, 2.0, 9.0], [25, 50, 75])
    assert (found.measured["pau"].lower, found.measured["pau"].median, found.measured["pau"].upper) == pytest.approx(
        tuple(expected)
    )
    assert found.measured["pau"].batch == 4


def test_the_time_is_that_of_a_call_of_onnx_runtime():
    calls = []

    class Session:
        def run(self, outputs, given):
            calls.append(given)
            time.sleep(0.002)

    run = latency._Run(Session(), {"x": 1}, 1)
    assert run.calls == 1
    before = len(calls)
    assert 0.002 <= run.seconds() < 0.5
    assert len(calls) == before + 1


def test_a_torch_network_is_timed_as_it_is_exported(model):
    assert set(measure(model, ["gelu"], (1, 8, 8), rounds=2).measured) == {"gelu"}


def test_what_cannot_be_timed_is_named(onnx_model):
    assert "invalid dimensions" in measure(onnx_model, ["selu"], (3, 8, 8), rounds=2).problems["selu"]
    assert set(measure(onnx_model, ["selu", "gelu"], (1, 8, 8), rounds=2).measured) == {"selu", "gelu"}


def made_race(current, survivors, clean):
    accuracy = dict.fromkeys(clean, (0.8, 0.81, 0.82, 0.8))
    return Race(
        outcome=None,
        current=current,
        validation=accuracy,
        clean={name: tuple(np.asarray(value) + np.array([0, 0.01, 0.02, 0.0])) for name, value in clean.items()},
        survivors=survivors,
        stops=() if current in survivors else (Stop(current, 3, survivors[0], 0.1, 0.05),),
        seeds=4,
        alpha=0.05,
        steps=Steps(1, 2),
        full=Steps(3, 4),
    )


def fast(time, spread=0.1):
    return Latency(time, time - spread, time + spread, 1)


EQUAL = {"relu": fast(10), "gelu": fast(10), "silu": fast(10)}
SIZES = {"relu": 1000, "gelu": 1000, "silu": 1000}
CLEAN = {"relu": 0.9, "gelu": 0.9}


def verdict(race, latencies=EQUAL, sizes=SIZES):
    choice = choose(race, latencies, sizes, samples=1000)
    return choice.verdict, choice.chosen, {option.activation for option in choice.options if option.front}


def test_a_model_whose_activation_survives_keeps_it():
    race = made_race("relu", ("gelu", "relu"), CLEAN)
    assert verdict(race)[:2] == ("tie", "relu")
    assert verdict(race, EQUAL | {"gelu": fast(1)})[:2] == ("tie", "relu")


def test_a_lone_survivor_that_costs_nothing_wins():
    race = made_race("relu", ("gelu",), CLEAN)
    assert verdict(race) == ("winner", "gelu", {"gelu"})
    assert verdict(race, {}) == ("winner", "gelu", {"gelu"})
    assert verdict(race, EQUAL | {"gelu": fast(5)}) == ("winner", "gelu", {"gelu"})


@pytest.mark.parametrize(
    ("latencies", "sizes", "clean"),
    [
        (EQUAL | {"gelu": fast(12)}, SIZES, CLEAN),
        (EQUAL, SIZES | {"gelu": 1011}, CLEAN),
        (EQUAL, SIZES, {"relu": 0.95, "gelu": 0.9}),
    ],
)
def test_each_cost_makes_a_trade_off(latencies, sizes, clean):
    assert verdict(made_race("relu", ("gelu",), clean), latencies, sizes) == ("trade-off", "gelu", {"gelu", "relu"})


def test_differences_within_their_spread_are_none():
    race = made_race("relu", ("gelu",), CLEAN)
    assert verdict(race, EQUAL | {"gelu": fast(12, 2.5)})[0] == "winner"
    assert verdict(race, EQUAL, SIZES | {"gelu": 1010})[0] == "winner"


def test_of_several_survivors_the_most_accurate_is_chosen_and_a_faster_one_named():
    clean = {"relu": 0.9, "gelu": 0.9, "silu": 0.9}
    race = made_race("relu", ("gelu", "silu"), clean)
    assert verdict(race, EQUAL | {"gelu": fast(12), "silu": fast(8)}) == ("trade-off", "gelu", {"silu"})
    assert verdict(race, EQUAL | {"gelu": fast(8), "silu": fast(8)}) == ("winner", "gelu", {"gelu", "silu"})


def test_a_trade_off_says_who_is_better_and_in_what():
    clean = {"relu": 0.9, "gelu": 0.9, "silu": 0.9}
    race = made_race("relu", ("gelu", "silu"), clean)
    choice = choose(race, EQUAL | {"silu": fast(8)}, SIZES | {"silu": 1100}, samples=1000)
    assert (choice.verdict, choice.chosen, choice.better) == ("trade-off", "gelu", {"silu": ("latency",)})
    assert choose(race, EQUAL | {"gelu": fast(12), "silu": fast(12)}, SIZES, samples=1000).better == {
        "relu": ("latency",)
    }
    found = recommendation("trade-off").model_copy(update={"better": choice.better})
    assert headline(found) == "Put gelu in place of relu; a trade-off with silu, better in latency."
    assert headline(found.model_copy(update={"better": {"relu": ("latency",)}})).endswith("than relu, at a price.")


def test_learned_parameters_are_counted(model):
    found = parameters_of(model, ["relu", "prelu", "aptx_learned"])
    assert (found["prelu"] - found["relu"], found["aptx_learned"] - found["relu"]) == (4, 12)


@pytest.mark.parametrize("verdict", ["winner", "trade-off", "tie"])
def test_names_show_as_text(verdict):
    hostile = "<script>alert(1)</script>|`"
    text = render_recommendation(recommendation(verdict, model=hostile, current=hostile))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`" in text


def test_the_paragraph_says_what_was_tried_how_sure_what_it_costs_and_what_to_do():
    found = recommendation("winner")
    assert headline(found) == "Put gelu in place of relu."
    text = " ".join(paragraph(found))
    for part in ("2 other activations", "EP 0.5: +3.0 (+1.0 to +5.0), to 90.0 %", "at most 5.0 %", "20 % more time"):
        assert part in text
    assert "net-gelu.onnx" in text
    assert "does not confirm" not in text
    clean = found.gains[0].model_copy(update={"point": "clean", "difference": 0.009, "lower": -0.043, "upper": 0.062})
    told = " ".join(paragraph(found.model_copy(update={"gains": (*found.gains, clean)})))
    assert "10 µs → 12 µs) and no parameter; clean accuracy: +0.9 (−4.3 to +6.2)." in told
    unsure = found.gains[0].model_copy(update={"lower": -0.01})
    assert "does not confirm" in " ".join(paragraph(found.model_copy(update={"gains": (unsure,)})))


def test_a_tie_says_what_would_have_been_seen():
    found = recommendation("tie")
    race = found.race.model_copy(update={"margin": 0.023})
    options = (found.options[0].model_copy(update={"noisy": 0.904}), *found.options[1:])
    text = " ".join(paragraph(found.model_copy(update={"race": race, "options": options})))
    assert "With 5 networks each, gelu" in text
    assert "from 2.3 points of mean accuracy ahead; it was 0.4 points ahead." in text
    assert "--seeds" in text
    alone = race.model_copy(update={"survivors": ("relu",), "margin": None})
    assert "--seeds" not in " ".join(paragraph(found.model_copy(update={"race": alone})))


def test_the_margin_is_that_of_the_models_own_and_the_best_other():
    """Of two that run, by hand: a paired t at the rate of the third look, shared by two challengers."""
    accuracy = np.array([[0.90, 0.89, 0.5], [0.91, 0.93, 0.5], [0.92, 0.91, 0.5]])
    for first, own, running in (([0, 1, 2], 1, [0, 1]), ([1, 0, 2], 0, [1, 0])):
        seen = look(accuracy[:, first], np.array([True, True, False]), samples=360)
        order = sorted(running, key=lambda index: -accuracy[:, first].mean(axis=0)[index])
        found = _margin(seen, order, own)
        difference = accuracy[:, 0] - accuracy[:, 1]
        error = difference.std(ddof=1) / 3**0.5
        assert found == pytest.approx(stats.t.isf(0.05 / (3 * 2) / 2, 2) * error)
    assert _margin(seen, [0], 0) is None
    assert _margin(seen, [1], 0) is None


def test_the_table_says_what_counts_as_equal_and_what_a_stop_means():
    found = recommendation("winner")
    (note,) = options_table(found).notes
    assert "clean accuracies are equal unless they differ significantly" in note
    stopped = found.options[1].model_copy(update={"leads": False})
    assert "lower mean" in options_table(found.model_copy(update={"options": (found.options[0], stopped)})).notes[1]


def test_what_an_earlier_recommendation_delivered_is_deleted(tmp_path):
    old = recommendation("winner")
    delivered = old.delivered.model_copy(update={"files": ("net-gelu.onnx", "new.onnx", "../net.onnx", "sub/net.onnx")})
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    files = [out / "net-gelu.onnx", out / "patch.md", out / "new.onnx", out / "mine.onnx"]
    files += [tmp_path / "net.onnx", out / "sub/net.onnx"]
    for file in files:
        file.write_text("x")
    remove_stale(out)
    assert all(file.exists() for file in files), "nothing says that they were delivered"
    (out / "recommendation.json").write_text(old.model_copy(update={"delivered": delivered}).to_json())
    remove_stale(out, keep=["new.onnx"])
    assert [file.exists() for file in files] == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("typed", "file", "begins"),
    [
        (["net.onnx", "--data", "folder:my photos", "--mean", "0.5,0.4,0.3"], "out/n.onnx", "out/n.onnx"),
        (["digits-convnet", "--resize", "8x9", "--flip", "--train", "scratch"], "out/n.toml", "out/n.toml"),
        (["net:build", "--data", "digits", "--weights", "a.pt"], "out/n.toml", "net:build --weights out/n.toml"),
    ],
)
def test_the_audit_of_what_was_delivered_is_of_the_same_data_and_sensor(typed, file, begins):
    shared = ["--sensor", "adc-4bit", "--bits", "3", "--ep", "0.3", "--ep", "0.6", "--placement", "network"]
    shared += ["--draws", "7", "--precision", "0.7%", "--max-samples", "50", "-o", "out", "--jobs", "1"]
    context = command.make_context("recommend", [*typed, *shared])
    stated = _study(context.params["model"], context.params)
    line = _audit_command(context, stated, Path(file))
    assert line.startswith(f"robustcheck audit {begins} --data ")
    assert "--jobs" not in line
    params = audit.make_context("audit", shlex.split(line)[2:]).params
    again = Study.create(kind="audit", **base_study(params, params["model"]))
    for name in ("data", "sensors", "eps", "draws", "precision"):
        assert getattr(again, name) == getattr(stated, name)
    assert again.models[0].mean == stated.models[0].mean


def test_a_gain_allows_for_its_networks_having_been_chosen():
    """18 equal activations of 5 networks each; the best on validation is tested with the networks that won."""
    rng = np.random.default_rng(5)
    activations, seeds, samples, repetitions = 18, 5, 2000, 1000
    above = {"plain": 0, "corrected": 0}
    for _ in range(repetitions):
        truth = np.clip(0.9 + 0.02 * rng.standard_normal((seeds, activations)), 0, 1)
        validation, test = rng.binomial(samples, truth) / samples, rng.binomial(samples, truth) / samples
        pair = [1 + int(validation[:, 1:].mean(axis=0).argmax()), 0]
        for name, alpha in (("plain", ALPHA), ("corrected", ALPHA / (activations - 1))):
            found = rank(test[:, pair], ["chosen", "current"], samples=samples, alpha=alpha)
            above[name] += found.pairs[0].lower > 0
    assert above["plain"] > 0.06 * repetitions
    assert above["corrected"] <= 0.025 * repetitions
