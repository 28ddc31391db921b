"""`assert_robust`: the same verdict and sentence as the gate's, as an assertion, a fixture and a skip."""

import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from robustcheck import Study, load_data, load_model, run_study
from robustcheck.data.datasets import Split
from robustcheck.errors import DataError, InvalidValueError, ModelError, UsageError
from robustcheck.gate.judge import judge
from robustcheck.gate.settings import GateSettings
from robustcheck.pytest_plugin import assert_robust
from robustcheck.sensing.optics import exposure_of_lux
from robustcheck.sensing.profile import load_sensor
from robustcheck.sensing.sensor import sensor

ROOT = Path(__file__).resolve().parent.parent
pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def convnet():
    return load_model("digits-convnet")


@pytest.fixture(scope="module")
def report():
    study = Study.create(
        kind="audit",
        models=[{"spec": "digits-convnet"}],
        data={"spec": "digits"},
        sensors=[{"spec": "adc-2bit"}],
        eps=[0.5],
        draws=5,
    )
    return run_study(study)


class Constant(nn.Module):
    """Says 0 to every image; has a dropout, so that its mode matters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.dropout(torch.eye(10)[0].expand(len(images), 10) * self.scale)


@pytest.mark.parametrize(("at_least", "outcome"), [(0.8, "pass"), (0.85, "inconclusive"), (0.9, "fail")])
def test_judges_as_the_gate_does(digits, convnet, report, at_least, outcome):
    (judgement,) = judge(report, GateSettings(checks=(f"accuracy@ep=0.5 >= {at_least}",))).judgements
    assert judgement.outcome == outcome
    if outcome == "pass":
        assert_robust(convnet, digits, sensor="adc-2bit", ep=0.5, at_least=at_least)
        return
    with pytest.raises(AssertionError) as failed:
        assert_robust(convnet, digits, sensor="adc-2bit", ep=0.5, at_least=at_least)
    assert str(failed.value).startswith(judgement.sentence)
    assert str(failed.value).lower().endswith(judgement.remedy.lower() + ".")


def test_what_is_undecided_counts_as_it_is_told(digits, convnet):
    undecided = {"sensor": "adc-2bit", "ep": 0.5, "at_least": 0.85}
    assert_robust(convnet, digits, **undecided, inconclusive="pass")
    with pytest.raises(pytest.skip.Exception, match=r"inconclusive\. More draws would not"):
        assert_robust(convnet, digits, **undecided, inconclusive="skip")
    for counts_as in ("pass", "skip"):
        with pytest.raises(AssertionError, match="fail"):
            assert_robust(convnet, digits, sensor="adc-2bit", ep=0.5, at_least=0.9, inconclusive=counts_as)


@pytest.mark.parametrize("training", [True, False])
def test_takes_a_network_and_leaves_it_as_it_is(digits, training):
    network = Constant().train(training)
    share = (digits.test.labels == 0).float().mean().item()
    assert_robust(network, digits, sensor="adc-4bit", ep=0.5, at_least=share / 2)
    with pytest.raises(AssertionError, match=f"Constant on adc-4bit.*accuracy {100 * share:.1f} %"):
        assert_robust(network, digits, sensor="adc-4bit", ep=0.5, at_least=0.9)
    assert [module.training for module in network.modules()] == [training, training]


def test_leaves_a_loaded_model_as_it_is(digits, convnet):
    assert_robust(convnet, digits, sensor="adc-4bit", ep=0.5, at_least=0.9)
    assert not any(module.training for module in convnet.network.modules())


def test_noise_shared_by_all_samples_is_counted_as_such(digits):
    """With placement network the draws are clusters: one draw decides nothing."""
    inside = sensor("adc-8bit", placement="network")
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_robust("digits-convnet", digits, sensor=inside, ep=0.1, at_least=0.5, draws=1)
    assert_robust("digits-convnet", digits, sensor=inside, ep=0.1, at_least=0.5, draws=5)


def test_a_camera_is_asked_at_an_exposure():
    assert_robust("digits-convnet", "digits", sensor="camera-imx477", exposure=0.5, at_least=0.8)


@pytest.mark.parametrize("exposure", ["50lx", "50 lx"])
def test_a_camera_is_asked_at_an_illuminance(digits, exposure):
    asked = {"sensor": "camera-imx477", "exposure": exposure, "at_least": 0.999}
    with pytest.raises(AssertionError, match="digits-convnet on camera-imx477 at 50 lx: accuracy") as lit:
        assert_robust("digits-convnet", digits, **asked)
    share = exposure_of_lux(load_sensor("camera-imx477"), 50.0)
    with pytest.raises(AssertionError) as exposed:
        assert_robust("digits-convnet", digits, **asked | {"exposure": share})
    assert str(lit.value).partition(": ")[2] == str(exposed.value).partition(": ")[2]


def test_the_accuracy_may_be_a_percentage(digits, convnet):
    with pytest.raises(AssertionError, match="at least 90 % asked for"):
        assert_robust(convnet, digits, sensor="adc-2bit", ep=0.8, at_least="90 %")
    assert_robust(convnet, digits, sensor="adc-2bit", ep=0.5, at_least="80%")


@pytest.mark.parametrize("form", ["tensors", "arrays", "doubles", "list", "bytes"])
def test_takes_images_and_labels(digits, convnet, form):
    images, labels = digits.test.physical(), digits.test.labels
    images, labels = {
        "tensors": (images, labels),
        "arrays": (images.numpy(), labels.numpy()),
        "doubles": (images.double().requires_grad_(), labels.int()),
        "list": (images, labels.tolist()),
        "bytes": ((images * 255).round().byte(), labels),
    }[form]
    whole = replace(digits, test=Split(digits.test.images, digits.test.labels, torch.arange(len(digits.test))))
    said = []
    for data in (whole, (images, labels)):
        with pytest.raises(AssertionError) as failed:
            assert_robust(convnet, data, sensor="adc-2bit", ep=0.5, at_least=0.9)
        said.append(str(failed.value))
    assert said[0] == said[1] or form == "bytes"


def test_samples_need_not_show_every_class(digits, convnet):
    few = digits.test.labels < 7
    given = digits.test.physical(few), digits.test.labels[few]
    assert_robust(convnet, given, sensor="adc-4bit", ep=0.5, at_least=0.9)
    unit = sensor("adc-8bit", placement="network", range="unit")
    with pytest.raises(AssertionError, match="adc-8bit"):
        assert_robust(convnet, given, sensor=unit, ep=0.1, at_least=0.999)


IMAGES, LABELS = torch.full((3, 1, 8, 8), 0.5), torch.tensor([0, 1, 9])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((IMAGES, LABELS, LABELS), DataError, "expected images and labels, got 3 values"),
        ((IMAGES[0], LABELS), DataError, r"images: expected \(n, c, h, w\) with c 1 or 3, got \(1, 8, 8\)"),
        ((IMAGES[:0], LABELS[:0]), DataError, "images: expected"),
        ((IMAGES.long(), LABELS), DataError, r"got torch\.int64"),
        ((3 * IMAGES, LABELS), DataError, r"in \[0, 1\], got 1.5 to 1.5; .*before any normalisation"),
        ((IMAGES * float("nan"), LABELS), DataError, "got nan to nan"),
        ((IMAGES, LABELS[:2]), DataError, r"labels: expected one integer an image, shape \(3,\), got \(2,\)"),
        ((IMAGES, LABELS.float()), DataError, r"got \(3,\) torch\.float32"),
        ((IMAGES, LABELS - 1), DataError, "labels: expected integers from 0, got -1"),
        ((IMAGES, LABELS + 1), ModelError, "expected 11 classes as in the data, got 10 logits"),
        ((IMAGES.expand(3, 3, 8, 8), LABELS), ModelError, "digits-convnet"),
        (IMAGES, UsageError, r"data: expected a spec, a data set or \(images, labels\), got Tensor"),
    ],
)
def test_images_and_labels_that_make_no_sense(convnet, data, error, message):
    with pytest.raises(error, match=message):
        assert_robust(convnet, data, sensor="adc-4bit", ep=0.5, at_least=0.9)


def test_ranges_cannot_be_taken_from_what_is_tested_on(convnet):
    inside = sensor("adc-8bit", placement="network")
    with pytest.raises(UsageError, match="expected training images too"):
        assert_robust(convnet, (IMAGES, LABELS), sensor=inside, ep=0.1, at_least=0.5)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"ep": None}, InvalidValueError, "ep, exposure or signal, one of them"),
        ({"exposure": 0.5}, InvalidValueError, "ep, exposure or signal, one of them"),
        ({"at_least": 1.5}, UsageError, "0 to 1"),
        ({"at_least": "90"}, UsageError, "write 'accuracy@ep=0.5 >= 90 %'"),
        ({"ep": None, "exposure": "50 lux"}, UsageError, "expected a number above 0 after exposure="),
        ({"ep": None, "exposure": "50 lx"}, UsageError, "expected a camera to expose, got adc-4bit"),
        ({"sensor": "adc-4bits"}, UsageError, "did you mean 'adc-4bit'"),
        ({"sensor": "lidar-vlp16", "ep": None, "signal": 0.5}, UsageError, "expected range images"),
        ({"inconclusive": "maybe"}, InvalidValueError, "fail or skip or pass"),
        ({"model": nn.Linear(3, 2)}, ModelError, "Linear"),
    ],
)
def test_what_makes_no_sense_is_no_failed_assertion(digits, changed, error, message):
    given = {"model": "digits-convnet", "data": digits, "sensor": "adc-4bit", "ep": 0.5, "at_least": 0.9, **changed}
    with pytest.raises(error, match=message):
        assert_robust(given.pop("model"), given.pop("data"), **given)


# The plugin as it is in the tree, whether or not the package that is installed names it.
OURS = ("-p", "no:robustcheck", "-p", "robustcheck.pytest_plugin", "-p", "no:cacheprovider")


def test_is_a_fixture_whose_failure_is_the_sentence(pytester):
    pytester.makepyfile(
        """
        def test_passes(assert_robust):
            assert_robust("digits-convnet", "digits", sensor="adc-4bit", ep=0.5, at_least=0.9)

        def test_fails(assert_robust):
            assert_robust("digits-convnet", "digits", sensor="adc-2bit", ep=0.8, at_least=0.9)

        def test_skips(assert_robust):
            assert_robust("digits-convnet", "digits", sensor="adc-2bit", ep=0.5, at_least=0.85, inconclusive="skip")
        """
    )
    done = pytester.runpytest_inprocess(*OURS, "-rs")
    done.assert_outcomes(passed=1, failed=1, skipped=1)
    done.stdout.fnmatch_lines(
        ["*AssertionError: digits-convnet on adc-2bit at EP 0.8: accuracy * %*asked for: fail. *"]
    )
    done.stdout.no_fnmatch_line("*def assert_robust*")


def test_the_documentations_example_runs(pytester):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/gate.md").read_text(encoding="utf-8"), flags=re.S)
    pytester.makepyfile(example)
    tests = example.count("def test_")
    pytester.runpytest_inprocess(*OURS).assert_outcomes(passed=tests)


def test_pytest_finds_it_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"robustcheck": "robustcheck.pytest_plugin"}


def test_costs_a_run_of_pytest_nothing():
    probe = "import sys, robustcheck.pytest_plugin; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
