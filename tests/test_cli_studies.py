"""What the commands that run a study say of files, sensors and options that do not go together."""

from pathlib import Path

import click
import pytest

from robustcheck.cli.audit import audit
from robustcheck.cli.compare import compare
from robustcheck.cli.gate import gate
from robustcheck.cli.main import main
from robustcheck.cli.recommend import recommend
from robustcheck.study.plan import FINETUNE_RATES, SCRATCH_RATES


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def errors(capsys, *arguments, code=2):
    assert main(list(arguments)) == code
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


@pytest.mark.parametrize("command", ["audit", "compare"])
def test_a_study_file_that_is_not_there_is_said_to_be_missing(command, capsys):
    assert errors(capsys, command, "absent.toml", "--sensor", "adc-8bit") == [
        "error: absent.toml: cannot be read: expected the file of a study or the recipe of a swapped model, "
        "got no file of this name"
    ]


def test_a_folder_in_place_of_a_study_file_is_no_study(tmp_path, capsys):
    (tmp_path / "study.toml").mkdir()
    assert "expected a file, got a folder" in errors(capsys, "audit", "study.toml")[0]


@pytest.mark.parametrize(
    ("sensors", "message"),
    [
        (
            ("adc-4bit", "camera-imx477"),
            "got adc-4bit (a converter: --ep), camera-imx477 (a camera: --exposure or --ep); give --ep, within what",
        ),
        (("adc-4bit", "lidar-vlp16"), "lidar-vlp16 (a LIDAR: --signal); give a run for each kind"),
    ],
)
def test_sensors_of_several_kinds_need_points_that_they_share(sensors, message, capsys):
    typed = [each for name in sensors for each in ("--sensor", name)]
    assert message in errors(capsys, "audit", "digits-convnet", *typed)[0]


def test_a_lidar_cannot_be_trained_at_an_ep(capsys):
    (line,) = errors(capsys, "compare", "lidar-rangenet", "--sensor", "lidar-vlp16", "--train-ep", "0.5")
    assert "--train-ep: expected matched or mixed with lidar-vlp16, a LIDAR" in line
    assert line.endswith("got 0.5; use --train-signal")


@pytest.mark.parametrize(
    ("model", "sensor", "typed", "named"),
    [
        ("digits-convnet", "camera-imx477", "--train-exposure", "exposure=0.25"),
        ("lidar-rangenet", "lidar-vlp16", "--train-signal", "signal=0.25"),
    ],
)
def test_networks_can_be_trained_at_one_exposure_or_signal(model, sensor, typed, named, monkeypatch):
    from robustcheck.study.cells import contestants, load_study

    found = []
    monkeypatch.setattr("robustcheck.cli.compare.run_and_report", lambda _, study: found.append(study) or 0)
    assert main(["compare", model, "--sensor", sensor, typed, "0.25", "--max-samples", "200", "-a", "gelu"]) == 0
    (study,) = found
    assert study.training.train_ep == named
    for each in contestants(load_study(study)):
        assert [point.name for point in each.train_points] == [named]
        assert each.eval_points == study.operating_points(study.sensors[0].bind())
        assert each.train_ep == named


def test_networks_are_trained_at_one_thing(capsys):
    typed = ["compare", "digits-convnet", "--sensor", "camera-imx477", "--train-exposure", "0.1"]
    for more in (["--train-signal", "0.1"], ["--train-ep", "0.9"]):
        assert "expected one of --train-ep, --train-exposure and --train-signal" in errors(capsys, *typed, *more)[0]
    for wrong in ("0", "1.5"):
        assert main(["compare", "digits-convnet", "--train-exposure", wrong]) == 2


def test_a_folder_of_another_study_is_refused_field_by_field_and_in_words(capsys):
    typed = ["audit", "digits-convnet", "--max-samples", "60", "-q", "--ep", "0.5", "-o", "out"]
    assert main([*typed, "--bits", "2", "--bits", "3"]) == 0
    capsys.readouterr()
    assert main([*typed, "--bits", "2", "--bits", "3"]) == 0
    capsys.readouterr()
    first, *lines = errors(
        capsys, *typed, "--ep", "0.7", "--max-samples", "80", "--flip", "--bits", "2", "--bits", "4", "--draws", "6"
    )
    assert first.startswith("error: out holds another study; use another --out folder, or the same settings.")
    assert first.endswith("the folder's → this run's:")
    assert lines == [
        "  data, max_samples: 60 → 80",
        "  data, flip: no → yes",
        "  sensor 2, bits: 3 → 4",
        "  eps: 0.5 → 0.5, 0.7",
        "  draws: 5 → 6",
    ]
    _, *lines = errors(capsys, *typed, "--steps", "15", "--range", "unit")
    assert lines == [
        "  sensors: adc-4bit bits 2 range calibrated, adc-4bit bits 3 range calibrated → adc-4bit steps 15 range unit"
    ]


def test_a_swap_names_every_option_that_would_do_nothing(capsys, tmp_path):
    swap = ["models", "swap", "digits-convnet", "-a", "gelu", "-o", "swapped.toml"]
    measuring = ["--bits", "4", "--draws", "7", "--noise", "uniform", "--resize", "8x8", "--sensor", "adc-4bit"]
    (line,) = errors(capsys, *swap, "--lr", "0.1", "--flip", *measuring)
    training, measured, _ = line.removeprefix("error: ").split("; ")
    assert training == "--lr, --flip: expected --train finetune or scratch, got no training"
    names, _, expected = measured.partition(": ")
    assert set(names.split(", ")) == {"--bits", "--draws", "--noise", "--resize", "--sensor"}
    assert expected == "expected --data to measure with, or --train, got neither"
    (line,) = errors(capsys, *swap, "--data", "digits", "--epochs", "3", "--draws", "7")
    assert line.startswith("error: --epochs: expected --train")
    assert "--draws" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_swap_has_one_sensor(capsys):
    swap = ["models", "swap", "digits-convnet", "-a", "gelu", "-o", "swapped.toml", "--data", "digits"]
    (line,) = errors(capsys, *swap, "--bits", "2", "--bits", "3")
    assert "expected one sensor at one resolution, got adc-4bit/3 steps, adc-4bit/7 steps; leave one" in line


def test_no_option_of_a_swap_is_forgotten():
    from robustcheck.cli.swap import _OF_MEASURING, _OF_TRAINING, swap

    always = {
        "model", "activation", "only", "where", "out", "to", "train", "as_json", "quiet", "weights", "mean", "std",
        "input_range", "layout", "channel_order", "classes", "data", "download",
    }  # fmt: skip
    names = [parameter.name for parameter in swap.params]
    assert sorted(names) == sorted([*always, *_OF_TRAINING, *_OF_MEASURING])


def test_a_default_folder_that_holds_another_study_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["audit", "digits-convnet", "--max-samples", "200", "-q"]
    assert main([*small, "--ep", "0.3"]) == 0
    first = Path("robustcheck-audit/report.json").read_text()
    assert main([*small, "--ep", "0.4"]) == 0
    assert "robustcheck-audit holds another study, so this one goes to robustcheck-audit-2" in capsys.readouterr().err
    assert Path("robustcheck-audit/report.json").read_text() == first
    # The same study again finds its own folder, and nothing is run anew.
    assert main([*small, "--ep", "0.4"]) == 0
    assert not Path("robustcheck-audit-3").exists()
    assert main([*small, "--ep", "0.4", "-o", "robustcheck-audit"]) == 2


@pytest.mark.parametrize("command", [audit, compare, recommend, gate], ids=lambda command: command.name)
def test_help_says_what_each_option_is_if_it_is_not_given(command):
    for option in command.params:
        if not isinstance(option, click.Option) or option.is_flag:
            continue
        if option.default not in (None, (), click.core.UNSET):
            assert option.show_default, option.name
        elif option.name in (
            "rates",
            "eps",
            "mean",
            "std",
            "input_range",
            "layout",
            "channel_order",
            "data",
            "weights",
        ):
            assert " given" in option.help, option.name


@pytest.mark.parametrize("command", [compare, recommend], ids=lambda command: command.name)
def test_help_states_the_learning_rates_that_are_tried(command):
    (rates,) = (each for each in command.params if each.name == "rates")
    finetune, scratch = (", ".join(f"{rate:g}" for rate in each) for each in (FINETUNE_RATES, SCRATCH_RATES))
    assert f"{finetune} if not given; {scratch} from scratch" in rates.help
