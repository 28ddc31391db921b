"""What a pipeline reads of a verdict, each read back by the format's own reader or schema."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from prometheus_client.openmetrics import parser as openmetrics_parser

from robustcheck.gate import checks
from robustcheck.gate.document import to_json
from robustcheck.gate.github import MOST_ANNOTATIONS, annotations, step_summary
from robustcheck.gate.junit import to_junit
from robustcheck.gate.openmetrics import to_openmetrics
from robustcheck.gate.sarif import RULES, level, model_file, to_sarif
from robustcheck.gate.verdict import Judgement, Subject, Verdict

SCHEMA = json.loads(Path(__file__).with_name("data").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
OUTCOMES = ("pass", "fail", "inconclusive", "missing", "error")
NET = Subject("net", "nets/net.onnx", "as is", "adc-4bit", "EP 0.5")
HOSTILE = "<script>alert(1)</script>"
NASTY = (
    f"{HOSTILE} | [x](http://evil.example) `{{0}}` \x00\x1b[2J\u202e\ud800\ufffe\uffff ::error::%0A\r\n"
    "::stop-commands::x\"',\\&"
)


def judgement(outcome="fail", rule="accuracy", subject=NET, **changed):
    check = changed.pop("check", f"{rule} >= 0.9")
    measured = outcome not in ("missing", "error")
    value, lower, upper = (0.8, 0.77, 0.83) if measured else (None, None, None)
    remedy = "" if outcome == "pass" else "Train under noise."
    found = Judgement(rule, check, subject, outcome, 0.9, value, lower, upper, f"{subject.model}: {outcome}.", remedy)
    return replace(found, **changed)


def verdict(*judgements, inconclusive="inconclusive", title="an audit"):
    return Verdict(title, "0" * 64, 0.05, judgements, inconclusive)


ALL = verdict(*(judgement(outcome) for outcome in OUTCOMES))
EVIL = verdict(
    *(
        judgement(
            outcome,
            subject=Subject(NASTY, f"nets/{NASTY}.onnx", NASTY, NASTY, NASTY),
            check=NASTY,
            sentence=NASTY,
            remedy=NASTY,
        )
        for outcome in OUTCOMES
    ),
    title=NASTY,
)


def read_junit(text):
    """Suites and cases, after a look at the bytes that a pipeline reads."""
    found = JUnitXml.fromstring(text.encode())
    for each in (found, *found):
        cases = [case for suite in found for case in suite] if each is found else list(each)
        results = [type(case.result[0]) if case.result else None for case in cases]
        assert (each.tests, each.failures, each.errors, each.skipped) == (
            len(cases),
            results.count(Failure),
            results.count(Error),
            results.count(Skipped),
        )
    return found


class TestJUnit:
    def test_keeps_failures_errors_and_skips_apart(self):
        (suite,) = read_junit(to_junit(ALL))
        results = [type(case.result[0]) if case.result else None for case in suite]
        assert results == [None, Failure, Skipped, Skipped, Error]
        assert [case.result[0].message for case in suite if case.result] == [
            f"net: {outcome}." for outcome in OUTCOMES[1:]
        ]
        assert all(case.result[0].text.endswith("Train under noise.") for case in suite if case.result)
        assert next(iter(suite)).system_out == "net: pass."

    @pytest.mark.parametrize(("counts_as", "result"), [("pass", None), ("fail", Failure), ("inconclusive", Skipped)])
    def test_what_is_undecided_counts_as_the_settings_say(self, counts_as, result):
        (suite,) = read_junit(to_junit(verdict(judgement("inconclusive"), inconclusive=counts_as)))
        (case,) = suite
        assert (type(case.result[0]) if case.result else None) is result

    def test_has_a_suite_a_contestant_and_a_case_a_point(self):
        subjects = [
            replace(NET, model=model, activation=activation, sensor=sensor, point=point)
            for model in ("a", "b")
            for activation in ("relu", "gelu")
            for sensor in ("adc-4bit", "adc-2bit")
            for point in ("EP 0.3", "EP 0.5")
        ]
        suites = list(read_junit(to_junit(verdict(*(judgement("pass", subject=each) for each in subjects)))))
        assert len(suites) == 8
        assert suites[0].name == "a, relu, adc-4bit"
        assert [case.name for case in suites[0]] == ["accuracy >= 0.9 (EP 0.3)", "accuracy >= 0.9 (EP 0.5)"]
        assert len({(case.classname, case.name) for suite in suites for case in suite}) == 16

    def test_a_check_of_the_whole_report_has_a_suite_too(self):
        (suite,) = read_junit(to_junit(verdict(judgement("fail", rule="samples", subject=Subject()))))
        assert suite.name == "report"
        assert [case.name for case in suite] == ["samples >= 0.9"]

    def test_no_name_breaks_it(self):
        (suite,) = read_junit(to_junit(EVIL))
        assert [case.result[0].message.startswith(HOSTILE) for case in suite if case.result] == [True] * 4
        assert next(iter(suite)).name.startswith(HOSTILE)


class TestSarif:
    @pytest.mark.parametrize("made", [ALL, EVIL, verdict(judgement("pass"))], ids=["all", "evil", "pass"])
    def test_is_valid(self, made):
        for settings in (None, "robustcheck.toml"):
            log = json.loads(to_sarif(made, settings).encode())
            jsonschema.Draft4Validator(SCHEMA).validate(log)

    def test_the_schema_refuses_what_is_wrong(self):
        log = json.loads(to_sarif(ALL))
        log["runs"][0]["results"][0]["level"] = "grave"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft4Validator(SCHEMA).validate(log)

    def test_has_a_result_for_each_that_does_not_pass(self):
        (run,) = json.loads(to_sarif(ALL))["runs"]
        assert [(each["properties"]["outcome"], each["level"]) for each in run["results"]] == [
            ("fail", "error"),
            ("inconclusive", "warning"),
            ("missing", "error"),
            ("error", "error"),
        ]
        assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]
        (run,) = json.loads(to_sarif(verdict(judgement("missing"))))["runs"]
        assert run["invocations"] == [{"executionSuccessful": False, "exitCode": 3}]

    @pytest.mark.parametrize(("counts_as", "found"), [("pass", "note"), ("fail", "error"), ("inconclusive", "warning")])
    def test_level_of_what_is_undecided(self, counts_as, found):
        undecided = judgement("inconclusive")
        assert level(verdict(undecided, inconclusive=counts_as), undecided) == found

    def test_rule_ids_are_these_for_ever(self):
        assert {rule: entry.id for rule, entry in RULES.items()} == {
            "accuracy": "RC001",
            "area": "RC002",
            "drop": "RC003",
            "regression": "RC004",
            "samples": "RC005",
            "draws": "RC006",
            "seeds": "RC007",
        }
        for rule, entry in RULES.items():
            (run,) = json.loads(to_sarif(verdict(judgement(rule=rule))))["runs"]
            (result,) = run["results"]
            assert result["ruleId"] == entry.id == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"]

    def test_fingerprints_know_the_check_and_the_subject_and_no_number(self):
        def prints(*judgements):
            (run,) = json.loads(to_sarif(verdict(*judgements)))["runs"]
            return [json.dumps(result["partialFingerprints"], sort_keys=True) for result in run["results"]]

        before = judgement("fail")
        after = replace(before, outcome="inconclusive", value=0.89, lower=0.86, upper=0.92, sentence="Near.", remedy="")
        assert prints(before) == prints(after)
        others = [
            replace(before, rule="drop"),
            replace(before, check="accuracy >= 0.8"),
            *(
                replace(before, subject=replace(NET, **{part: "x"}))
                for part in ("model", "activation", "sensor", "point")
            ),
        ]
        assert len(set(prints(before, *others))) == 7

    def test_the_location_is_the_models_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        def location(spec, settings=None, model="net"):
            (run,) = json.loads(to_sarif(verdict(judgement(subject=Subject(model, spec))), settings))["runs"]
            (result,) = run["results"]
            (where,) = result.get("locations", [{}])
            return where.get("physicalLocation", {}).get("artifactLocation", {}).get("uri")

        assert location("nets/my net.onnx") == "nets/my%20net.onnx"
        assert location(str(tmp_path / "net.pt2")) == "net.pt2"
        for elsewhere in ("../net.onnx", "/net.onnx", "timm:vit", "package.module:factory", "digits-convnet", ""):
            assert location(elsewhere) is None
            assert location(elsewhere, "ci/robustcheck.toml") == "ci/robustcheck.toml"
            assert location(elsewhere, "../robustcheck.toml") is None
        assert location("", None, model="") is None
        (run,) = json.loads(to_sarif(verdict(judgement(subject=replace(NET, spec="timm:vit")))))["runs"]
        (where,) = run["results"][0]["locations"]
        assert where["logicalLocations"][0]["fullyQualifiedName"] == "net/as is/adc-4bit/EP 0.5"

    def test_no_name_becomes_a_link_or_a_placeholder(self):
        (run,) = json.loads(to_sarif(EVIL))["runs"]
        for result in run["results"]:
            text = result["message"]["text"]
            assert HOSTILE in text
            assert "\\[x\\](" in text
            assert "{{0}}" in text
            assert not re.search(r"[\x00-\x1f\u202e\ud800]", text)


class TestAnnotations:
    def test_ten_at_most_the_gravest_first_and_the_rest_counted(self):
        many = [judgement("inconclusive")] * 6 + [judgement("pass")] * 5 + [judgement("fail")] * 7
        *lines, rest = annotations(verdict(*many)).splitlines()
        assert len(lines) == MOST_ANNOTATIONS == 10
        assert [line.split(" ")[0] for line in lines] == ["::error"] * 7 + ["::warning"] * 3
        assert rest == "and 3 checks more without a pass: see the summary of this step"
        exactly = annotations(verdict(*[judgement("fail")] * 10)).splitlines()
        assert [line[:7] for line in exactly] == ["::error"] * 10

    def test_a_pass_says_nothing(self):
        assert annotations(verdict(judgement("pass"))) == ""

    def test_what_counts_as_a_pass_is_a_notice(self):
        assert annotations(verdict(judgement("inconclusive"), inconclusive="pass")).startswith("::notice ")

    def test_text_is_escaped_as_the_runner_reads_it(self):
        def read(line):
            """What GitHub's runner makes of a workflow command (docs: workflow commands for GitHub Actions)."""
            found = re.fullmatch(r"::([a-z]+) (.*?)::(.*)", line)
            properties = dict(part.split("=", 1) for part in found[2].split(","))

            def plain(text):
                for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
                    text = text.replace(code, char)
                return text

            return found[1], {name: plain(value) for name, value in properties.items()}, plain(found[3])

        told = judgement(check="a: b, 50 %", sentence="c: d, 50 %0A\nnew line", remedy="")
        (line,) = annotations(verdict(told)).splitlines()
        assert read(line) == (
            "error",
            {"title": "robustcheck: a: b, 50 %", "file": "nets/net.onnx"},
            "c: d, 50 %0A new line",
        )

    def test_no_name_begins_a_command(self):
        lines = annotations(EVIL).splitlines()
        assert len(lines) == 4
        for line in lines:
            assert re.match(r"::(error|warning) title=[^:,]+,file=[^:,]+::[^\x00-\x1f\x7f]+$", line)
            assert HOSTILE in line


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


class TestStepSummary:
    def rows(self, text):
        return [line for line in text.splitlines() if line.startswith("|")][2:]

    def test_a_table_of_all_the_gravest_first(self):
        text = step_summary(ALL)
        assert text.splitlines()[0] == "## robustcheck gate: fail"
        assert [row.split(" | ")[0] for row in self.rows(text)] == [
            "| fail",
            "| missing",
            "| error",
            "| inconclusive",
            "| pass",
        ]
        assert "1 fail, 1 missing, 1 error, 1 inconclusive, 1 pass" in text
        assert "left out" not in text

    @pytest.mark.parametrize(
        "name", ["x" * 1500, "\N{GRINNING FACE}" * 1500, "<" * 1500], ids=["ascii", "wide", "html"]
    )
    def test_is_under_one_mebibyte_and_counts_what_it_leaves_out(self, name):
        long = [judgement(sentence=f"{number}: {name}") for number in range(2000)]
        text = step_summary(verdict(*long))
        kept = len(self.rows(text))
        assert 2**20 - 20_000 < len(text.encode()) < 1_048_576
        assert 0 < kept < 2000
        assert text.endswith(f"{2000 - kept} more checks left out here: see the job's log.\n")

    @pytest.mark.parametrize(("more", "left_out"), [(0, 0), (1, 1)])
    def test_leaves_out_no_row_that_there_is_room_for(self, more, left_out):
        """Of 1 MiB, 200 bytes are kept for the line that counts the rest: here no byte is left, or one is missing."""

        def text(last):
            rows = [judgement(sentence="x" * 1901)] * 536
            return step_summary(verdict(*rows, judgement("pass", sentence="x" * last)))

        room = 2**20 - 200 - len(text(0).encode())
        assert 0 < room < 1900
        assert len(self.rows(text(room + more))) == 537 - left_out
        assert len(text(room + more).encode()) < 2**20

    def test_one_endless_name_hides_no_other_row(self):
        text = step_summary(verdict(judgement(sentence="x" * 2**21), judgement(), title="y" * 2**21))
        assert len(self.rows(text)) == 2
        assert len(text.encode()) < 10_000

    def test_names_show_as_text(self):
        text = step_summary(EVIL)
        seen = Tags()
        seen.feed(text)
        assert seen.tags == []
        assert HOSTILE in seen.text
        assert len(self.rows(text)) == 5
        for row in self.rows(text):
            assert len(re.findall(r"(?<!\\)\|", row)) == 4
            assert "\\[x\\](" in row
            assert "\\`" in row


class TestOpenMetrics:
    def families(self, made):
        return {
            family.name: family for family in openmetrics_parser.text_string_to_metric_families(to_openmetrics(made))
        }

    def test_is_read_by_the_formats_own_reader(self):
        counts = judgement("fail", rule="seeds", threshold=5, value=3, lower=None, upper=None)
        found = self.families(
            verdict(judgement("fail"), judgement("missing", check="area >= 0.9", rule="area"), counts)
        )
        labels = {
            "model": "net",
            "activation": "as is",
            "sensor": "adc-4bit",
            "point": "EP 0.5",
            "rule": "accuracy",
            "check": "accuracy >= 0.9",
        }
        for name, value in {"value": 0.8, "lower": 0.77, "upper": 0.83}.items():
            family = found[f"robustcheck_gate_{name}_ratio"]
            assert (family.type, family.unit) == ("gauge", "ratio")
            (sample,) = family.samples
            assert (sample.labels, sample.value) == (labels, value)
        assert [sample.value for sample in found["robustcheck_gate_threshold_ratio"].samples] == [0.9, 0.9]
        assert [sample.value for sample in found["robustcheck_gate_coverage"].samples] == [3]
        assert [sample.value for sample in found["robustcheck_gate_coverage_threshold"].samples] == [5]
        assert [sample.value for sample in found["robustcheck_gate_passed"].samples] == [0, 0, 0]
        outcomes = {sample.labels["outcome"]: sample.value for sample in found["robustcheck_gate_judgements"].samples}
        assert outcomes == {"pass": 0, "fail": 2, "inconclusive": 0, "missing": 1, "error": 0}
        assert [
            sample.value for sample in self.families(verdict(judgement("pass")))["robustcheck_gate_passed"].samples
        ] == [1]

    def test_names_come_back_as_they_were(self):
        subject = replace(NET, model='<script>alert(1)</script> "quoted" back\\nslash\\', sensor="größe,{}=")
        (sample,) = self.families(verdict(judgement(subject=subject)))["robustcheck_gate_value_ratio"].samples
        assert (sample.labels["model"], sample.labels["sensor"]) == (subject.model, subject.sensor)
        assert len(self.families(EVIL)) == 8

    def test_names_that_look_the_same_are_one_series(self):
        twins = [judgement(subject=replace(NET, model=name)) for name in ("net\x00", "net\x01")]
        assert len(self.families(verdict(*twins))["robustcheck_gate_value_ratio"].samples) == 1

    @pytest.mark.parametrize(("one", "other", "graver"), [(0, 1, 0), (1, 0, 1), (0, 0, 0)])
    def test_of_names_that_look_the_same_the_gravest_counts(self, one, other, graver):
        outcomes, values = ("fail", "pass"), (0.7, 0.95)
        twins = [
            judgement(outcomes[which], subject=replace(NET, model=f"net{sign}"), value=values[which])
            for which, sign in ((one, "\x00"), (other, "\x01"))
        ]
        found = self.families(verdict(*twins))
        (value,), (passed,) = (found[f"robustcheck_gate_{name}"].samples for name in ("value_ratio", "passed"))
        assert (value.value, passed.value) == (min(values[one], values[other]), 0)

    def test_ends_as_it_must(self):
        assert to_openmetrics(ALL).endswith("\n# EOF\n")


class TestJson:
    def test_holds_all_of_the_verdict(self):
        document = json.loads(to_json(EVIL))
        assert {name: document.pop(name) for name in ("schema_version", "kind", "outcome", "exit_code")} == {
            "schema_version": 1,
            "kind": "gate",
            "outcome": "fail",
            "exit_code": 1,
        }
        judgements = tuple(
            Judgement(**{**each, "subject": Subject(**each["subject"])}) for each in document.pop("judgements")
        )
        assert Verdict(**document, judgements=judgements) == EVIL

    def test_nothing_in_it_moves_a_terminal(self):
        assert re.fullmatch(r"[\n\x20-\x7e]+", to_json(EVIL))


def test_every_kind_of_check_has_a_rule():
    assert set(RULES) == set(checks.RULES)


@pytest.mark.parametrize("spec", ["a.toml", "./a.onnx", "b/../a.pt2", "A.ONNX"])
def test_model_files_inside(spec):
    assert model_file(spec) == str(Path(spec)).replace("b/../", "")


@pytest.mark.parametrize("name", ["document", "github", "junit", "openmetrics", "sarif"])
def test_outputs_end_with_a_newline_and_can_be_written(name):
    module = import_module(f"robustcheck.gate.{name}")
    writers = [value for key, value in vars(module).items() if key.startswith("to_") or key == "step_summary"]
    assert len(writers) == 1
    assert writers[0](EVIL).encode().endswith(b"\n")


def test_files_are_named_from_the_repositorys_root(tmp_path, monkeypatch):
    part = tmp_path / "part"
    part.mkdir()
    monkeypatch.chdir(part)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    assert (model_file("net.onnx"), model_file("../net.onnx")) == ("net.onnx", None)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert (model_file("net.onnx"), model_file("../net.onnx")) == ("part/net.onnx", "net.onnx")
    assert model_file("../../net.onnx") is None
