"""A verdict for GitHub Actions: annotations as workflow commands, and the step's summary as Markdown."""

from collections import Counter

from robustcheck.gate.sarif import Level, level, message, model_file
from robustcheck.gate.verdict import Judgement, Outcome, Verdict
from robustcheck.reporting.markdown import escape
from robustcheck.reporting.wording import counted, plain

MOST_ANNOTATIONS = 10
"""GitHub shows this many of a kind for a step and drops the rest without a word."""

MOST_BYTES = 2**20
"""A step's summary must be smaller, or GitHub refuses all of it."""

_LONGEST_CELL = 2000
_COMMANDS: dict[Level, str] = {"error": "error", "warning": "warning", "note": "notice"}


def annotations(verdict: Verdict) -> str:
    """Workflow commands for standard output: at most ten, the gravest first, and a line that counts the rest.

    Each line ends with a newline; a verdict with nothing to say gives no line. A model's file inside the working folder
    is the place of its annotation.

    >>> from robustcheck.gate.verdict import Subject
    >>> subject = Subject("net", "net.onnx", "as is", "adc-4bit", "EP 0.5")
    >>> found = Judgement("accuracy", "accuracy@ep=0.5 >= 0.9", subject, "fail", 0.9, 0.8, 0.77, 0.83, "80 %: too low.")
    >>> print(annotations(Verdict("an audit", "0" * 64, 0.05, (found,))), end="")
    ::error title=robustcheck%3A accuracy@ep=0.5 >= 0.9,file=net.onnx::80 %25: too low.
    """
    told = [(found, judgement) for judgement in _gravest_first(verdict) if (found := level(verdict, judgement))]
    lines = [_command(found, judgement) for found, judgement in told[:MOST_ANNOTATIONS]]
    if left_out := len(told) - len(lines):
        lines.append(f"and {counted(left_out, 'check')} more without a pass: see the summary of this step")
    return "".join(f"{line}\n" for line in lines)


def step_summary(verdict: Verdict) -> str:
    """Markdown under 1 MiB (1,048,576 bytes of UTF-8) for the file that GITHUB_STEP_SUMMARY names; ends with a newline.

    The verdict, then a table of the judgements, the gravest first, with a line that says how many were left out.

    >>> print(step_summary(Verdict("an audit", "0" * 64, 0.05, ())).splitlines()[0])
    ## robustcheck gate: pass
    """
    judgements = _gravest_first(verdict)
    found = Counter(judgement.outcome for judgement in judgements)
    head = [
        f"## robustcheck gate: {verdict.outcome}",
        "",
        escape(f"{verdict.title[:_LONGEST_CELL]}. {_tally(found)}."),
        "",
        "| outcome | check | what was found |",
        "| --- | --- | --- |",
    ]
    rows = [_row(judgement) for judgement in judgements]
    # Room for the line that counts what is left out, however many digits it needs.
    room = MOST_BYTES - 200 - sum(_size(line) for line in head)
    kept = 0
    while kept < len(rows) and (room := room - _size(rows[kept])) >= 0:
        kept += 1
    left_out = len(rows) - kept
    note = ["", f"{counted(left_out, 'more check')} left out here: see the job's log."] if left_out else []
    return "".join(f"{line}\n" for line in (*head, *rows[:kept], *note))


def _gravest_first(verdict: Verdict) -> list[Judgement]:
    order = ("error", "warning", "note", None)
    return sorted(verdict.judgements, key=lambda judgement: order.index(level(verdict, judgement)))


def _command(found: Level, judgement: Judgement) -> str:
    properties = {"title": f"robustcheck: {plain(judgement.check)}"}
    file = model_file(judgement.subject.spec)
    if file is not None:
        properties["file"] = file
    stated = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[found]} {stated}::{_data(message(judgement)[:_LONGEST_CELL])}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _row(judgement: Judgement) -> str:
    cells = (judgement.outcome, judgement.check, message(judgement))
    return f"| {' | '.join(escape(cell[:_LONGEST_CELL]) for cell in cells)} |"


def _tally(found: Counter[Outcome]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in found.items()) or "No checks"


def _size(line: str) -> int:
    return len(line.encode()) + 1
