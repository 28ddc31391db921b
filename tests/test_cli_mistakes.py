"""What is said of study, settings, profile and recipe files that hold the wrong thing: in the house's words."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from robustcheck.cli.main import main
from robustcheck.errors import ModelError, UsageError
from robustcheck.gate.checks import Check
from robustcheck.gate.settings import GateSettings, load_gate
from robustcheck.gate.verdict import Subject
from robustcheck.gate.wording import decided
from robustcheck.networks.fitting import check_fit
from robustcheck.networks.loading import load_model
from robustcheck.networks.recipes import Recipe
from robustcheck.networks.saved import SavedModel
from robustcheck.sensing.profile import RECORDS
from robustcheck.study.plan import Study
from robustcheck.tomlfile import problems

STUDY = {
    "models": [{"spec": "digits-convnet"}],
    "data": {"spec": "digits"},
    "sensors": [{"spec": "adc-4bit"}],
    "eps": [0.5],
    "activations": ["relu"],
}
ABSENT = object()


def said(record, document):
    with pytest.raises(ValidationError) as caught:
        record.model_validate(document)
    return [str(each) for each in problems(caught.value, record)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"draws": -1}, "draws: expected a whole number from 1 to 100000, got -1"),
        ({"draws": 1.5}, "draws: expected a whole number from 1 to 100000, got 1.5"),
        ({"drawz": 3}, "drawz: unknown field; did you mean 'draws'?"),
        ({"kind": "adit"}, "kind: expected 'compare' or 'audit', got 'adit'"),
        ({"data": ABSENT}, "data: expected a table, got none; add it"),
        ({"data": "digits"}, "data: expected a table, got 'digits'"),
        ({"eps": 0.5}, "eps: expected a list of 0 to 200 values, got 0.5"),
        ({"eps": [0.5, 1.5]}, "eps.1: expected a number above 0 and below 1, got 1.5"),
        ({"models": []}, "models: expected a list of 1 to 32 values, got []"),
        ({"models": [{"spec": ""}]}, "models.0.spec: expected text that is not empty, got ''"),
        ({"sensitivity": "maybe"}, "sensitivity: expected true or false, got 'maybe'"),
        ({"data": {"spec": "digits", "crop": [8, 8, 8]}}, "data.crop: expected a list of 2 values, got [8, 8, 8]"),
        (
            {"data": {"spec": "digits", "crop": [8]}},
            "data.crop.1: expected a whole number from 1 to 4096, got none; add it",
        ),
        ({"data": {"spec": "digits", "crop": [8, 0]}}, "data.crop.1: expected a whole number from 1 to 4096, got 0"),
        (
            {"sensors": [{"spec": "adc-4bit", "settings": {"bits": "four"}}]},
            "sensors.0.settings.bits: expected a number, got 'four'",
        ),
        ({"activations": []}, "activations: expected at least one to compare with the model's own, got none"),
        (
            {"sensors": [{"spec": "adc-4bit", "exposures": [0.1]}]},
            "sensors.0.exposures: unknown field; it belongs at the top of the study",
        ),
        ({"training": {"seeds": 3}}, "training.seeds: unknown field; it belongs at the top of the study"),
        (
            {"data": {"spec": "digits", "kind": "images"}},
            "data.kind: unknown field; known: spec, split_seed, max_samples, resize, crop, flip, random_crop_padding, "
            "pad, rotate, classes",
        ),
        ({"precision": 0.9}, "precision: expected a number at least 0.0001 and below 0.5, got 0.9"),
    ],
)
def test_one_mistake_is_one_sentence(changed, expected):
    document = {name: value for name, value in {**STUDY, **changed}.items() if value is not ABSENT}
    assert said(Study, document) == [expected]


def test_members_of_a_union_are_one_expectation():
    (sentence,) = said(Study, {**STUDY, "training": {"train_ep": "half"}})
    assert re.fullmatch(
        r"training\.train_ep: expected 'matched', 'mixed', a number above 0 and below 1 or .*, got 'half'", sentence
    )


def test_a_misspelt_field_comes_before_the_one_that_it_leaves_out():
    assert said(Study, {**STUDY, "models": [{"sepc": "net.onnx"}]}) == [
        "models.0.sepc: unknown field; did you mean 'spec'?",
        "models.0.spec: expected text that is not empty, got none; add it",
    ]


def test_a_name_that_no_key_may_have():
    (sentence,) = (
        each
        for each in said(RECORDS["camera"], {"operating_points": {"Not A Name": 1}})
        if each.startswith("operating_points.Not A Name: expected a name")
    )
    assert sentence.endswith("got 'Not A Name'")


@pytest.mark.parametrize("record", [*RECORDS.values(), Study, GateSettings, Recipe, SavedModel])
@pytest.mark.parametrize("value", [3, -0.5, "text", [], [{"a": 3}], {"a": 3}, True])
def test_no_record_speaks_in_pydantic_s_words(record, value):
    for sentence in said(record, {**dict.fromkeys(record.model_fields, value), "zzz": 1}):
        assert re.search(r": (expected .*, got |unknown field; )", sentence), sentence


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("alpha = 0.1", "alpha = 0.9", "line 3: field gate.alpha: expected a number above 0 and below 0.5, got 0.9"),
        ("alpha = 0.1", "alfa = 0.1", "line 3: field gate.alfa: unknown field; did you mean 'alpha'?"),
        ("[gate]", "[gates]", "line 1: field gates: unknown field; did you mean 'gate'?"),
        ("eps = [0.5]", "eps = [2]", "line 6: field study.eps: expected a number above 0 and below 1, got 2"),
    ],
)
def test_a_mistake_in_settings_is_said_with_its_line(tmp_path, monkeypatch, capsys, old, new, expected):
    monkeypatch.chdir(tmp_path)
    text = '[gate]\nchecks = ["draws >= 2"]\nalpha = 0.1\n[study]\nkind = "audit"\neps = [0.5]\n' + (
        'data.spec = "digits"\nmodels = [{ spec = "digits-convnet" }]\nsensors = [{ spec = "adc-4bit" }]\n'
    )
    assert text.count(old) == 1
    (tmp_path / "robustcheck.toml").write_text(text.replace(old, new))
    assert main(["gate"]) == 2
    assert f"robustcheck.toml, {expected}" in capsys.readouterr().err.splitlines()[0]


def test_eps_and_exposures_of_a_camera_alone_say_which_to_drop():
    fields = {"kind": "audit", "models": STUDY["models"], "data": STUDY["data"], "eps": [0.5], "exposures": [0.1]}
    with pytest.raises(UsageError, match=r"EP from 0\.7.*the EPs are the camera's too: drop eps"):
        Study.create(**fields, sensors=[{"spec": "camera-imx477"}])
    assert Study.create(**fields, sensors=[{"spec": "camera-imx477"}, {"spec": "adc-4bit"}])
    with pytest.raises(UsageError, match=r"EP from 0\.7[^;]*; use --bits, or --vary bits$"):
        Study.create(**{**fields, "exposures": []}, sensors=[{"spec": "camera-imx477"}])


def test_the_study_that_the_gate_s_page_shows_is_valid(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "gate.md").read_text()
    (text,) = (each for each in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[study]" in each)
    (tmp_path / "robustcheck.toml").write_text(text)
    found = load_gate(tmp_path / "robustcheck.toml")
    assert found.study.eps == (0.2, 0.5)
    assert [each.bits for each in found.study.sensors] == [None, 3]
    assert found.settings.parsed


@pytest.mark.parametrize(
    ("spec", "shape", "remedy"),
    [
        ("mlp(in_channels=3, image_size=32, hidden=[4])", (1, 8, 8), "write in_channels=1, image_size=8"),
        (
            "mlp(in_channels=3, image_size=32, hidden=[4])",
            (3, 8, 9),
            "--resize 8x8, and write in_channels=3, image_siz",
        ),
        ("rangenet(rows=4, columns=8, channels=[2], linear=[])", (2, 8, 16), "write rows=8, columns=16"),
        ("rangenet(rows=4, columns=8, channels=[2], linear=[])", (1, 8, 8), "use range images (--data lidar-scenes)"),
    ],
)
def test_an_architecture_of_another_geometry_is_told_its_options(spec, shape, remedy):
    with pytest.raises(ModelError) as caught:
        check_fit(load_model(f"architecture:{spec}", classes=2), shape, ("a", "b"))
    assert remedy in str(caught.value)
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("rule", ["drop", "regression"])
def test_a_gain_is_not_called_a_negative_loss(rule):
    subject = Subject("net", "net", "as is", "adc", "EP 0.5")
    check = Check(rule, None, 0.05)
    gained = decided(check, subject, "pass", -0.011, (-0.03, 0.004), (0.05, 0.05))
    other = "the accuracy without noise" if rule == "drop" else "the baseline"
    assert f": gains 1.1 points against {other} (a loss of at most 0.4 points with 95 % confidence)," in gained
    assert gained.endswith(", a loss of at most 5 points asked for: pass.")
    surely = decided(check, subject, "pass", -0.02, (-0.03, -0.01), (0.05, 0.05))
    assert "(a gain of at least 1.0 points with 95 % confidence)" in surely
    open_one = decided(check, subject, "inconclusive", -0.02, (-0.03, 0.06), (0.05, 0.05))
    assert "(a gain of at most 3.0 points with 95 % confidence, a loss of at most 6.0 points with" in open_one
    for value, size in ((0.011, "1.1"), (-0.0001, "0.0")):
        said = decided(check, subject, "pass", value, (-0.03, 0.02), (0.05, 0.05))
        assert f": loses {size} points against {other} (at most 2.0 points" in said
