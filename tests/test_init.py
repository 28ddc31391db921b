"""What `robustcheck init` writes: settings that run as they are, and jobs that GitHub and GitLab take."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from robustcheck.cli.init import GITHUB_FILE, GITLAB_FILE
from robustcheck.cli.main import cli, main
from robustcheck.gate.settings import load_gate

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = 'a"b\\<script>alert(1)</script>\u202e\n[gate].onnx'


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def valid(path, schema):
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    # GitHub reads the YAML of 2009, for which `on` is no boolean.
    document = {("on" if key is True else key): value for key, value in document.items()}
    definition = get_builtin_schema(schema)
    jsonschema.validators.validator_for(definition)(definition).validate(document)
    return document


def understood(line):
    """The command line takes this, as a shell hands it over."""
    arguments = shlex.split(line)
    assert arguments.pop(0) == "robustcheck"
    name, command, arguments = cli.resolve_command(click.Context(cli), arguments)
    with command.make_context(name, arguments):
        pass


def test_settings_are_read_by_the_gate(capsys):
    assert main(["init"]) == 0
    assert "wrote robustcheck.toml" in capsys.readouterr().out
    found = load_gate()
    assert found.path == Path("robustcheck.toml")
    assert found.settings.checks == ("accuracy@ep=0.5 >= 0.90", "drop@ep=0.5 <= 0.05", "samples >= 100", "draws >= 20")
    assert (found.study.kind, found.study.models[0].spec, found.study.data.spec) == (
        "audit",
        "digits-convnet",
        "digits",
    )


def test_every_field_that_a_comment_shows_is_one():
    """What is commented out is right too: without its mark, and a value, each is a setting that is read."""
    assert main(["init"]) == 0
    path = Path("robustcheck.toml")
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and ":" not in line else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines))
    found = load_gate()
    assert found.settings.baseline == Path("reports/baseline.json")
    assert found.study.data.resize == (224, 224)
    assert found.study.models[0].weights == "weights.safetensors"
    assert len(found.study.models[0].mean) == len(found.study.models[0].std) == 3


def test_the_model_and_data_that_are_named(capsys):
    assert main(["init", HOSTILE, "--data", "folder:my photos"]) == 0
    document = tomllib.loads(Path("robustcheck.toml").read_text(encoding="utf-8"))
    assert document["study"]["models"] == [{"spec": HOSTILE}]
    assert document["study"]["data"] == {"spec": "folder:my photos"}


def test_a_shipped_model_brings_its_data():
    assert main(["init", "lidar-pointnet"]) == 0
    assert "lidar-scenes" in Path("robustcheck.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.onnx"], "--data: expected a data set"),
        (["digits-convnets", "--data", "digits"], "did you mean 'digits-convnet'"),
    ],
)
def test_what_cannot_run_is_not_written(arguments, message, capsys):
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_nothing_is_lost(capsys):
    GITHUB_FILE.parent.mkdir(parents=True)
    GITHUB_FILE.write_text("mine")
    assert main(["init", "--github"]) == 2
    assert f"expected no {GITHUB_FILE} here" in capsys.readouterr().err
    assert GITHUB_FILE.read_text() == "mine"
    assert not Path("robustcheck.toml").exists()
    assert main(["init", "--github", "--force"]) == 0
    assert GITHUB_FILE.read_text() != "mine"
    assert main(["init"]) == 2


def test_settings_that_are_there_are_kept_beside_a_workflow(capsys):
    assert main(["init"]) == 0
    edited = Path("robustcheck.toml").read_text().replace("0.90", "0.95")
    Path("robustcheck.toml").write_text(edited)
    capsys.readouterr()
    assert main(["init", "--gitlab"]) == 0
    shown = capsys.readouterr().out
    assert f"wrote {GITLAB_FILE}\n" in shown
    assert "kept the settings in robustcheck.toml" in shown
    assert Path("robustcheck.toml").read_text() == edited
    assert main(["init", "--gitlab", "--force"]) == 0
    assert Path("robustcheck.toml").read_text() != edited


def test_settings_in_pyproject_are_not_shadowed(capsys):
    pyproject = Path("pyproject.toml")
    pyproject.write_text('[tool.robustcheck.gate]\nchecks = ["samples >= 10"]\n')
    for arguments in (["init"], ["init", "--force"]):
        assert main(arguments) == 2
        assert "edit [tool.robustcheck] in pyproject.toml" in capsys.readouterr().err
    assert main(["init", "--github"]) == 0
    assert "kept the settings in pyproject.toml" in capsys.readouterr().out
    assert GITHUB_FILE.exists()
    assert not Path("robustcheck.toml").exists()
    GITHUB_FILE.unlink()
    pyproject.write_text('[project]\nname = "mine"\n')
    assert main(["init", "--github"]) == 0
    assert Path("robustcheck.toml").exists()


@pytest.mark.parametrize(("option", "file"), [("--github", GITHUB_FILE), ("--gitlab", GITLAB_FILE)])
def test_a_job_installs_nothing_until_it_is_told_what(option, file, tmp_path, capsys):
    assert main(["init", option]) == 0
    assert f"ROBUSTCHECK in {file}" in capsys.readouterr().out
    document = yaml.safe_load(file.read_text())
    if option == "--github":
        job = document["jobs"]["gate"]
        source = job["env"]["ROBUSTCHECK"]
        (script,) = [step["run"] for step in job["steps"] if step.get("name") == "Install"]
    else:
        source = document["robustness"]["variables"]["ROBUSTCHECK"]
        script = "\n".join(document["robustness"]["script"][:2])
    stand_in = tmp_path / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)

    def run(what):
        environment = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}", "ROBUSTCHECK": what}
        return subprocess.run(
            ["bash", "-e", "-c", script], env=environment, capture_output=True, text=True, check=False
        )

    refused = run(source)
    assert refused.returncode == 1
    assert f"edit {file.as_posix()}" in refused.stdout + refused.stderr
    assert "-m" not in refused.stdout.splitlines()
    taken = run(source.replace("OWNER", "us").replace("VERSION", "v1"))
    assert taken.stdout.splitlines() == ["-m", "pip", "install", "git+https://github.com/us/robustcheck@v1"]


def test_json_says_what_was_written(capsys):
    assert main(["init", "--github", "--gitlab", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written == ["robustcheck.toml", GITHUB_FILE.as_posix(), GITLAB_FILE.as_posix()]
    assert all(Path(name).is_file() for name in written)


def test_the_github_workflow_is_one():
    assert main(["init", "--github"]) == 0
    document = valid(GITHUB_FILE, "vendor.github-workflows")
    assert document["permissions"] == {"contents": "read"}
    (gate,) = [step["run"] for step in document["jobs"]["gate"]["steps"] if step.get("name") == "Gate"]
    understood(gate)
    shown = GITHUB_FILE.read_text().replace("      # - uses", "      - uses").replace("      #   ", "        ")
    GITHUB_FILE.write_text(shown)
    assert len(valid(GITHUB_FILE, "vendor.github-workflows")["jobs"]["gate"]["steps"]) == 6


def test_the_gitlab_job_is_one(capsys):
    assert main(["init", "--gitlab"]) == 0
    assert "include:\n  - local: .gitlab/robustness.yml" in capsys.readouterr().out
    document = valid(GITLAB_FILE, "vendor.gitlab-ci")
    gate = document["robustness"]["script"][-1]
    understood(gate)
    reports = document["robustness"]["artifacts"]["reports"]
    assert set(reports.values()) <= set(shlex.split(gate))
    GITLAB_FILE.write_text(GITLAB_FILE.read_text().replace("# allow", "allow").replace("#   exit", "  exit"))
    assert valid(GITLAB_FILE, "vendor.gitlab-ci")["robustness"]["allow_failure"] == {"exit_codes": 4}


def test_what_the_documentation_shows_is_read():
    text = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    settings, study = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    Path("robustcheck.toml").write_text(settings)
    assert load_gate().settings.parsed[1].threshold == 0.01
    Path("robustcheck.toml").write_text(study)
    assert load_gate().study.eps == (0.2, 0.5)
    action, hook = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.S))
    definition = get_builtin_schema("vendor.github-workflows")
    jsonschema.validators.validator_for(definition)(definition).validate({"on": "push", **action})
    taken = action["jobs"]["gate"]["steps"][1]["with"]
    assert taken.keys() <= yaml.safe_load((ROOT / "action.yml").read_text())["inputs"].keys()
    understood(f"robustcheck gate {taken['args']} -- {taken['target']}")
    (offered,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["repos"][0]["hooks"] == [{"id": offered["id"]}]


def test_the_settings_run_as_they_are(capsys):
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["gate", "-q", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["outcome"] for each in document["judgements"]] == ["pass"] * 4


class TestAction:
    """The composite action: what it says, and what its shell makes of what it is given."""

    def test_is_one(self):
        action = valid(ROOT / "action.yml", "vendor.github-actions")
        assert action["runs"]["using"] == "composite"

    def test_no_input_is_a_part_of_a_shells_text(self):
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        for step in action["runs"]["steps"]:
            assert "${{" not in step.get("run", "")

    def run(self, folder, code=0, **given):
        """Run the step as GitHub's runner does, with a stand-in that notes its arguments."""
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        (step,) = [step for step in action["runs"]["steps"] if step.get("id") == "gate"]
        stand_in = folder / "bin" / "robustcheck"
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {folder}/arguments\nexit {code}\n')
        stand_in.chmod(0o755)
        script = folder / "step.sh"
        script.write_text(step["run"])
        output = folder / "output"
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            env={
                "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
                "GITHUB_OUTPUT": str(output),
                **{name: given.get(name, "") for name in step["env"]},
            },
            cwd=folder,
            check=False,
        )
        return done.returncode, (folder / "arguments").read_text().splitlines(), output.read_text()

    def test_hands_over_what_it_is_given(self, tmp_path):
        plain = ["gate", "--github", "--junit", "robustcheck-gate/junit.xml", "--sarif", "robustcheck-gate/gate.sarif"]
        assert self.run(tmp_path) == (0, plain, "outcome=pass\n")
        _, arguments, _ = self.run(tmp_path, TARGET="my net.onnx", CONFIG="my ci.toml", ARGS="--draws 50\n--bits 4")
        assert arguments == [*plain, "--config", "my ci.toml", "--draws", "50", "--bits", "4", "--", "my net.onnx"]
        understood(shlex.join(["robustcheck", *arguments]))

    def test_runs_nothing_that_an_input_says(self, tmp_path):
        evil = "$(touch evil) `touch evil`; touch evil #"
        _, arguments, _ = self.run(tmp_path, TARGET=evil, CONFIG=evil, ARGS=f"{evil} *")
        assert not (tmp_path / "evil").exists()
        assert arguments[-1] == evil
        assert "*" in arguments

    @pytest.mark.parametrize(
        ("code", "outcome"), [(0, "pass"), (1, "fail"), (2, "error"), (3, "error"), (4, "inconclusive"), (130, "error")]
    )
    def test_says_what_came_out(self, tmp_path, code, outcome):
        returned, _, output = self.run(tmp_path, code)
        assert (returned, output) == (code, f"outcome={outcome}\n")


def test_the_pre_commit_hook_is_one():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert hook["id"] == "robustcheck-gate"
    for name in ("net.onnx", "net.pt2", "weights.pt", "weights.safetensors", "report.json", "robustcheck.toml"):
        assert re.search(hook["files"], name), name
    understood(hook["entry"])
