"""Studies: what they refuse, what their file says, and how two of them are told apart."""

from pathlib import Path

import pytest

from robustcheck.errors import FileFormatError, InvalidValueError, StudyMismatchError, UsageError
from robustcheck.study.differences import require_same_study
from robustcheck.study.plan import FINETUNE_RATES, SCRATCH_RATES, Study, content_hash
from robustcheck.study.point_ranges import parse_eps

PLAIN = {
    "models": [{"spec": "digits-convnet"}],
    "data": {"spec": "digits"},
    "sensors": [{"spec": "adc-4bit"}],
    "eps": [0.2, 0.5],
    "activations": ["gelu"],
}


def study(**changes):
    return Study.create(**{**PLAIN, **changes})


def test_a_study_file_says_the_same(tmp_path):
    training = {"mode": "scratch", "train_ep": 0.5, "epochs": 2}
    path = tmp_path / "study.toml"
    for given in (study(seeds=3, training=training), study(precision=0.005)):
        path.write_text(given.to_toml())
        assert Study.load(path) == given
        assert content_hash(Study.load(path).document()) == content_hash(given.document())
    assert "precision" not in study().to_toml()


def test_defaults_that_depend_on_the_mode():
    assert study().seeds == 5
    assert study().training.learning_rates == FINETUNE_RATES
    assert study(training={"mode": "scratch"}).training.learning_rates == SCRATCH_RATES
    assert study(training={"mode": "none"}).seeds == 1
    audit = study(kind="audit", activations=[])
    assert (audit.seeds, audit.training.mode) == (1, "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": [0.5, 1.0]}, r"eps\.1: expected a number above 0 and below 1, got 1\.0"),
        ({"eps": [0.5, 0.2]}, "rising order"),
        ({"eps": [0.5, 0.5]}, "each once"),
        ({"eps": []}, "eps"),
        ({"activations": []}, "at least one to compare"),
        ({"activations": ["gelu", "gelu"]}, "each once"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": 5, "training": {"mode": "none"}}, "expected 1 where nothing is trained"),
        ({"kind": "audit"}, "neither trains nor swaps"),
        ({"draws": 0}, "draws"),
        ({"draws": 4, "precision": 0.01}, "draws: expected at least 5 with a precision"),
        ({"precision": 0.0}, "precision: expected a number at least 0.0001 and below 0.5, got 0.0"),
        ({"precision": 0.5}, "precision: expected a number at least 0.0001 and below 0.5, got 0.5"),
        ({"sensors": [{"spec": "adc-4bit", "bits": 17}]}, "sensors.0.bits"),
        ({"training": {"train_ep": 1.5}}, "train_ep"),
        ({"training": {"learning_rates": []}}, "learning_rates"),
        ({"training": {"epochs": 0}}, "epochs"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_a_study_refuses(changes, message):
    with pytest.raises(UsageError, match=message):
        study(**changes)


def test_a_wrong_field_of_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(study().to_toml().replace("draws = 5", "draws = -1"))
    line = path.read_text().splitlines().index("draws = -1") + 1
    with pytest.raises(FileFormatError, match=rf"study\.toml, line {line}: field draws: .*got -1"):
        Study.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 5", "sedes = 5", r"field sedes: unknown field; did you mean 'seeds'\?$"),
        ("seeds = 5", "seeds = true", r"field seeds: .*got True"),
        ('"gelu"', '"gelo"', r"field activations: unknown activation 'gelo'; did you mean 'gelu'"),
        ('"adc-4bit"', '"adc-99bit"', r"field sensors\.spec: unknown sensor 'adc-99bit'"),
        ("epochs = 30", "epoch = 30", r"field training\.epoch: unknown field; did you mean 'epochs'\?$"),
        ("0.2,", "1.2,", r"^[^\n]*field eps: expected a number above 0 and below 1, got 1\.2$"),
    ],
)
def test_a_typo_in_a_file_is_named_with_its_line_and_a_hint(tmp_path, old, new, message):
    path = tmp_path / "study.toml"
    text = study().to_toml()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(FileFormatError, match=message) as caught:
        Study.load(path)
    assert str(caught.value).startswith(f"{path}, line ")


@pytest.mark.parametrize(
    ("texts", "eps"),
    [
        (("0.5",), (0.5,)),
        (("0.8", "0.2"), (0.2, 0.8)),
        (("0.2:0.8:4",), (0.2, 0.4, 0.6, 0.8)),
        (("0.2:0.8:4", "0.4"), (0.2, 0.4, 0.6, 0.8)),
    ],
)
def test_error_probabilities_from_text(texts, eps):
    assert parse_eps(texts) == eps


@pytest.mark.parametrize(
    "text", ["0", "1", "-0.2", "nan", "half", "0.2:0.8", "0.2:0.8:1", "0.2:0.8:3:4", "0:0.5:3", ""]
)
def test_error_probabilities_that_are_none(text):
    with pytest.raises(InvalidValueError, match="error probability"):
        parse_eps((text,))


def test_seeds_and_activations_may_grow_and_nothing_else():
    held = study().document()
    require_same_study(held, study(seeds=7, activations=["gelu", "silu"]).document(), Path("out"))
    with pytest.raises(StudyMismatchError, match=r"out holds another study; use another --out.*\n.*draws: .*5.*9"):
        require_same_study(held, study(draws=9).document(), Path("out"))
