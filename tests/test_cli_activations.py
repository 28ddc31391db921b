"""`robustcheck activations`: its output, its JSON, its errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from robustcheck.activations.catalogue import CATALOGUE
from robustcheck.cli.activations import activations
from robustcheck.errors import InvalidValueError, UnknownNameError


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(activations, arguments, env={"COLUMNS": "80"})
    if result.exit_code == 0:
        assert result.stderr == ""
    return result


def _json(*arguments: str) -> Any:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=no_constant)


def test_list_names_every_function_within_80_columns() -> None:
    result = _run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    cells = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert set(CATALOGUE) <= set(cells)
    assert cells["relu"] == ["relu", "max(0,", "x)", "–", "C0", "yes"]
    assert cells["swish"][-3:] == ["1", "smooth", "no"]
    assert cells["abrelu"][-2:] == ["–", "–"]


def test_list_as_json() -> None:
    rows = {row["name"]: row for row in _json("list")}
    assert list(rows) == list(CATALOGUE)
    assert rows["srs"]["learned"] == ["p", "q"]
    assert rows["relu"]["range"] == [0.0, "inf"]
    assert rows["geglu"]["gated"] is True
    assert rows["geglu"]["monotone"] is None
    assert rows["elu"]["smoothness"] == "C1"


def test_show_gives_values_derivatives_and_properties() -> None:
    shown = _json("show", "aptx(gamma=0.5)", "--at", "1", "--at", "-1", "--no-cost")
    assert shown["spec"] == "aptx"
    assert shown["parameters"] == {"alpha": 1.0, "beta": 1.0, "gamma": 0.5}
    assert [point["x"] for point in shown["at"]] == [1, -1]
    assert shown["at"][0]["value"] == pytest.approx(0.880797, abs=1e-6)
    assert shown["at"][0]["derivative"] == pytest.approx(1.090784, abs=1e-6)
    assert shown["monotone"] is False
    assert shown["cost"] is None


def test_show_times_the_function_beside_relu() -> None:
    assert set(_json("show", "relu")["cost"]) == {"forward_ns", "backward_ns", "relu_forward_ns", "relu_backward_ns"}
    text = _run("show", "gelu", "--at", "0.5").stdout
    assert "× relu" in text
    assert "0.345731231" in text
    assert "0.867495125" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", CATALOGUE)
def test_show_fits_80_columns(name: str) -> None:
    result = _run("show", name, "--no-cost")
    assert result.exit_code == 0
    assert result.stdout.startswith(name)
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["show", "gleu"], UnknownNameError),
        (["show", "elu(alpha=-1)"], InvalidValueError),
        (["show", "relu", "--at", "nan"], InvalidValueError),
        (["show", "abrelu", "--at", "1"], InvalidValueError),
        (["plot", "relu", "-o", "curves.pdf"], InvalidValueError),
        (["plot", "geglu", "-o", "curves.svg"], InvalidValueError),
        (["plot", "relu", "--range", "2", "1", "-o", "curves.svg"], InvalidValueError),
    ],
)
def test_what_was_typed_wrong_ends_with_2(arguments: list[str], error: type[InvalidValueError]) -> None:
    raised = _run(*arguments).exception
    assert isinstance(raised, error)
    assert raised.exit_code == 2


def test_plot_hands_each_curve_once_to_the_chart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    charts, saved = ModuleType("charts"), []
    charts.function_chart = list  # type: ignore[attr-defined]
    charts.save = lambda chart, path: saved.append((chart, path))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "robustcheck.reporting.charts", charts)
    out = tmp_path / "curves.svg"
    result = _run("plot", "relu", "elu(1)", "elu", "--range", "-1", "1", "-o", str(out))
    assert result.exit_code == 0, result.output
    ((curves, path),) = saved
    assert path == out
    assert [curve.name for curve in curves] == ["relu", "elu"]
    assert curves[0].x[0] == -1
    assert curves[0].value[-1] == 1
    assert curves[0].derivative[-1] == 1


@pytest.mark.parametrize(("name", "start"), [("curves.svg", b"<svg"), ("curves.PNG", b"\x89PNG")])
def test_plot_writes_the_picture(name: str, start: bytes, tmp_path: Path) -> None:
    out = tmp_path / name
    result = _run("plot", "relu", "swish(beta=0.25)", "-o", str(out))
    assert result.exit_code == 0, result.output
    content = out.read_bytes()
    assert content.startswith(start)
    assert start != b"<svg" or b"swish(beta=0.25)" in content


def test_every_command_shows_examples() -> None:
    for command in ([], ["list"], ["show"], ["plot"]):
        assert "Examples:\n" in _run(*command, "--help").stdout
