"""Every command and every Python example of the guides is run, in the order of its page, on small data."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from test_docs import ROOT, lines_of

from robustcheck.cli.main import main

GUIDES = ["quickstart", "audit", "gate", "recommend", "activations", "gradients", "networks"]
DECIDED = {"gate": {0, 1, 4}}
FACTORY = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the guides speak of: a network, photographs, a package with weights, arrays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copy(ROOT / "tests" / "sample_repository" / "net.onnx", "net.onnx")
    digits = load_digits()
    for row in range(300):
        place = Path("photos") / str(digits.target[row])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(place / f"{row}.png")
    np.savez("data.npz", images=(digits.images[:300] / 16).astype(np.float32), labels=digits.target[:300])
    Path("my_package").mkdir()
    Path("my_package/__init__.py").touch()
    Path("my_package/net.py").write_text(FACTORY)
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    save_file(layers.state_dict(), "net.safetensors")
    return tmp_path


def made_small(line):
    """The words of a command, with options that leave less to do."""
    words = shlex.split(line)[1:]
    runs_a_study = words[0] in ("audit", "compare", "recommend") or (words[0] == "gate" and "digits-convnet" in words)
    if runs_a_study:
        words += ["--max-samples", "250"]
    if words[0] == "recommend":
        words += ["--epochs", "1", "--lr-epochs", "1", "--lr", "0.003", "--seeds", "2", "--jobs", "1"]
        words += [] if "-a" in words else ["-a", "gelu"]
    if words[0] == "analyze":
        words += ["--samples", "40", "--draws", "2"] if "--model" in words else ["--repeat", "2"]
    return words


def prepare(line):
    """What a page says was there before."""
    if "before/" in line and not Path("before").exists():
        for name, sensor in (("before", "adc-4bit"), ("after", "adc-4bit")):
            assert main(["audit", "digits-convnet", "--sensor", sensor, "--max-samples", "250", "-q", "-o", name]) == 0
    if "robustcheck-audit/report.json" in line and not Path("robustcheck-audit/report.json").exists():
        assert main(["audit", "digits-convnet", "--max-samples", "250", "-q"]) == 0
    if "--update-baseline" in line:
        settings = Path("robustcheck.toml")
        settings.write_text(settings.read_text().replace("# baseline", "baseline"))
    for name in re.findall(r"--config (\S+)", line):
        if not Path(name).exists():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text('[gate]\nchecks = ["accuracy@ep=0.5 >= 0.5"]\n')
            main(["init", "digits-convnet", "--force"])
            Path(name).write_text(Path("robustcheck.toml").read_text())


@pytest.mark.parametrize("guide", GUIDES)
def test_the_commands_of_a_guide_run(guide, folder, capsys):
    page = (ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```\n(.*?)```", page, flags=re.S) for line in lines_of(block)]
    assert lines
    for line in lines:
        prepare(line)
        words = made_small(line)
        code = main(words)
        assert code in DECIDED.get(words[0], {0}), f"{line}: {code}\n{capsys.readouterr().err[-2000:]}"


def test_the_commands_that_add_a_sensor_run(folder):
    page = (ROOT / "sensors" / "README.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", page, flags=re.S) for line in lines_of(block)]
    assert len(lines) == 3
    for line in lines:
        assert main(made_small(line)) == 0


def test_the_python_of_its_guide_runs(folder, capsys):
    names = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), flags=re.S
    ):
        exec(compile(block, "python.md", "exec"), names)
    assert Path("digits-gelu.safetensors").is_file()
    assert "adc-2bit EP 0.6" in capsys.readouterr().out
