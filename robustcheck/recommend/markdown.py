"""A recommendation as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from robustcheck.recommend.document import Recommendation
from robustcheck.recommend.words import headline, options_table, paragraph, race_sentences, stop_sentence
from robustcheck.reporting.markdown import escape
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.wording import percent, points


def render_recommendation(found: Recommendation) -> str:
    """The document: the answer first, then the evidence."""
    return "\n\n".join(_blocks(found)) + "\n"


def _blocks(found: Recommendation) -> Iterator[str]:
    yield f"# {escape(headline(found))}"
    yield escape(" ".join(paragraph(found)))
    yield "## What each option gives and costs"
    yield from _table(options_table(found))
    if found.gains:
        yield "## Expected gain, on the test set"
        yield from _table(_gains(found))
    yield "## The race, on validation"
    yield "\n".join(f"- {escape(sentence)}" for sentence in race_sentences(found))
    yield "\n".join(f"- {escape(stop_sentence(stop))}" for stop in found.race.stops)
    if found.left_out:
        yield "## Not considered"
        yield "\n".join(f"- {escape(f'{each.activation}: {each.reason}')}" for each in found.left_out)
    if found.latency_problems:
        yield "## Latencies that could not be measured"
        yield "\n".join(f"- {escape(f'{name}: {why}')}" for name, why in found.latency_problems.items())
    yield "## Again"
    yield f"    {' '.join(found.command.split())}" if found.command else "By `robustcheck.recommend.produce.recommend`."
    yield "The details of every network are in report.html."


def _gains(found: Recommendation) -> Table:
    return Table(
        f"{found.chosen} instead of {found.current}",
        ("operating point", f"{found.current} [%]", f"{found.chosen} [%]", "gain [points]", "95 % interval"),
        tuple(
            Line(
                (
                    gain.point,
                    percent(gain.current),
                    percent(gain.chosen),
                    points(gain.difference),
                    f"{points(gain.lower)} to {points(gain.upper)}",
                )
            )
            for gain in found.gains
        ),
        notes=(
            "Means over trained networks, paired by seed; each interval holds by itself. The test set had no part in"
            " the choice.",
        ),
    )


def _table(table: Table) -> Iterator[str]:
    rows = [table.columns, *(line.cells for line in table.lines)]
    heads, *lines = (f"| {' | '.join(map(escape, cells))} |" for cells in rows)
    yield "\n".join([heads, f"| --- |{' ---: |' * (len(table.columns) - 1)}", *lines])
    for note in table.notes:
        yield escape(note)
