"""Progress of a long run, on standard error: a live bar on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.text import Text

    from robustcheck.study.runner import Progress

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A callback for `run_study` that shows cells done, running and failed, and the time left."""
    if quiet:
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    from rich import progress as rich
    from rich.table import Column
    from rich.text import Text

    class State(rich.ProgressColumn):
        """Drawn anew several times a second, so that the time left runs down between two cells."""

        def render(self, task: rich.Task) -> Text:
            now, since = task.fields["now"], task.fields["since"]
            return Text(state_in_words(now, time.monotonic() - since))

    with rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(bar_width=None),
        State(table_column=Column(no_wrap=True)),
        rich.TimeElapsedColumn(),
        console=console,
    ) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def show(now: Progress) -> None:
            since = time.monotonic()
            if now.stage not in tasks:
                tasks[now.stage] = bars.add_task(now.stage, total=now.total, now=now, since=since)
            bars.update(tasks[now.stage], completed=now.done, now=now, since=since)

        yield show


def state_in_words(now: Progress, since: float = 0.0) -> str:
    """Such as `12 of 36 cells, 2 running, 1 failed, about 3 min left`.

    Args:
        now: how far the run was, `since` seconds ago.
        since: these are taken from the time left.
    """
    parts = [f"{now.done} of {now.total} cell{'' if now.total == 1 else 's'}"]
    if now.running:
        parts.append(f"{now.running} running")
    if now.lost:
        parts.append(f"{now.lost} tried again")
    if now.failed:
        parts.append(f"{now.failed} failed")
    # Once the time is over the estimate was wrong, and no other is known until a cell ends.
    if now.done < now.total and now.seconds_left is not None and now.seconds_left >= since:
        parts.append(time_in_words(now.seconds_left - since) + " left")
    return ", ".join(parts)


def time_in_words(seconds: float) -> str:
    """A duration, no more exact than an estimate is.

    >>> [time_in_words(s) for s in (2, 7, 41, 90, 200, 7100, 260_000)]
    ['a few seconds', 'about 10 s', 'about 40 s', 'about 2 min', 'about 3 min', 'about 2 h', 'about 3 days']
    """
    if seconds < 5:
        return "a few seconds"
    if seconds < 55:
        return f"about {max(1, round(seconds / 10)) * 10} s"
    for unit, length, fewer_than in (("min", 60.0, 90.0), ("h", 3600.0, 36.0)):
        if seconds / length < fewer_than:
            return f"about {max(1, round(seconds / length))} {unit}"
    return f"about {round(seconds / 86400)} days"


class _Lines:
    """One line at the start and the end of each stage, and at most one every 15 seconds between."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        begins = now.stage != self._stage
        if not begins and now.done < now.total and clock - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._stage, self._last = now.stage, clock
        click.echo(f"{now.stage}: {state_in_words(now)}", err=True)
