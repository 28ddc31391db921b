"""`robustcheck init`: the first robustcheck.toml of a repository, and the job that runs its gate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from robustcheck.errors import UnknownNameError, UsageError

_SETTINGS = """\
# What `robustcheck gate` holds a model to. `robustcheck gate --help` says the same in short.

[gate]
# The gate passes when every check passes. A check is one of
#   accuracy@POINT >= X     the accuracy at an operating point of the sensor is at least X
#   area >= X               the mean accuracy over all operating points is at least X
#   drop@POINT <= X         the sensor costs at most X of the accuracy on clean images
#   regression@POINT <= X   at most X is lost since the baseline; also regression@area
#   samples >= N, draws >= N, seeds >= N
# where POINT is ep=0.5 (an error probability), exposure=0.1 or exposure=50 lx (a camera), signal=0.3 (a LIDAR), clean
# or quantised, and X is a fraction such as 0.9, or 90 %.
checks = [
  "accuracy@ep=0.5 >= 0.90",
  "drop@ep=0.5 <= 0.05",
  "samples >= 100",
  "draws >= 20",
]

# A check passes when the lower confidence bound clears its threshold, and fails when the upper bound misses it. This is
# the chance that the gate passes a model that misses one, and the chance that it fails a model that misses none.
alpha = 0.05

# What counts when the samples and draws decide neither: "inconclusive" (exit code 4), "pass" or "fail".
inconclusive = "inconclusive"

# The report that regressions are measured from; `robustcheck gate --update-baseline` writes it. Commit it.
# baseline = "reports/baseline.json"

# What `robustcheck gate` audits where neither a report nor a model is named.
[study]
kind = "audit"
# Operating points: eps of converters and cameras, exposures of cameras, signals of LIDARs.
eps = [0.3, 0.5, 0.7]
# Noisy evaluations of each test sample.
draws = 20

[study.data]
# digits, folder:PATH, npz:PATH, torchvision:NAME:ROOT, lidar-scenes, clouds:PATH or kitti:PATH.
{data}
# resize = [224, 224]

[[study.models]]
# An .onnx or .pt2 file, torchvision:NAME, timm:NAME, package.module:factory, or a shipped model.
{model}
# weights = "weights.safetensors"
# mean = [0.485, 0.456, 0.406]
# std = [0.229, 0.224, 0.225]

[[study.sensors]]
# `robustcheck sensors list` names them all.
spec = "adc-4bit"
"""

_GITHUB = """\
# Refuses a change that makes the model fragile; the checks are in robustcheck.toml.
name: robustness

on:
  pull_request:
  push:
    branches: [main]

permissions:
  contents: read

jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    env:
      # What pip installs: your source of robustcheck at a tag or commit, or a wheel. The robustcheck on PyPI is another
      # project's.
      ROBUSTCHECK: git+https://github.com/OWNER/robustcheck@VERSION
    steps:
      - uses: actions/checkout@v5
      - uses: actions/setup-python@v6
        with:
          python-version: "3.11"
      - name: Install
        run: |
          case "$ROBUSTCHECK" in
            *OWNER*|*@VERSION*)
              echo "::error::ROBUSTCHECK: expected your source, got $ROBUSTCHECK; edit .github/workflows/robustness.yml"
              exit 1 ;;
          esac
          python -m pip install "$ROBUSTCHECK"
      - name: Gate
        run: >-
          robustcheck gate --github
          --junit robustcheck-gate/junit.xml
          --sarif robustcheck-gate/gate.sarif
      - uses: actions/upload-artifact@v6
        if: always()
        with:
          name: robustness
          path: robustcheck-gate
      # To see what fails under code scanning, take these in and add `security-events: write` to the permissions.
      # - uses: github/codeql-action/upload-sarif@v4
      #   if: always()
      #   with:
      #     sarif_file: robustcheck-gate/gate.sarif
"""

_GITLAB = """\
# Refuses a change that makes the model fragile; the checks are in robustcheck.toml.
robustness:
  image: python:3.11
  variables:
    # What pip installs: your source of robustcheck at a tag or commit, or a wheel. The robustcheck on PyPI is another
    # project's.
    ROBUSTCHECK: git+https://github.com/OWNER/robustcheck@VERSION
  script:
    - |
      case "$ROBUSTCHECK" in
        *OWNER*|*@VERSION*)
          echo "ROBUSTCHECK: expected your source, got $ROBUSTCHECK; edit .gitlab/robustness.yml" >&2
          exit 1 ;;
      esac
    - python -m pip install "$ROBUSTCHECK"
    - robustcheck gate --junit robustcheck-gate/junit.xml --metrics robustcheck-gate/metrics.txt
  # A gate that could not decide (exit code 4) stops the pipeline; with these two lines it only warns.
  # allow_failure:
  #   exit_codes: 4
  artifacts:
    when: always
    paths:
      - robustcheck-gate/
    reports:
      junit: robustcheck-gate/junit.xml
      metrics: robustcheck-gate/metrics.txt
"""

SETTINGS_FILE = Path("robustcheck.toml")
PYPROJECT_FILE = Path("pyproject.toml")
GITHUB_FILE = Path(".github/workflows/robustness.yml")
GITLAB_FILE = Path(".gitlab/robustness.yml")


@click.command()
@click.argument("model", default="digits-convnet")
@click.option("--data", metavar="SPEC", help="Labelled images to test on; a shipped model brings its own.")
@click.option("--github", is_flag=True, help=f"Also write a GitHub workflow, {GITHUB_FILE}.")
@click.option("--gitlab", is_flag=True, help=f"Also write a GitLab job, {GITLAB_FILE}.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the files written as JSON, and nothing else.")
def init(model: str, data: str | None, github: bool, gitlab: bool, force: bool, as_json: bool) -> None:
    """Write a commented robustcheck.toml for MODEL into this folder; without MODEL, one that runs as it is.

    Beside a workflow, settings that are there are kept.

    \b
    Examples:
      robustcheck init
      robustcheck init net.onnx --data folder:photos --github
      robustcheck init torchvision:resnet18 --data npz:cells.npz --gitlab
    """
    import tomli_w

    from robustcheck.reporting.files import write

    chosen = {"data": _data(model, data), "model": model}
    lines = {name: tomli_w.dumps({"spec": spec}).strip() for name, spec in chosen.items()}
    workflows = ({GITHUB_FILE: _GITHUB} if github else {}) | ({GITLAB_FILE: _GITLAB} if gitlab else {})
    kept = _kept(force) if workflows else None
    if not workflows and _states_a_gate(PYPROJECT_FILE) and not SETTINGS_FILE.exists():
        raise UsageError(
            f"expected no gate here, got the one in {PYPROJECT_FILE}, which a {SETTINGS_FILE} would replace; edit "
            f"[tool.robustcheck] in {PYPROJECT_FILE}, or take it out"
        )
    files = ({} if kept else {SETTINGS_FILE: _SETTINGS.format(**lines)}) | workflows
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise UsageError(
            f"expected no {' nor '.join(there)} here, got one that would be lost; use --force to replace it"
        )
    for path, text in files.items():
        write(path, text.encode())
    if as_json:
        click.echo(json.dumps({"written": [path.as_posix() for path in files]}, indent=2))
        return
    click.echo("wrote " + ", ".join(map(str, files)))
    if kept:
        click.echo(f"kept the settings in {kept}")
    if gitlab:
        click.echo(f"GitLab runs it once .gitlab-ci.yml says:\ninclude:\n  - local: {GITLAB_FILE.as_posix()}")
    sources = "".join(f", and ROBUSTCHECK in {path} (your source of robustcheck)" for path in workflows)
    click.echo(f"edit the checks{sources}, then run: robustcheck gate")


def _kept(force: bool) -> Path | None:
    """The file whose settings stay as they are."""
    if SETTINGS_FILE.exists():
        return None if force else SETTINGS_FILE
    return PYPROJECT_FILE if _states_a_gate(PYPROJECT_FILE) else None


def _states_a_gate(path: Path) -> bool:
    """Whether a file is there that `robustcheck gate` would read."""
    if not path.exists():
        return False
    from robustcheck.gate.settings import load_gate

    found = load_gate(path)
    return found.settings is not None or found.study is not None


def _data(model: str, given: str | None) -> str:
    """The data that was asked for, or that a shipped model was trained on."""
    from robustcheck import content
    from robustcheck.networks.recipes import load_recipe

    known = content.model_names()
    if model not in known and ":" not in model and not Path(model).suffix:
        raise UnknownNameError("model", model, known, remedy="A file ends in .onnx, .pt2 or .toml.")
    if given is None and model not in known:
        raise UsageError("--data: expected a data set, got none; give one such as digits or folder:PATH")
    return given or load_recipe(model).data
