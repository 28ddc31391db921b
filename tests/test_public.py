"""The public surface: the names, the exit codes, and how fast the command answers."""

import inspect
import json
import subprocess
import sys
import time

import pytest

import robustcheck
from robustcheck.cli.main import main
from robustcheck.errors import RobustcheckError

NAMES = {
    "Report", "Study", "activation", "channel", "error_probability", "evaluate", "load_data", "load_model",
    "load_sensor", "noise_sigma", "run_study", "save_model", "swap_activation", "swapped_model", "train",
}  # fmt: skip


def test_these_names_are_public():
    assert set(robustcheck.__all__) == NAMES
    assert set(dir(robustcheck)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = robustcheck.absent


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_documented_with_an_example(name):
    found = getattr(robustcheck, name)
    text = (inspect.getdoc(found) or "") + "".join(
        inspect.getdoc(method) or "" for _, method in inspect.getmembers(found, inspect.isfunction)
    )
    assert ">>>" in text


def every_error(kind=RobustcheckError):
    yield kind
    for child in kind.__subclasses__():
        yield from every_error(child)


def test_every_error_has_an_exit_code():
    assert {error.exit_code for error in every_error()} == {2, 3}


def test_help_does_not_import_torch():
    probe = "import sys, robustcheck.cli.main; print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sensors", "show", "adc-8bits"], 2, "did you mean 'adc-8bit'"),
        (["sensors", "ep", "--bits", "4"], 2, "expected two of --ep, --sigma and --bits"),
        (["sensors", "ep", "--bits", "17", "--ep", "0.5"], 2, "bits: expected 1 to 16, got 17"),
        (["sensors", "ep", "--bits", "4", "--ep", "1"], 2, "expected 0 < EP < 1"),
        (["sensors", "show", "absent.toml"], 2, "absent.toml: cannot be read"),
        (["models", "show", "digits-convnets"], 2, "did you mean 'digits-convnet'"),
        (["audit", "digits-convnet", "--ep", "1.5"], 2, "expected 0 < EP < 1, got 1.5"),
        (["audit", "digits-convnet", "--bits", "40"], 2, "40.0 is not in the range"),
        (["audit", "digits-convnet", "--bits", "4", "--steps", "15"], 2, "--bits or --steps"),
        (["audit", "digits-convnet", "--device", "abacus"], 2, "--device"),
        (["audit", "torchvision:resnet18"], 2, "--data: expected a data set"),
        (["audit", "net.onnx", "--data", "digits"], 3, "expected an ONNX file"),
        (["audit", "torchvision:resnet18", "--data", "digits"], 3, "3"),
        (["compare", "digits-convnet", "-a", "gleu"], 2, "did you mean 'gelu'"),
        (["compare", "digits-convnet", "-a", "geglu"], 3, "gated"),
        (["compare", "digits-convnet", "--train-ep", "often"], 2, "matched, mixed or an error probability"),
        (["compare", "absent.toml"], 2, "absent.toml: cannot be read"),
        (["compare", "no_such_module:net", "--data", "digits"], 3, "no_such_module"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input_is_a_sentence_and_an_exit_code(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    out, errors = capsys.readouterr()
    assert message in errors
    assert out == ""
    assert "Traceback" not in errors


def test_a_saved_study_says_the_same_as_the_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = [
        "audit",
        "digits-convnet",
        "--max-samples",
        "60",
        "--ep",
        "0.3",
        "--ep",
        "0.6",
        "--bits",
        "3",
        "-q",
        "--json",
    ]
    assert main([*typed, "--save-study", "study.toml", "-o", "typed"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert main(["audit", "study.toml", "-q", "--json", "-o", "filed"]) == 0
    two = json.loads(capsys.readouterr().out)
    assert one.pop("provenance")["command"] != ""
    two.pop("provenance")
    assert one == two
    # The same folder takes either form, and another study is refused there.
    assert main(["audit", "study.toml", "-q", "-o", "typed"]) == 0
    assert main([*typed, "--draws", "9", "-o", "typed"]) == 2
    assert "holds another study" in capsys.readouterr().err
    assert main(["audit", "study.toml", "--ep", "0.5"]) == 2
    assert "got --ep; edit the file" in capsys.readouterr().err
    assert main(["compare", "study.toml"]) == 2
    assert "expected a study of kind compare, got audit" in capsys.readouterr().err
