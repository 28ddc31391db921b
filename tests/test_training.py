"""Training and evaluation: what is chosen where, what repeats, and what the shipped model's recipe promises."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from robustcheck import channel, evaluate, load_data, load_model, load_sensor, train
from robustcheck.errors import FileFormatError, InvalidValueError, UnknownNameError, UsageError
from robustcheck.networks.recipes import load_recipe
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import Channel
from robustcheck.sensing.sensor import sensor
from robustcheck.study.evaluation import CHUNK, evaluate_network
from robustcheck.study.plan import TrainingPolicy
from robustcheck.study.recipes import train_recipe
from robustcheck.study.training import WARM_UP, _rate_factor


@pytest.fixture(scope="module")
def model():
    return load_model("digits-convnet")


@pytest.fixture(scope="module")
def data():
    return load_data("digits", max_samples=300)


def test_the_shipped_model_is_as_accurate_as_its_recipe_says(model):
    recipe = load_recipe("digits-convnet")
    assert evaluate(model, load_data("digits")).accuracy == pytest.approx(recipe.accuracy, abs=2e-6 + 1 / 359)


def test_a_recipe_gives_the_same_bits_twice(tmp_path):
    recipe = load_recipe("digits-convnet")
    short = recipe.model_copy(update={"training": {**recipe.training, "epochs": 1}})
    one, two = (train_recipe(short, tmp_path / name) for name in ("one", "two"))
    assert one.recipe.sha256 == two.recipe.sha256 != recipe.sha256
    assert not one.unchanged
    other = recipe.model_copy(update={"training": {**recipe.training, "epochs": 1, "seed": 1}})
    assert train_recipe(other, tmp_path / "other").recipe.sha256 != one.recipe.sha256


@pytest.mark.parametrize("change", [{"seed": "zero"}, {"epochz": 3}, {"epochs": 0}])
def test_a_recipe_with_a_wrong_policy_is_refused(tmp_path, change):
    recipe = load_recipe("digits-convnet")
    wrong = recipe.model_copy(update={"training": {**recipe.training, **change}})
    with pytest.raises(FileFormatError, match=r"digits-convnet.toml, field training"):
        train_recipe(wrong, tmp_path)


def test_training_leaves_the_given_model_alone(model, data):
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    trained = train(model, data, policy=TrainingPolicy(epochs=1), learning_rate=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert trained.model.sha256 != model.sha256


def test_the_epoch_kept_is_that_of_the_highest_validation_accuracy(model, data):
    policy = TrainingPolicy(epochs=6, schedule="constant")
    trained = train(model, data, sensor("adc-2bit"), (0.6,), policy=policy, learning_rate=0.02, seed=1)
    assert trained.validation_accuracy == max(trained.validation_curve)
    assert len(trained.validation_curve) == 6
    noisy = NoisyNetwork(trained.model.network, trained.model.input.normalise, "sensor")
    again = channel(sensor("adc-2bit"), ep=0.6, seed=1)
    again = type(again)(again.sensor, again.point, again.seed, "validation")
    assert evaluate_network(noisy, data.validation, again, draws=1).accuracy == trained.validation_accuracy


def test_patience_stops_early(model, data):
    policy = TrainingPolicy(epochs=50, patience=2)
    trained = train(model, data, sensor("adc-2bit"), (0.6,), policy=policy, learning_rate=1e-6)
    assert len(trained.validation_curve) < 50
    assert len(trained.validation_curve) - 1 - trained.best_epoch == 2


def test_a_run_that_diverges_at_once_counts_with_what_it_has(model, data):
    policy = TrainingPolicy(epochs=20, optimizer="sgd", schedule="constant")
    trained = train(model, data, policy=policy, learning_rate=1e9)
    assert not math.isfinite(trained.train_loss[-1])
    assert trained.best_epoch is None
    # Not with the weights that it was given, which are good.
    assert evaluate(trained.model, data).accuracy < 0.3 < evaluate(model, data).accuracy


def test_a_sample_is_judged_the_same_in_any_company(model):
    # The draws of a sample depend on its id alone; the chunk is padded, so that its neighbours do not matter either.
    data, sensed = load_data("digits"), channel("adc-2bit", ep=0.6)
    whole = evaluate(model, data, sensed, draws=3)
    rows = torch.arange(CHUNK, 2 * CHUNK)
    part = type(data.test)(data.test.images[rows], data.test.labels[rows], data.test.sample_ids[rows])
    noisy = NoisyNetwork(model.network, model.input.normalise, "sensor")
    assert np.array_equal(
        evaluate_network(noisy, part, sensed, draws=3).predicted, whole.predicted[:, CHUNK : 2 * CHUNK]
    )


def test_clean_accuracy_is_that_of_a_plain_loop(model):
    test = load_data("digits").test
    with torch.no_grad():
        plain = (model.network(model.input.normalise(test.physical())).argmax(1) == test.labels).double().mean()
    assert evaluate(model, load_data("digits"), draws=7).accuracy == pytest.approx(plain.item(), abs=1e-12)


def test_noise_lowers_accuracy(model, data):
    found = [evaluate(model, data, channel("adc-2bit", ep=ep), draws=3).accuracy for ep in (0.1, 0.5, 0.9)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[2] > 0.2


def test_the_cosine_schedule():
    policy = TrainingPolicy()
    factors = [_rate_factor(policy, step, 1000) for step in range(1001)]
    peak = int(1000 * WARM_UP)
    assert factors[peak] == 1.0
    assert factors[:peak] == sorted(factors[:peak])
    assert 0 < factors[0] < 0.05
    assert factors[525] == pytest.approx(0.5, abs=1e-6)
    assert factors[1000] == pytest.approx(0, abs=1e-12)
    assert [_rate_factor(TrainingPolicy(schedule="constant"), step, 10) for step in (0, 5, 10)] == [1, 1, 1]
    assert 0 < _rate_factor(policy, 0, 1) <= 1


def test_batch_norm_trains_and_dropout_repeats(data):
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
    )
    blank = load_model("digits-convnet")
    given = type(blank)(network, blank.input, blank.classes, "test", "")
    runs = [
        train(given, data, sensor("adc-4bit", placement="network"), (0.2,), policy=TrainingPolicy(epochs=2), seed=3)
        for _ in range(2)
    ]
    assert runs[0].model.sha256 == runs[1].model.sha256
    assert runs[0].train_loss == runs[1].train_loss
    assert runs[0].model.network[2].num_batches_tracked > 0
    assert runs[0].scales == runs[1].scales != {}


def test_training_takes_what_a_user_has_at_hand(model, data):
    short = {"epochs": 1}
    by_name = train(model, data, "adc-2bit", (0.5,), policy=short)
    by_profile = train(model, data, load_sensor("adc-2bit"), (0.5,), policy=TrainingPolicy(epochs=1))
    by_channel = train(model, data, channel("adc-2bit", ep=0.5), policy=short)
    assert by_name.model.sha256 == by_profile.model.sha256 == by_channel.model.sha256
    clean = train(model, data, policy=short)
    inside = train(model, data, channel("adc-2bit", ep=0.5, placement="network", range="unit"), policy=short)
    assert len({by_name.model.sha256, clean.model.sha256, inside.model.sha256}) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("adc-2bit",), InvalidValueError, "points: expected at least one operating point with a sensor"),
        ((None, (0.5,)), InvalidValueError, "points: expected none without a sensor"),
        (("adc-2bit", (1.5,)), InvalidValueError, "expected 0 < EP < 1"),
        (("adc-2bits", (0.5,)), UnknownNameError, "did you mean 'adc-2bit'"),
    ],
)
def test_training_refuses_noise_that_is_half_stated(model, data, arguments, error, message):
    with pytest.raises(error, match=message):
        train(model, data, *arguments)


def test_training_refuses_an_unknown_policy(model, data):
    with pytest.raises(UsageError, match="policy: epochz"):
        train(model, data, policy={"epochz": 3})


def test_training_validation_and_test_see_noise_of_their_own(model, data, monkeypatch):
    seen = []
    key = Channel.key

    def spy(self, site, purpose):
        seen.append((self.stream, self.seed))
        return key(self, site, purpose)

    monkeypatch.setattr(Channel, "key", spy)
    train(model, data, "adc-2bit", (0.5,), policy={"epochs": 2}, seed=4)
    steps = 2 * (len(data.train) // 64)
    chunks = 2 * -(-len(data.validation) // CHUNK)
    assert seen.count(("train", 4)) == steps
    assert seen.count(("validation", 4)) == chunks
    assert len(seen) == steps + chunks
    seen.clear()
    evaluate(model, data, channel("adc-2bit", ep=0.5), draws=2)
    assert set(seen) == {("test", 0)}


def test_every_forward_pass_of_an_evaluation_has_the_same_rows(model, data):
    sizes = []
    hook = model.network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    try:
        evaluate(model, data, channel("adc-2bit", ep=0.5), draws=2)
    finally:
        hook.remove()
    assert set(sizes) == {CHUNK}
    assert len(data.test) % CHUNK
