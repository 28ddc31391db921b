"""What changed between two reports, as words and tables: for a terminal, as Markdown, and as versioned JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import get_args

from rich.console import Console
from rich.table import Table as Grid

from robustcheck.reporting.changes import Change, Changes, Mark
from robustcheck.reporting.markdown import escape
from robustcheck.reporting.terminal import print_indented, say, text_for
from robustcheck.reporting.wording import NONE, counted, listed, percent, plain, points

SCHEMA_VERSION = 1

_HEADS = ("before [%]", "after [%]", "change", "95 % interval", "")
_NARROW = 70
_STYLES: dict[Mark, str] = {"better": "bold green", "worse": "bold red"}


def to_json(changes: Changes) -> str:
    r"""The document as text, ASCII alone: two-space indent, ends with a newline.

    Its fields are those of `Changes` and `Change`, with `schema_version` and `kind` ("changes"). Names are as they came
    in; what a terminal could take for a command is escaped, as JSON has it.

    >>> document = json.loads(to_json(Changes("a", "b", (), 0, (), (), ())))
    >>> document["schema_version"], document["kind"], document["changes"]
    (1, 'changes', [])
    """
    head = {"schema_version": SCHEMA_VERSION, "kind": "changes"}
    return json.dumps({**head, **asdict(changes)}, indent=2, allow_nan=False) + "\n"


def summary(changes: Changes) -> str:
    """How many accuracies became better or worse, in a sentence.

    >>> change = Change("net", "adc-4bit", "as is", "EP 0.5", 0.75, 0.5, -0.25, -0.375, -0.125, "worse")
    >>> summary(Changes("a", "b", (change,), 1, (), (), ()))
    'Of 1 accuracy in both reports: 1 worse.'
    """
    if not changes.changes:
        return "The reports have no accuracy in common."
    marks: tuple[Mark, ...] = get_args(Mark)
    found = [f"{count} {mark}" for mark in marks if (count := changes.count(mark))]
    return f"Of {counted(len(changes.changes), 'accuracy', 'accuracies')} in both reports: {listed(found)}."


def print_changes(changes: Changes, console: Console) -> None:
    """Print the summary, a table a model and sensor, and what differs besides; no colour in a pipe."""
    say(console, f"Before: {plain(changes.before)}")
    say(console, f"After: {plain(changes.after)}")
    for heading, found in _groups(changes).items():
        console.print()
        say(console, heading, "bold")
        console.print(_grid(found, console))
    console.print()
    say(console, summary(changes), "bold")
    for sentence in _notes(changes):
        say(console, sentence, "dim")
    for heading, lines in _besides(changes):
        console.print()
        say(console, heading, "bold")
        for line in lines:
            print_indented(console, line)


def _grid(changes: Sequence[Change], console: Console) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0) if console.width > _NARROW else (0, 1, 0, 0))
    rows = [_cells(each) for each in changes]
    grid.add_column(overflow="fold", width=min(max(len(row[0]) for row in rows), console.width // 4))
    for head in _HEADS[:-1]:
        grid.add_column(text_for(console, head.replace(" [", "\n[")), justify="right", no_wrap=True)
    grid.add_column()
    for each, row in zip(changes, rows, strict=True):
        grid.add_row(*(text_for(console, cell, _STYLES.get(each.mark, "")) for cell in row))
    return grid


def to_markdown(changes: Changes) -> str:
    """The same as Markdown, for a pull request."""
    blocks = ["# What changed", f"- Before: {escape(changes.before)}\n- After: {escape(changes.after)}"]
    blocks.append(f"**{escape(summary(changes))}**")
    for heading, found in _groups(changes).items():
        rows = [f"| {' | '.join(map(escape, _cells(each)))} |" for each in found]
        blocks.append(f"## {escape(heading)}")
        blocks.append("\n".join([f"| | {' | '.join(map(escape, _HEADS))} |", "|---|---:|---:|---:|---:|---|", *rows]))
    blocks += map(escape, _notes(changes))
    for heading, lines in _besides(changes):
        blocks += [f"## {escape(heading)}", "\n".join(f"- {escape(line)}" for line in lines)]
    return "\n\n".join(blocks) + "\n"


def _groups(changes: Changes) -> dict[str, list[Change]]:
    """The changes of one model on one sensor, under a heading."""
    found: dict[str, list[Change]] = {}
    for each in changes.changes:
        found.setdefault(plain(f"{each.model} on {each.sensor}"), []).append(each)
    return found


def _cells(change: Change) -> tuple[str, ...]:
    named = "" if change.activation == "as is" else f"{change.activation} at "
    return (
        plain(named + change.point),
        percent(change.before),
        percent(change.after),
        points(change.difference),
        NONE if change.lower is None or change.upper is None else f"{points(change.lower)} to {points(change.upper)}",
        change.mark,
    )


def _notes(changes: Changes) -> Iterator[str]:
    if changes.comparisons:
        all_of = f"all {changes.comparisons} comparisons" if changes.comparisons > 1 else "this comparison"
        yield f"Changes are in points; the 95 % intervals hold for {all_of} at once."
    if changes.count("unchanged"):
        yield "Unchanged: the same networks with the same outcomes, sample by sample."
    if changes.count("no interval"):
        yield "No interval: a report does not hold the predictions of all its networks."


def _besides(changes: Changes) -> Iterator[tuple[str, tuple[str, ...]]]:
    for heading, lines in (
        ("Only before", changes.only_before),
        ("Only after", changes.only_after),
        ("What differs in the studies", changes.studies),
    ):
        if lines:
            yield heading, tuple(map(plain, lines))
