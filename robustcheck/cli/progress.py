"""Progress of a long run, on standard error: a live bar on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
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

    with rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(bar_width=None),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[state]}"),
        rich.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
    ) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def show(now: Progress) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = bars.add_task(now.stage, total=now.total, state="", completed=0)
            bars.update(tasks[now.stage], completed=now.done, state=_state(now))

        yield show


def _state(now: Progress) -> str:
    running = f"{now.running} running" if now.running else ""
    failed = f"{now.failed} failed" if now.failed else ""
    return ", ".join(part for part in (running, failed) if part)


class _Lines:
    """One line at the start and the end of each stage, and one every 15 seconds between."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = self._last = 0.0
        self._first_done = 0

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if now.stage != self._stage:
            self._stage, self._started, self._first_done = now.stage, clock, now.done
        elif now.done < now.total and clock - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = clock
        text = f"{now.stage}: {now.done} of {now.total}"
        state = _state(now)
        made = now.done - self._first_done
        if made and now.done < now.total:
            left = (clock - self._started) / made * (now.total - now.done)
            state += f"{', ' if state else ''}about {left:.0f} s left"
        click.echo(text + (f" ({state})" if state else ""), err=True)
