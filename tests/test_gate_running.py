"""`robustcheck gate` as it is run: audits, baselines, looks until decided, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from robustcheck.analysis.bounds import Scores
from robustcheck.cli.main import main
from robustcheck.errors import ModelError, UsageError
from robustcheck.gate import running
from robustcheck.gate.evidence import Evidence
from robustcheck.gate.judge import Finding, judge
from robustcheck.gate.running import Look, spent, until_decided
from robustcheck.gate.settings import GateSettings
from robustcheck.gate.verdict import Judgement, Subject, Verdict
from robustcheck.reporting.outcomes import Estimate
from robustcheck.reporting.produce import run_study
from robustcheck.reporting.report import Report
from robustcheck.study import runner
from robustcheck.study.cells import Cell, LoadedStudy
from robustcheck.study.plan import Study

AUDIT = {"kind": "audit", "models": [{"spec": "digits-convnet"}], "data": {"spec": "digits", "max_samples": 400}}
SMALL = ["digits-convnet", "--max-samples", "400", "-q"]
REPETITIONS = 2000


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "study",
    [
        {"sensors": [{"spec": "adc-3bit"}], "eps": (0.2, 0.5, 0.9)},
        {"sensors": [{"spec": "camera-imx477"}], "exposures": (0.001, 0.03, "120 lx"), "draws": 2},
        {"sensors": [{"spec": "camera-imx477", "vary": "bits"}], "eps": (0.3, 0.8), "draws": 2},
        {"sensors": [{"spec": "adc-3bit", "placement": "network"}], "eps": (0.3, 0.6), "draws": 3},
        {"sensors": [{"spec": "adc-2bit"}], "eps": (0.5, 0.8), "precision": 0.02},
    ],
    ids=["converter", "camera", "camera bits", "network", "precision"],
)
def test_what_is_measured_is_what_the_report_says(study: dict[str, object]) -> None:
    report = run_study(Study.create(**AUDIT, **study))
    result = report.results[0]
    checks = ["area >= 0.001", "drop@quantised <= 0.999"] if result.sensor.kind == "converter" else ["area >= 0.001"]
    for each in result.points:
        point = each.point
        if point.kind == "lux":
            checks.append(f"accuracy@exposure={point.lux!r} lx >= 0.001")
        elif point.asked is None:
            checks.append(f"accuracy@{point.kind} >= 0.001")
        else:
            checks.append(f"accuracy@{point.kind}={point.asked!r} >= 0.001")
            checks.append(f"drop@{point.kind}={point.asked!r} <= 0.999")
    found = {each.check: each for each in judge(report, GateSettings(checks=tuple(checks))).judgements}
    assert {each.outcome for each in found.values()} == {"pass"}
    assert found["area >= 0.001"].value == pytest.approx(result.area.rows[0].accuracy, abs=1e-12)
    clean = next(each for each in result.points if each.point.kind == "clean").comparison.rows[0].accuracy
    for each, accuracy in zip(result.points, (p.comparison.rows[0].accuracy for p in result.points), strict=True):
        mine = [j for j in found.values() if j.subject.point == each.point.label]
        assert {j.rule: j.value for j in mine}["accuracy"] == pytest.approx(accuracy, abs=1e-12)
        drops = [j.value for j in mine if j.rule == "drop"]
        assert drops == pytest.approx([clean - accuracy] * len(drops), abs=1e-12)


def test_several_trained_networks_each_at_its_own_point() -> None:
    report = run_study(
        Study.create(
            models=AUDIT["models"],
            data={"spec": "digits", "max_samples": 150},
            sensors=[{"spec": "adc-3bit"}],
            eps=(0.3, 0.6),
            activations=("relu",),
            seeds=2,
            draws=1,
            training={"epochs": 1, "learning_rates": (0.02,)},
        )
    )
    checks = ("accuracy@ep=0.6 >= 0.001", "area >= 0.001", "drop@ep=0.6 <= 0.999", "seeds >= 2", "draws >= 1")
    found = judge(report, GateSettings(checks=checks)).judgements
    assert {each.outcome for each in found} == {"pass"}
    area = {row.activation: row.accuracy for row in report.results[0].area.rows}
    assert {j.subject.activation: j.value for j in found if j.rule == "area"} == pytest.approx(area)
    near, at = (next(p for p in report.results[0].points if p.point.ep == ep).comparison for ep in (0.3, 0.6))
    assert near.rows[0].clean != at.rows[0].clean  # so that it matters whose accuracy without noise is taken
    drop = {row.activation: row.clean - row.accuracy for row in at.rows}
    assert {j.subject.activation: j.value for j in found if j.rule == "drop"} == pytest.approx(drop)
    # Nothing is clean for all networks where each was trained at its own point.
    clean = judge(report, GateSettings(checks=("accuracy@clean >= 0.1",))).judgements
    assert {each.outcome for each in clean} == {"missing"}
    assert all(Evidence(report).complete(each) for each in Evidence(report).contestants())


def test_a_network_that_failed_is_an_error_behind_its_own_sensor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    train = runner.train_cell

    def train_cell(loaded: LoadedStudy, cell: Cell) -> object:
        if (cell.contestant.sensor, cell.contestant.activation, cell.seed) == (1, "gelu", 1):
            raise ModelError("lost")
        return train(loaded, cell)

    monkeypatch.setattr(runner, "train_cell", train_cell)
    report = run_study(
        Study.create(
            models=AUDIT["models"],
            data={"spec": "digits", "max_samples": 60},
            sensors=[{"spec": "adc-3bit"}, {"spec": "adc-4bit"}],
            eps=(0.5,),
            activations=("gelu",),
            seeds=2,
            draws=1,
            training={"epochs": 1, "learning_rates": (0.001,)},
        )
    )
    (failure,) = report.failures
    assert failure.what == "digits-convnet on adc-4bit: rank gelu, train EP 0.5, seed 1, lr 0.001"
    found = judge(report, GateSettings(checks=("accuracy@ep=0.5 >= 0.001",))).judgements
    outcomes = {(each.subject.sensor, each.subject.activation): each.outcome for each in found}
    assert outcomes.pop(("adc-4bit", "gelu")) == "error"
    assert outcomes == {("adc-3bit", "relu"): "pass", ("adc-3bit", "gelu"): "pass", ("adc-4bit", "relu"): "pass"}


def test_a_model_is_audited_where_the_checks_ask(capsys: pytest.CaptureFixture[str]) -> None:
    Path("robustcheck.toml").write_text('[gate]\nchecks = ["accuracy@ep=0.3 >= 0.5", "drop@ep=0.6 <= 90 %"]\n')
    assert main(["gate", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "at EP 0.3: accuracy" in printed.replace("\n", " ")
    assert printed.rstrip().endswith("gate: pass (2 checks: 2 pass, exit code 0)")
    report = Report.load("robustcheck-gate/report.json")
    assert [each.point.label for each in report.results[0].points] == ["clean", "quantised only", "EP 0.3", "EP 0.6"]
    assert main(["gate", "robustcheck-gate/report.json", "--check", "accuracy@ep=0.6 >= 0.9999"]) == 1


def test_the_study_of_the_file_is_run_and_every_output_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text(
        '[tool.robustcheck.gate]\nchecks = ["accuracy@ep=0.5 >= 0.5", "samples >= 9999"]\n'
        '[tool.robustcheck.study]\nkind = "audit"\nmodels = [{spec = "digits-convnet"}]\n'
        'data = {spec = "digits", max_samples = 400}\nsensors = [{spec = "adc-4bit"}]\n'
    )
    Path("summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    files = ["--junit", "o/gate.xml", "--sarif", "o/gate.sarif", "--metrics", "o/gate.txt"]
    assert main(["gate", "-q", "--github", "--json", *files]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)["exit_code"] == 1
    assert "::error" in streams.err
    assert Path("o/gate.xml").read_text().startswith("<?xml")
    assert json.loads(Path("o/gate.sarif").read_text())["version"] == "2.1.0"
    assert Path("o/gate.txt").read_text().endswith("# EOF\n")
    assert Path("summary.md").read_text().startswith("before\n")
    assert "9999" in Path("summary.md").read_text()


def test_a_baseline_begins_is_kept_and_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    check = ["--check", "regression@ep=0.5 <= 0.001", "--check", "accuracy@ep=0.5 >= 0.5"]
    first, second = ["gate", *SMALL, "-o", "one", *check], ["gate", *SMALL, "--bits", "2", "-o", "two", *check]
    assert main([*first, "--baseline", "b/base.json"]) == 3  # there is none
    capsys.readouterr()
    assert main([*first, "--baseline", "b/base.json", "--update-baseline"]) == 0
    assert "b/base.json is now this report" in capsys.readouterr().err
    kept = Path("b/base.json").read_bytes()
    assert kept == Path("one/report.json").read_bytes()
    # Another sensor is no baseline for this one, and what could not be judged is not kept.
    assert main([*second, "--baseline", "b/base.json", "--update-baseline"]) == 3
    assert "left as it was" in capsys.readouterr().err
    assert Path("b/base.json").read_bytes() == kept
    assert main([*first, "--baseline", "b/base.json"]) == 0
    assert "the same networks as in the baseline" in " ".join(capsys.readouterr().out.split())
    # A check that fails keeps the baseline as it is.
    worse = ["--check", "accuracy@ep=0.5 >= 0.9999", "--baseline", "b/base.json", "--update-baseline"]
    assert main(["gate", "one/report.json", *worse]) == 1
    assert Path("b/base.json").read_bytes() == kept


def test_a_baseline_that_is_not_there_yet_leaves_the_rest_judged(capsys: pytest.CaptureFixture[str]) -> None:
    check = ["--check", "regression@ep=0.5 <= 0.1", "--check", "accuracy@ep=0.5 >= 0.9999", "--baseline", "no.json"]
    assert main(["gate", *SMALL[:-1], *check]) == 1
    streams = capsys.readouterr()
    assert [line.split()[0] for line in streams.out.splitlines()[:3]] == ["missing", "Name", "fail"]
    assert "begin one with --update-baseline" in streams.out
    assert "the baseline no.json is not there yet" in streams.err


@pytest.mark.parametrize(("asked", "code"), [(0.5, 3), (0.9999, 1)])
def test_a_file_that_cannot_be_written_keeps_nothing_else_back(
    capsys: pytest.CaptureFixture[str], asked: float, code: int
) -> None:
    Path("blocked").touch()
    files = ["--junit", "blocked/gate.xml", "--sarif", "gate.sarif", "--metrics", "blocked/gate.txt"]
    assert main(["gate", *SMALL, "--check", f"accuracy@ep=0.5 >= {asked}", *files]) == code
    streams = capsys.readouterr()
    assert f"gate: {'fail' if code == 1 else 'pass'} (1 check" in streams.out
    assert streams.err.count("error: ") == 2
    assert Path("gate.sarif").exists()
    assert Path("robustcheck-gate/report.json").exists()


def test_an_accepted_regression_becomes_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    def audited(model: str, out: str) -> None:
        assert main(["audit", model, "--data", "digits", "--max-samples", "400", "--ep", "0.5", "-o", out, "-q"]) == 0

    audited("digits-convnet", "good")
    report = json.loads(Path("good/report.json").read_text())
    report["predictions"] = [
        {**each, "cell": "other", "correct": worsened(each, report["data"]["counts"]["test"])}
        for each in report["predictions"]
    ]
    report["training"][0]["cell"] = "other"
    for each in report["results"][0]["points"]:
        each["comparison"]["rows"][0]["accuracy"] = 0.5
    Path("bad.json").write_text(json.dumps(report))
    Path("base.json").write_bytes(Path("good/report.json").read_bytes())
    arguments = ["gate", "bad.json", "--baseline", "base.json", "--check", "regression@ep=0.5 <= 0.1"]
    assert main(arguments) == 1
    assert main([*arguments, "--update-baseline"]) == 1
    assert Report.load("base.json") == Report.load("bad.json")
    assert main(arguments) == 0
    capsys.readouterr()


def worsened(prediction: dict[str, object], samples: int) -> str:
    import base64
    import zlib

    right = np.tile(np.arange(samples) % 2 == 0, (int(prediction["draws"]), 1))
    return base64.b64encode(zlib.compress(np.packbits(right).tobytes())).decode()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["digits-convnet"], 2, "expected checks, got none"),
        (["--check", "draws >= 1"], 2, "expected a report or a model"),
        (["digits-convnet", "--check", "draws > 1"], 2, "expected >= after draws"),
        (["none.json", "--check", "draws >= 1"], 3, "none.json"),
        (["none.json", "--check", "draws >= 1", "--ep", "0.5"], 2, "expected no --ep beside it"),
        (["none.json", "--check", "draws >= 1", "--until-decided"], 2, "expected a model to draw on with"),
        (["digits-convnet", "--check", "draws >= 1", "--max-time", "5m"], 2, "add --until-decided"),
        (["digits-convnet", "--check", "draws >= 1", "--until-decided", "--max-time", "soon"], 2, "such as 90s"),
        (["digits-convnet", "--check", "draws >= 1", "--update-baseline"], 2, "expected a baseline's file"),
        (["digits-convnet", "--check", "draws >= 1", "--baseline", "empty.json"], 3, "baseline empty.json: "),
        (["digits-convnet", "--check", "draws >= 1", "--baseline", "bare.json"], 3, "delete it and run gate --update-"),
        (["digits-convnet", "--check", "area >= 90"], 2, "checks: number 1: expected a fraction from 0"),
        (["digits-convnet", "--check", "accuracy@signal=0.5 >= 0.9"], 2, "signal"),
        (["--config", "no.toml"], 2, "no.toml"),
        (["digits-convnet", "--check", "area >= 0.9", "--until-decided", "--precision", "1%"], 2, "expected no prec"),
    ],
)
def test_what_was_typed_wrongly_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    Path("empty.json").touch()
    Path("bare.json").write_text("{}")
    assert main(["gate", *arguments]) == code
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""


def test_a_study_file_states_the_whole_study(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.toml").write_text(Study.create(**AUDIT, sensors=[{"spec": "adc-4bit"}], eps=(0.5,), draws=2).to_toml())
    assert main(["gate", "study.toml", "--check", "draws >= 2", "-q"]) == 0
    assert main(["gate", "study.toml", "--check", "draws >= 2", "--draws", "9"]) == 2
    assert "expected no --draws beside it" in capsys.readouterr().err


def test_looks_double_the_draws_until_they_decide(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL[:-1], "--bits", "2", "--draws", "1", "--until-decided", "--max-time", "1h"]
    code = main(["gate", *arguments, "--check", "accuracy@ep=0.95 >= 0.15"])
    told = re.findall(r"look (\d+): (\d+) draws, (\d+) inconclusive(?:; stopped: (.+))?", capsys.readouterr().err)
    assert [(int(number), int(draws)) for number, draws, _, _ in told] == [(k + 1, 2**k) for k in range(len(told))]
    assert len(told) > 1
    assert told[-1][3] in ("decided", "draws cannot decide")
    assert (told[-1][3] == "decided") == (code in (0, 1))
    report = Report.load("robustcheck-gate/report.json")
    assert report.draws == 2 ** (len(told) - 1)
    assert len(list(Path("robustcheck-gate/runs").iterdir())) == len(told)


def fake_looks(monkeypatch: pytest.MonkeyPatch, outcomes: list[str], hopes: list[bool]) -> list[float]:
    """Judgements that come out so at each look, instead of judged ones; the list fills with the alphas spent."""
    spending: list[float] = []

    def judgement(outcome: str) -> Judgement:
        return Judgement("accuracy", "", Subject(), outcome, 0.9, 0.9, 0.8, 1.0, "")

    at = iter(zip(outcomes, hopes, strict=True))
    now: list[tuple[str, bool]] = []

    def judged(*_: object, alpha: float) -> Verdict:
        spending.append(alpha)
        now[:] = [next(at)]
        return Verdict("", "", 0.05, (judgement(now[0][0]),))

    monkeypatch.setattr(running, "judge", judged)

    def found(*_: object, alpha: float) -> tuple[Finding]:
        look = len(spending)
        assert alpha == pytest.approx(0.05 / ((look + 1) * (look + 2)))  # what the next look may spend
        return (Finding(judgement("inconclusive"), now[0][1]),)

    monkeypatch.setattr(running, "findings", found)
    return spending


@pytest.mark.parametrize(
    ("outcomes", "hopes", "max_seconds", "stopped", "draws"),
    [
        (["pass"], [False], 0.0, "decided", 5),
        (["inconclusive", "inconclusive", "fail"], [True, True, False], np.inf, "decided", 20),
        (["inconclusive", "inconclusive"], [True, False], np.inf, "draws cannot decide", 10),
        (["inconclusive"] * 3, [True] * 3, 10 + 20 + 40 + 79, "time", 20),
        (["inconclusive"] * 4, [True] * 3 + [False], 10 + 20 + 40 + 80, "draws cannot decide", 40),
        (["inconclusive"] * 20, [True] * 20, np.inf, "draws", 81_920),
    ],
)
def test_looks_stop_where_they_should(
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[str],
    hopes: list[bool],
    max_seconds: float,
    stopped: str,
    draws: int,
) -> None:
    spending = fake_looks(monkeypatch, outcomes, hopes)
    study = Study.create(**AUDIT, sensors=[{"spec": "adc-4bit"}], eps=(0.5,))
    seconds = [0.0]

    def measure(plan: Study) -> Report:
        seconds[0] += 2 * plan.draws
        return Report.model_construct()

    seen: list[Look] = []
    look = until_decided(
        study, GateSettings(checks=("draws >= 1",)), None, measure,
        max_seconds=max_seconds, on_look=seen.append, clock=lambda: seconds[0],
    )  # fmt: skip
    assert (look.stopped, look.draws) == (stopped, draws)
    assert [each.stopped for each in seen[:-1]] == [None] * (len(seen) - 1)
    assert seen[-1] == look
    assert spending == pytest.approx([0.05 / (k * (k + 1)) for k in range(1, len(seen) + 1)])


def test_what_a_look_decided_stays_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look, at its smaller part of alpha, would leave the first check open again."""
    looks_at = iter([("pass", "inconclusive"), ("inconclusive", "pass")])

    def judged(*_: object, alpha: float) -> Verdict:
        return Verdict("", "", alpha, tuple(
            Judgement("accuracy", check, Subject(), outcome, 0.9, 0.9, 0.8, 1.0, "")
            for check, outcome in zip("ab", next(looks_at), strict=True)
        ))  # fmt: skip

    monkeypatch.setattr(running, "judge", judged)
    open_still = Judgement("accuracy", "", Subject(), "inconclusive", 0.9, 0.9, 0.8, 1.0, "")
    monkeypatch.setattr(running, "findings", lambda *_, alpha: (Finding(open_still, True),) * 2)
    study = Study.create(**AUDIT, sensors=[{"spec": "adc-4bit"}], eps=(0.5,))
    look = until_decided(study, GateSettings(checks=("draws >= 1",)), None, lambda _: Report.model_construct())
    assert (look.number, look.stopped, look.verdict.outcome) == (2, "decided", "pass")


def test_a_failed_check_ends_the_looks_and_a_count_of_draws_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(*_: object, alpha: float) -> Verdict:
        few = Judgement("draws", "draws >= 6", Subject(), "fail", 6, 5, None, None, "")
        undecided = Judgement("accuracy", "a", Subject(), "inconclusive", 0.9, 0.9, 0.8, 1.0, "")
        failed = Judgement("accuracy", "a", Subject(), "fail", 0.9, 0.7, 0.6, 0.8, "")
        looked.append(alpha)
        return Verdict("", "", alpha, (few, undecided if len(looked) == 1 else failed))

    looked: list[float] = []
    monkeypatch.setattr(running, "judge", judged)
    open_still = Judgement("accuracy", "", Subject(), "inconclusive", 0.9, 0.9, 0.8, 1.0, "")
    monkeypatch.setattr(running, "findings", lambda *_, alpha: (Finding(open_still, True),) * 2)
    study = Study.create(**AUDIT, sensors=[{"spec": "adc-4bit"}], eps=(0.5,))
    look = until_decided(study, GateSettings(checks=("draws >= 1",)), None, lambda _: Report.model_construct())
    assert (look.number, look.stopped, look.verdict.outcome) == (2, "decided", "fail")


def test_a_first_baseline_is_each_look_at_itself(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = [*SMALL, "--until-decided", "--draws", "2", "--baseline", "base.json", "--update-baseline"]
    assert main(["gate", *drawn, "--check", "regression@ep=0.5 <= 0"]) == 0
    assert "the same networks as in the baseline" in " ".join(capsys.readouterr().out.split())
    assert Path("base.json").read_bytes() == Path("robustcheck-gate/report.json").read_bytes()


def test_an_area_is_over_the_usual_points_where_none_are_named() -> None:
    assert main(["gate", *SMALL, "--check", "area >= 0.1", "--check", "accuracy@ep=0.5 >= 0.1"]) == 0
    eps = [each.point.ep for each in Report.load("robustcheck-gate/report.json").results[0].points]
    assert eps == [None, None, 0.2, 0.4, 0.5, 0.6, 0.8]


def test_only_audits_are_drawn_on() -> None:
    trains = Study.create(
        **{**AUDIT, "kind": "compare"}, sensors=[{"spec": "adc-4bit"}], eps=(0.5,), activations=("gelu",)
    )
    with pytest.raises(UsageError, match="expected an audit"):
        until_decided(trains, GateSettings(checks=("draws >= 1",)), None, lambda *_: pytest.fail("ran"))


def test_looks_spend_no_more_than_alpha() -> None:
    assert sum(spent(0.05, look) for look in range(1, 100_000)) < 0.05


def decision(
    rng: np.random.Generator, hardness: np.ndarray, truth: float, alpha: float, fail_share: float, *, spend: bool
) -> str:
    """What the first of seven looks that decides says of networks (networks, samples) and the threshold `truth`."""
    draws = 2 ** np.arange(7)
    more = np.diff(draws, prepend=0)[:, None, None]
    right = rng.binomial(more, hardness).cumsum(axis=0) / draws[:, None, None]
    share = right.mean(axis=1)
    # No bound is nearer than a standard error.
    far = np.abs(share.mean(axis=1) - truth) > share.std(axis=1) / np.sqrt(share.shape[1])
    for number in np.flatnonzero(far).tolist():
        estimate = Estimate(tuple(Scores(each, np.empty(0), np.empty(0), None) for each in right[number]))
        error, part = estimate.value - truth, spent(alpha, number + 1) if spend else alpha
        if error > 0 and estimate.margin("below", part, skewed=True).total <= error:
            return "pass"
        if error < 0 and estimate.margin("above", part * fail_share, skewed=False).total < -error:
            return "fail"
    return "inconclusive"


@pytest.mark.parametrize(
    ("checks", "networks", "spend"),
    [(1, 1, True), (2, 1, True), (1, 3, True), (1, 1, False)],
    ids=["one check", "two checks", "three networks", "every look at alpha"],
)
def test_at_the_threshold_looks_decide_wrongly_no_more_often_than_stated(
    checks: int, networks: int, spend: bool
) -> None:
    """Seven looks, 1 to 64 draws, as the gate decides; at the whole of alpha each they decide wrongly too often.

    Of two checks a false pass is that of the one whose threshold is missed, a false fail is that of any.
    """
    rng, truth, alpha = np.random.default_rng(11), 0.8, 0.05
    passes = fails = 0
    for _ in range(REPETITIONS):
        found = []
        for _ in range(checks):
            hardness = rng.beta(truth * 2, (1 - truth) * 2, 200)
            better = rng.normal(0, 0.03, (networks, 1)) if networks > 1 else np.zeros((1, 1))
            shifted = np.where(better < 0, hardness * (1 + better / truth), 1 - (1 - hardness) * (1 - better / 0.2))
            found.append(decision(rng, shifted, truth, alpha, 1 / checks, spend=spend))
        passes, fails = passes + (found[0] == "pass"), fails + ("fail" in found)
    most = stats.binom.isf(0.001, REPETITIONS, alpha)
    if spend:
        assert max(passes, fails) <= most
        assert passes + fails > 0.2 * alpha * REPETITIONS  # and not because nothing is ever decided
    else:
        assert max(passes, fails) > most


def test_other_checks_find_no_other_study_in_the_way() -> None:
    assert main(["gate", *SMALL, "--check", "accuracy@ep=0.3 >= 0.5"]) == 0
    assert main(["gate", *SMALL, "--check", "accuracy@ep=0.4 >= 0.5"]) == 0
    points = Report.load("robustcheck-gate/report.json").results[0].points
    assert [each.point.label for each in points][-1] == "EP 0.4"
