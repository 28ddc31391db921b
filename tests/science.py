"""Remakes every table and figure of docs/science.md from the reports that are stored under reports/.

`make science` runs it. It runs the gradient analyses again, which takes a minute; the studies take hours, so that their
reports are read as they are stored. In the document a comment `<!-- NAME -->` begins each part that it writes, and
`<!-- end -->` ends it. The text between the parts is written by hand. A study that was not run yet leaves a sentence
that says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair as alt

from robustcheck.reporting.charts import accuracy_chart, colour_of, data_of, save
from robustcheck.reporting.markdown import table_blocks
from robustcheck.reporting.rank_charts import critical_difference_chart
from robustcheck.reporting.report import Comparison, Report, Result
from robustcheck.reporting.tables import overview
from robustcheck.reporting.wording import result_name
from robustcheck.study.plan import Study

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "science.md"
PART = re.compile(r"(<!-- (?P<name>(?!end)[a-z0-9-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
INSIDE = "analyze gradients --model digits-convnet --data digits --sensor adc-4bit --ep 0.5 -a gelu"
ANALYSES = {
    "gradients": "analyze gradients -a relu -a gelu -a silu --steps 256 --ep 0.5 --sweep i --sweep steps",
    "gradients-4bit": "analyze gradients -a relu -a gelu --bits 4 --ep 0.5 --repeat 200",
    "gradients-digits": INSIDE,
    "gradients-analog": f"{INSIDE} --placement network",
}
"""The command of each gradient analysis, but for where it goes: the folder of reports/ that is named."""
_FARTHEST = 30.0
CAUSES = (
    ("all", "gelu", "relu"),
    ("the derivative, values of ReLU", "surrogate(relu, gelu)", "relu"),
    ("the derivative, values of GELU", "gelu", "surrogate(gelu, relu)"),
    ("the values, derivative of ReLU", "surrogate(gelu, relu)", "relu"),
    ("the values, derivative of GELU", "gelu", "surrogate(relu, gelu)"),
    ("which of the two", "surrogate(gelu, relu)", "surrogate(relu, gelu)"),
    ("the width of the bend: 1 against ¼", "gelu", "interpolate(relu, gelu, i=1, s=4)"),
    ("the width of the bend: ¼ against 0", "interpolate(relu, gelu, i=1, s=4)", "relu"),
    ("the width of the bend: 1/16 against 0", "interpolate(relu, gelu, i=1, s=16)", "relu"),
    ("the slope below 0: ¼ against 0", "leaky_relu(slope=0.25)", "relu"),
    ("the slope below 0: ½ against 0", "leaky_relu(slope=0.5)", "relu"),
    ("the offset at 0: 0 against ½ (and the slope, 1 against ½)", "softsign", "elliott"),
    ("any bend at all", "gelu", "hardtanh"),
)
"""What differs between two activations of study-causes."""


def stored(name: str) -> Report | None:
    """A stored report; None where its study was not run yet."""
    path = ROOT / "reports" / name / "report.json"
    return Report.model_validate_json(path.read_bytes()) if path.is_file() else None


def accuracies(name: str) -> Iterator[str]:
    """The table of every result of a study, under its figure."""
    report = stored(name)
    if report is None:
        yield f"*Not run yet: `robustcheck compare {name}`.*"
        return
    for number, result in enumerate(report.results, 1):
        if len(report.results) > 1:
            yield f"**{result_name(report, result)}**"
        yield f"![{FIGURES[name][0]}]({figure_of(name, number).name})"
        yield from table_blocks(overview(report, result))
        yield power(result)


def power(result: Result) -> str:
    """What a study of this size could have seen."""
    found = [(ep, comparison.detectable_difference) for ep, comparison in noisy_points(result)]
    said = [f"{100 * size:.1f} points at EP {ep:g}" for ep, size in found if size is not None]
    return f"A difference of {', '.join(said)} is detected with 80 % power; smaller ones can exist unseen."


def studies() -> Iterator[str]:
    """How long each study trains, on what, and how its learning rates are chosen."""
    lines = [
        "| study | training images | epochs × batch | steps | a network for | rates tried, networks each, epochs |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name in FIGURES:
        study, report = Study.load(ROOT / "models" / f"{name}.toml"), stored(name)
        policy, images = study.training, None if report is None else report.data.counts["train"]
        steps = "–" if images is None else f"{policy.epochs * max(1, images // policy.batch_size):,}"
        rates = ", ".join(f"{rate:g}" for rate in policy.learning_rates)
        trial = (
            f"; {policy.tuning_seeds}; {policy.tuning_epochs or policy.epochs}"
            if len(policy.learning_rates) > 1
            else ""
        )
        counted = "–" if images is None else f"{images:,}"
        trained_for = "each EP" if policy.train_ep == "matched" else "all EPs"
        length = f"{policy.epochs} × {policy.batch_size}"
        lines.append(f"| `{name}` | {counted} | {length} | {steps} | {trained_for} | {rates}{trial} |")
    yield "\n".join(lines)


def depth(name: str = "study-depth") -> Iterator[str]:
    """Accuracy against the number of convolutions, and how far ReLU is behind."""
    report = stored(name)
    if report is None:
        yield f"*Not run yet: `robustcheck compare {name}`.*"
        return
    names = [each.spec for each in report.activations]
    others = [each for each in names if each != "relu"]
    yield f"![{FIGURES[name][0]}]({figure_of(name, 1).name})"
    columns = ["convolutions", *names, *(f"{each} − relu [points]" for each in others)]
    lines = [f"| {' | '.join(columns)} |", "|" + "---:|" * len(columns)]
    for convolutions, comparison in by_depth(report):
        rows = {row.activation: row for row in comparison.rows}
        cells = [f"{100 * rows[each].accuracy:.1f}" for each in names]
        cells += [difference(comparison, each, "relu") for each in others]
        lines.append(f"| {convolutions} | " + " | ".join(cells) + " |")
    yield "\n".join(lines)
    eps = sorted({ep for result in report.results for ep, _ in noisy_points(result)})
    yield (
        f"Accuracy in percent at EP {', '.join(f'{ep:g}' for ep in eps)}, mean over networks; differences with 95 % "
        "intervals for all pairs at one depth at once, * significant."
    )


def by_depth(report: Report) -> list[tuple[int, Comparison]]:
    """The comparison at the noisy point of each cut, by its number of convolutions."""
    specs = {each.key: each.spec for each in report.models}
    found = []
    for result in report.results:
        stated = re.search(r"convolutions=(\d)", specs[result.model])
        assert stated is not None, specs[result.model]
        ((_, comparison),) = noisy_points(result)
        found.append((int(stated[1]), comparison))
    return sorted(found, key=lambda each: each[0])


def noisy_points(result: Result) -> list[tuple[float, Comparison]]:
    """Each EP of a result, and how the activations compare there."""
    return [(each.point.ep or 0, each.comparison) for each in result.points if each.point.kind == "ep"]


def difference(comparison: Comparison, a: str, b: str) -> str:
    """a − b in points with its interval for all pairs."""
    found = between(comparison, a, b)
    if found is None:
        return "–"
    value, low, high, significant = found
    return f"{value:+.1f} ({low:.1f} to {high:.1f}){' *' if significant else ''}"


def between(comparison: Comparison, a: str, b: str) -> tuple[float, float, float, bool] | None:
    """a − b in points, the bounds of its interval for all pairs, and whether it is significant."""
    for pair in comparison.pairs:
        if {pair.a, pair.b} == {a, b}:
            sign = 1 if pair.a == a else -1
            low, high = sorted((sign * pair.lower, sign * pair.upper))
            return 100 * sign * pair.difference, 100 * low, 100 * high, pair.significant
    return None


def causes(name: str = "study-causes") -> Iterator[str]:
    """Every activation of the study, and the pairs that differ in one thing."""
    yield from accuracies(name)
    report = stored(name)
    if report is None:
        return
    points = noisy_points(report.results[0])
    heads = ["what differs", "a", "b", *(f"a − b at EP {ep:g} [points]" for ep, _ in points)]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|" + "---:|" * len(points)]
    for what, a, b in CAUSES:
        cells = [f"`{a}`", f"`{b}`", *(difference(comparison, a, b) for _, comparison in points)]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    yield "\n".join(lines)
    yield "In brackets 95 % intervals for all pairs at one EP at once, * significant."


def gradients(name: str = "gradients") -> dict[str, Any]:
    """A stored gradient analysis."""
    return json.loads((ROOT / "reports" / name / "gradients.json").read_text())


def gradient_ratios(name: str = "gradients") -> Iterator[str]:
    """What was measured on the grid beside the paper's figures."""
    found = gradients(name)
    point = found["points"][0]
    lines = [
        "| activation | region | largest error | mean error | ratio of maxima | ratio of means |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for errors in point["errors"]:
        for region in ("full", "near_zero"):
            each = errors[region]
            lines.append(
                f"| {errors['activation']} | {region.replace('_', ' ')} | {each['maximum']['value']:.4f} | "
                f"{each['mean']['value']:.5f} | {interval(each['ratio']['maximum'])} | "
                f"{interval(each['ratio']['mean'])} |"
            )
    yield "\n".join(lines)
    yield (
        f"p = {point['steps']}, EP {point['ep']:g}, mean over {found['repetitions']} repetitions of the noise; in "
        f"brackets the 95 % interval of the ratio to {found['reference']}."
    )


def gradient_scaling() -> Iterator[str]:
    """The ratio against p and EP."""
    found = gradients()
    lines = [
        "| EP | p | ratio of maxima | × c(EP)/p | slope from the p before | expected |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for each in found["scaling"]["points"]:
        ratio, scaled, slope = each["ratio"]["maximum"], each["scaled"], each["slope"]
        lines.append(
            f"| {each['ep']:g} | {each['steps']} | {interval(ratio)} | {scaled['value']:.3f} | {interval(slope, 2)} | "
            f"{each['expected']:.1f} |"
        )
    yield "\n".join(lines)


def gradient_inside(name: str) -> Iterator[str]:
    """The sites of a network, backwards from the logits, as it is and with another activation in the same place."""
    (found,) = gradients(name)["results"]
    columns = {
        "derivative": "mean \\|Δf′\\|",
        "own": "error by f′ alone",
        "gradient": "error in all",
        "amplification": "growth",
    }
    named = {growth["activation"] or found["own"]: growth["sites"] for growth in found["growths"]}
    heads = ["site", *(f"{title}, {name}" for title in columns.values() for name in named)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for sites in zip(*named.values(), strict=True):
        cells = [
            sites[0]["path"],
            *(interval(site[column], 3 if column == "derivative" else 2) for column in columns for site in sites),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines)
    yield (
        f"`{found['model']}` on {found['samples']} test images of {found['data']}, {found['sensor']} at "
        f"{found['point'].replace('ep=', 'EP ')}, noise "
        f"{'at the input' if found['placement'] == 'sensor' else 'around every layer and on the weights'}, "
        f"{found['draws']} draws; 95 % intervals over samples and draws, this network only. By f′ alone: the relative "
        "error that one site's derivative gives the clean gradient. Growth: of the error in all, over the row above."
    )


def interval(found: dict[str, float] | None, digits: int = 1) -> str:
    """A value with its interval."""
    if found is None:
        return "–"
    text = f"{found['value']:.{digits}f}"
    return text if found["lower"] is None else f"{text} ({found['lower']:.{digits}f}–{found['upper']:.{digits}f})"


def figure_of(name: str, number: int) -> Path:
    """Where a study's figure lies."""
    return ROOT / "docs" / f"science-{name.removeprefix('study-')}-{number}.svg"


def draw_figures() -> None:
    """Draw the figures of every study that is stored."""
    for name, (_, draw) in FIGURES.items():
        report = stored(name)
        for number, chart in enumerate(draw(report) if report else (), 1):
            save(chart, figure_of(name, number))


def depth_chart(report: Report) -> Any:
    """Accuracy against the number of convolutions: a line through the means of an activation, a dot each network."""
    names = [each.spec for each in report.activations]
    records = [
        {"series": row.activation, "convolutions": convolutions, "accuracy": 100 * accuracy}
        for convolutions, comparison in by_depth(report)
        for row in comparison.rows
        for accuracy in row.per_seed
    ]
    depths = sorted({each["convolutions"] for each in records})
    base = alt.Chart(data_of(records)).encode(
        x=alt.X("convolutions:Q", title="convolutions before the three linear layers",
                scale=alt.Scale(domain=[depths[0] - 0.2, depths[-1] + 0.2], nice=False),
                axis=alt.Axis(values=depths, format="d", grid=False)),
        color=colour_of(names, legend=alt.Legend(title=None, orient="right")),
    )  # fmt: skip
    accuracy = alt.Y("accuracy:Q", title="accuracy [%]", scale=alt.Scale(domainMin=0))
    dots = base.mark_point(filled=True, size=25, opacity=0.6).encode(y=accuracy)
    line = base.mark_line().encode(y="mean(accuracy):Q")
    title = alt.Title("Accuracy against depth", subtitle="line: mean over networks; dots: each network")
    return (dots + line).properties(width=480, height=300, title=title)


def causes_chart(report: Report) -> Any:
    """The differences of the pairs of `CAUSES` with their intervals, a panel an EP, but for those too large to draw."""
    points = noisy_points(report.results[0])
    records = []
    for ep, comparison in points:
        for what, a, b in CAUSES:
            found = between(comparison, a, b)
            if found is not None and abs(found[0]) < _FARTHEST:
                value, low, high, significant = found
                records.append(
                    {"row": f"{what}: {a} − {b}", "ep": f"EP {ep:g}", "difference": value, "lower": low, "upper": high,
                     "significant": str(significant)}
                )  # fmt: skip
    order = list(dict.fromkeys(each["row"] for each in records))
    axis = alt.Axis(labelLimit=0, ticks=False, domain=False, labelPadding=8)
    base = alt.Chart(data_of(records)).encode(y=alt.Y("row:N", title=None, sort=order, axis=axis))
    zero = base.mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(0), y=alt.Y())
    bars = base.mark_rule(strokeWidth=2, style="label").encode(
        x=alt.X("lower:Q", title="difference [points]"), x2="upper:Q"
    )
    fill = alt.Color(
        "significant:N", legend=None, scale=alt.Scale(domain=["True", "False"], range=["#1b6ca8", "#ffffff"])
    )
    dots = base.mark_point(size=70, filled=True, opacity=1, stroke="#1b6ca8").encode(x="difference:Q", fill=fill)
    title = alt.Title(
        "Pairs that differ in one thing", subtitle="95 % intervals for all pairs at one EP at once; filled: significant"
    )
    panels = (zero + bars + dots).properties(width=250, height=alt.Step(24))
    columns = alt.Facet("ep:N", title=None, sort=[f"EP {ep:g}" for ep, _ in points])
    return panels.facet(column=columns).properties(title=title)


def of_each_result(draw: Callable[[Report, Result], Any]) -> Callable[[Report], list[Any]]:
    """A chart of each result."""
    return lambda report: [draw(report, result) for result in report.results]


FIGURES: dict[str, tuple[str, Callable[[Report], list[Any]]]] = {
    "study-convnet": ("Accuracy against EP", of_each_result(accuracy_chart)),
    "study-convnet-fixed-rate": ("Accuracy against EP", of_each_result(accuracy_chart)),
    "study-depth": ("Accuracy against depth", lambda report: [depth_chart(report)]),
    "study-vit": ("Accuracy against EP", of_each_result(accuracy_chart)),
    # Of many activations at few EPs, which differ is what a figure can show.
    "study-survey": ("Which activations differ", of_each_result(critical_difference_chart)),
    "study-causes": ("Pairs that differ in one thing", lambda report: [causes_chart(report)]),
}
"""What each study's figures show, and what draws them."""
PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "gradient-ratios": gradient_ratios,
    "gradient-scaling": gradient_scaling,
    "gradient-4bit": lambda: gradient_ratios("gradients-4bit"),
    "gradient-inside": lambda: gradient_inside("gradients-digits"),
    "gradient-analog": lambda: gradient_inside("gradients-analog"),
    "studies": studies,
    "convnet": lambda: accuracies("study-convnet"),
    "convnet-fixed-rate": lambda: accuracies("study-convnet-fixed-rate"),
    "depth": depth,
    "vit": lambda: accuracies("study-vit"),
    "survey": lambda: accuracies("study-survey"),
    "causes": causes,
}


def remade(text: str) -> str:
    """The document with each part written anew."""

    def part(match: re.Match[str]) -> str:
        return match[1] + "\n" + "\n\n".join(PARTS[match["name"]]()) + "\n\n"

    return PART.sub(part, text)


def analyse() -> None:
    """Run the gradient analyses again: their JSON, their page, and of their figures those that are not PNG."""
    for name, command in ANALYSES.items():
        print(f"robustcheck {command} -o {name}", flush=True)
        run = [sys.executable, "-m", "robustcheck", *command.split(), "-o", name]
        subprocess.run(run, cwd=ROOT / "reports", check=True, capture_output=True)
        for picture in (ROOT / "reports" / name).glob("*.png"):
            picture.unlink()


def main() -> int:
    """Write the analyses, the figures and the document."""
    analyse()
    draw_figures()
    DOCUMENT.write_text(remade(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
