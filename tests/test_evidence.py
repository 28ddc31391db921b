"""Confusions, pictures and the cost of each site, against what the network and the channel say when asked directly."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix as reference_matrix

from robustcheck.analysis.intervals import sample_interval
from robustcheck.errors import InvalidValueError, UsageError
from robustcheck.networks.loading import load_model
from robustcheck.reporting.evidence import _entries, _png, confusion_matrix
from robustcheck.reporting.evidence_tables import costs
from robustcheck.reporting.produce import run_study
from robustcheck.reporting.report import Report
from robustcheck.reporting.summary import passages
from robustcheck.sensing.analog import NoisyNetwork
from robustcheck.sensing.channel import channel
from robustcheck.study.evaluation import evaluate, evaluate_network, ranges
from robustcheck.study.plan import Study

EPS = (0.3, 0.8)
AUDIT = {
    "kind": "audit",
    "models": [{"spec": "digits-convnet"}],
    "data": {"spec": "digits", "max_samples": 400},
    "eps": EPS,
    "draws": 3,
}


@pytest.fixture(scope="module")
def data():
    from robustcheck import load_data

    return load_data("digits", max_samples=400)


@pytest.fixture(scope="module")
def audit():
    return run_study(Study.create(**AUDIT, sensors=[{"spec": "adc-2bit"}]))


@pytest.fixture(scope="module")
def inside():
    sensors = [{"spec": "adc-4bit", "placement": "network"}]
    return run_study(Study.create(**AUDIT, sensors=sensors, sensitivity=True))


def test_a_confusion_matrix_is_scikit_learns():
    random = np.random.default_rng(1)
    labels, predicted = random.integers(0, 7, 50), random.integers(0, 7, (4, 50)).astype(np.int32)
    expected = reference_matrix(np.tile(labels, 4), predicted.ravel(), labels=range(7))
    assert (confusion_matrix(labels, predicted, 7) == expected).all()


def test_of_many_classes_only_the_mistakes_are_kept():
    matrix = np.full((40, 40), 2) + np.eye(40, dtype=int) * 100
    entries = _entries(matrix)
    assert len(entries) == 1024
    assert all(true != taken for true, taken, _ in entries)


@pytest.mark.parametrize(("classes", "right"), [(32, 32), (33, 0)])
def test_of_up_to_32_classes_what_is_right_is_kept_too(classes, right):
    entries = _entries(np.ones((classes, classes), dtype=int))
    assert len(entries) == 1024
    assert sum(true == taken for true, taken, _ in entries) == right


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_picture_is_the_middle_and_of_other_than_three_channels_the_first(channels):
    image = torch.arange(channels * 100 * 80).reshape(channels, 100, 80).remainder(251) / 255
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(_png(image)))))
    middle = (image[:, 18:82, 8:72] * 255).round().to(torch.uint8).numpy()
    expected = middle.transpose(1, 2, 0) if channels == 3 else middle[0]
    assert (pixels == expected).all()


def test_the_confusion_is_that_of_the_least_accurate_point(audit, data):
    (found,) = audit.confusions
    assert found.point == "ep=0.8"
    direct = evaluate(load_model("digits-convnet"), data, channel("adc-2bit", ep=0.8), draws=3)
    expected = reference_matrix(np.tile(direct.labels, 3), direct.predicted.ravel(), labels=range(10))
    matrix = np.zeros((10, 10), dtype=int)
    for true, taken, count in found.entries:
        matrix[true, taken] = count
    assert (matrix == expected).all()
    assert found.predictions == expected.sum()
    assert [count for *_, count in found.entries] == sorted((count for *_, count in found.entries), reverse=True)


def test_pictures_are_what_the_sensor_delivers_and_the_network_sees(audit, data):
    (found,) = audit.examples
    labels = data.test.labels.tolist()
    assert [each.label for each in found.samples] == list(dict.fromkeys(labels))[:6]
    for name, at in (("clean", None), ("ep=0.3", channel("adc-2bit", ep=0.3)), ("ep=0.8", channel("adc-2bit", ep=0.8))):
        direct = evaluate(load_model("digits-convnet"), data, at, draws=1)
        for sample in found.samples:
            row = data.test.sample_ids.tolist().index(sample.sample_id)
            (picture,) = (each for each in sample.pictures if each.point == name)
            assert picture.taken_for == direct.predicted[0, row]
            image = data.test.physical(torch.tensor([row]))
            if at is not None:
                image = at(image, data.test.sample_ids[[row]], 0)
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.png))))
            assert (shown == (image[0, 0] * 255).round().numpy()).all()


def test_noise_at_one_site_is_noise_at_no_other(data):
    model = load_model("digits-convnet")
    noisy = NoisyNetwork(model.network.eval(), model.input.normalise, "network")
    at = channel("adc-4bit", ep=0.8, placement="network", range="unit")
    images, ids = data.test.physical(torch.arange(32)), data.test.sample_ids[:32]
    with torch.no_grad():
        clean = noisy(images, ids, 0, None)
        with noisy.noise_only("image"):
            at_image = noisy(images, ids, 0, at)
        assert (at_image == noisy(at(images, ids, 0), ids, 0, None)).all()
        outputs = {}
        for site in noisy.sites[1:]:
            seen = {}
            layers = {name: module for name, module in noisy.network.named_modules() if name in noisy.sites}
            hooks = [
                layer.register_forward_hook(lambda m, i, o, name=name, seen=seen: seen.update({name: o}))
                for name, layer in layers.items()
            ]
            with noisy.noise_only(site):
                outputs[site] = noisy(images, ids, 0, at)
            for hook in hooks:
                hook.remove()
            before = noisy.sites[1 : noisy.sites.index(site)]
            quiet = {}
            hooks = [
                layer.register_forward_hook(lambda m, i, o, name=name, quiet=quiet: quiet.update({name: o}))
                for name, layer in layers.items()
            ]
            noisy(images, ids, 0, None)
            for hook in hooks:
                hook.remove()
            assert all((seen[name] == quiet[name]).all() for name in before)
            assert not (seen[site] == quiet[site]).all()
        assert (noisy(images, ids, 0, None) == clean).all()
        # With every site the noise is more than any one's, and leaving the block brings it all back.
        assert not any((noisy(images, ids, 0, at) == found).all() for found in outputs.values())


def test_a_site_that_is_none_is_refused():
    model = load_model("digits-convnet")
    noisy = NoisyNetwork(model.network, model.input.normalise, "network")
    with pytest.raises(InvalidValueError, match="expected one of image, conv1"), noisy.noise_only("conv9"):
        pass


def test_the_costliest_site_comes_first(inside):
    (found,) = inside.sensitivities
    accuracies = [site.accuracy for site in found.sites]
    assert {site.site for site in found.sites} == {"image", "conv1", "conv2", "conv3", "linear1", "output"}
    assert accuracies == sorted(accuracies)
    assert found.point == "ep=0.8"
    (worst,) = (each for each in inside.results[0].points if each.point.label == "EP 0.8")
    assert found.everywhere == worst.comparison.rows[0].accuracy < accuracies[0]
    assert found.clean == worst.comparison.rows[0].clean > accuracies[-1]
    assert all(site.samples.lower < site.accuracy < site.samples.upper for site in found.sites)


def test_the_costs_are_told_with_their_signs(inside):
    (found,) = inside.sensitivities
    (table,) = costs(inside)
    worst = found.sites[0]
    lost = 100 * (found.clean - worst.accuracy)
    assert table.lines[0].cells[0] == worst.site
    assert table.lines[0].cells[3] == f"−{lost:.1f}"
    answer = next(each for each in passages(inside) if each.heading == "The answer")
    assert f"costs most at {worst.site} ({lost:.1f} points)" in " ".join(answer.sentences)


def test_shared_weight_noise_widens_the_interval_of_a_site(inside, data):
    (found,) = inside.sensitivities
    model = load_model("digits-convnet")
    noisy = NoisyNetwork(model.network.eval(), model.input.normalise, "network")
    at = channel("adc-4bit", ep=0.8, placement="network")
    scales = ranges(noisy, data, at)
    for site in found.sites:
        with noisy.noise_only(site.site):
            direct = evaluate_network(noisy, data.test, at, draws=3, scales=scales).correct
        assert (site.samples.lower, site.samples.upper) == sample_interval([direct], draws_are_clusters=True)


def test_sensitivity_wants_noise_at_several_sites():
    with pytest.raises(UsageError, match="expected a sensor with placement network"):
        Study.create(**AUDIT, sensors=[{"spec": "adc-4bit"}], sensitivity=True)


def test_looking_at_sites_changes_no_other_number(inside, audit):
    plain = run_study(Study.create(**AUDIT, sensors=[{"spec": "adc-4bit", "placement": "network"}]))
    assert plain.results == inside.results
    assert plain.training[0].cell != inside.training[0].cell
    assert "sensitivities" not in plain.model_dump(mode="json")
    assert Report.model_validate_json(inside.to_json()) == inside
