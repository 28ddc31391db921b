"""Networks by name and options, as a model's spec, and the shipped studies."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from robustcheck import content
from robustcheck.cli.main import main
from robustcheck.errors import InvalidValueError, UnknownNameError, UsageError
from robustcheck.networks.architectures import ARCHITECTURES, EXAMPLES
from robustcheck.networks.architectures.paper import PAPER_PLACEMENT
from robustcheck.networks.architectures.spec import Architecture, read_architecture
from robustcheck.networks.loading import initialise, load_model
from robustcheck.networks.saving import save_model, swapped_model
from robustcheck.networks.surgery import find_sites, swap_activation
from robustcheck.study.plan import Study

MLP = "architecture:mlp(in_channels=1, image_size=8, hidden=[16, 12], activation=leaky_relu(0.05))"


def test_a_spec_builds_what_it_says() -> None:
    model = load_model(MLP, classes=7)
    shapes = [tuple(layer.weight.shape) for layer in model.network if isinstance(layer, nn.Linear)]
    assert shapes == [(16, 64), (12, 16), (7, 12)]
    assert [site.kind for site in find_sites(model.network)] == ["leaky_relu(slope=0.05)"] * 2
    assert model.input.shape == (1, 8, 8)
    assert load_model(MLP, classes=7).sha256 == model.sha256
    assert initialise(model, 3).sha256 != model.sha256


def test_classes_of_the_spec_win_over_those_of_the_data() -> None:
    assert load_model(MLP.replace("(in", "(classes=3, in"), classes=7).network[-1].out_features == 3


def test_every_kind_of_value() -> None:
    text = "convnet(in_channels=1, image_size=8, classes=10, channels=[4], pool_after=[], linear=[], dropout=.25)"
    assert dict(read_architecture(text).options) == {
        "in_channels": 1, "image_size": 8, "classes": 10, "channels": [4], "pool_after": [], "linear": [],
        "dropout": 0.25,
    }  # fmt: skip
    assert read_architecture("mlp") == Architecture("mlp")
    assert read_architecture("mlp(activation='gelu')").options == (("activation", "gelu"),)
    assert read_architecture("vit(iso_parameters=true)").options == (("iso_parameters", True),)
    assert load_model(f"architecture:{text}").network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    "text",
    [
        "mlp(8)", "mlp(hidden=[16)", "mlp(hidden=[16]", "mlp)", "mlp(hidden={1: 2})", "mlp(hidden=[[1]])", "mlp(*a)",
        "mlp(**a)", "mlp(hidden=open('x').read())", "mlp(hidden=1)(2)", "mlp(hidden=None)", "mlp(hidden=a.b)",
        "mlp(hidden=" + "[" * 400, "mlp(hidden=[" + "1," * 400 + "])", "mlp(hidden=1, hidden=2)", "mlp(hidden=-[1])",
    ],
)  # fmt: skip
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        load_model(f"architecture:{text}", classes=10)


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mlp'"):
        read_architecture("mlq(hidden=[1])")
    with pytest.raises(UnknownNameError, match="did you mean 'hidden'"):
        read_architecture("mlp(hiden=[1])")
    assert "mlp" in ARCHITECTURES


def test_missing_options_are_named_with_an_example() -> None:
    with pytest.raises(
        InvalidValueError, match=r"missing: in_channels, image_size, got .*'mlp\(in_channels=1, "
    ) as said:
        load_model("architecture:mlp(hidden=[4])", classes=10)
    assert "keyword" not in str(said.value)
    with pytest.raises(InvalidValueError, match="each of its type") as said:
        load_model("architecture:mlp(in_channels=1, image_size=8, hidden=5)", classes=10)
    assert "iterable" not in str(said.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_examples_of_the_errors_can_be_built(name: str) -> None:
    read_architecture(EXAMPLES[name]).build()


@pytest.mark.parametrize("number", ["nan", "inf", "NaN", "Infinity", "1e999"])
def test_what_is_no_finite_number_is_refused(number: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^width: expected a factor, 0 < width <= 16, got (nan|inf)$"):
        load_model(f"architecture:paper_convnet(width={number})")


@pytest.mark.parametrize("said", ["nan", "1", "maybe"])
def test_a_switch_is_true_or_false(said: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^vit, option iso_parameters: expected True or False, got "):
        load_model(f"architecture:vit(feed_forward=gated, iso_parameters={said})")


def test_the_page_of_the_networks_has_every_option() -> None:
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
    for name in ("convnet", "mlp", "pointnet", "rangenet"):
        (row,) = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        must, may = row.split(" | ")[-2:]
        for option, each in inspect.signature(ARCHITECTURES[name]).parameters.items():
            needed = each.default is inspect.Parameter.empty
            assert f"`{option}`" in must if needed else f"`{option}=" in may, (name, option)


def test_a_swapped_one_is_saved_and_loaded_again(tmp_path: Path) -> None:
    model = load_model(MLP, classes=5)
    swapped = swapped_model(model, swap_activation(model, "silu"))
    again = load_model(str(save_model(swapped, tmp_path / "net.toml")))
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(again.network(images), swapped.network(images))
    assert not torch.equal(again.network(images), model.network(images))


@pytest.mark.parametrize("name", content.study_names())
def test_every_shipped_study_loads_and_states_its_budget(name: str) -> None:
    text = (content.shelf("models") / f"{name}.toml").read_text()
    study = Study.load(content.shelf("models") / f"{name}.toml")
    assert study.kind == "compare"
    assert re.search(r"Budget:\s", text)
    assert f"robustcheck compare {name}" in text
    assert name not in content.model_names()
    for choice in study.models:
        kind, _, rest = choice.spec.partition(":")
        if kind == "architecture":
            network = read_architecture(rest).with_classes(10).build()
            assert find_sites(network), choice.spec


@pytest.mark.parametrize("name", [name for name in content.study_names() if "paper" in name])
def test_studies_at_full_size_place_noise_as_the_paper_does(name: str) -> None:
    study = Study.load(content.shelf("models") / f"{name}.toml")
    networks = {read_architecture(each.spec.removeprefix("architecture:")).name for each in study.models}
    (placement,) = [PAPER_PLACEMENT[each] for each in networks]
    assert study.sensors
    assert all((each.placement, each.form) == tuple(placement.values()) for each in study.sensors)


def test_studies_are_listed_shown_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    survey = content.shelf("models") / "study-survey.toml"
    assert main(["models", "studies"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == content.study_names()
    assert main(["models", "studies", "study-survey"]) == 0
    assert capsys.readouterr().out == survey.read_text()
    assert main(["models", "studies", "study-survey", "--json"]) == 0
    assert Study.create(**json.loads(capsys.readouterr().out)["study-survey"]) == Study.load(survey)
    assert main(["models", "studies", "study-servey"]) == 2
    assert "study-survey" in capsys.readouterr().err
    assert main(["compare", "study-survey", "--seeds", "2", "-o", str(tmp_path / "x")]) == 2
    assert "--seeds" in capsys.readouterr().err


def test_a_study_runs_on_other_data_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study.create(
        models=[{"spec": "architecture:mlp(in_channels=1, image_size=10, hidden=[8])"}],
        data={"spec": "idx:/nowhere", "pad": (10, 10), "max_samples": 60, "classes": tuple("abcdefghij")},
        sensors=[{"spec": "adc-4bit"}],
        eps=(0.5,),
        activations=("relu", "gelu"),
        seeds=1,
        draws=1,
        training={"mode": "scratch", "epochs": 1, "learning_rates": (0.01,)},
    )
    (tmp_path / "study.toml").write_text(study.to_toml())
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "study.toml"), "-o", str(out), "-q", "--jobs", "1"]) == 3
    assert "/nowhere" in capsys.readouterr().err
    line = ["compare", str(tmp_path / "study.toml"), "-o", str(out), "-q", "--jobs", "1", "--data", "digits", "--json"]
    assert main(line) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["data"]["spec"], report["data"]["shape"]) == ("digits", [1, 10, 10])
    assert report["data"]["preprocessing"]["pad"] == [10, 10]
    assert report["data"]["classes"] == list("0123456789"), "names of the study's own data"
    assert main([*line, "--pad", "9x9"]) == 3, "the network is for 10 pixels"
    assert main(["compare", "study-convnett", "-o", str(out)]) == 2
    assert "did you mean 'study-convnet'" in capsys.readouterr().err
