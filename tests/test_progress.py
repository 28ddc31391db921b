"""What a terminal and a pipe show of a run."""

import io
import time

import pytest
import rich.console

from robustcheck.cli import progress as shown
from robustcheck.cli.progress import progress_shown, state_in_words
from robustcheck.study.runner import Progress


@pytest.mark.parametrize(
    ("now", "since", "words"),
    [
        (Progress("n", 12, 36, 2, 1, "", 180.0), 0, "12 of 36 cells, 2 running, 1 failed, about 3 min left"),
        (Progress("n", 12, 36, 2, 0, "", 180.0), 150, "12 of 36 cells, 2 running, about 30 s left"),
        (Progress("n", 12, 36, 2, 0, "", 180.0), 181, "12 of 36 cells, 2 running"),
        (Progress("n", 3, 9, 2, 0, "", None, 1), 0, "3 of 9 cells, 2 running, 1 tried again"),
        (Progress("n", 0, 1, 1, 0, "", None), 5, "0 of 1 cell, 1 running"),
        (Progress("n", 36, 36, 0, 2, "", 600.0), 0, "36 of 36 cells, 2 failed"),
    ],
)
def test_the_words(now, since, words):
    assert state_in_words(now, since) == words


def test_a_pipe_gets_a_line_at_both_ends_of_a_stage_and_now_and_then_between(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 14.0, 16.0, 17.0, 18.0, 19.0])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(clock))
    with progress_shown(quiet=False) as show:
        show(Progress("rates", 0, 3, 0, 0, ""))
        show(Progress("rates", 0, 3, 1, 0, "a"))
        show(Progress("rates", 1, 3, 1, 0, "a", 30.0))
        show(Progress("rates", 1, 3, 2, 0, "b", 25.0))
        show(Progress("rates", 2, 3, 1, 1, "b", 10.0))
        show(Progress("rates", 3, 3, 0, 1, "c", 8.0))
        show(Progress("networks", 0, 2, 0, 0, "", 8.0))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "rates: 0 of 3 cells",
        "rates: 1 of 3 cells, 2 running, about 20 s left",
        "rates: 3 of 3 cells, 1 failed",
        "networks: 0 of 2 cells, about 10 s left",
    ]


def test_a_terminal_shows_the_words_and_its_clock_goes_on_while_a_cell_runs(monkeypatch):
    screen = io.StringIO()
    real = rich.console.Console
    monkeypatch.setattr(
        rich.console, "Console", lambda stderr: real(file=screen, force_terminal=True, width=100, color_system=None)
    )
    with progress_shown(quiet=False) as show:
        show(Progress("networks", 1, 4, 2, 0, "a", 200.0))
        time.sleep(1.5)
        before = screen.getvalue()
    assert "1 of 4 cells, 2 running, about 3 min left" in before
    assert "0:00:00" in before
    assert "0:00:01" in before


def test_quiet_shows_nothing(capsys):
    with progress_shown(quiet=True) as show:
        show(Progress("networks", 1, 4, 2, 0, "a", 200.0))
    assert capsys.readouterr() == ("", "")
