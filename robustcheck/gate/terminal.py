"""Prints a verdict to a terminal: a line a judgement, then what came out; in a pipe neither coloured nor wrapped."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustcheck.gate.verdict import Judgement, Outcome, Verdict
from robustcheck.reporting.wording import counted, listed

_STYLES: dict[Outcome, str] = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "missing": "magenta",
    "error": "bold magenta",
}
_ASCII = str.maketrans({"−": "-", "–": "-", "…": "~", "×": "x"})


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print each judgement, what would repair those that did not pass, and the outcome, which is the exit code's."""
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for judgement in verdict.judgements:
            grid.add_row(Text(judgement.outcome, _STYLES[judgement.outcome]), _sentence(judgement, console))
        console.print(grid)
    else:
        width = max((len(each.outcome) for each in verdict.judgements), default=0) + 2
        for judgement in verdict.judgements:
            told = _sentence(judgement, console).plain.replace("\n", "\n" + " " * width)
            console.print(Text(f"{judgement.outcome:{width}}{told}"), soft_wrap=True)
    console.print(Text(summary(verdict), "bold"), soft_wrap=True)


def summary(verdict: Verdict) -> str:
    """The outcome in one line, and how it came about.

    >>> summary(Verdict("an audit", "0" * 64, 0.05, ()))
    'gate: pass (0 checks, exit code 0)'
    """
    found = [each.outcome for each in verdict.judgements]
    counts = [f"{found.count(outcome)} {outcome}" for outcome in _STYLES if outcome in found]
    said = f"{counted(len(found), 'check')}{': ' if counts else ''}{listed(counts, last='and')}"
    as_told = "inconclusive" in found and verdict.outcome == verdict.inconclusive != "inconclusive"
    why = f"; inconclusive counts as {verdict.inconclusive}" if as_told else ""
    return f"gate: {verdict.outcome} ({said}{why}, exit code {verdict.exit_code})"


def _sentence(judgement: Judgement, console: Console) -> Text:
    remedy = f"\n{judgement.remedy[:1].upper()}{judgement.remedy[1:]}." if judgement.remedy else ""
    text = judgement.sentence.removesuffix(f": {judgement.outcome}.") + remedy
    if not console.encoding.lower().startswith("utf"):
        text = text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    return Text(text)
