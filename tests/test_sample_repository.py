"""A sample repository, gated as a pipeline would: a baseline, a change that is harmless, and one that is not."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from junitparser import Failure, JUnitXml
from onnx import numpy_helper
from prometheus_client.openmetrics import parser as openmetrics_parser

from robustcheck.cli.main import cli, main
from robustcheck.networks.loading import load_model
from robustcheck.reporting.report import Report

REPOSITORY = Path(__file__).with_name("sample_repository")
FIRST, PIPELINE, MADE_BY = re.findall(r"^robustcheck (.*)$", (REPOSITORY / "README.md").read_text(), flags=re.M)
BASELINE = Path("reports/baseline.json")
SUMMARY = Path("summary.md")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout, and a job of a pipeline in it."""
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY, checkout)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(checkout / SUMMARY))
    return checkout


def damage(path, share):
    """Add noise to the weights of every layer: `share` of their own spread."""
    rng = np.random.default_rng(0)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim > 1 and weights.dtype == np.float32:
            noise = rng.normal(size=weights.shape) * weights.std() * share
            tensor.CopyFrom(numpy_helper.from_array((weights + noise).astype(np.float32), tensor.name))
    onnx.save(model, path)


def pipeline(capsys, command=PIPELINE):
    """Exit code, standard output, and the cases of the JUnit file by name."""
    SUMMARY.unlink(missing_ok=True)
    code = main([*shlex.split(command), "-q"])
    out = capsys.readouterr().out
    junit = JUnitXml.fromstring(Path("robustcheck-gate/junit.xml").read_bytes())
    cases = {case.name: case for suite in junit for case in suite}
    assert (junit.tests, junit.errors, junit.skipped) == (6, 0, 0)
    return code, out, cases


def failed(cases):
    return {name.split("@")[0].split(" ")[0] for name, case in cases.items() if case.result}


def test_a_pipeline_passes_what_is_unchanged_and_refuses_what_is_fragile(repository, capsys):
    assert main([*shlex.split(FIRST), "-q"]) == 0
    capsys.readouterr()
    baseline = BASELINE.read_bytes()
    assert Report.load(BASELINE).models[0].spec == "net.onnx"

    code, out, cases = pipeline(capsys)
    assert code == 0
    assert failed(cases) == set()
    assert "::" not in out
    assert SUMMARY.read_text().startswith("## robustcheck gate: pass\n")
    assert "the same networks as in the baseline" in SUMMARY.read_text()

    damage("net.onnx", 0.6)
    code, out, cases = pipeline(capsys)
    assert code == 1
    assert failed(cases) == {"accuracy", "area", "regression"}
    assert all(isinstance(case.result[0], Failure) for case in cases.values() if case.result)
    annotations = [line for line in out.splitlines() if line.startswith("::")]
    assert len(annotations) == 3
    place = r"::error title=robustcheck%3A [^:,]+,file=net\.onnx::net\.onnx on adc-4bit"
    assert all(re.match(place, annotation) for annotation in annotations)
    summary = SUMMARY.read_text().splitlines()
    assert summary[0] == "## robustcheck gate: fail"
    assert "3 fail, 3 pass" in summary[2]
    assert [row.split(" ")[1] for row in summary if row.startswith("| ")][2:] == ["fail"] * 3 + ["pass"] * 3

    (run,) = json.loads(Path("robustcheck-gate/gate.sarif").read_text())["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"RC001", "RC002", "RC004"}
    (uri,) = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]}
    assert uri == "net.onnx"
    metrics = Path("robustcheck-gate/metrics.txt").read_text()
    families = {each.name: each for each in openmetrics_parser.text_string_to_metric_families(metrics)}
    assert [sample.value for sample in families["robustcheck_gate_passed"].samples] == [0, 0, 1, 0, 1, 1]

    # What fails by itself becomes no baseline.
    assert main([*shlex.split(FIRST), "-q"]) == 1
    assert BASELINE.read_bytes() == baseline


def test_a_model_called_as_markup_shows_as_text(repository, capsys):
    hostile = "<script>alert(1)</script>.onnx"
    Path(hostile).parent.mkdir()
    shutil.move("net.onnx", hostile)
    settings = Path("robustcheck.toml")
    settings.write_text(settings.read_text().replace("net.onnx", hostile).replace("90 %", "99.9 %"))
    assert main([*shlex.split(FIRST), "-q"]) == 1
    capsys.readouterr()
    pipeline_files = PIPELINE.replace("robustcheck-gate/", "out/")
    assert main([*shlex.split(pipeline_files), "--baseline", "robustcheck-gate/report.json", "-q"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^::error .*,file=<script>alert\(1\)</script>\.onnx::", out, flags=re.M)
    assert "<script>" not in SUMMARY.read_text()
    assert "&lt;script" in SUMMARY.read_text()
    assert "<script>" not in Path("out/junit.xml").read_text()
    (run,) = json.loads(Path("out/gate.sarif").read_text())["runs"]
    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"] == "%3Cscript%3Ealert%281%29%3C/script%3E.onnx"


def test_the_model_is_the_shipped_one():
    """As the README says; to make it by its command, and not only to parse that, takes as long as all the rest."""
    _, arguments = MADE_BY.split(" ", 1)
    assert cli.commands["models"].commands["swap"].make_context("swap", shlex.split(arguments)[1:])

    def weights(spec):
        return sorted(parameter.detach().flatten().tolist() for parameter in load_model(spec).network.parameters())

    assert weights(str(REPOSITORY / "net.onnx")) == weights("digits-convnet")
