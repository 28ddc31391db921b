"""`robustcheck analyze gradients`: its tables, its JSON, its files, its errors."""

import dataclasses
import json
import re

import html5lib
import pytest
from click.testing import CliRunner
from PIL import Image

from robustcheck.activations.catalogue import activation
from robustcheck.analysis import gradient_scaling
from robustcheck.analysis.gradient_growth import Estimated, GradientGrowth, SiteErrors
from robustcheck.analysis.gradients import error_map, gradient_errors
from robustcheck.cli import analyze as command
from robustcheck.errors import InvalidValueError, RobustcheckError, UnknownNameError, UsageError
from robustcheck.reporting import gradient_page
from robustcheck.reporting.gradient_charts import growth_figure, map_figure, scaling_figure
from robustcheck.reporting.gradient_page import page
from robustcheck.reporting.gradient_tables import Inside, Measured, inside_document, inside_tables, tables
from robustcheck.reporting.tables import Line, Table

SMALL = ("--steps", "16", "--repeat", "3")


def run(*arguments):
    return CliRunner().invoke(command.analyze, ["gradients", *arguments], env={"COLUMNS": "80"})


def printed(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_table_fits_a_terminal():
    result = run("-a", "relu", "-a", "gelu", "-a", "interpolate(relu, gelu, i=0.25, s=1.5)", *SMALL)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Gradient errors |Δf′| at p = 16, EP 0.5 (σ = 0.0463), over all x and w" in lines
    assert any(re.fullmatch(r"relu +1 +–  +0", line) for line in lines)
    # Only names are folded: each row has all its numbers in one line.
    assert sum(line.count("±") for line in lines if line.startswith("interpolate(")) == 8
    assert any(re.match(r"gelu +0\.\d+ ± 0\.\d+ +0\.\d+ ± 0\.\d+ +\d\.\d\d ± \d\.\d\d ", line) for line in lines)


def test_json_has_the_numbers_of_the_analysis():
    found = printed("-a", "relu", "-a", "silu", *SMALL, "--ep", "0.4", "--ep", "0.6", "--seed", "4")
    relu, silu = gradient_errors([activation("relu"), activation("silu")], steps=16, ep=0.6, repetitions=3, seed=4)
    assert (found["reference"], found["repetitions"], found["seed"]) == ("relu", 3, 4)
    assert [(point["steps"], point["ep"]) for point in found["points"]] == [(16, 0.4), (16, 0.6)]
    shown = found["points"][1]["errors"][1]
    assert shown["activation"] == "silu"
    assert shown["full"]["mean"]["value"] == pytest.approx(sum(silu.full.mean) / 3)
    ratio = gradient_scaling.ratio(relu.near_zero, silu.near_zero)
    assert shown["near_zero"]["ratio"]["maximum"]["lower"] == pytest.approx(ratio.maximum.lower)
    assert found["functions"][0] == {"activation": "relu", "jump_at_0": 1.0, "slope_at_0": None, "gradient_bits": 0.0}
    assert "interpolation" not in found


def test_relu_and_gelu_at_256_steps_are_the_defaults():
    found = printed("--repeat", "1")
    assert [each["activation"] for each in found["functions"]] == ["relu", "gelu"]
    assert [(point["steps"], point["ep"]) for point in found["points"]] == [(256, 0.5)]
    assert found["points"][0]["errors"][1]["near_zero"]["maximum"]["lower"] is None


def test_bits_are_steps():
    assert printed("--bits", "3", "--repeat", "1")["points"][0]["steps"] == 7


def test_what_does_not_change_has_no_end_of_bits():
    assert printed("-a", "hardtanh", "--bits", "2", "--repeat", "1")["functions"][0]["gradient_bits"] == "inf"


def test_a_sweep_is_added():
    found = printed(*SMALL, "--sweep", "i")
    assert (found["interpolation"][0]["i"], found["interpolation"][0]["near_zero"]["maximum"]["value"]) == (0, 1)
    assert "scaling" not in found


def test_only_what_was_measured_is_drawn(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(gradient_page, "write_gradients", lambda *given: kept.append(given) or [tmp_path])
    assert run(*SMALL, "-o", str(tmp_path)).exit_code == 0
    _, _, _, figures, _, content = kept[0]
    assert list(figures) == ["functions", "errors"]
    assert not {"interpolation", "scaling"} & set(content)


def test_figures_and_a_page_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_SCALING_STEPS", (16, 32))
    asked = ("--sweep", "i", "--sweep", "steps")
    result = run(*SMALL, *asked, "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    figures = ("functions", "errors", "interpolation", "scaling")
    names = {f"{name}.{suffix}" for name in figures for suffix in ("svg", "png")}
    names |= {"gradients.html", "gradients.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    stored = json.loads((tmp_path / "out" / "gradients.json").read_text())
    assert stored.pop("command").startswith("robustcheck")
    assert stored == json.loads(run(*SMALL, *asked, "--json").stdout)
    assert "× c(EP)/p" in result.stdout
    for name in figures:
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            image.verify()
    text = (tmp_path / "out" / "gradients.html").read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    assert text.count("<figure>") == len(figures)
    assert "“100×” is one point of a curve" in text
    loaded = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', text)
    assert all(each.startswith(("data:image/png", "#")) for each in loaded)


def test_inside_a_model(tmp_path):
    options = (
        "--model",
        "digits-convnet",
        "--ep",
        "0.4",
        "--ep",
        "0.6",
        "--samples",
        "40",
        "--draws",
        "2",
        "-a",
        "gelu",
    )
    result = run(*options, "--data", "digits", "--sensor", "adc-4bit", "-o", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith("wrote ")) <= 80
    names = {"growth-1.svg", "growth-1.png", "growth-2.svg", "growth-2.png", "gradients.html", "gradients.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = printed(*options)
    assert [each["point"] for each in found["results"]] == ["ep=0.4", "ep=0.6"]
    first = found["results"][0]
    assert (first["samples"], first["draws"], first["own"]) == (40, 2, "relu")
    assert (first["seed"], first["weights"]) == (0, "shipped")
    assert not any("--weights" in note for note in found["notes"])
    assert [each["activation"] for each in first["growths"]] == [None, "gelu"]
    assert [site["path"] for site in first["growths"][1]["sites"]][:2] == ["logits", "linear1_act"]
    assert first["growths"][0]["sites"][1]["largest"] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--sensor", "adc-4bit"), UsageError, "--sensor: expected --model"),
        (("--draws", "3", "--data", "digits"), UsageError, "--model"),
        (("--model", "digits-convnet", "--repeat", "3"), UsageError, "--repeat: expected none with --model"),
        (("--model", "digits-convnet", "--precision", "1%"), UsageError, "--precision"),
        (("-a", "rellu"), UnknownNameError, "relu"),
        (("-a", "abrelu"), InvalidValueError, "elementwise"),
        (("-a", "relu", "--sweep", "steps"), UsageError, "two activations"),
        (("--ep", "1.5"), UsageError, "EP"),
        (("--steps", "16", "--steps", "4097"), UsageError, "at most 4096 steps"),
        (("--bits", "12.1"), UsageError, "at most 4096 steps"),
    ],
)
def test_usage_errors(arguments, error, message):
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert isinstance(result.exception, RobustcheckError)
    assert result.exception.exit_code == 2


def test_random_weights_are_said_to_be():
    name = "architecture:convnet(in_channels=1,image_size=8,classes=10,channels=[4],pool_after=[1],linear=[])"
    options = ("--model", name, "--data", "digits", "--ep", "0.5", "--samples", "8", "--draws", "2")
    result = run(*options)
    assert result.exit_code == 0, result.output
    assert "No --weights were given for" in " ".join(result.stdout.split())
    found = printed(*options)
    assert found["results"][0]["weights"] is None
    assert "random unless it loads them" in found["notes"][0]


def inside(*sites):
    return Inside("net", "data", "adc", "ep=0.5", "sensor", "relu", 8, 2, 0, "w", (GradientGrowth(None, sites),))


@pytest.mark.parametrize("measure", ["derivative", "own", "carried", "gradient"])
def test_wide_intervals_are_pointed_out(measure):
    close, wide = Estimated(0.5, 0.1, 0.9), Estimated(0.5, 0.08, 0.9)
    fine = SiteErrors("a", 1, close, 0.1, close, close, close, close, close, None)
    said = "An interval spans more than a factor of 10 at b: too few samples or elements."
    doubted = dataclasses.replace(fine, path="b", **{measure: wide})
    assert inside_tables([inside(fine, doubted)])[-1].notes[-1] == said
    assert inside_document([inside(fine, doubted)])["notes"] == [said]
    assert inside_document([inside(fine)])["notes"] == []


@pytest.mark.parametrize(
    ("repetitions", "said"),
    [
        (1, "over the activation. 1 repetition of the noise, which has no interval; --repeat asks for more."),
        (2, "over 2 repetitions of the noise, so few that the interval is wide."),
        (5, "over 5 repetitions of the noise."),
    ],
)
def test_few_repetitions_are_said_to_be(repetitions, said):
    both = activation("relu"), activation("gelu")
    points = (gradient_errors(both, steps=8, repetitions=repetitions),)
    (note,) = tables(Measured(both, points, repetitions, 0))[-1].notes
    assert note.endswith(said)
    assert ("±" in note) == (repetitions > 1)


@pytest.mark.parametrize(("names", "label"), [(("relu", "gelu"), "96×"), (("gelu", "silu"), "1.6×")])
def test_only_of_a_jump_over_a_smooth_function_is_a_ratio_expected(names, label):
    both = activation(names[0]), activation(names[1])
    points = gradient_scaling.scaling(*both, steps=(16, 256), eps=(0.2, 0.5), repetitions=5)
    measured = Measured((*both, activation("relu")), (gradient_errors(both, steps=8, repetitions=1),), 5, 0, (), points)
    table, chart = tables(measured)[-1], scaling_figure(points, *names, 5).to_dict()
    jump = names[0] == "relu"
    assert ("expected" in table.columns) == jump
    assert any("It is less" in note for note in table.notes) == jump
    assert f"largest error of {names[0]} over that of {names[1]}" in table.notes[0]
    assert chart["title"]["text"].startswith("“100×”" if jump else "Largest errors of gelu over those of silu")
    assert ("dashed" in " ".join(chart["title"]["subtitle"])) == jump
    records = [
        record
        for panel in chart["hconcat"]
        for layer in panel["layer"]
        for record in layer.get("data", panel.get("data", {})).get("values", [])
    ]
    assert {record["text"] for record in records if "text" in record} == {label}
    # On the right one line for every EP.
    assert sum(record.get("kind") == "expected" for record in records) == (6 if jump else 0)


@pytest.mark.parametrize("width", [40, 48, 52, 56, 60])
def test_narrow_terminals_break_neither_numbers_nor_words(width):
    specs = ("relu", "interpolate(relu, gelu, i=0.25, s=1.5)")
    result = CliRunner().invoke(
        command.analyze, ["gradients", "-a", specs[0], "-a", specs[1], *SMALL], env={"COLUMNS": str(width)}
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= width
    words = result.stdout.split()
    assert {"interpolate(relu,", "gelu,", "i=0.25,", "s=1.5)"} <= set(words)
    assert all(re.search(r"\d ± \d", line) for line in lines if "±" in line and not line.startswith(("Ratios", "±")))


def test_ctrl_c_ends_with_130(monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("robustcheck.analysis.gradients.gradient_errors", interrupted)
    result = run()
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")


def test_names_of_others_are_escaped():
    table = Table("<b>", ("<i>", "n"), (Line(("<script>", "<s>")),), ("<u>",))
    text = page("<em>", "a & b", {}, [table])
    for tag in ("<em>", "<b>", "<i>", "<script>", "<s>", "<u>"):
        assert tag not in text
    assert "a &amp; b" in text
    nothing = Estimated(0.1, 0.1, 0.1)
    site = SiteErrors("<a\x1b>", 1, nothing, 0.1, nothing, nothing, nothing, nothing, nothing, None)
    chart = growth_figure([GradientGrowth(None, (site,))], "own", "a <model>")
    html5lib.HTMLParser(strict=True).parse(page("t", "c", {"growth": chart}, []))


def pixels(chart, index):
    """The picture of the index-th map, as (width, height) numbers of shades."""
    import base64
    import io

    urls = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", json.dumps(chart.to_dict()))
    return Image.open(io.BytesIO(base64.b64decode(urls[index]))).convert("RGB")


def test_maps_lie_as_their_axes_say():
    found = error_map(activation("relu"), "full", steps=8)
    values = found.values * 0
    values[16, 0] = 1  # x = 1, w = −1: the lower right
    picture = pixels(map_figure([type(found)("relu", "full", values, 1, found.low, found.high)], steps=8, ep=0.5), 0)
    width, height = picture.size
    assert picture.getpixel((width - 2, height - 2)) == (0, 0, 4)
    assert picture.getpixel((2, 2)) == picture.getpixel((2, height - 2)) == (255, 255, 255)
