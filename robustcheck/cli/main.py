"""The `robustcheck` command: its sub-commands, and how every error becomes a line and an exit code."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from robustcheck.cli.activations import activations
from robustcheck.cli.analyze import analyze
from robustcheck.cli.audit import audit
from robustcheck.cli.compare import compare
from robustcheck.cli.data import data
from robustcheck.cli.demo import demo
from robustcheck.cli.gate import gate
from robustcheck.cli.init import init
from robustcheck.cli.models import models
from robustcheck.cli.recommend import recommend
from robustcheck.cli.report import report
from robustcheck.cli.sensors import sensors
from robustcheck.errors import RobustcheckError

INTERRUPTED = 130
CLOSED_PIPE = 141  # what a shell reports of a command that SIGPIPE ended


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="robustcheck", message="%(prog)s %(version)s")
def cli() -> None:
    """Does a trained vision model survive a real sensor, and which activation should it use there?

    \b
    Examples:
      robustcheck demo                                     see it work, in minutes
      robustcheck audit digits-convnet --sensor adc-4bit   accuracy as it is, at each error probability
      robustcheck compare digits-convnet -a gelu -a silu   swap, fine-tune under noise, rank
      robustcheck recommend digits-convnet --ep 0.5        the swap to make, why, and the model with it
      robustcheck gate digits-convnet --check "accuracy@ep=0.5 >= 0.9"
      robustcheck init --github                            begin a gate: settings, and a workflow
      robustcheck analyze gradients -a relu -a gelu        why noise harms ReLU
      robustcheck sensors ep --bits 4 --ep 0.5             the noise behind an error probability

    Exit codes: 0 done or passed, 1 a gate failed, 2 usage (what was typed), 3 could not run, 4 a gate is not decided,
    130 interrupted, 141 a closed pipe.
    """


for command in (demo, audit, compare, recommend, gate, report, init, analyze, models, activations, sensors, data):
    cli.add_command(command)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process."""
    sys.exit(main(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    robustcheck ...
    0
    """
    with _interrupts_noted() as interrupted:
        try:
            return _outcome(arguments)
        except Exception:
            # A library that is interrupted while it is imported may turn that into an error of its own.
            if interrupted:
                return _interrupted()
            # Python would end with 1, which says that a gate failed.
            traceback.print_exc()
            click.echo("error: robustcheck itself failed; please report this with the lines above", err=True)
            return RobustcheckError.exit_code


def _outcome(arguments: list[str] | None) -> int:
    try:
        code = cli.main(args=arguments, prog_name="robustcheck", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RobustcheckError as error:
        click.echo(f"error: {_printable(str(error))}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except SystemExit:
        return CLOSED_PIPE  # click and rich make one with code 1 of a broken pipe
    except OSError as error:
        click.echo(f"error: {_printable(str(error))}", err=True)
        return RobustcheckError.exit_code
    return code if isinstance(code, int) else 0


@contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """A list that fills with each Ctrl-C meanwhile, which goes on to interrupt as ever."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield seen
        return

    def note(number: int, _: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted() -> int:
    click.echo("interrupted; what is finished is stored, and the same command goes on from there", err=True)
    return INTERRUPTED


def _printable(text: str) -> str:
    """Without the control characters that a file name or a foreign error could send to the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
