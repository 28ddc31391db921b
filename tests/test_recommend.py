"""The recommendation end to end on small networks: race, choice, estimate, delivery."""

import hashlib
import json
import re

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from exports import export_network
from scipy import stats
from synthetic_recommendation import recommendation
from torch import nn

from robustcheck import Report, Study, load_data, load_model, run_study
from robustcheck.cli.recommend import recommend as command
from robustcheck.errors import ModelError, RobustcheckError, UsageError
from robustcheck.networks.architectures import build
from robustcheck.networks.surgery import current_activation, find_sites
from robustcheck.recommend import produce, race
from robustcheck.recommend.document import Recommendation
from robustcheck.recommend.latency import Latencies
from robustcheck.recommend.produce import recommend
from robustcheck.sensing.channel import channel
from robustcheck.sensing.random import torch_seed
from robustcheck.study import runner
from robustcheck.study.cells import load_study, ranking_cells, tuning_cells
from robustcheck.study.evaluation import evaluate
from robustcheck.study.store import Store

CONVNET = {"in_channels": 1, "image_size": 8, "classes": 10, "channels": [8, 8], "pool_after": [1, 2], "linear": [16]}


class Transformer(nn.Module):
    """Patches, one block of attention and a feed-forward part with SiLU."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 2, 2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(16)])
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.feed(self.norms[1](x))
        return self.head(x.mean(1))


def transformer():
    return Transformer()


def study(spec, *, mode="scratch", seeds=4, epochs=4, samples=240, **more):
    return Study.create(
        models=[{"spec": spec}],
        data={"spec": "digits", "max_samples": samples},
        sensors=[{"spec": "adc-4bit"}],
        eps=[0.3, 0.6],
        activations=["relu"],
        seeds=seeds,
        draws=2,
        training={"mode": mode, "train_ep": "mixed", "epochs": epochs, "batch_size": 16, "learning_rates": [1e-2]}
        | more,
    )


@pytest.fixture(scope="module")
def sigmoid_file(tmp_path_factory):
    """A network whose sigmoids keep it from learning."""
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    with torch_seed(0):
        network = build("convnet", CONVNET | {"activation": "sigmoid"})
    export_network(network, torch.zeros(2, 1, 8, 8), path, exporter="legacy", opset=17)
    return path


@pytest.fixture(autouse=True)
def untimed(monkeypatch, request):
    """Timing a torch network exports it once for each activation, which takes seconds; ONNX files are timed."""
    if "changed" not in request.fixturenames:
        monkeypatch.setattr(produce, "measure", lambda *_: Latencies({}, {}))


NAMED = ("relu", "elu", "tanh", "hardsigmoid")


@pytest.fixture(scope="module")
def changed(sigmoid_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("recommend")
    grid = study(str(sigmoid_file), learning_rates=[5e-3, 1e-2], tuning_epochs=1)
    return recommend(grid, out, named=NAMED, command="robustcheck recommend net.onnx"), out


def test_the_model_s_own_activation_is_beaten(changed):
    found = changed[0].recommendation
    assert found.current == "sigmoid"
    assert found.verdict in ("winner", "trade-off")
    assert found.chosen in ("relu", "elu", "tanh")
    assert found.candidates == ("sigmoid", *NAMED)
    stops = {stop.activation: stop for stop in found.race.stops}
    assert stops["sigmoid"].behind > stops["sigmoid"].margin > 0
    assert set(found.race.survivors) | set(stops) == set(found.candidates)


def test_racing_ends_where_the_full_grid_does(changed):
    made, out = changed
    grid = run_study(made.study, out)
    accuracy = {spec: {} for spec in made.study.activations}
    for record in grid.training:
        accuracy[record.activation][record.seed] = record.validation_accuracy
    means = {spec: np.mean(list(by_seed.values())) for spec, by_seed in accuracy.items()}
    assert max(means, key=means.get) == made.recommendation.race.survivors[0]
    for spec, seen in made.recommendation.race.validation.items():
        assert seen == tuple(accuracy[spec][seed] for seed in range(len(seen)))
    assert len(made.recommendation.race.validation["sigmoid"]) == 4, "the reference goes on"
    (stop,) = (each for each in made.recommendation.race.stops if each.activation == "hardsigmoid")
    assert len(made.recommendation.race.validation["hardsigmoid"]) == stop.seeds


def test_steps_are_counted(changed):
    made, _ = changed
    steps_an_epoch = len(load_data("digits", max_samples=240).train) // 16
    networks = sum(map(len, made.recommendation.race.validation.values()))
    summary = made.recommendation.race
    assert summary.steps.networks == networks * 4 * steps_an_epoch
    assert summary.steps.trials == 5 * 2 * 1 * steps_an_epoch
    assert summary.full_grid.networks == 5 * 4 * 4 * steps_an_epoch
    assert summary.full_grid.trials == summary.steps.trials
    assert summary.saved == pytest.approx(1 - summary.steps.total / summary.full_grid.total)


def test_the_delivered_file_is_the_cell(changed):
    made, out = changed
    found = made.recommendation
    (name,) = found.delivered.files
    model = load_model(str(out / name))
    assert current_activation(find_sites(model)) == found.chosen
    assert found.delivered.same_network
    by_seed = found.race.validation[found.chosen]
    assert found.delivered.validation_accuracy == max(by_seed)
    assert found.delivered.seed == int(np.argmax(by_seed))
    report = Report.load(out / "report.json")
    (row,) = (row for row in report.results[0].points[-1].comparison.rows if row.activation == found.chosen)
    data = load_data("digits", max_samples=240)
    again = evaluate(model, data, channel("adc-4bit", ep=0.6, seed=found.delivered.seed), draws=2).accuracy
    assert again == pytest.approx(row.per_seed[found.delivered.seed], abs=0.02)
    nodes = {node.op_type for node in onnx.load(out / name).graph.node}
    assert "Sigmoid" not in nodes


def test_the_gain_is_a_paired_t_interval_on_the_test_split(changed):
    made, out = changed
    found, report = made.recommendation, Report.load(out / "report.json")
    assert [gain.point for gain in found.gains] == ["clean", "quantised only", "EP 0.3", "EP 0.6", "area"]
    rows = {row.activation: np.array(row.per_seed) for row in report.results[0].points[-1].comparison.rows}
    gain = found.gains[3]
    reference = stats.ttest_rel(rows[found.chosen], rows["sigmoid"]).confidence_interval(1 - 0.05 / 4)
    assert (gain.lower, gain.upper) == pytest.approx((reference.low, min(1.0, reference.high)))
    assert gain.difference == pytest.approx(gain.chosen - gain.current)
    assert gain.difference > 0.1


def test_the_documents(changed):
    made, out = changed
    found = made.recommendation
    document = json.loads((out / "recommendation.json").read_text())
    assert Recommendation.model_validate(document) == found
    assert set(document) == set(Recommendation.model_fields)
    text = (out / "recommendation.md").read_text()
    assert text.startswith("# ")
    assert found.chosen in text
    assert "robustcheck recommend net.onnx" in text
    assert "no part in the choice" in text
    patch = (out / "patch.md").read_text()
    sites = find_sites(load_model(found.model))
    assert len(re.findall(rf"\| sigmoid \| {found.chosen} \|", patch)) == len(sites) == 3
    assert all(site.nodes[0].replace("_", r"\_") in patch for site in sites)
    assert {path.name for path in made.files} >= {"recommendation.json", "patch.md", "report.json", "report.html"}


def test_a_second_call_trains_nothing_and_says_the_same(changed):
    made, out = changed
    seen = []
    again = recommend(
        made.study, out, named=NAMED, command="robustcheck recommend net.onnx", progress=seen.append
    ).recommendation
    assert seen == []
    assert again.race == made.recommendation.race
    assert again.gains == made.recommendation.gains


class StoppedError(Exception):
    pass


def test_an_interrupted_race_ends_as_an_undisturbed_one(changed, tmp_path):
    made, _ = changed

    def interrupt(after):
        left = iter(range(after))

        def progress(now):
            if now.running and next(left, None) is None:
                raise StoppedError

        return progress

    for after in (3, 9):
        with pytest.raises(StoppedError):
            recommend(made.study, tmp_path, named=NAMED, progress=interrupt(after))
        assert not (tmp_path / "recommendation.json").exists()
    assert recommend(made.study, tmp_path, named=NAMED).recommendation.race == made.recommendation.race


def test_a_tie_keeps_the_model_and_writes_none(tmp_path):
    (tmp_path / "recommendation.json").write_text(recommendation("winner").to_json())
    for stale in ("net-gelu.onnx", "patch.md"):
        (tmp_path / stale).write_text("of an earlier call")
    looks = []
    grid = study("digits-convnet", mode="finetune", seeds=2, epochs=1, learning_rates=[1e-4])
    made = recommend(grid, tmp_path, named=["leaky_relu"], on_look=lambda *look: looks.append(look))
    found = made.recommendation
    assert (found.verdict, found.chosen, found.delivered, found.gains) == ("tie", "relu", None, ())
    assert [look[0] for look in looks] == [2]
    assert set(looks[0][2]) == {"relu", "leaky_relu"}
    assert found.race.margin > 0
    assert not [*tmp_path.glob("*.toml"), *tmp_path.glob("*.onnx")]
    assert not (tmp_path / "patch.md").exists()
    assert "no model was written" in (tmp_path / "recommendation.md").read_text()


def test_a_transformer_is_delivered_as_a_recipe_and_where_asked_as_onnx(tmp_path, monkeypatch):
    monkeypatch.setattr(race, "look", lambda accuracy, running, **_: _beaten(accuracy, running))
    grid = study("test_recommend:transformer", seeds=2, epochs=1, samples=160)
    found = recommend(grid, tmp_path, named=["prelu"], target="onnx").recommendation
    assert (found.current, found.chosen) == ("silu", "prelu")
    assert [name.rpartition(".")[2] for name in found.delivered.files] == ["toml", "safetensors", "onnx"]
    recipe = tmp_path / found.delivered.files[0]
    model = load_model("test_recommend:transformer", weights=str(recipe))
    assert hashlib.sha256(recipe.read_bytes()).hexdigest() == found.delivered.sha256
    loaded = load_study(grid.model_copy(update={"activations": ("silu", "prelu")}))
    trials = {cell.contestant: 1e-2 for cell in ranking_cells(loaded, {})}
    cells = [cell for cell in ranking_cells(loaded, trials) if cell.contestant.activation == "prelu"]
    cell = next(cell for cell in cells if cell.seed == found.delivered.seed)
    trained = runner.train_cell(loaded, cell).model.network.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.network.state_dict().items())
    assert "(+1)" in (tmp_path / "patch.md").read_text()
    assert found.option("prelu").parameters == found.option("silu").parameters + 1


def _beaten(accuracy, running):
    """A look at which the model's own activation, the first, is stopped."""
    stopped = running & (np.arange(accuracy.shape[1]) == 0)
    ones = np.ones(accuracy.shape[1])
    return race.Look(np.intp(1), ones, 0 * ones, stopped)


def test_a_candidate_that_fails_leaves_the_race(tmp_path, monkeypatch):
    train = runner.train_cell

    def failing(loaded, cell):
        if cell.contestant.activation == failing.activation and cell.seed == 1:
            raise ModelError("<script>out of memory</script>")
        return train(loaded, cell)

    monkeypatch.setattr(runner, "train_cell", failing)
    grid = study("digits-convnet", mode="finetune", seeds=3, epochs=1, samples=160, learning_rates=[1e-4])
    failing.activation = "elu"
    found = recommend(grid, tmp_path / "one", named=["elu", "selu"]).recommendation
    (stop,) = found.race.stops
    assert (stop.activation, stop.seeds) == ("elu", 2)
    assert "out of memory" in stop.reason
    assert "&lt;script&gt;out of memory" in (tmp_path / "one" / "recommendation.md").read_text()
    failing.activation = "relu"
    with pytest.raises(ModelError, match="model's own activation"):
        recommend(grid, tmp_path / "two", named=["elu"])


def test_the_race_ends_where_only_the_model_s_own_is_left(tmp_path, monkeypatch):
    told = {}

    def look(accuracy, running, **how):
        told.update(how)
        ones = np.ones(accuracy.shape[1])
        return race.Look(np.intp(0), ones, 0 * ones, running & (np.arange(accuracy.shape[1]) > 0))

    monkeypatch.setattr(race, "look", look)
    grid = study("digits-convnet", mode="finetune", seeds=5, epochs=1, samples=160, learning_rates=[1e-4])
    found = recommend(grid, tmp_path, named=["elu"], alpha=0.2).recommendation
    assert (found.verdict, found.race.seeds) == ("tie", 2)
    assert found.race.survivors == ("relu",)
    # The race is judged at the rate asked for, by the validation samples behind each accuracy.
    validation = len(load_data("digits", max_samples=160).validation)
    assert (told["alpha"], told["samples"], found.race.alpha) == (0.2, validation, 0.2)


def test_refused_studies(tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        recommend(study("digits-convnet", seeds=1), tmp_path)
    with pytest.raises(UsageError, match="train_ep mixed"):
        recommend(study("digits-convnet", train_ep="matched"), tmp_path)
    two = study("digits-convnet").model_copy(update={"models": study("digits-convnet").models * 2})
    with pytest.raises(UsageError, match="models: expected one"):
        recommend(two, tmp_path)


def test_trials_may_be_shorter_and_old_cells_stay_theirs():
    plain = study("digits-convnet", learning_rates=[1e-3, 1e-2])
    short = study("digits-convnet", learning_rates=[1e-3, 1e-2], tuning_epochs=1)
    one_epoch = study("digits-convnet", learning_rates=[1e-3, 1e-2], epochs=1)
    assert "tuning_epochs" not in plain.document()["training"]
    assert short.document()["training"]["tuning_epochs"] == 1
    assert Study.model_validate(short.document()) == short

    def hashes(grid):
        loaded = load_study(grid)
        trials = tuning_cells(loaded)
        rates = {cell.contestant: 1e-3 for cell in trials}
        return {loaded.hash(cell) for cell in trials}, {loaded.hash(cell) for cell in ranking_cells(loaded, rates)}

    assert hashes(short)[1] == hashes(plain)[1]
    assert hashes(short)[0] == hashes(one_epoch)[0]
    assert not hashes(short)[0] & hashes(plain)[0]


def test_a_trial_has_its_epochs_and_a_ranked_network_its_clean_accuracy(changed):
    made, out = changed
    loaded = load_study(made.study)
    trial = tuning_cells(loaded)[0]
    with Store(out) as store:
        record = store.training(loaded.hash(trial))
        assert (record.epochs, record.clean_validation_accuracy) == (1, None)
        rates = {cell.contestant: 1e-2 for cell in tuning_cells(loaded)} | {trial.contestant: 5e-3}
        held = [cell for cell in ranking_cells(loaded, rates) if store.held([loaded.hash(cell)])]
        assert held
        record = store.training(loaded.hash(held[0]))
    assert record.epochs == 4
    trained = runner.train_cell(loaded, held[0])
    with torch.no_grad():
        images = loaded.data.validation.physical(torch.arange(len(loaded.data.validation)))
        predicted = trained.model.network(trained.model.input.normalise(images)).argmax(1)
    expected = (predicted == loaded.data.validation.labels).double().mean().item()
    assert record.clean_validation_accuracy == pytest.approx(expected)


def invoke(*arguments):
    result = CliRunner().invoke(command, [str(each) for each in arguments], standalone_mode=False)
    if isinstance(result.exception, RobustcheckError):
        raise result.exception
    assert result.exception is None, result.exception
    return result


def test_the_command(tmp_path):
    common = ["digits-convnet", "--ep", "0.5", "-a", "gelu", "-a", "swiglu", "--seeds", "2", "--epochs", "1"]
    common += ["--lr", "0.0001", "--max-samples", "160", "--jobs", "1", "-o", tmp_path / "out"]
    shown = invoke(*common, "--save-study", tmp_path / "grid.toml")
    assert "Keep relu" in shown.stdout
    assert "gelu" in shown.stdout
    assert "Front: no other option" in " ".join(shown.stdout.split())
    assert "candidates beside relu: gelu" in shown.stderr
    assert "not swiglu: " in shown.stderr
    assert "after seed 2" in shown.stderr
    assert "\x1b" not in shown.output
    assert Study.load(tmp_path / "grid.toml").activations == ("relu", "gelu")
    machine = invoke(*common, "--json", "-q")
    assert json.loads(machine.stdout)["verdict"] == "tie"
    assert machine.stderr == ""
    with pytest.raises(UsageError, match="one sensor"):
        invoke(*common, "--bits", "3", "--bits", "4")


def test_the_default_trials_cost_half_a_network():
    assert [produce.tuning_epochs(epochs) for epochs in (1, 2, 6, 30)] == [1, 1, 1, 5]
