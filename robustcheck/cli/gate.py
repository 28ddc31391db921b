"""`robustcheck gate`: pass, fail or inconclusive, for a pipeline."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustcheck.cli.options import with_options
from robustcheck.cli.sensor_options import DEFAULT_EPS
from robustcheck.cli.study_options import (
    base_study,
    report_of,
    states_a_study,
    study_of,
    study_options,
    typed_options,
)
from robustcheck.errors import ReportError, RobustcheckError, UsageError

if TYPE_CHECKING:
    from robustcheck.gate.running import Look
    from robustcheck.gate.settings import GateFile, GateSettings
    from robustcheck.gate.verdict import Verdict
    from robustcheck.reporting.report import Report
    from robustcheck.study.plan import Study

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FILE = click.Path(path_type=Path, dir_okay=False)


def _duration(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float:
    """Seconds of `90s`, `10m` or `1h`."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"expected a time such as 90s, 10m or 1h, got {text!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _gate_options(command: Any) -> Any:
    return with_options(
        command,
        click.option(
            "--config",
            type=_FILE,
            metavar="FILE",
            help="Settings; robustcheck.toml, else pyproject.toml, of this folder if not given.",
        ),
        click.option(
            "--check",
            "checks",
            multiple=True,
            metavar="TEXT",
            help="A check such as 'accuracy@ep=0.5 >= 0.9' (repeatable); those of the settings if not given.",
        ),
        click.option(
            "--baseline",
            type=_FILE,
            metavar="FILE",
            help="Report that regressions are measured against; that of the settings if not given.",
        ),
        click.option(
            "--update-baseline",
            is_flag=True,
            help="Keep this report as the baseline, unless a check other than a regression failed, or one could not be "
            "judged. Where there is no baseline yet, the report is its own.",
        ),
        click.option(
            "--inconclusive",
            type=click.Choice(["pass", "fail"]),
            help="What an undecided gate counts as; what the settings say, else neither (exit code 4), if not given.",
        ),
        click.option(
            "--until-decided",
            is_flag=True,
            help="Take twice the draws again and again while that may decide the gate; the error rates hold.",
        ),
        click.option(
            "--max-time",
            metavar="TIME",
            callback=_duration,
            help="For --until-decided: 90s, 10m or 1h; no limit if not given.",
        ),
        click.option("--junit", type=_FILE, metavar="FILE", help="Write JUnit XML."),
        click.option("--sarif", type=_FILE, metavar="FILE", help="Write SARIF 2.1.0."),
        click.option("--metrics", type=_FILE, metavar="FILE", help="Write OpenMetrics text."),
        click.option("--github", is_flag=True, help="Print GitHub's annotations, and write its step summary."),
    )


_NOT_OF_A_STUDY = {
    *("source", "config", "checks", "baseline", "update_baseline", "inconclusive", "until_decided", "max_time"),
    *("junit", "sarif", "metrics", "github", "as_json", "quiet"),
}
_OF_A_RUN = {"device", "jobs", "out", "charts", "save_study", "download"}


@click.command()
@click.argument("source", metavar="[REPORT|MODEL]", required=False)
@_gate_options
@study_options("robustcheck-gate", default_jobs=1)
@click.pass_context
def gate(context: click.Context, /, source: str | None, **params: Any) -> int:
    """Check a report, or a model, against what [gate] in robustcheck.toml asks for.

    REPORT is a report.json of audit or compare. MODEL is whatever audit takes: it is run first, as [study] of the file
    says, in place of the models there, and with what options say in place of what [study] says. Where the file has no
    [study], it is audited at the operating points that the checks name if none are given. Without REPORT and MODEL,
    [study] of the file is run.

    A check passes where the confidence bound on the near side clears its threshold, fails where the bound on the far
    side misses it, and is inconclusive between. Exit codes: 0 pass, 1 fail, 2 usage, 3 could not be judged,
    4 inconclusive, 130 interrupted.

    \b
    Examples:
      robustcheck gate robustcheck-audit/report.json
      robustcheck gate digits-convnet --check "accuracy@ep=0.5 >= 0.9" --check "drop@ep=0.5 <= 5 %"
      robustcheck gate net.onnx --data folder:photos --until-decided --max-time 10m
      robustcheck gate report.json --check "regression@area <= 1 %" --baseline reports/baseline.json
      robustcheck gate --junit gate.xml --sarif gate.sarif --github
    """
    from robustcheck.gate.judge import judge
    from robustcheck.gate.settings import load_gate, settings_of
    from robustcheck.reporting.files import write_report
    from robustcheck.reporting.report import Report

    found = load_gate(params["config"])
    settings = settings_of(
        found,
        checks=params["checks"],
        baseline=params["baseline"],
        inconclusive=params["inconclusive"],
    )
    _check_options(params, source, settings)
    begins = params["update_baseline"] and not Path(settings.baseline or "").is_file()
    baseline = None if begins else _baseline(settings.baseline, quiet=params["quiet"])
    if _is_report(source):
        _refuse_beside(context, str(source), _NOT_OF_A_STUDY)
        report = Report.load(str(source))
        verdict = judge(report, settings, report if begins else baseline)
    elif params["until_decided"]:
        study = _study(context, source, params, settings, found)
        look = _drawn_until_decided(study, params, settings, baseline, begins=begins)
        report, verdict = look.report, look.verdict
    else:
        report = _run(params, _study(context, source, params, settings, found))
        verdict = judge(report, settings, report if begins else baseline)
    _print(verdict, params)
    writers = _writers(verdict, params, found.path)
    if params["update_baseline"]:
        writers.insert(0, lambda: _update_baseline(report, verdict, settings))
    if not _is_report(source):
        writers.insert(0, lambda: write_report(report, params["out"], charts=params["charts"]))
    failed = [each for each in map(_failure, writers) if each]
    for each in failed:
        click.echo(f"error: {each}", err=True)
    return RobustcheckError.exit_code if failed and verdict.outcome != "fail" else verdict.exit_code


_SAID_OTHERWISE = {
    "as_json": "Print the verdict as JSON, and nothing else.",
    "eps": "Error probability, or a range a:b:n (repeatable); those of the checks if no operating point is given.",
    "exposures": "Light on a camera: the share of its full well that white fills, or 200lx, or a range a:b:n of equal "
    "ratios (repeatable).",
    "signals": "Share of a LIDAR's return signal that arrives, or a range a:b:n of equal ratios (repeatable).",
    "out": "Folder for the report, and for what was run, which is not run again.",
}
for option in gate.params:
    if isinstance(option, click.Option) and option.name in _SAID_OTHERWISE:
        option.help = _SAID_OTHERWISE[option.name]


def _baseline(path: Path | None, *, quiet: bool) -> Report | None:
    """The baseline; None where there is none yet, which is said unless `quiet`."""
    from robustcheck.reporting.report import Report

    if path is None:
        return None
    if not path.exists():
        if not quiet:
            click.echo(f"note: the baseline {path} is not there yet; begin one with --update-baseline", err=True)
        return None
    try:
        return Report.load(path)
    except ReportError as error:
        raise ReportError(f"baseline {error}; delete it and run gate --update-baseline") from error


def _is_report(source: str | None) -> bool:
    return source is not None and source.lower().endswith(".json")


def _check_options(params: Mapping[str, Any], source: str | None, settings: GateSettings) -> None:
    """UsageError for options that do not go together."""
    if params["update_baseline"] and settings.baseline is None:
        raise UsageError("--update-baseline: expected a baseline's file, got none; give --baseline FILE")
    if params["max_time"] != math.inf and not params["until_decided"]:
        raise UsageError("--max-time: expected it with --until-decided, got it alone; add --until-decided")
    if params["until_decided"] and _is_report(source):
        raise UsageError(f"--until-decided: expected a model to draw on with, got the report {source}")


def _study(
    context: click.Context, source: str | None, params: dict[str, Any], settings: GateSettings, found: GateFile
) -> Study:
    """What is to be run."""
    from robustcheck.study.plan import Study

    if source is None:
        if found.study is None:
            raise UsageError("gate: expected a report or a model, got neither, and no [study] in the file says which")
        _refuse_beside(context, f"[study] of {found.path}", _NOT_OF_A_STUDY | _OF_A_RUN)
        return found.study
    if states_a_study(source):
        _refuse_beside(context, source, _NOT_OF_A_STUDY | _OF_A_RUN)
        return Study.load(source)
    if found.study is not None:
        if not params["quiet"]:
            others = ", ".join(each.spec for each in found.study.models)
            click.echo(f"note: [study] of {found.path} is run with {source} in place of {others}", err=True)
        return study_of(context, found.study, source)
    return Study.create(kind="audit", **base_study(params | _points_asked(params, settings), source))


def _points_asked(params: Mapping[str, Any], settings: GateSettings) -> dict[str, tuple[str, ...]]:
    """The operating points that the checks name, as options, where none were typed."""
    from robustcheck.gate.checks import points_named

    if params["eps"] or params["exposures"] or params["signals"]:
        return {}
    named = {axis: tuple(map(str, values)) for axis, values in points_named(settings.parsed).items()}
    over_curve = any(check.place is not None and check.place.kind == "area" for check in settings.parsed)
    if over_curve and named["eps"] and not named["exposures"]:
        named["eps"] += DEFAULT_EPS
    return named


def _refuse_beside(context: click.Context, what: str, allowed: set[str]) -> None:
    """UsageError for typed options that what was given states already."""
    typed = typed_options(context, but=allowed)
    if typed:
        raise UsageError(f"{what} states this already: expected no {', '.join(typed)} beside it; leave one of them out")


def _drawn_until_decided(
    study: Study, params: dict[str, Any], settings: GateSettings, baseline: Report | None, *, begins: bool
) -> Look:
    """Take looks; the last one counts."""
    from robustcheck.gate.running import until_decided

    return until_decided(
        study,
        settings,
        baseline,
        partial(_run, params),
        own_baseline=begins,
        max_seconds=params["max_time"],
        on_look=lambda look: None if params["quiet"] else _say_look(look),
    )


def _run(params: Mapping[str, Any], study: Study) -> Report:
    """Run a study in a folder of its own, so that other checks, which ask for other points, find nothing in the way."""
    from robustcheck.study.plan import content_hash

    return report_of(params, study, params["out"] / "runs" / content_hash(study.document())[:12])


def _say_look(look: Look) -> None:
    still = sum(each.outcome == "inconclusive" for each in look.verdict.judgements)
    then = "" if look.stopped is None else f"; stopped: {look.stopped}"
    click.echo(f"look {look.number}: {look.draws} draws, {still} inconclusive{then}", err=True)


def _update_baseline(report: Report, verdict: Verdict, settings: GateSettings) -> None:
    """Keep the report as the baseline, or say why not."""
    from robustcheck.reporting.files import write

    assert settings.baseline is not None
    refusing = [
        each
        for each in verdict.judgements
        if each.outcome in ("missing", "error") or (each.outcome == "fail" and each.rule != "regression")
    ]
    if refusing:
        click.echo(f"baseline: left as it was: {refusing[0].sentence}", err=True)
        return
    write(settings.baseline, report.to_json().encode())
    click.echo(f"baseline: {settings.baseline} is now this report", err=True)


def _print(verdict: Verdict, params: Mapping[str, Any]) -> None:
    """Print the verdict, and GitHub's annotations where they were asked for."""
    from rich.console import Console

    from robustcheck.gate import document, github
    from robustcheck.gate.terminal import print_verdict

    with _reader_may_leave():
        if params["as_json"]:
            click.echo(document.to_json(verdict), nl=False)
        else:
            print_verdict(verdict, Console())
        if params["github"]:
            # GitHub reads annotations from both streams; JSON has standard output for itself.
            click.echo(github.annotations(verdict), nl=False, err=params["as_json"])


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Go on where nobody reads what is printed, as in a pipe to `head`: the exit code still says what came out."""
    try:
        yield
    except (BrokenPipeError, SystemExit):  # rich makes the second of the first
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _writers(verdict: Verdict, params: Mapping[str, Any], config: Path | None) -> list[Callable[[], object]]:
    """What writes each file that was asked for; `config` is the file that states the checks."""
    from robustcheck.gate import github, junit, openmetrics, sarif
    from robustcheck.reporting.files import write

    texts = {
        "junit": junit.to_junit(verdict),
        "sarif": sarif.to_sarif(verdict, None if config is None else str(config)),
        "metrics": openmetrics.to_openmetrics(verdict),
    }
    writers: list[Callable[[], object]] = [
        partial(write, params[name], text.encode()) for name, text in texts.items() if params[name] is not None
    ]
    if params["github"] and "GITHUB_STEP_SUMMARY" in os.environ:
        writers.append(partial(_append, Path(os.environ["GITHUB_STEP_SUMMARY"]), github.step_summary(verdict)))
    return writers


def _failure(write: Callable[[], object]) -> ReportError | None:
    """What went wrong with one file, so that the others are written."""
    try:
        write()
    except ReportError as error:
        return error
    return None


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ReportError(
            f"{path}: expected GitHub's step summary, got: {error.strerror}; leave out --github"
        ) from error
