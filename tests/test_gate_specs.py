"""What `gate MODEL` runs: the study of the settings, with that model and what was typed; and what it says of files."""

import json
import sys

import pytest

from robustcheck.cli import gate as command
from robustcheck.cli.main import main
from robustcheck.errors import StoreError

SETTINGS = """
[gate]
checks = ["draws >= 2"]

[study]
kind = "audit"
eps = [0.4]
draws = 2

[study.data]
spec = "digits"
max_samples = 300
split_seed = 7

[[study.models]]
spec = "digits-convnet"
mean = [0.25]

[[study.sensors]]
spec = "adc-3bit"
form = "doa"
"""
FACTORY = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robustcheck.toml").write_text(SETTINGS)
    yield tmp_path
    sys.modules.pop("zoo_of_the_gate", None)


@pytest.fixture
def stated(folder, monkeypatch, capsys):
    """The study that a command line would run, and what it says on standard error."""

    def of(*words):
        taken = []

        def keep(_params, study):
            taken.append(study)
            raise StoreError("not run")

        monkeypatch.setattr(command, "_run", keep)
        assert main(["gate", *words]) == 3
        return taken[0].document(), capsys.readouterr().err

    return of


def test_a_model_is_run_as_the_study_of_the_settings_says(stated):
    whole, _ = stated()
    study, said = stated("zoo_of_the_gate:net")
    assert study["models"][0]["spec"] == "zoo_of_the_gate:net"
    assert study["models"][0]["mean"] is None
    assert {**study, "models": None} == {**whole, "models": None}
    assert "note: [study] of robustcheck.toml is run with zoo_of_the_gate:net in place of digits-convnet" in said
    assert "note" not in stated("zoo_of_the_gate:net", "--quiet")[1]


def test_a_model_that_the_study_names_keeps_what_it_says_of_it(stated):
    assert stated("digits-convnet")[0] == stated()[0]


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (["--mean", "0.5"], ("models", 0, "mean"), [0.5]),
        (["--data", "npz:cells.npz"], ("data", "spec"), "npz:cells.npz"),
        (["--data", "npz:cells.npz"], ("data", "split_seed"), 7),
        (["--split-seed", "0"], ("data", "split_seed"), 0),
        (["--classes", "names.txt"], ("data", "classes"), ["a", "b"]),
        (["--sensor", "adc-6bit"], ("sensors", 0, "spec"), "adc-6bit"),
        (["--sensor", "adc-6bit"], ("sensors", 0, "form"), "aod"),
        (["--sensor", "adc-6bit"], ("eps",), [0.4]),
        (["--form", "aod"], ("sensors", 0, "form"), "aod"),
        (["--noise", "laplace"], ("sensors", 0, "form"), "doa"),
        (["--bits", "2", "--bits", "5"], ("sensors", 1, "bits"), 5),
        (["--bits", "2", "--bits", "5"], ("sensors", 1, "form"), "doa"),
        (["--ep", "0.2", "--ep", "0.6"], ("eps",), [0.2, 0.6]),
        (["--sensor", "camera-imx477", "--exposure", "0.5"], ("eps",), []),
        (["--sensor", "camera-imx477", "--exposure", "0.5"], ("exposures",), [0.5]),
        (["--sensor", "camera-imx477", "--vary", "bits"], ("sensors", 0, "vary"), "bits"),
        (["--sensor", "camera-imx477", "--vary", "bits"], ("eps",), [0.4]),
        (["--sensor", "camera-imx477", "--vary", "bits", "--exposure", "0.3"], ("sensors", 0, "at_exposure"), 0.3),
        (["--draws", "9"], ("draws",), 9),
    ],
)  # fmt: skip
def test_what_was_typed_wins_over_the_study(stated, folder, words, place, value):
    (folder / "names.txt").write_text("a\nb\n")
    found, _ = stated("digits-convnet", *words)
    for part in place:
        found = found[part]
    assert found == value


def test_a_model_is_gated_on_the_study_s_samples(folder, capsys):
    (folder / "zoo_of_the_gate.py").write_text(FACTORY)
    assert main(["gate", "zoo_of_the_gate:net", "--json"]) == 0
    (judgement,) = json.loads(capsys.readouterr().out)["judgements"]
    assert judgement["subject"]["spec"] == "zoo_of_the_gate:net"
    assert "adc-3bit" in judgement["subject"]["sensor"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nets/new.onnx", "nets/new.onnx: expected a model's file, got no file of this name"),
        (r"C:\new.pt2", r"C:\new.pt2: expected a model's file, got no file of this name"),
        ("digits-convent", "did you mean 'digits-convnet'"),
        ("zoo_of_the_gate:net", "--data: expected a data set, got none"),
    ],
)
@pytest.mark.parametrize("name", ["gate", "audit"])
def test_a_model_that_is_not_there_is_named_before_its_data(tmp_path, monkeypatch, capsys, name, model, expected):
    monkeypatch.chdir(tmp_path)
    check = ["--check", "draws >= 2"] if name == "gate" else []
    assert main([name, model, *check]) == 2
    assert expected in capsys.readouterr().err
