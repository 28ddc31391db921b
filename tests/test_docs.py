"""Every command that the documentation or a --help shows is one that the command line takes."""

import re
import shlex
import signal
from pathlib import Path

import click
import numpy as np
import pytest

from robustcheck.cli.demo import ACTIVATIONS, DIGITS
from robustcheck.cli.main import cli, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def lines_of(text):
    """Command lines in indented or fenced text; a comment after two spaces does not count."""
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        found = re.match(r"\s*(?:\$ )?(robustcheck [a-z-].*)", line)
        if found:
            yield re.split(r"\s{2,}", found[1].strip())[0]


def documented():
    for page in PAGES:
        for block in re.findall(r"```[a-z]*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
            yield from ((page.name, line) for line in lines_of(block))
    yield from (("--help", line) for line in lines_of(cli.help or ""))
    for path, command in commands():
        yield from ((" ".join(path), line) for line in lines_of(command.help or ""))


@pytest.mark.parametrize(("where", "line"), sorted(set(documented())))
def test_a_documented_command_is_understood(where, line):
    arguments = shlex.split(line)[1:]
    command, name = cli, "robustcheck"
    while isinstance(command, click.Group):
        if arguments[0].startswith("-"):
            return
        name, command, arguments = command.resolve_command(click.Context(command), arguments)
    with command.make_context(name, arguments):
        pass


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_has_examples(path, capsys):
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"Examples:\n\s+robustcheck {path[0]}", text)


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in cli.commands if f"robustcheck {name}" not in text]
    assert missing == []


def leaves(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("path", "command"), list(leaves()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_prints_json_on_request(path, command):
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S):
        exec(compile(block, "README.md", "exec"), names)
    assert names["pipeline"](image=np.full((8, 8, 3), 128, np.uint8))["image"].shape == (8, 8, 3)
    assert names["report"].results[0].points
    assert float(capsys.readouterr().out.splitlines()[0]) > 0.5


def test_the_readme_shows_the_demo():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*ACTIVATIONS, *(f"EP {ep:g}" for ep in DIGITS.compare["eps"])):
        assert re.search(rf"^.*\b{name}\b.*$", text, flags=re.M), name


def test_an_interrupt_that_a_library_turns_into_its_own_error_is_an_interrupt(monkeypatch, capsys):
    def imported(**_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError("as NumPy does where it is interrupted while it is imported") from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "main", imported)
    assert main([]) == 130
    assert capsys.readouterr().err.startswith("interrupted;")
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(cli, "main", lambda **_: [].pop())
    assert main([]) == 3  # and not 1, which says that a gate failed
    errors = capsys.readouterr().err
    assert "IndexError" in errors
    assert "error: robustcheck itself failed" in errors
